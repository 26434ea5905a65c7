"""What is a session made of? Its workspace and its context, wired together without a reference back to the session."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, cast
from weakref import WeakMethod

from sqlalchemy import ClauseElement

from aiosession.aio import Guard
from aiosession.drivers.protocol import TransactionOptions
from aiosession.engine.engine import AsyncConnection
from aiosession.errors import ResourceClosedError
from aiosession.events.dispatch import session_classes
from aiosession.loading.load import load_for_siblings
from aiosession.mapping.mapper import AnyMapper
from aiosession.session.connections import connection_of
from aiosession.session.handles import AsyncSessionTransaction
from aiosession.session.options import check_stale_reads
from aiosession.session.statistics import CountingGuard
from aiosession.session.transactions import flush_before_query
from aiosession.state.reading import read
from aiosession.state.state import EntityState
from aiosession.state.workspace import Workspace
from aiosession.transaction.bind import Bind, BindTransaction
from aiosession.transaction.context import Locate, SessionContext
from aiosession.transaction.unit import SessionTransaction


def make_context(
    owner: object,
    locate: Locate,
    options: TransactionOptions,
    *,
    stale_reads: Literal["return", "raise"],
    guard: CountingGuard | None = None,
) -> SessionContext:
    """Return the context of a new session."""
    check_stale_reads(stale_reads)
    workspace = Workspace(owner, stale_reads=stale_reads)
    workspace.load_attribute = load_attribute
    workspace.dispatch = session_classes.of(type(owner))
    context = SessionContext(workspace, locate, flush_before_query, options, guard)
    if guard is not None:
        context.heard = guard.statistics.heard_operation
    context.handed = HANDED_OUT
    return context


class HandedOut:
    """Makes what handlers of events are handed."""

    __slots__ = ()

    def connection(self, share: BindTransaction) -> AsyncConnection:
        """Return the connection of a transaction, with a guard of its own: the session's operation waits."""
        return connection_of(share, Guard())

    def transaction(self, context: SessionContext, level: SessionTransaction) -> AsyncSessionTransaction:
        """Return the handle on a level of the transaction."""
        return AsyncSessionTransaction(context, level=level)


HANDED_OUT: Final = HandedOut()


class Owner(Protocol):
    """What a workspace belongs to: a session."""

    @property
    def context(self) -> SessionContext:
        """What the layers below see of the session."""
        ...


async def load_attribute(state: EntityState, key: str) -> object:
    """Load an attribute for an object and its siblings, and return its value; what ``awaitable_attrs`` awaits."""
    workspace = state.workspace
    owner = cast("Owner | None", workspace.owner) if isinstance(workspace, Workspace) else None
    if owner is None:
        raise ResourceClosedError(f"the session of {state.describe()} is gone; {key!r} cannot be loaded any more")
    ctx = owner.context
    with ctx.guard.enter(f"awaitable_attrs.{key}"):
        ctx.check_open()
        await load_for_siblings(ctx, state, key)
    return read(state, key)


class OverriddenLocate:
    """Asks a session's own get_bind(), without keeping the session alive."""

    __slots__ = ("_method",)

    def __init__(self, get_bind: Callable[..., Bind | Awaitable[Bind]]) -> None:
        self._method = WeakMethod(get_bind)

    def __call__(
        self, mapper: AnyMapper | None, clause: ClauseElement | None, /, **hints: Any
    ) -> Bind | Awaitable[Bind]:
        """Return what get_bind() returns."""
        get_bind = self._method()
        if get_bind is None:
            raise ResourceClosedError("the session that this belongs to is gone")
        return get_bind(mapper=mapper, clause=clause, **hints)
