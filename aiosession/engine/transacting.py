"""How does a connection begin and end transactions? `AsyncConnection` has these methods; its stack does the work."""

from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from typing_extensions import override

from aiosession import aio, errors
from aiosession.drivers.arguments import branch_name
from aiosession.drivers.protocol import TransactionOptions
from aiosession.engine.stack import TransactionStack
from aiosession.engine.transaction import AsyncTransaction, AsyncTwoPhaseTransaction
from aiosession.engine.wire import OTHER_LOOP, EngineConnection


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do instead of a thing that a connection cannot do."""

    concurrent_use: str = "give each task a connection of its own"
    """When several tasks use it at once."""
    other_loop: str = OTHER_LOOP
    """When it is used on another event loop."""


_USUAL: Final = Advice()


class ConnectionGuard(aio.Guard):
    """Lets one operation of a connection at a time through."""

    __slots__ = ("_advice",)

    def __init__(self, advice: Advice) -> None:
        super().__init__()
        self._advice: Final = advice

    @override
    def _refusal(self, **facts: Any) -> errors.ConcurrentUseError:
        return errors.ConcurrentUseError(**facts, subject="connection", remedy=self._advice.concurrent_use)


class TransactingConnection:
    """What a connection holds while it is open, and its transactions and savepoints."""

    __slots__ = ("_guard", "_stack", "_was_closed", "_wire")

    def __init__(self) -> None:
        self._guard: aio.Guard = ConnectionGuard(_USUAL)
        self._wire: EngineConnection | None = None
        self._stack: TransactionStack | None = None
        self._was_closed = False

    @property
    def transaction_options(self) -> TransactionOptions:
        """How transactions begin here."""
        return self._open_stack().options

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self._was_closed

    def wire(self) -> EngineConnection:
        """Return the borrowed connection, for the layers above and for what only a driver can do."""
        if self._wire is None:
            raise self._not_open()
        return self._wire

    def advise(self, advice: Advice) -> None:
        """Have errors of misuse say what to do where this connection, which is open, is shared in a way of its own."""
        self._guard = ConnectionGuard(advice)
        self.wire().other_loop = advice.other_loop

    def begin(self) -> AsyncTransaction:
        """Return a transaction: ``async with connection.begin():`` or ``await connection.begin()``."""
        return AsyncTransaction(self)

    def begin_twophase(self, xid: str | None = None) -> AsyncTwoPhaseTransaction:
        """Return a transaction that can be prepared under the name *xid*; one is made up if none is given.

        Whoever prepares has to see to it that every prepared transaction is finished: a session with ``twophase=True``
        does that by itself, with `recover` for what a crash leaves.
        """
        name = branch_name(f"aiosession:{token_hex(16)}" if xid is None else xid)
        return AsyncTwoPhaseTransaction(self, branch=name)

    async def recover_twophase(self) -> list[str]:
        """Return the names of the prepared transactions of this database, whoever prepared them."""
        with self._guard.enter("recover_twophase"):
            return [branch.name for branch in await self.wire().prepared("")]

    async def commit_prepared(self, xid: str) -> None:
        """Commit a prepared transaction; `InvalidRequestError` if nothing is prepared under this name."""
        with self._guard.enter("commit_prepared"):
            self._check_finished(xid, found=await self.wire().commit_prepared(branch_name(xid)))

    async def rollback_prepared(self, xid: str) -> None:
        """Roll a prepared transaction back; `InvalidRequestError` if nothing is prepared under this name."""
        with self._guard.enter("rollback_prepared"):
            self._check_finished(xid, found=await self.wire().rollback_prepared(branch_name(xid)))

    def begin_nested(self) -> AsyncTransaction:
        """Return a savepoint: ``async with connection.begin_nested():`` or ``await connection.begin_nested()``."""
        return AsyncTransaction(self, savepoint=self._open_stack().savepoint_name())

    async def commit(self) -> None:
        """Commit the transaction in progress; does nothing if there is none."""
        with self._guard.enter("commit"):
            stack = self._open_stack()
            if stack.root is not None:
                await stack.commit(stack.root)

    async def rollback(self) -> None:
        """Roll back the transaction in progress; does nothing if there is none."""
        with self._guard.enter("rollback"):
            stack = self._open_stack()
            if stack.root is not None:
                await stack.roll_back(stack.root)

    def in_transaction(self) -> bool:
        """Tell whether a transaction is in progress; plain reads begin none."""
        return self._stack is not None and self._stack.root is not None

    def in_nested_transaction(self) -> bool:
        """Tell whether a savepoint is open."""
        return self._stack is not None and self._stack.nested is not None

    def get_transaction(self) -> AsyncTransaction | None:
        """Return the transaction in progress."""
        return None if self._stack is None else self._stack.root

    def get_nested_transaction(self) -> AsyncTransaction | None:
        """Return the innermost savepoint."""
        return None if self._stack is None else self._stack.nested

    async def open_transaction(self, *, write: bool) -> None:
        """See to it that BEGIN has been sent, for layers above that join this connection's transaction."""
        await self._open_stack().ready(self, pure=False, write=write)

    async def begin_transaction(self, transaction: AsyncTransaction) -> None:
        """Make *transaction* the innermost one; called by the transaction itself."""
        with self._guard.enter("begin"):
            await self._open_stack().begin(self, transaction)

    async def commit_transaction(self, transaction: AsyncTransaction) -> None:
        """Commit *transaction*; called by the transaction itself."""
        with self._guard.enter("commit"):
            await self._open_stack().commit(transaction)

    async def roll_back_transaction(self, transaction: AsyncTransaction) -> None:
        """Roll *transaction* back; called by the transaction itself."""
        with self._guard.enter("rollback"):
            await self._open_stack().roll_back(transaction)

    async def prepare_transaction(self, transaction: AsyncTransaction) -> None:
        """End the first phase of *transaction*; called by the transaction itself."""
        with self._guard.enter("prepare"):
            await self._open_stack().prepare(transaction)

    def _check_finished(self, xid: str, *, found: bool) -> None:
        if not found:
            raise errors.InvalidRequestError(
                f"nothing is prepared under the name {xid!r} in this database for this user; somebody may have "
                f"finished it. recover_twophase() lists what is there"
            )

    def _open_stack(self) -> TransactionStack:
        if self._stack is None:
            raise self._not_open()
        return self._stack

    def _not_open(self) -> errors.ResourceClosedError:
        if self._was_closed:
            return errors.ResourceClosedError("this connection is closed; take another one with engine.connect()")
        return errors.ResourceClosedError(
            "this connection is not open yet; use `async with engine.connect() as connection:` or await it"
        )
