"""How does an application reach the connection of a session's transaction? By a connection that it does not own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from typing_extensions import override

from aiosession.aio import Guard
from aiosession.engine.engine import AsyncConnection
from aiosession.engine.options import checked
from aiosession.engine.stack import TransactionStack
from aiosession.engine.transaction import AsyncTransaction, TransactionState
from aiosession.engine.wire import EngineConnection
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.session.bind_arguments import bind_of
from aiosession.session.querying import Options
from aiosession.transaction.bind import BindTransaction
from aiosession.transaction.context import SessionContext
from aiosession.transaction.operation import Operation

_OF_THE_TRANSACTION: Final = ("isolation_level", "read_only", "deferrable")


class HeldStack(TransactionStack):
    """The stack of a connection whose transaction belongs to a session: savepoints may be opened, not more."""

    __slots__ = ("_share",)

    def __init__(self, wire: EngineConnection, share: BindTransaction, owner: AsyncConnection) -> None:
        super().__init__(wire, share.options, share.engine)
        self._share: Final = share
        self._is_begun = True
        self.root = AsyncTransaction(owner)
        self.root.advance(TransactionState.ACTIVE)

    @override
    async def commit(self, transaction: AsyncTransaction) -> None:
        if transaction is self.root:
            raise InvalidRequestError("this transaction belongs to a session; call `await session.commit()`")
        await super().commit(transaction)

    @override
    async def roll_back(self, transaction: AsyncTransaction) -> None:
        if transaction is self.root:
            raise InvalidRequestError("this transaction belongs to a session; call `await session.rollback()`")
        await super().roll_back(transaction)
        self._share.cause = None

    @override
    def note(self, error: BaseException) -> None:
        self._share.note_failure(error)


class SessionConnection(AsyncConnection):
    """The connection that a session holds for its transaction; closing it leaves it with the session."""

    __slots__ = ()

    def __init__(self, share: BindTransaction, wire: EngineConnection, guard: Guard) -> None:
        super().__init__(share.engine)
        self._guard = guard  # one operation at a time, be it the session's or the connection's
        self._stack = HeldStack(wire, share, self)
        self._wire = wire

    @override
    async def _close(self) -> None:
        self._wire = self._stack = None
        self._was_closed = True


async def open_connection(
    ctx: SessionContext, bind_arguments: Mapping[str, Any] | None, execution_options: Options | None
) -> AsyncConnection:
    """Return the connection of the transaction on a bind, begun now if it was not."""
    ctx.check_open()
    options = checked(execution_options) if execution_options else {}
    for name in options:
        if name not in _OF_THE_TRANSACTION:
            raise ArgumentError(
                f"connection() takes execution options of the transaction ({', '.join(_OF_THE_TRANSACTION)}); {name} "
                f"is set for the engine: AsyncSession(engine.execution_options({name}=...))"
            )
    with ctx.bound_to(await bind_of(ctx, None, bind_arguments, operation=Operation.CONNECTION)):
        share = await ctx.share(options=replace(ctx.options, **options) if options else None)
    return connection_of(share, ctx.guard)


def connection_of(share: BindTransaction, guard: Guard) -> AsyncConnection:
    """Return the connection of a transaction that is open on a bind."""
    if isinstance(share.bind, AsyncConnection):
        return share.bind
    return SessionConnection(share, share.held(), guard)
