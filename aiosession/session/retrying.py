"""How is a unit of work repeated that failed through no fault of its own? Attempts, each of them a transaction.

What may be repeated and how often is in `aiosession.session.policy`; here are the attempts: begin, commit or roll back,
wait, begin again.
"""

import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import wraps
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Never, ParamSpec, Protocol, TypeVar

from tenacity import AsyncRetrying, RetryCallState

from aiosession import aio
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.options import AUTOCOMMIT
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.session.handles import AsyncSessionTransaction
from aiosession.session.options import changed_options
from aiosession.session.policy import FailedAttempt, RetryPolicy, check_repeatable, leaves_open
from aiosession.transaction.bind import BindTransaction
from aiosession.transaction.context import SessionContext
from aiosession.transaction.unit import SessionTransaction, TransactionState


class Repeated(Protocol):
    """What attempts are made with: a session."""

    @property
    def context(self) -> SessionContext:
        """What the layers below see of the session."""
        ...


S = TypeVar("S", bound=Repeated)
T = TypeVar("T")
P = ParamSpec("P")

_AS_A_LOOP: Final = "write `async for attempt in ...retrying():`, and in it `async with attempt as session:`"
_log: Final = logging.getLogger("aiosession.retrying")


class Retrying(Generic[S]):
    """A way to repeat units of work; made by ``retrying()`` of a session, of an `async_sessionmaker`, or of a registry.

    ``async for attempt in Session.retrying(attempts=5):`` with ``async with attempt as session:`` in it, or
    ``@Session.retrying(attempts=5)`` before an ``async def`` whose first parameter is the session. Can be used again
    and by several tasks at once, if the sessions can: each loop and each call begins to count anew.
    """

    __slots__ = ("_open", "_policy")

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[S]], policy: RetryPolicy) -> None:
        self._open: Final = open_session
        self._policy: Final = policy

    def __aiter__(self) -> "Attempts[S]":
        return Attempts(self._open, self._policy)

    def __call__(
        self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Return *function* as one that is repeated; it is called without the session, which it gets for each attempt.

        The transaction is committed when *function* has returned; what it returned in the last attempt is returned.

        Raises:
            ArgumentError: *function* is no ``async def``, is a method, or has no parameter for the session.

        """
        check_repeatable(function)

        @wraps(function)
        async def repeated(*args: P.args, **options: P.kwargs) -> T:
            results: list[T] = []
            async for attempt in self:
                async with attempt as session:
                    results[:] = [await _awaitable(function(session, *args, **options), function)]
            return results[0]

        return repeated

    if not TYPE_CHECKING:  # what type checkers refuse anyhow

        def __iter__(self) -> Never:
            raise InvalidRequestError(f"`for` does not wait for anything; {_AS_A_LOOP}")

        def __aenter__(self) -> Never:
            raise InvalidRequestError(f"a block alone cannot be run again; {_AS_A_LOOP}")

        def __aexit__(self, *_error: object) -> Never:
            raise NotImplementedError

        __enter__, __exit__ = __aenter__, __aexit__


def _awaitable(answer: Coroutine[Any, Any, T], function: object) -> Coroutine[Any, Any, T]:
    if not isawaitable(answer):
        raise ArgumentError(f"retrying() repeats an `async def` function; {function!r} is an ordinary one")
    return answer


class Attempts(Generic[S]):
    """The attempts at one unit of work; what ``async for`` goes through."""

    __slots__ = ("_attempt", "_clock", "_open", "_policy")

    def __init__(self, open_session: Callable[[], AbstractAsyncContextManager[S]], policy: RetryPolicy) -> None:
        self._open: Final = open_session
        self._policy: Final = policy
        self._clock: Final = RetryCallState(AsyncRetrying(stop=policy.stop, wait=policy.pause), None, (), {})
        self._attempt: Attempt[S] | None = None

    def __aiter__(self) -> "Attempts[S]":
        return self

    async def __anext__(self) -> "Attempt[S]":
        last = self._attempt
        if last is not None:
            last.check_used()
            if last.failed is None:
                raise StopAsyncIteration
            await self._wait(last.failed)
        self._attempt = Attempt(self._open, self._policy, self._clock)
        return self._attempt

    async def _wait(self, failed: FailedAttempt) -> None:
        _log.info(
            "attempt %d failed with %s; the next one begins in %.3f s", failed.number, failed.reason, failed.pause
        )
        if self._policy.before_sleep is not None:
            answer = self._policy.before_sleep(failed)
            if isawaitable(answer):
                await answer
        await aio.pause(failed.pause)
        self._clock.prepare_for_next_attempt()


class Attempt(Generic[S]):
    """One attempt at a unit of work: ``async with attempt as session:``, a transaction that is committed at the end.

    If the block or the commit fails with an error that a repetition can help against, the transaction is rolled back
    and the block ends without an error, for the loop to go on with the next attempt.
    """

    __slots__ = ("_clock", "_is_over", "_level", "_open", "_policy", "_stack", "failed")

    def __init__(
        self,
        open_session: Callable[[], AbstractAsyncContextManager[S]],
        policy: RetryPolicy,
        clock: RetryCallState,
    ) -> None:
        self._open: Final = open_session
        self._policy: Final = policy
        self._clock: Final = clock
        self._stack: AsyncExitStack | None = None
        self._level: SessionTransaction | None = None
        self._is_over = False
        self.failed: FailedAttempt | None = None
        """How it failed and what is waited before the next attempt; None if there is none to come."""

    @property
    def number(self) -> int:
        """Which attempt it is, from 1."""
        return self._clock.attempt_number

    def check_used(self) -> None:
        """Raise `InvalidRequestError` if its block has not been run."""
        if not self._is_over:
            raise InvalidRequestError(
                "this attempt was not made: the body of `async for attempt in ...retrying():` is "
                "`async with attempt as session:`, and nothing after it"
            )

    async def __aenter__(self) -> S:
        if self._stack is not None:
            raise InvalidRequestError(
                "an attempt can be made once: use `async with attempt:` once for each turn of `async for attempt in "
                "...retrying():`"
            )
        self._stack = AsyncExitStack()
        try:
            session = await self._stack.enter_async_context(self._open())
            await self._stack.enter_async_context(self._transaction(session.context))
            self._level = session.context.level
        except BaseException:
            self._is_over = True
            await self._stack.aclose()
            raise
        return session

    def _transaction(self, context: SessionContext) -> AsyncSessionTransaction:
        """Return the transaction of the attempt, for which nothing is known of the rows any more."""
        _check_clean(context)
        # Also what was loaded before and has not turned stale (expire_on_commit=False) is read anew.
        context.workspace.expire_all()
        level = self._policy.isolation_level
        options = changed_options(context.options, isolation_level=level, read_only=None, deferrable=None)
        return AsyncSessionTransaction(context, options=options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stack, level = self._stack, self._level
        if stack is None or level is None:
            return False
        try:
            await stack.__aexit__(kind, error, trace)
        except BaseException as failure:
            if self._may_repeat(failure, level):
                return True
            raise
        finally:
            self._is_over = True
        return error is not None and self._may_repeat(error, level)

    def _may_repeat(self, error: BaseException, level: SessionTransaction) -> bool:
        """Decide whether there is another attempt; if not, have *error* say how many there were."""
        reason = self._policy.reason(error)
        if reason is None or not isinstance(error, Exception):
            if self.number > 1:
                self._say(error, "this error is not one to repeat after")
            return False
        if hindrance := _hindrance(level, error, from_start=self._policy.is_of_databases(reason)):
            error.add_note(f"not repeated: {hindrance}")
            return False
        self._clock.set_exception((type(error), error, error.__traceback__))
        pause = self._clock.upcoming_sleep = self._policy.pause(self._clock)
        is_enough = self._policy.stop(self._clock)
        self._clock.outcome = None  # an error that holds a frame that holds the error would live on
        if is_enough:
            self._say(error, self._policy.limit_reached(self.number))
            _log.warning("given up after %d attempts: %s", self.number, type(reason).__name__)
            return False
        self.failed = FailedAttempt(self.number, error, reason, pause)
        return True

    def _say(self, error: BaseException, why: str) -> None:
        """Note on an error how many attempts were made, if that is of any interest."""
        if isinstance(error, Exception):
            attempts = "1 attempt was" if self.number == 1 else f"{self.number} attempts were"
            error.add_note(f"{attempts} made by retrying(); {why}")


def _check_clean(context: SessionContext) -> None:
    """Raise `InvalidRequestError` if there is something that the rollback of an attempt would take with it."""
    context.check_open()
    if context.level is not None:
        raise InvalidRequestError(
            "retrying() begins a transaction for each attempt, and one is in progress on this session (it begins by "
            "itself with the first awaited call): commit() or rollback() before, or do all of it within the attempt"
        )
    if context.has_changes:
        raise InvalidRequestError(
            "retrying() begins with a session that has nothing to write: objects were added, changed or deleted before "
            "the attempt, and its rollback would undo them for the next one; make these changes within the attempt, or "
            "commit() them before"
        )


def _hindrance(level: SessionTransaction, error: Exception, *, from_start: bool) -> str:
    """Say why a unit of work cannot be repeated although its error is one to repeat after; nothing if it can.

    *from_start* says that a savepoint is not enough: the whole transaction has to be repeated.
    """
    shares = level.shares.values()
    if leaves_open(error) or (level.cause is not None and leaves_open(level.cause)):
        return "nobody knows what was committed"
    if level.state is TransactionState.COMMITTED:
        return "the transaction had been committed before the error"
    if level.autocommits or any(map(_autocommits, shares)):
        return "statements on an engine with AUTOCOMMIT are not undone by a rollback"
    if any(share.around is not None and (from_start or not share.around.is_active) for share in shares):
        return (
            "the attempt was part of a transaction that had begun on the connection before; that has to be repeated "
            "from its beginning, there"
        )
    return ""


def _autocommits(share: BindTransaction) -> bool:
    """Whether statements on this bind commit themselves."""
    bind = share.bind
    if isinstance(bind, AsyncEngine):
        return share.is_joined
    return bind.transaction_options.isolation_level == AUTOCOMMIT
