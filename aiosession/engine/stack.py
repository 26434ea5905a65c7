"""Begin and end the transaction of one connection: BEGIN when it is needed, savepoints within, nothing left open."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from aiosession import aio, errors
from aiosession.drivers.protocol import TransactionOptions, TransactionStatus
from aiosession.engine.options import AUTOCOMMIT, beginning, reads_need_transaction
from aiosession.engine.outcome import Connections, LostCommit
from aiosession.engine.transaction import AsyncTransaction, TransactionOwner, TransactionState
from aiosession.engine.wire import EngineConnection

T = TypeVar("T")

COMMIT_DEADLINE: Final = 30.0
"""Seconds that COMMIT, shielded from cancellation, may take."""
ROLLBACK_DEADLINE: Final = 10.0
_GONE: Final = frozenset({TransactionStatus.IDLE, TransactionStatus.CLOSED})


class TransactionStack:
    """The transaction of one connection and the savepoints open in it.

    A plain read begins nothing; the first statement that needs it sends BEGIN. An explicit ``begin()`` counts as in
    transaction at once and also sends BEGIN with its first statement.
    """

    __slots__ = ("_connections", "_is_begun", "_numbers", "_options", "_savepoints", "_wire", "cause", "root")

    def __init__(self, wire: EngineConnection, options: TransactionOptions, connections: Connections) -> None:
        self._wire: Final = wire
        self._connections: Final = connections
        """Where to ask for the outcome of a commit that was not answered."""
        self._options = options
        self._is_begun = False
        self._numbers = 0
        self._savepoints: Final[list[AsyncTransaction]] = []
        self.root: AsyncTransaction | None = None
        self.cause: BaseException | None = None
        """What made the transaction fail, where the database says that it has."""

    @property
    def nested(self) -> AsyncTransaction | None:
        """The innermost savepoint."""
        return self._savepoints[-1] if self._savepoints else None

    @property
    def options(self) -> TransactionOptions:
        """How transactions begin here."""
        return self._options

    def configure(self, options: TransactionOptions) -> None:
        """Change how transactions begin; refused inside of one."""
        if self.root is not None:
            raise errors.InvalidRequestError(
                "the isolation level of a transaction in progress cannot change; set it before the first statement"
            )
        self._options = options

    async def ready(self, owner: TransactionOwner, *, pure: bool, write: bool | None = None) -> None:
        """See to it that a statement can be sent: begin if it needs that and nothing has begun."""
        if self._is_begun:
            return
        if self.root is not None and self.root.state is TransactionState.PREPARED:
            raise errors.InvalidRequestError("this transaction is prepared; nothing but commit() or rollback() is left")
        if self._options.isolation_level == AUTOCOMMIT:
            return
        if self.root is None:
            if pure and not reads_need_transaction(self._options.isolation_level):
                return
            self.root = AsyncTransaction(owner)
            self.root.advance(TransactionState.ACTIVE)
        await self._begin(write=not pure if write is None else write)

    async def begin(self, owner: TransactionOwner, transaction: AsyncTransaction) -> None:
        """Make *transaction* the innermost one: the transaction itself, or a savepoint."""
        if transaction.savepoint is not None:
            await self.ready(owner, pure=False)
            if self._options.isolation_level != AUTOCOMMIT:
                await self._wire.savepoint(transaction.savepoint)
            self._savepoints.append(transaction)
        elif self.root is not None:
            raise errors.InvalidRequestError(
                "a transaction has begun on this connection already; commit() or rollback() it, "
                "or use begin_nested() for a savepoint in it"
            )
        else:
            await self._check_can_prepare(transaction)
            self.root = transaction
        transaction.advance(TransactionState.ACTIVE)

    async def prepare(self, transaction: AsyncTransaction) -> None:
        """End the first phase of the transaction; savepoints in it are merged into it."""
        if self._wire.status is TransactionStatus.FAILED:
            raise errors.PendingRollbackError(self.cause)
        if not self._is_begun:
            await self._begin(write=False)
        try:
            await aio.finish(self._wire.prepare(str(transaction.branch)), deadline=COMMIT_DEADLINE)
        except BaseException as error:
            if has_no_answer(error):
                self._wire.terminate()
            if self._wire.status in _GONE:
                self._end(transaction, TransactionState.ROLLED_BACK)
            raise
        for savepoint in self._savepoints:
            savepoint.advance(TransactionState.COMMITTED)
        self._savepoints.clear()
        self._is_begun = False
        transaction.advance(TransactionState.PREPARED)

    async def _check_can_prepare(self, transaction: AsyncTransaction) -> None:
        if transaction.branch is not None and not await self._wire.can_prepare():
            raise errors.InvalidRequestError(
                "this database prepares no transactions (SQLite never does, PostgreSQL if max_prepared_transactions is "
                "0, its default); begin() an ordinary one"
            )

    async def commit(self, transaction: AsyncTransaction) -> None:
        """Commit *transaction*, or release it if it is a savepoint."""
        if transaction.savepoint is None:
            await self._commit_root(transaction)
            return
        self._check_innermost(transaction)
        if self._is_begun:
            await self._wire.release_savepoint(transaction.savepoint)
        self._end_savepoints(transaction, TransactionState.COMMITTED)

    async def roll_back(self, transaction: AsyncTransaction) -> None:
        """Undo *transaction*; always ends it, unless it belongs to another event loop."""
        self._wire.check_loop()
        if transaction.savepoint is None:
            await self._roll_back_root(transaction)
            return
        self._check_innermost(transaction)
        try:
            if self._is_begun:
                await self._wire.rollback_to_savepoint(transaction.savepoint)
                await self._wire.release_savepoint(transaction.savepoint)
                self.cause = None
        finally:
            self._end_savepoints(transaction, TransactionState.ROLLED_BACK)

    async def undoing(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do *work* in a savepoint and roll that back, whatever comes of it; return what it returned."""
        name = self.savepoint_name()
        await self._wire.savepoint(name)
        try:
            return await work()
        finally:
            await self._wire.rollback_to_savepoint(name)
            await self._wire.release_savepoint(name)

    def savepoint_name(self) -> str:
        """Return a name that no open savepoint has."""
        self._numbers += 1
        return f"aiosession_{self._numbers}"

    def note(self, error: BaseException) -> None:
        """Remember what made the transaction fail."""
        if self._is_begun and self._wire.status is TransactionStatus.FAILED:
            self.cause = error

    async def _begin(self, *, write: bool) -> None:
        branch = None if self.root is None else self.root.branch
        try:
            await self._wire.begin(beginning(self._options, write=write, branch=branch))
        except BaseException:
            self._is_begun = self._wire.status is not TransactionStatus.IDLE  # it may have arrived: to be rolled back
            raise
        self._is_begun = True

    async def _commit_root(self, transaction: AsyncTransaction) -> None:
        if transaction.state is TransactionState.PREPARED:
            await self._finish(self._wire.commit_prepared, transaction, TransactionState.COMMITTED)
            return
        if self._is_begun:
            if self._wire.status is TransactionStatus.FAILED:
                raise errors.PendingRollbackError(self.cause)
            await self._send_commit(transaction)
        self._end(transaction, TransactionState.COMMITTED)

    async def _send_commit(self, transaction: AsyncTransaction) -> None:
        answers: list[None] = []
        number = self._wire.transaction_number
        try:
            await aio.finish(self._wire.commit(), deadline=COMMIT_DEADLINE, keep=answers)
        except BaseException as error:
            if has_no_answer(error):
                self._wire.terminate()
                self._end(transaction, TransactionState.ROLLED_BACK)
                raise errors.CommitOutcomeUnknownError(error, LostCommit(self._connections, number)) from error
            if answers:  # the caller was cancelled too late
                self._end(transaction, TransactionState.COMMITTED)
            elif self._wire.status is TransactionStatus.IDLE:
                self._end(transaction, TransactionState.ROLLED_BACK)
            raise

    async def _finish(
        self, send: Callable[[str], Coroutine[Any, Any, bool]], transaction: AsyncTransaction, outcome: TransactionState
    ) -> None:
        """Commit or roll back a prepared transaction; it stays prepared if that fails."""
        found = await aio.finish(send(str(transaction.branch)), deadline=COMMIT_DEADLINE)
        self._end(transaction, outcome)
        if not found:
            raise errors.InvalidRequestError(
                f"nothing is prepared under the name {transaction.branch!r} any more: somebody else has finished it"
            )

    async def _roll_back_root(self, transaction: AsyncTransaction) -> None:
        if transaction.state is TransactionState.PREPARED:
            await self._finish(self._wire.rollback_prepared, transaction, TransactionState.ROLLED_BACK)
            return
        try:
            if self._is_begun:
                await aio.finish(self._wire.rollback(), deadline=ROLLBACK_DEADLINE)
        except BaseException:
            self._wire.terminate()
            raise
        finally:
            self._end(transaction, TransactionState.ROLLED_BACK)

    def _end(self, transaction: AsyncTransaction, state: TransactionState) -> None:
        for savepoint in self._savepoints:
            savepoint.advance(state)
        self._savepoints.clear()
        transaction.advance(state)
        self.root = None
        self.cause = None
        self._is_begun = False

    def _end_savepoints(self, transaction: AsyncTransaction, state: TransactionState) -> None:
        """End *transaction* and the savepoints within it."""
        place = self._savepoints.index(transaction)
        for savepoint in self._savepoints[place:]:
            savepoint.advance(state)
        del self._savepoints[place:]

    def _check_innermost(self, transaction: AsyncTransaction) -> None:
        if transaction not in self._savepoints:
            raise errors.InvalidRequestError("this savepoint belongs to a transaction that has ended")


def has_no_answer(error: BaseException) -> bool:
    """Say whether *error* means that nobody heard what the database made of a statement: it is lost, or too late."""
    if isinstance(error, errors.StatementTimeoutError):
        return isinstance(error.orig, TimeoutError)  # the driver's patience has ended, not the server's
    return isinstance(error, TimeoutError | errors.DisconnectError)


async def nobody_knows() -> bool | None:
    """Answer for a COMMIT that left no trace to ask for."""
    return None
