"""What commits together? A session's transaction over all binds that it used, and the savepoints in it.

A `SessionTransaction` is one level: the outermost one, or a savepoint on every bind in use. All levels share the
`BindTransaction` objects. Only databases are spoken to here; what becomes of the objects is the session's affair.
"""

from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from typing import Any, Final

from aiosession import aio
from aiosession.drivers.protocol import TransactionOptions, Wire
from aiosession.drivers.shown_url import shown
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.holding import Asked
from aiosession.engine.options import AUTOCOMMIT, reads_need_transaction
from aiosession.engine.stack import COMMIT_DEADLINE, nobody_knows
from aiosession.errors import (
    CommitOutcomeUnknownError,
    InvalidRequestError,
    OperationalError,
    PartialCommitError,
    PendingRollbackError,
)
from aiosession.transaction.bind import Bind, BindTransaction
from aiosession.transaction.joining import JoinMode
from aiosession.transaction.loose import BorrowedWire, LoneWire
from aiosession.transaction.two_phase import Coordinator

CLEANUP_DEADLINE: Final = 2.0
"""Seconds that a rollback, shielded from cancellation, may take before its connections are dropped."""


class TransactionState(Enum):
    """Where one level of a transaction stands."""

    ACTIVE = "active"
    PREPARED = "prepared"
    """All databases have promised that they can commit; it waits for commit() or rollback()."""
    FAILED = "failed"
    """Its work is undone in the databases, or cannot be committed; it waits for rollback()."""
    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"


_NEXT: Final = {
    TransactionState.ACTIVE: {
        TransactionState.PREPARED,
        TransactionState.FAILED,
        TransactionState.COMMITTED,
        TransactionState.ROLLED_BACK,
    },
    TransactionState.PREPARED: {TransactionState.FAILED, TransactionState.COMMITTED, TransactionState.ROLLED_BACK},
    TransactionState.FAILED: {TransactionState.ROLLED_BACK},
    TransactionState.COMMITTED: set[TransactionState](),
    TransactionState.ROLLED_BACK: set[TransactionState](),
}


_OPEN: Final = frozenset({TransactionState.ACTIVE, TransactionState.PREPARED, TransactionState.FAILED})
_UNSETTLED: Final = frozenset({TransactionState.ACTIVE, TransactionState.PREPARED})


class IllegalTransitionError(InvalidRequestError):
    """A transaction was asked for something that its state does not allow."""

    def __init__(self, current: TransactionState, wanted: TransactionState) -> None:
        super().__init__(f"this transaction is {current.value}; it cannot become {wanted.value}")
        self.current: Final = current
        self.wanted: Final = wanted


def advance(current: TransactionState, wanted: TransactionState) -> TransactionState:
    """Return *wanted* if *current* may become it."""
    if wanted not in _NEXT[current]:
        raise IllegalTransitionError(current, wanted)
    return wanted


