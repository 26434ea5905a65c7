"""What does ``session.begin()`` return? A handle on one level of the transaction.

It can be awaited, used with ``async with``, and ended by its own commit() and rollback().
"""

from collections.abc import Generator
from enum import Enum
from types import TracebackType
from typing import Any, Final

from typing_extensions import override

from aiosession.drivers.protocol import TransactionOptions
from aiosession.errors import InvalidRequestError
from aiosession.session import transactions
from aiosession.transaction.context import SessionContext
from aiosession.transaction.unit import SessionTransaction


class SessionTransactionOrigin(Enum):
    """What a transaction began with."""

    AUTOBEGIN = "autobegin"
    """The first call that needed it."""
    BEGIN = "begin"
    """``begin()``."""
    BEGIN_NESTED = "begin_nested"
    """``begin_nested()``: it is a savepoint."""


class AsyncSessionTransaction:
    """A transaction or savepoint of a session, from its begin to its commit() or rollback().

    ``await session.begin()`` begins and returns it; ``async with session.begin():`` also ends it: commit at the end of
    the block, rollback if the block raises.
    """

    __slots__ = ("_context", "_joins", "_level", "_nested", "_options")
    # Handles are made when somebody asks for one: those on the same level are the same transaction.

    def __init__(
        self,
        context: SessionContext,
        *,
        nested: bool = False,
        join: bool = False,
        options: TransactionOptions | None = None,
        level: SessionTransaction | None = None,
    ) -> None:
        self._context: Final = context
        self._nested: Final = nested
        self._joins = join
        self._options: Final = options
        self._level = level

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AsyncSessionTransaction):
            return NotImplemented
        return self is other or (self._level is not None and self._level is other._level)

    @override
    def __hash__(self) -> int:
        return hash(self._begun())

    @property
    def session(self) -> Any:
        """The session that this is a transaction of."""
        return self._context.workspace.owner

    @property
    def parent(self) -> "AsyncSessionTransaction | None":
        """The transaction or savepoint around a savepoint, None for the outermost transaction."""
        around = None if self._level is None else self._level.parent
        return None if around is None else AsyncSessionTransaction(self._context, level=around)

    @property
    def origin(self) -> "SessionTransactionOrigin":
        """What it began with."""
        if self.nested:
            return SessionTransactionOrigin.BEGIN_NESTED
        by_itself = self._level is not None and not self._level.is_explicit
        return SessionTransactionOrigin.AUTOBEGIN if by_itself else SessionTransactionOrigin.BEGIN

    @property
    def is_active(self) -> bool:
        """Whether it has begun, has not ended, and nothing in it has failed."""
        return self._level is not None and self._level.is_active

    @property
    def nested(self) -> bool:
        """Whether this is a savepoint."""
        return self._nested or (self._level is not None and self._level.is_nested)

    def __await__(self) -> Generator[Any, Any, "AsyncSessionTransaction"]:
        return self._begin().__await__()

    async def __aenter__(self) -> "AsyncSessionTransaction":
        await self._begin()
        if not (self._nested or self._joins):
            self._context.block = self
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        level = self._begun()
        with self._context.guard.enter("leaving a transaction block"):
            try:
                if level.is_open:
                    await self._leave(level, error)
                elif error is None and self._context.block is self and self._context.has_changes:
                    raise InvalidRequestError(
                        "objects were added, changed or deleted after the transaction of this `async with "
                        "session.begin()` block had ended, and would not be written; leave the block before, or do "
                        "without commit() and rollback() in it"
                    )
            finally:
                if self._context.block is self:
                    self._context.block = None

    async def commit(self) -> None:
        """Flush and commit; of a savepoint, merge it into what is around it."""
        with self._context.guard.enter("commit"):
            await self._commit(self._begun())

    async def rollback(self) -> None:
        """Undo everything since the begin, in the databases and in the objects."""
        with self._context.guard.enter("rollback"):
            await self._roll_back(self._begun(), None)

    async def _begin(self) -> "AsyncSessionTransaction":
        context = self._context
        if self._level is not None:
            raise InvalidRequestError("this transaction has begun already; call begin() or begin_nested() again")
        if self._nested:
            with context.guard.enter("begin_nested"):
                self._level = await transactions.begin_nested(context)
        else:
            with context.guard.enter("begin"):
                self._joins = self._joins and context.level is not None
                self._level = transactions.begin(context, self._options, join=self._joins)
        return self

    async def _leave(self, level: SessionTransaction, error: BaseException | None) -> None:
        if error is not None:
            await self._roll_back(level, error)
            return
        try:
            await self._commit(level)
        except BaseException as failure:
            if level.is_open:
                await self._roll_back(level, failure)
            raise

    async def _commit(self, level: SessionTransaction) -> None:
        if self._joins:
            await transactions.flush(self._context)
        elif level.is_nested:
            await transactions.release(self._context, level)
        else:
            self._check_open(level)
            await transactions.commit(self._context)

    async def _roll_back(self, level: SessionTransaction, error: BaseException | None) -> None:
        if self._joins:
            cause = InvalidRequestError("a block that had joined it was rolled back") if error is None else error
            await transactions.fail(self._context, level, cause)
        elif level.is_nested:
            await transactions.rollback_to(self._context, level)
        elif level.is_open:
            await transactions.rollback(self._context)

    def _begun(self) -> SessionTransaction:
        if self._level is None:
            raise InvalidRequestError("this transaction has not begun; await it, or use it with `async with`")
        return self._level

    def _check_open(self, level: SessionTransaction) -> None:
        if not level.is_open:
            raise InvalidRequestError(f"this transaction is {level.state.value} already")
