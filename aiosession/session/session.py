"""What does the application hold? `AsyncSession`: a facade, every method of which hands its work to plain functions.

No method awaits another public method, so that subclasses can override any of them.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, overload

from sqlalchemy import ClauseElement
from sqlalchemy.sql.selectable import TypedReturnsRows
from typing_extensions import TypeVarTuple, Unpack

from aiosession.engine.engine import AsyncConnection
from aiosession.engine.execution import Parameters
from aiosession.engine.result import Result, ScalarResult
from aiosession.engine.streaming import AsyncResult, AsyncScalarResult
from aiosession.errors import ObjectNotFoundError
from aiosession.loading.get import get
from aiosession.loading.load import load
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import lifecycle, querying, streaming, transactions
from aiosession.session.binds import BindTable
from aiosession.session.connections import open_connection
from aiosession.session.handles import AsyncSessionTransaction
from aiosession.session.lifecycle import Lock
from aiosession.session.making import OverriddenLocate, make_context
from aiosession.session.objects import ObjectSet
from aiosession.session.options import option_names, refuse_unknown
from aiosession.session.querying import How, HowToGet, Options
from aiosession.state.identity import IdentityMap
from aiosession.transaction.bind import Bind
from aiosession.unit_of_work.plan import FlushPlan

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AsyncSession:
    """A unit of work: objects with an identity, their changes, and the transaction in which they are written.

    One task at a time; `fork` gives other tasks sessions of their own. Use it as ``async with AsyncSession(engine) as
    session:``, which closes it at the end.

    Args:
        bind: The engine, or a connection of one, that everything goes to which has no place in *binds*.
        binds: Engines by mapped class, base class, mapper or table.
        autoflush: Write pending changes before every query.
        expire_on_commit: Values turn stale with a commit: they stay readable and are read anew when next needed.
        autobegin: Transactions begin by themselves; otherwise ``begin()`` has to be called.
        info: A dictionary of your own, copied.
        stale_reads: ``"return"`` lets stale values be read; ``"raise"`` makes that an error.
        isolation_level: Of this session's transactions; None for the engine's.
        close_resets_only: ``close()`` leaves the session usable, as ``reset()`` does.

    """

    __slots__ = ("__weakref__", "_info", "binds", "context")

    def __init__(  # noqa: PLR0913 - the options that a session has
        self,
        bind: Bind | None = None,
        *,
        binds: Mapping[Any, Bind] | None = None,
        autoflush: bool = True,
        expire_on_commit: bool = True,
        autobegin: bool = True,
        info: Mapping[Any, Any] | None = None,
        stale_reads: Literal["return", "raise"] = "return",
        isolation_level: str | None = None,
        close_resets_only: bool = False,
        **unknown: object,
    ) -> None:
        if unknown:
            refuse_unknown(unknown, option_names(AsyncSession), "a session")
        self._info: dict[Any, Any] | None = None if info is None else dict(info)
        self.binds: Final = BindTable(bind, binds)
        is_plain = type(self).get_bind is AsyncSession.get_bind
        locate = self.binds.locate if is_plain else OverriddenLocate(self.get_bind)
        self.context: Final = make_context(self, locate, isolation_level=isolation_level, stale_reads=stale_reads)
        """What the layers below see of this session; not for applications."""
        self.context.configure(
            autoflushes=autoflush, expires_on_commit=expire_on_commit, autobegins=autobegin, reopens=close_resets_only
        )

    # Objects in memory

    def add(self, instance: object) -> None:
        """Take in an object, with all that its relations reach by save-update cascade; the next flush inserts it."""
        self.context.check_open()
        self.context.workspace.add(instance)

    def add_all(self, instances: Iterable[object]) -> None:
        """Take in several objects; none of them if one is not mapped."""
        lifecycle.add_all(self.context, instances)

    async def delete(self, instance: object) -> None:
        """Have an object's row deleted by the next flush, with all that the delete cascade reaches."""
        self.context.guard.check("delete")
        lifecycle.delete(self.context, instance)

    def expire(self, instance: object, attribute_names: Iterable[str] | None = None) -> None:
        """Throw away an object's unflushed changes and mark its values stale: all, or those of some attributes."""
        lifecycle.expire(self.context, instance, attribute_names)

    def expire_all(self) -> None:
        """Throw away unflushed changes of persistent objects and mark all values stale."""
        self.context.workspace.expire_all()

    def expunge(self, instance: object) -> None:
        """Let an object go, with all that the expunge cascade reaches."""
        self.context.workspace.expunge(instance)

    def expunge_all(self) -> None:
        """Let all objects go."""
        self.context.workspace.clear()

    def is_modified(self, instance: object, include_collections: bool = True) -> bool:  # noqa: FBT001, FBT002 - the known signature
        """Whether a flush would write changes of an object; values set to what they were do not count."""
        return lifecycle.is_modified(instance, include_collections=include_collections)

    @property
    def new(self) -> ObjectSet:
        """The objects whose rows the next flush inserts."""
        return ObjectSet(self.context.workspace.new.values())

    @property
    def dirty(self) -> ObjectSet:
        """The persistent objects with changed attributes, some perhaps to the values they had."""
        workspace = self.context.workspace
        return ObjectSet(obj for state, obj in workspace.dirty.items() if state not in workspace.deleted)

    @property
    def deleted(self) -> ObjectSet:
        """The objects whose rows the next flush deletes."""
        return ObjectSet(self.context.workspace.deleted.values())

    @property
    def identity_map(self) -> IdentityMap:
        """The persistent objects by identity key; held weakly."""
        return self.context.workspace.identity_map

    def __contains__(self, instance: object) -> bool:
        return lifecycle.is_in(self.context, instance)

    def __iter__(self) -> Iterator[object]:
        return iter(self.context.workspace.objects())

    # Queries

    async def get(self, entity: type[T], ident: object, **how: Unpack[HowToGet]) -> T | None:
        """Return the object with this primary key, from memory or with one statement; None if there is no such row.

        *ident* is a value, a tuple for a composite key, or a mapping from attribute names to values. Takes *options*
        for loading, *populate_existing*, *with_for_update*, *identity_token*, *execution_options*, *bind_arguments*.
        """
        ctx = self.context
        with ctx.guard.enter("get"):
            ctx.check_open()
            found: T | None
            if how:
                found = await querying.get(ctx, mapper_of(entity), ident, how)
            else:
                found = await get(ctx, mapper_of(entity), ident)
            return found

    async def get_one(self, entity: type[T], ident: object, **how: Unpack[HowToGet]) -> T:
        """Return the object with this primary key; `ObjectNotFoundError` if there is no such row; else as `get`."""
        ctx = self.context
        with ctx.guard.enter("get_one"):
            ctx.check_open()
            found: T | None = await querying.get(ctx, mapper_of(entity), ident, how)
        if found is None:
            raise ObjectNotFoundError(entity, ident)
        return found

    @overload
    async def execute(
        self, statement: TypedReturnsRows[*Ts], params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*Ts]: ...
    @overload
    async def execute(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*tuple[Any, ...]]: ...
    async def execute(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*tuple[Any, ...]]:
        """Run a statement of Core over classes and tables; *params* may be a list for INSERT, UPDATE and DELETE."""
        with self.context.guard.enter("execute"):
            return await querying.execute(self.context, statement, params, how)

    @overload
    async def scalar(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> T | None: ...
    @overload
    async def scalar(self, statement: object, params: Parameters | None = None, **how: Unpack[How]) -> Any: ...
    async def scalar(self, statement: object, params: Parameters | None = None, **how: Unpack[How]) -> Any:
        """Run a statement and return the first value of its first row; None if there is no row."""
        with self.context.guard.enter("scalar"):
            result = await querying.execute(self.context, statement, params, how)
            return result.scalar()

    @overload
    async def scalars(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[T]: ...
    @overload
    async def scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[Any]: ...
    async def scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[Any]:
        """Run a statement and return the first value of each row."""
        with self.context.guard.enter("scalars"):
            result = await querying.execute(self.context, statement, params, how)
            return result.scalars()

    @overload
    async def stream(
        self, statement: TypedReturnsRows[*Ts], params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*Ts]: ...
    @overload
    async def stream(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*tuple[Any, ...]]: ...
    async def stream(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*tuple[Any, ...]]:
        """Run a query and return its rows as they arrive, in chunks of ``execution_options={"yield_per": n}``.

        The stream is part of the transaction; close it, or use it with ``async with``, if it is not read to its end.
        """
        with self.context.guard.enter("stream"):
            return await streaming.stream(self.context, statement, params, how)

    @overload
    async def stream_scalars(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[T]: ...
    @overload
    async def stream_scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[Any]: ...
    async def stream_scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[Any]:
        """Run a query and return the first value of each row as they arrive."""
        with self.context.guard.enter("stream_scalars"):
            result = await streaming.stream(self.context, statement, params, how)
            return result.scalars()

    async def refresh(
        self,
        instance: object,
        attribute_names: Iterable[str] | None = None,
        with_for_update: Lock = None,
    ) -> None:
        """Read an object, or some attributes of it, as they are in the database; unflushed changes of them are lost."""
        with self.context.guard.enter("refresh"):
            await lifecycle.refresh(self.context, instance, attribute_names, with_for_update)

    async def refresh_all(self) -> None:
        """Read all stale objects again, one statement per class."""
        with self.context.guard.enter("refresh_all"):
            await lifecycle.refresh_all(self.context)

    async def load(self, instances: object, *attributes: object) -> None:
        """Load attributes that objects lack: ``await session.load(users, User.books, Book.tags)``.

        One statement per attribute, whatever the number of objects; what is loaded and fresh is left alone.
        """
        with self.context.guard.enter("load"):
            self.context.check_open()
            await load(self.context, instances, *attributes)

    # The transaction

    async def flush(self, objects: Iterable[object] | None = None) -> None:
        """Write pending changes, those of *objects* only if given."""
        with self.context.guard.enter("flush"):
            self.context.check_open()
            await transactions.flush(self.context, objects)

    async def plan(self) -> FlushPlan:
        """Return what a flush would send now, statement by statement with the reason for each; sends nothing of it."""
        with self.context.guard.enter("plan"):
            return await transactions.plan(self.context)

    async def commit(self) -> None:
        """Flush and commit; savepoints that are open are committed with the rest."""
        with self.context.guard.enter("commit"):
            await transactions.commit(self.context)

    async def rollback(self) -> None:
        """Roll back to the begin of the outermost transaction, in the databases and in the objects."""
        with self.context.guard.enter("rollback"):
            await transactions.rollback(self.context)

    def begin(self, *, join: bool = False) -> AsyncSessionTransaction:
        """Begin a transaction: ``async with session.begin():`` commits at its end, or rolls back.

        With *join*, a transaction that is in progress is joined and the outermost block commits.
        """
        return AsyncSessionTransaction(self.context, join=join)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Open a savepoint on every bind in use: ``async with session.begin_nested():``, or await it."""
        return AsyncSessionTransaction(self.context, nested=True)

    def in_transaction(self) -> bool:
        """Whether a transaction has begun, be it on the wire or not."""
        return self.context.level is not None

    def in_nested_transaction(self) -> bool:
        """Whether a savepoint is open."""
        return self.context.level is not None and self.context.level.is_nested

    def get_transaction(self) -> AsyncSessionTransaction | None:
        """Return the outermost transaction, None if none has begun."""
        root = self.context.root
        return None if root is None else AsyncSessionTransaction(self.context, level=root)

    def get_nested_transaction(self) -> AsyncSessionTransaction | None:
        """Return the innermost savepoint, None if none is open."""
        level = self.context.level
        return AsyncSessionTransaction(self.context, level=level) if level is not None and level.is_nested else None

    @property
    def is_active(self) -> bool:
        """Whether the session can go on; False after a failure, until ``rollback()``."""
        level = self.context.level
        return level is None or level.is_active

    async def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,
        execution_options: Options | None = None,
    ) -> AsyncConnection:
        """Return the connection of this session's transaction, which begins now; the session stays its owner.

        *execution_options* such as ``isolation_level`` are for the transaction: they come before its first statement.
        """
        with self.context.guard.enter("connection"):
            return await open_connection(self.context, bind_arguments, execution_options)

    def get_bind(
        self, mapper: AnyMapper | type[Any] | None = None, clause: ClauseElement | None = None, **hints: Any
    ) -> Bind | Awaitable[Bind]:
        """Return the engine or connection for a class or statement; made to be overridden, also by ``async def``.

        *hints* are what calls were given as ``bind_arguments`` besides ``mapper``, ``clause`` and ``bind``.
        """
        return self.binds.locate(None if mapper is None else mapper_of(mapper), clause, **hints)

    def bind_mapper(self, mapper: AnyMapper | type[Any], bind: Bind) -> None:
        """Send a class to *bind* from now on."""
        self.binds.bind_to(mapper, bind)

    # The session itself

    def fork(self) -> Self:
        """Return a session of the same configuration, for another task: ``async with session.fork() as other:``.

        A subclass whose constructor takes other arguments overrides this.
        """
        context = self.context
        return type(self)(
            self.binds.engine(),
            binds=self.binds.binds,
            autoflush=context.autoflushes,
            expire_on_commit=context.expires_on_commit,
            autobegin=context.autobegins,
            info=self._info,
            stale_reads=context.workspace.stale_reads,
            isolation_level=context.options.isolation_level,
            close_resets_only=context.reopens,
        )

    async def close(self) -> None:
        """Roll back what is open, give connections back, let all objects go; the session cannot be used any more."""
        with self.context.guard.enter("close"):
            await transactions.close(self.context, for_good=not self.context.reopens)

    async def reset(self) -> None:
        """Roll back what is open, give connections back, let all objects go; the session can be used anew."""
        with self.context.guard.enter("reset"):
            await transactions.close(self.context, for_good=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.context.guard.enter("close"):
            await transactions.close(self.context, for_good=not self.context.reopens)

    @property
    def no_autoflush(self) -> AbstractContextManager[None]:
        """For ``with session.no_autoflush:``; queries within do not flush before."""
        return lifecycle.without_autoflush(self.context)

    @property
    def autoflush(self) -> bool:
        """Whether queries flush before."""
        return self.context.autoflushes

    @autoflush.setter
    def autoflush(self, flushes: bool) -> None:
        self.context.autoflushes = flushes

    @property
    def expire_on_commit(self) -> bool:
        """Whether values turn stale with a commit."""
        return self.context.expires_on_commit

    @property
    def bind(self) -> Bind | None:
        """What everything goes to that has no place in ``binds``."""
        return self.binds.bind

    @property
    def info(self) -> dict[Any, Any]:
        """A dictionary of your own."""
        if self._info is None:
            self._info = {}
        return self._info