class SessionTransaction:
    """One level of a session's transaction: the outermost, or a savepoint on every bind in use."""

    __slots__ = (
        "asked",
        "autocommits",
        "cause",
        "coordinator",
        "interruption",
        "is_explicit",
        "join_mode",
        "options",
        "parent",
        "savepoints",
        "shares",
        "state",
    )

    def __init__(
        self,
        options: TransactionOptions,
        join_mode: JoinMode = JoinMode.CONDITIONAL_SAVEPOINT,
        *,
        is_explicit: bool = False,
    ) -> None:
        self.options: Final = options
        self.join_mode: Final = join_mode
        self.is_explicit: Final = is_explicit
        """Begun by begin(): even plain reads are part of the transaction."""
        self.state = TransactionState.ACTIVE
        self.asked: Asked | None = None
        """What the session has asked last."""
        self.coordinator: Coordinator | None = None
        """Has all databases commit as one; None where each commits by itself."""
        self.autocommits = False
        """Something was sent to an engine with AUTOCOMMIT, which no rollback undoes."""
        self.cause: BaseException | None = None
        """Why the level failed."""
        self.interruption: BaseException | None = None
        """What came while the one write of the transaction was on its way, which took place all the same."""
        self.parent: SessionTransaction | None = None
        self.savepoints: tuple[str, ...] = ()
        """The savepoints that surround a statement of this level, outermost first."""
        self.shares: dict[Bind, BindTransaction] = {}
        """In the order in which the binds were first used: they commit in that order."""

    @property
    def is_nested(self) -> bool:
        """Whether this level is a savepoint."""
        return self.parent is not None

    @property
    def failure(self) -> BaseException | None:
        """What keeps this level from going on and from being committed."""
        if self.state is TransactionState.FAILED:
            return self.cause
        return next((share.cause for share in self.shares.values() if share.cause is not None), None)

    @property
    def is_active(self) -> bool:
        """Whether statements can be sent and committed."""
        return self.state is TransactionState.ACTIVE and self.failure is None

    @property
    def is_open(self) -> bool:
        """Whether the level waits for commit() or rollback()."""
        return self.state in _OPEN

    def check(self) -> None:
        """Raise `PendingRollbackError` if something has failed, and refuse everything once it is prepared."""
        if self.state is TransactionState.FAILED or (self.shares and self.failure is not None):
            raise PendingRollbackError(self.failure)
        if self.state is TransactionState.PREPARED:
            raise InvalidRequestError("this transaction is prepared; nothing but commit() or rollback() is left")

    # Statements

    async def wire(self, bind: Bind, *, pure: bool, write: bool, lone: bool = False) -> Wire:
        """Return the wire for one statement on *bind*, inside the transaction if it has to be.

        A *pure* read stays outside as long as nothing is open on the bind and nobody asked for more than READ
        COMMITTED; so does a *lone* write, which is all that a transaction about to be committed consists of.
        """
        if self.state is not TransactionState.ACTIVE:
            self.check()
        share = self.shares.get(bind)
        if share is None:
            if isinstance(bind, AsyncEngine):
                level = self.options.isolation_level or bind.isolation_level
                needs_transaction = self.is_explicit or reads_need_transaction(level)
                if pure and not needs_transaction:
                    return BorrowedWire(bind)
                if level == AUTOCOMMIT:
                    self.autocommits = True
                    return BorrowedWire(bind)
                if lone and not (needs_transaction or self.options.read_only or bind.options.get("read_only")):
                    return LoneWire(bind, self.postpone)
            share = self._share(bind, self.options)
        if not pure:
            share.is_changed = True
        return await share.open(self.savepoints, write=write)

    def _share(self, bind: Bind, options: TransactionOptions) -> BindTransaction:
        share = self.shares[bind] = BindTransaction(bind, options, self.join_mode)
        if self.asked is not None:
            share.asked = self.asked
        if self.coordinator is not None:
            share.enlist = self.coordinator.enlist
        return share

    async def share_of(self, bind: Bind, options: TransactionOptions | None = None) -> BindTransaction:
        """Return the open transaction on *bind*, begun now, with *options*, if it was not."""
        self.check()
        share = self.shares.get(bind)
        if share is None:
            share = self._share(bind, options or self.options)
        elif options is not None and options != share.options:
            raise InvalidRequestError(
                "the transaction on this bind has begun already, its isolation level cannot change any more; ask for "
                "it with the first call of the transaction"
            )
        share.is_changed = True  # nobody knows what is going to be sent
        return await share.open(self.savepoints, write=False)

    # Savepoints

    async def begin_nested(self) -> "SessionTransaction":
        """Open a savepoint on every bind in use and return its level; other binds get theirs when first used."""
        self.check()
        level = SessionTransaction(self.options, self.join_mode, is_explicit=self.is_explicit)
        level.parent = self
        level.coordinator = self.coordinator
        level.asked = self.asked
        level.savepoints = (*self.savepoints, f"aiosession_level_{len(self.savepoints) + 1}")
        level.shares = self.shares
        for share in self.shares.values():
            if share.connection is not None:
                await share.open(level.savepoints, write=True)
        return level

    async def release(self) -> None:
        """Merge a savepoint into the level around it."""
        self.check()
        try:
            for share in self.shares.values():
                await share.release_savepoint(self.savepoints[-1])
        except BaseException as error:
            self.fail(error)
            raise
        self.state = advance(self.state, TransactionState.COMMITTED)

    def postpone(self, interruption: BaseException) -> None:
        """Keep a cancellation until the objects know of the write that it came too late for."""
        self.interruption = interruption

    def raise_postponed(self) -> None:
        """Deliver the cancellation that was kept."""
        interruption, self.interruption = self.interruption, None
        if interruption is not None:
            raise interruption

    # Ending

    def fail(self, cause: BaseException) -> None:
        """Leave nothing but rollback() to this level."""
        self.state = advance(self.state, TransactionState.FAILED)
        self.cause = cause

    def check_loop(self) -> None:
        """Raise `WrongEventLoopError` where a connection of the application's belongs to another event loop."""
        for share in self._held():
            share.check_loop()

    async def undo(self, *, closing: bool = False) -> None:
        """Undo the level's work in the databases, shielded and bounded; its state is for the caller to set.

        When the session is *closing*, a transaction that it only took part in goes on.
        """
        held = self._held()
        if held:
            await _bounded(self._undo(held, closing=closing), held)

    async def _undo(self, held: list[BindTransaction], *, closing: bool = False) -> None:
        for share in held:
            if self.parent is None:
                await (share.close() if closing else share.roll_back())
            else:
                await share.roll_back_to(self.savepoints[-1])

    async def commit(self) -> None:
        """Commit on every bind in use, in the order of first use; shielded and bounded.

        If one of them refuses, those that come after it are rolled back.
        """
        if self.state is not TransactionState.PREPARED:
            self.check()
        self.check_loop()
        held = self._held()
        if not held:
            self.state = advance(self.state, TransactionState.COMMITTED)
            return
        try:
            work = self._commit(held) if self.coordinator is None else self._commit_as_one(self.coordinator, held)
            await aio.finish(work, deadline=COMMIT_DEADLINE)
        except BaseException as error:
            unknown = _resolver(held)
            if self.state in _UNSETTLED:  # the deadline has passed and COMMIT was not answered
                unknown = await self._lose(held, error)
            if isinstance(error, TimeoutError) and self.state is not TransactionState.COMMITTED:
                raise unknown(error) from error
            if not isinstance(error, TimeoutError):
                raise

    def _held(self) -> list[BindTransaction]:
        return [share for share in self.shares.values() if share.connection is not None]

    async def prepare(self) -> None:
        """Have all databases promise that they can commit, but the one that decides; shielded and bounded."""
        self.check()
        if self.coordinator is None:
            raise InvalidRequestError("only a session with twophase=True prepares its transaction")
        held = self._held()
        try:
            await aio.finish(self._prepare(self.coordinator, held), deadline=COMMIT_DEADLINE)
        except BaseException as error:
            if self.state is TransactionState.ACTIVE:
                await self._lose(held, error)
            if isinstance(error, TimeoutError):
                raise OperationalError("PREPARE TRANSACTION", None, error) from error
            raise

    async def _prepare(self, coordinator: Coordinator, held: list[BindTransaction]) -> None:
        try:
            await coordinator.prepare(held)
        except Exception as error:
            await self._give_up(coordinator, error)
            raise
        self.state = advance(self.state, TransactionState.PREPARED)

    async def _commit_as_one(self, coordinator: Coordinator, held: list[BindTransaction]) -> None:
        try:
            if self.state is not TransactionState.PREPARED:
                await coordinator.prepare(held)
            await coordinator.commit(held)
        except Exception as error:
            await self._give_up(coordinator, error)
            raise
        self.state = advance(self.state, TransactionState.COMMITTED)

    async def _give_up(self, coordinator: Coordinator, error: Exception) -> None:
        """Undo everything, unless it may have been decided that it stays."""
        self.fail(error)
        if coordinator.may_be_decided:
            await _drop(self._held())
        else:
            await self._undo(self._held())
            await coordinator.clean_up()

    async def _commit(self, held: list[BindTransaction]) -> None:
        for number, share in enumerate(held):
            try:
                await share.commit()
            except Exception as error:
                self.fail(error)
                await self._undo(held[number:])
                if len(held) == 1 or not (number or isinstance(error, CommitOutcomeUnknownError)):
                    raise
                raise _partial(error, held, number) from error
        self.state = advance(self.state, TransactionState.COMMITTED)

    async def _lose(
        self, held: list[BindTransaction], error: BaseException
    ) -> Callable[[BaseException], CommitOutcomeUnknownError]:
        """Drop what did not answer in time; return who makes the error for it."""
        coordinator = self.coordinator
        if coordinator is not None and coordinator.is_decided:
            self.state = advance(self.state, TransactionState.COMMITTED)
            coordinator.leave_to_recovery(error)
            await _drop(self._held())
            return _resolver(held)
        self.fail(error)
        await _drop(self._held())
        return _resolver(held) if coordinator is None or coordinator.is_open else coordinator.in_doubt

    async def drop(self) -> None:
        """Give up all connections without another word to the databases; they roll back when they notice."""
        held = self._held()
        if held:
            await aio.finish(_drop(held), deadline=CLEANUP_DEADLINE)


