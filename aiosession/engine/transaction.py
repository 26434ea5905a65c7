"""Hold one transaction or savepoint of an `AsyncConnection`, from its beginning to commit or rollback."""

from collections.abc import Generator
from enum import Enum
from types import TracebackType
from typing import Any, Final, Protocol, Self

from aiosession import errors


class TransactionState(Enum):
    """Where a transaction is in its life."""

    NOT_BEGUN = "not begun"
    ACTIVE = "active"
    PREPARED = "prepared"
    """Kept by the database, whatever happens, until it is committed or rolled back."""
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"


_NEXT: Final = {
    TransactionState.NOT_BEGUN: {TransactionState.ACTIVE},
    TransactionState.ACTIVE: {TransactionState.PREPARED, TransactionState.COMMITTED, TransactionState.ROLLED_BACK},
    TransactionState.PREPARED: {TransactionState.COMMITTED, TransactionState.ROLLED_BACK},
}
_OPEN: Final = frozenset({TransactionState.ACTIVE, TransactionState.PREPARED})


class TransactionOwner(Protocol):
    """The connection, as its transactions see it."""

    async def begin_transaction(self, transaction: "AsyncTransaction") -> None:
        """Make *transaction* the innermost one."""
        ...

    async def commit_transaction(self, transaction: "AsyncTransaction") -> None:
        """Commit *transaction* and whatever is open within it."""
        ...

    async def roll_back_transaction(self, transaction: "AsyncTransaction") -> None:
        """Roll *transaction* back, and whatever is open within it."""
        ...

    async def prepare_transaction(self, transaction: "AsyncTransaction") -> None:
        """End the first phase of *transaction*, and whatever is open within it."""
        ...


class AsyncTransaction:
    """A transaction or, if ``nested``, a savepoint: ``async with connection.begin():`` or ``await connection.begin()``.

    Leaving the block commits, or rolls back if it is left by an exception.
    """

    __slots__ = ("_owner", "branch", "nested", "savepoint", "state")

    def __init__(self, owner: TransactionOwner, *, savepoint: str | None = None, branch: str | None = None) -> None:
        self._owner: Final = owner
        self.branch: Final = branch
        """The name under which it can be prepared, if it was begun for that."""
        self.savepoint: Final = savepoint
        self.nested: Final = savepoint is not None
        self.state = TransactionState.NOT_BEGUN

    @property
    def is_active(self) -> bool:
        """Whether it has begun and was neither committed nor rolled back."""
        return self.state in _OPEN

    async def start(self) -> Self:
        """Begin; what ``await connection.begin()`` does."""
        await self._owner.begin_transaction(self)
        return self

    async def commit(self) -> None:
        """Commit, or release the savepoint."""
        if self.state is not TransactionState.PREPARED:
            self._check_active("commit()")
        await self._owner.commit_transaction(self)

    async def rollback(self) -> None:
        """Roll back (to the savepoint); does nothing if it has ended already."""
        if self.state in _OPEN:
            await self._owner.roll_back_transaction(self)

    async def close(self) -> None:
        """Roll back unless it has ended already."""
        if self.state in _OPEN:
            await self._owner.roll_back_transaction(self)

    def advance(self, state: TransactionState) -> None:
        """Note that the transaction is now in *state*."""
        if state not in _NEXT.get(self.state, ()):
            raise errors.InvalidRequestError(f"a transaction that is {self.state.value} cannot become {state.value}")
        self.state = state

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        await self._owner.begin_transaction(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state not in _OPEN:
            return
        if kind is not None:
            await self._owner.roll_back_transaction(self)
            return
        try:
            await self._owner.commit_transaction(self)
        except BaseException:
            if self.is_active:
                await self._owner.roll_back_transaction(self)
            raise

    def _check_active(self, call: str) -> None:
        if self.state is not TransactionState.ACTIVE:
            raise errors.InvalidRequestError(f"{call} needs an active transaction; this one is {self.state.value}")


class AsyncTwoPhaseTransaction(AsyncTransaction):
    """A transaction that can be prepared, then committed or rolled back by whoever knows its ``xid``.

    ``async with connection.begin_twophase("name") as transaction: ...; await transaction.prepare()``
    """

    __slots__ = ()

    @property
    def xid(self) -> str:
        """The name under which it is prepared."""
        return self.branch or ""

    @property
    def is_prepared(self) -> bool:
        """Whether the database keeps it, whatever happens, until it is committed or rolled back."""
        return self.state is TransactionState.PREPARED

    async def prepare(self) -> None:
        """End the first phase: from now on the database promises that it can commit."""
        self._check_active("prepare()")
        await self._owner.prepare_transaction(self)
