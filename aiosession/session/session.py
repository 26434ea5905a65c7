"""What does the application hold? `AsyncSession`: a facade, every method of which hands its work to plain functions.

No method awaits another public method, so that subclasses can override any of them.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from weakref import WeakSet

from sqlalchemy import ClauseElement, TableClause

from aiosession.errors import InvalidRequestError
from aiosession.loading.options import LoadOption
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import announcing, bulk, lifecycle, transactions
from aiosession.session import merge as merging
from aiosession.session.asking import Asking
from aiosession.session.binds import BindTable
from aiosession.session.copying import Rows, copy_rows
from aiosession.session.identity import identity_key, owner_of
from aiosession.session.making import OverriddenLocate, make_context
from aiosession.session.objects import ObjectSet
from aiosession.session.options import DEFAULT_OPTIONS, changed_options, join_mode, option_names, refuse_unknown
from aiosession.session.query import Query, query_class
from aiosession.session.statistics import CountingGuard, SessionStatistics
from aiosession.session.transacting import Transacting
from aiosession.session.two_phase import coordinators
from aiosession.sql.schemas import SchemaMap
from aiosession.state.identity import IdentityMap
from aiosession.transaction.bind import Bind
from aiosession.transaction.freshness import Freshness, freshness_of
from aiosession.transaction.operation import Operation
from aiosession.transaction.tenant import Tenant
from aiosession.transaction.two_phase import TwoPhase

T = TypeVar("T")

sessions: Final["WeakSet[AsyncSession]"] = WeakSet()
"""All sessions that are alive."""


class AsyncSession(Asking, Transacting):
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
        read_only: The database refuses writes in this session's transactions.
        deferrable: Serializable read-only transactions of PostgreSQL wait for a snapshot that cannot fail.
        join_transaction_mode: What becomes of a transaction that is in progress on the connection in *bind*:
            ``"create_savepoint"`` leaves it alone, ``"rollback_only"`` passes on rollbacks, ``"control_fully"`` makes
            it the session's, ``"conditional_savepoint"`` is the first inside of a savepoint and else the second.
        close_resets_only: ``close()`` leaves the session usable, as ``reset()`` does.
        query_cls: The subclass of `Query` that ``query()`` makes.
        twophase: Several databases commit as one: True, or `TwoPhase` with a name for the application.
        fresh_as_of: What reads have to see at least, if replicas answer them: what another session's ``freshness()``
            returned, or the text of that.
        schema_translate_map: Schemas that stand in for those of the tables in everything that the session sends:
            ``{None: "tenant_7"}`` for tables without a schema of their own.
        statistics: Count statements, round trips, rows and flushes, and their times: see `statistics`.

    """

    __slots__ = ("_info", "_twophase")

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
        read_only: bool = False,
        deferrable: bool = False,
        join_transaction_mode: str = "conditional_savepoint",
        close_resets_only: bool = False,
        query_cls: type[Query[Any]] = Query,
        twophase: bool | TwoPhase = False,
        fresh_as_of: Freshness | str | None = None,
        schema_translate_map: SchemaMap | None = None,
        statistics: bool = False,
        **unknown: object,
    ) -> None:
        if unknown:
            refuse_unknown(unknown, option_names(AsyncSession), "a session")
        self._info: dict[Any, Any] | None = None if info is None else dict(info)
        self.query_class = query_class(query_cls)
        self.binds = BindTable(bind, binds)
        is_plain = type(self).get_bind is AsyncSession.get_bind
        locate = self.binds.locate if is_plain else OverriddenLocate(self.get_bind)
        options = changed_options(
            DEFAULT_OPTIONS, isolation_level=isolation_level, read_only=read_only or None, deferrable=deferrable or None
        )
        guard = CountingGuard() if statistics else None
        self.context = make_context(self, locate, options or DEFAULT_OPTIONS, stale_reads=stale_reads, guard=guard)
        self.context.join_mode = join_mode(join_transaction_mode)
        self.context.configure(
            autoflushes=autoflush, expires_on_commit=expire_on_commit, autobegins=autobegin, reopens=close_resets_only
        )
        self._twophase = twophase
        if twophase:
            self.context.two_phase = coordinators(twophase, self.binds)
        if schema_translate_map is not None:
            self.context.tenant = Tenant(schema_translate_map)
        if fresh_as_of is not None:
            self.context.reads.require(freshness_of(fresh_as_of))
        sessions.add(self)

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

    async def merge(self, instance: T, *, load: bool = True, options: Sequence[LoadOption] | None = None) -> T:
        """Copy an object's state onto the session's object of the same identity and return that; see `merge_all`."""
        with self.context.guard.enter("merge"):
            (merged,) = await merging.merge_all(self.context, [instance], load=load, options=options)
            return merged

    async def merge_all(
        self, instances: Iterable[T], *, load: bool = True, options: Sequence[LoadOption] | None = None
    ) -> list[T]:
        """Copy the state of objects, and of what the merge cascade reaches, onto objects of this session.

        Those are found in memory or with one statement per class, or made; what is not loaded in the given objects is
        left alone in them. With ``load=False`` nothing is asked of the database and nothing counts as changed: for
        clean copies out of a cache. *options* are loader options for the classes of *instances*.
        """
        with self.context.guard.enter("merge_all"):
            return await merging.merge_all(self.context, instances, load=load, options=options)

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

    identity_key = staticmethod(identity_key)

    @staticmethod
    def object_session(instance: object) -> "AsyncSession | None":
        """Return the session that an object is in, None if it is in none."""
        owner = owner_of(instance)
        return owner if isinstance(owner, AsyncSession) else None

    # Rows without objects

    async def bulk_save_objects(
        self,
        objects: Iterable[object],
        return_defaults: bool = False,  # noqa: FBT001, FBT002 - the known signature
        update_changed_only: bool = True,  # noqa: FBT001, FBT002
        preserve_order: bool = True,  # noqa: FBT001, FBT002
    ) -> None:
        """Insert the rows of new objects and update those of others, without relations, cascades and the identity map.

        The objects do not become part of the session. With *return_defaults* new ones get their generated keys and
        defaults. Without *update_changed_only* all columns are written, without *preserve_order* each class at once.
        """
        with self.context.guard.enter("bulk_save_objects"):
            self.context.check_open()
            await bulk.save_objects(
                self.context,
                objects,
                return_defaults=return_defaults,
                changed_only=update_changed_only,
                in_order=preserve_order,
            )

    async def bulk_insert_mappings(
        self,
        mapper: AnyMapper | type[Any],
        mappings: Iterable[Mapping[str, Any]],
        return_defaults: bool = False,  # noqa: FBT001, FBT002 - the known signature
        render_nulls: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Insert rows given as mappings from attribute names to values.

        With *return_defaults* the mappings get generated keys and defaults; with *render_nulls* None means NULL also
        for columns with a default.
        """
        with self.context.guard.enter("bulk_insert_mappings"):
            self.context.check_open()
            await bulk.insert_mappings(
                self.context, mapper_of(mapper), mappings, return_defaults=return_defaults, render_nulls=render_nulls
            )

    async def bulk_update_mappings(self, mapper: AnyMapper | type[Any], mappings: Iterable[Mapping[str, Any]]) -> None:
        """Update the rows whose primary keys are in *mappings*, to the other values in them."""
        with self.context.guard.enter("bulk_update_mappings"):
            self.context.check_open()
            await bulk.update_rows(self.context, mapper_of(mapper), mappings)

    async def bulk_copy(
        self, entity: AnyMapper | type[Any], rows: Rows, *, columns: Iterable[object] | None = None
    ) -> int:
        """Insert very many rows and return their number: by COPY on PostgreSQL, by batches of INSERTs elsewhere.

        *rows* are mappings from attribute names to values, all with the same names, or sequences of values for the
        attributes in *columns*; from a list, a generator or an async generator, of which a chunk is in memory at a
        time. Defaults that Python computes are filled in, the database does its own. Part of the transaction.
        """
        with self.context.guard.enter("bulk_copy"):
            self.context.check_open()
            return await copy_rows(self.context, mapper_of(entity), rows, columns)

    # Where statements go

    def get_bind(
        self, mapper: AnyMapper | type[Any] | None = None, clause: ClauseElement | None = None, **hints: Any
    ) -> Bind | Awaitable[Bind]:
        """Return the engine or connection for a class or statement; made to be overridden, also by ``async def``.

        ``self.operation`` tells what is about to be done, ``self._flushing`` whether a flush or a bulk method does it.
        What is read or written object by object comes with its mapper and without a statement: *clause* is its table,
        or None. *hints* are what calls were given as ``bind_arguments`` besides ``mapper``, ``clause`` and ``bind``.
        """
        return self.binds.locate(None if mapper is None else mapper_of(mapper), clause, **hints)

    def bind_mapper(self, mapper: AnyMapper | type[Any], bind: Bind) -> None:
        """Send a class to *bind* from now on."""
        self.binds.bind_to(mapper, bind)

    def bind_table(self, table: TableClause, bind: Bind) -> None:
        """Send statements about a table to *bind* from now on."""
        self.binds.bind_to(table, bind)

    @property
    def operation(self) -> Operation | None:
        """What the session is about to do where ``get_bind()`` is asked for a place; None at all other times."""
        return self.context.operation

    @property
    def _flushing(self) -> bool:
        """Whether a flush is in progress, for get_bind() to ask: what is wanted is a place to write to."""
        return self.context.flushing

    # The session itself

    def fork(self) -> Self:
        """Return a session of the same configuration, for another task: ``async with session.fork() as other:``.

        A subclass whose constructor takes other arguments overrides `_options_of_fork`.
        """
        other = type(self)(**self._options_of_fork())
        other.context.reads = self.context.reads.copy()
        other.context.deeds = self.context.deeds
        other.context.workspace.dispatch = announcing.shared_dispatch(self)
        return other

    def _options_of_fork(self) -> dict[str, Any]:
        """Return what makes another session like this one."""
        context = self.context
        return {
            "bind": self.binds.engine(),
            "binds": self.binds.binds,
            "autoflush": context.autoflushes,
            "expire_on_commit": context.expires_on_commit,
            "autobegin": context.autobegins,
            "info": self._info,
            "stale_reads": context.workspace.stale_reads,
            "isolation_level": context.options.isolation_level,
            "read_only": context.options.read_only,
            "deferrable": context.options.deferrable,
            "join_transaction_mode": context.join_mode.value,
            "close_resets_only": context.reopens,
            "query_cls": self.query_class,
            "twophase": self._twophase,
            "statistics": isinstance(context.guard, CountingGuard),
            "schema_translate_map": None if context.tenant is None else context.tenant.schemas,
        }

    async def close(self) -> None:
        """Roll back what is open, give connections back, let all objects go; the session cannot be used any more."""
        with self.context.guard.enter("close"):
            await transactions.close(self.context, for_good=not self.context.reopens)

    async def invalidate(self) -> None:
        """Like `close`, but drop connections instead of giving them back: for when they are broken."""
        with self.context.guard.enter("invalidate"):
            await transactions.invalidate(self.context, for_good=not self.context.reopens)

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
    def statistics(self) -> SessionStatistics:
        """What this session has cost so far: statements, round trips, rows, flushes; if made with ``statistics=True``.

        When such a session is closed the logger ``aiosession.statistics`` tells them too, at INFO.
        """
        guard = self.context.guard
        if isinstance(guard, CountingGuard):
            return guard.statistics
        raise InvalidRequestError(
            "this session counts nothing: make it with AsyncSession(engine, statistics=True), or "
            "async_sessionmaker(engine, statistics=True)"
        )

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