def _resolver(held: Sequence[BindTransaction]) -> Callable[[BaseException], CommitOutcomeUnknownError]:
    """Return who makes the error for an unknown outcome: one database can tell it, several did not commit as one."""
    resolve = held[0].resolve if len(held) == 1 else nobody_knows
    return lambda error: CommitOutcomeUnknownError(error, resolve)


def _partial(error: Exception, held: Sequence[BindTransaction], number: int) -> Exception:
    """Return the error for a commit in which bind *number* failed: those before it have committed."""
    names = [shown(share.engine.url) for share in held]
    if isinstance(error, CommitOutcomeUnknownError):
        unknown = CommitOutcomeUnknownError(error, nobody_knows)
        done, undone = ", ".join(names[:number]) or "none", ", ".join(names[number + 1 :]) or "none"
        unknown.add_note(f"the outcome on {names[number]} is unknown; committed: {done}; rolled back: {undone}")
        return unknown
    return PartialCommitError(error, names[:number], names[number:])


async def _drop(held: list[BindTransaction]) -> None:
    for share in held:
        await share.drop()


async def _bounded(cleanup: Coroutine[Any, Any, None], held: list[BindTransaction]) -> None:
    try:
        await aio.finish(cleanup, deadline=CLEANUP_DEADLINE)
    except TimeoutError:
        # A connection that does not answer is dropped: the database rolls back when it notices.
        await _drop(held)
