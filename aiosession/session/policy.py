"""What may be repeated, how often, and after how long a wait? Decided from the error and the options; never waits.

A unit of work is repeated after errors with which the database says "not committed, try again": see
`RetryPolicy.reason`. When to stop and how long to wait is said by strategies of tenacity.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from inspect import (
    Parameter,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
    isroutine,
    signature,
)
from typing import Any, Final, TypeAlias, TypedDict

from tenacity import stop_after_attempt, stop_before_delay, stop_never, wait_exponential, wait_random_exponential
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from aiosession.engine.options import AUTOCOMMIT
from aiosession.engine.options import isolation_level as checked_level
from aiosession.errors import (
    ArgumentError,
    CommitOutcomeUnknownError,
    DatabaseError,
    DisconnectError,
    PartialCommitError,
    PendingRollbackError,
)
from aiosession.session.options import refuse_unknown


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed and is going to be followed by another; what ``before_sleep`` is called with."""

    number: int
    """Which attempt it was, from 1."""
    error: Exception
    """What the attempt ended with."""
    cause: Exception
    """What made it fail: *error*, or what had failed before where the block went on after an error."""
    pause: float
    """Seconds until the next attempt begins."""

    @property
    def reason(self) -> str:
        """What made it fail, in a word."""
        return type(self.cause).__name__


BeforeSleep: TypeAlias = Callable[[FailedAttempt], Awaitable[None] | None]
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]


class RetryOptions(TypedDict, total=False):
    """What ``retrying()`` takes."""

    attempts: int | None
    timeout: float | None
    wait: float
    max_wait: float
    jitter: bool
    isolation_level: str | None
    on: Errors
    before_sleep: BeforeSleep | None


_POSITIONAL: Final = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
_NEVER: Final = (CommitOutcomeUnknownError, PartialCommitError)
"""After these something may be committed."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How units of work are repeated: the options of ``retrying()``, checked."""

    attempts: int | None = 5
    timeout: float | None = None
    wait: float = 0.05
    max_wait: float = 2.0
    jitter: bool = True
    isolation_level: str | None = None
    on: Errors = ()
    before_sleep: BeforeSleep | None = None

    @property
    def stop(self) -> stop_base:
        """Whether there is no attempt any more after a failed one."""
        by_number: stop_base = stop_never if self.attempts is None else stop_after_attempt(self.attempts)
        return by_number if self.timeout is None else by_number | stop_before_delay(self.timeout)

    @property
    def pause(self) -> wait_base:
        """How long to wait after a failed attempt: twice as long each time, or at random up to that."""
        kind = wait_random_exponential if self.jitter else wait_exponential
        return kind(multiplier=self.wait, max=self.max_wait)

    def limit_reached(self, attempt: int) -> str:
        """Say which limit was reached with an attempt."""
        if attempt == self.attempts:
            return f"attempts={self.attempts}"
        return f"the next one would have begun after timeout={self.timeout:g} seconds"

    def reason(self, error: BaseException) -> Exception | None:
        """Return what a repetition can help against, None if there is nothing.

        A block may catch an error and go on, although the transaction has failed: what counts is what failed.
        Never after an error that leaves open whether something was committed, whatever *on* says.
        """
        if isinstance(error, PendingRollbackError) and error.cause is not None:
            return self.reason(error.cause)
        if not isinstance(error, Exception) or isinstance(error, _NEVER):
            return None
        return error if self.is_of_databases(error) or isinstance(error, self.on) else None

    def is_of_databases(self, error: Exception) -> bool:
        """Whether a database, or the line to it, says that the transaction is to be repeated."""
        return isinstance(error, DatabaseError) and (error.retryable or isinstance(error, DisconnectError))


def leaves_open(error: BaseException) -> bool:
    """Whether *error*, or what it was raised from or while handling, leaves open what was committed."""
    seen: set[int] = set()
    left = [error]
    while left:
        found = left.pop()
        if isinstance(found, _NEVER):
            return True
        if id(found) not in seen:
            seen.add(id(found))
            left += found.exceptions if isinstance(found, BaseExceptionGroup) else ()
            left += [each for each in (found.__cause__, found.__context__) if each is not None]
    return False


