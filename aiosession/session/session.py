"""What does the application hold? `AsyncSession`: a facade, every method of which hands its work to plain functions.

No method awaits another public method, so that subclasses can override any of them.
"""

from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import ClauseElement

from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import announcing, lifecycle, transactions
from aiosession.session.asking import Asking
from aiosession.session.binds import BindTable
from aiosession.session.making import OverriddenLocate, make_context
from aiosession.session.objects import ObjectSet
from aiosession.session.options import option_names, refuse_unknown
from aiosession.session.transacting import Transacting
from aiosession.state.identity import IdentityMap
from aiosession.transaction.bind import Bind


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
        close_resets_only: ``close()`` leaves the session usable, as ``reset()`` does.

    """

    __slots__ = ("_info",)

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
        self.binds = BindTable(bind, binds)
        is_plain = type(self).get_bind is AsyncSession.get_bind
        locate = self.binds.locate if is_plain else OverriddenLocate(self.get_bind)
        self.context = make_context(self, locate, isolation_level=isolation_level, stale_reads=stale_reads)
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

    # Where statements go

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
        other = type(self)(
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
        other.context.workspace.dispatch = announcing.shared_dispatch(self)
        return other

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