def retry_policy(given: tuple[object, ...], options: Mapping[str, Any]) -> RetryPolicy:
    """Return what ``retrying(*given, **options)`` means; raise `ArgumentError` for what means nothing."""
    if given:
        raise ArgumentError(
            f"retrying() takes options by name, such as attempts=5, and as a decorator it is written with parentheses: "
            f"@Session.retrying(); got {given[0]!r}"
        )
    known = [each.name for each in fields(RetryPolicy)]
    unknown = {name: value for name, value in options.items() if name not in known}
    if unknown:
        refuse_unknown(unknown, known, "retrying()")
    policy = RetryPolicy(**options)
    _check_limits(policy)
    _check_waits(policy)
    _check_errors(policy.on)
    if policy.before_sleep is not None and not callable(policy.before_sleep):
        raise ArgumentError(f"before_sleep is called before each wait; {policy.before_sleep!r} cannot be called")
    if policy.isolation_level is not None and checked_level(policy.isolation_level) == AUTOCOMMIT:
        raise ArgumentError("retrying() repeats transactions; with AUTOCOMMIT there are none to roll back")
    return policy


def check_repeatable(function: object) -> None:
    """Raise `ArgumentError` if *function* cannot be repeated, as far as that can be told without a call."""
    if not callable(function):
        raise ArgumentError(
            f"retrying() repeats an `async def` function that takes the session first; {function!r} is none"
        )
    name = getattr(function, "__qualname__", repr(function))
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise ArgumentError(
            f"{name} is a generator, whose items would be taken before it is known whether the work is repeated: have "
            f"it return a list"
        )
    is_wrapper = hasattr(function, "__wrapped__")  # which may well return what the function within it returns
    if isroutine(function) and not (iscoroutinefunction(function) or is_wrapper or name.endswith("<lambda>")):
        raise ArgumentError(
            f"retrying() repeats an `async def` function, and {name} is an ordinary one: write `async def`"
        )
    _check_first_parameter(function, name)


def _check_first_parameter(function: Callable[..., Any], name: str) -> None:
    try:
        parameters = list(signature(function, follow_wrapped=False).parameters.values())
    except ValueError:  # it does not say
        return
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise ArgumentError(
            f"{name} has no parameter for the session: write `async def {name.rpartition('.')[2]}(session, ...)`"
        )
    if parameters[0].name in {"self", "cls"}:
        raise ArgumentError(
            f"{name} is a method, and what retrying() repeats takes the session first: decorate a function within the "
            f"method, `async def work(session): ...`, which sees {parameters[0].name}, and `return await work()`"
        )


def _check_limits(policy: RetryPolicy) -> None:
    attempts: object = policy.attempts
    if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1):
        raise ArgumentError(f"attempts is a whole number from 1, or None for no limit; got {attempts!r}")
    if policy.timeout is not None and not _is_seconds(policy.timeout):
        raise ArgumentError(f"timeout is a number of seconds, or None for no limit; got {policy.timeout!r}")
    if attempts is None and policy.timeout is None:
        raise ArgumentError("retrying() needs a limit: give attempts, timeout, or both")


def _check_waits(policy: RetryPolicy) -> None:
    for name in ("wait", "max_wait"):
        value = getattr(policy, name)
        if not _is_seconds(value):
            raise ArgumentError(f"{name} is a number of seconds from 0, not {value!r}")
    if policy.max_wait < policy.wait:
        raise ArgumentError(f"max_wait ({policy.max_wait:g} s) is less than wait ({policy.wait:g} s), the first one")
    if not isinstance(policy.jitter, bool):
        raise ArgumentError(f"jitter is True or False, not {policy.jitter!r}")


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _check_errors(on: object) -> None:
    for kind in on if isinstance(on, tuple) else (on,):
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ArgumentError(f"on is an exception class or a tuple of some; {kind!r} is none")
        if issubclass(kind, _NEVER):
            raise ArgumentError(
                f"{kind.__name__} is never repeated: nobody knows what was committed; `await error.resolve()` asks"
            )
