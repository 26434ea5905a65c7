"""The one place above the drivers that knows an event loop may exist.

`finish` runs what must come to its end (COMMIT, clean-up) although the caller is cancelled, but not for ever.
`together` runs several things side by side and leaves none of them behind. `Guard` refuses a second operation on an
object that runs one. `time_left` says how long the caller is going to wait. None of them needs an event loop as long as
nothing suspends, so that coroutines over a driver that never waits can be driven with ``coroutine.send(None)``.
"""

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import inf, isnan
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar, runtime_checkable

import anyio

from aiosession.errors import ArgumentError, ConcurrentUseError, ReentrantUseError

_T = TypeVar("_T")

GRACE: Final = 0.5
"""Seconds that an operation past its deadline gets to react to its cancellation before it is abandoned."""
PATIENCE: Final = 2.0
"""Seconds that a shielded operation may still take when its caller is cancelled, whatever its deadline."""

BEHIND: Final = 0.5
"""Seconds by which a server's own limit is later than the timeout of its client."""
_SHORTEST: Final = 0.001
_deadline: Final[ContextVar[float]] = ContextVar("aiosession deadline", default=inf)

_PACKAGE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LOOP: Final = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep
_running: Final[set[asyncio.Task[Any]]] = set()
"""The event loop itself holds its tasks weakly only."""


@runtime_checkable
class Timeout(Protocol):
    """A timeout that knows its end: what ``asyncio.timeout()`` returns."""

    def when(self) -> float | None:
        """Return the end by the event loop's clock, None if there is none."""
        ...


def _now() -> float:
    """Return the time by the event loop's clock."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()


def _end(limit: object) -> float:
    """Return when a limit ends, by the event loop's clock."""
    if isinstance(limit, Timeout):
        at = limit.when()
        return inf if at is None else at + BEHIND
    if not isinstance(limit, int | float) or isinstance(limit, bool) or isnan(limit):
        raise ArgumentError(f"a deadline is a number of seconds, or what asyncio.timeout() returns, not {limit!r}")
    return _now() + limit


@contextmanager
def deadline(limit: float | Timeout) -> Iterator[None]:
    """Tell engines made with ``statement_deadlines=True`` by when the work in a ``with`` block has to be done.

    *limit* is a number of seconds from now, or what ``async with asyncio.timeout(5) as limit`` gives, for the loop does
    not tell others of those; timeouts of anyio are seen without this. An earlier deadline around the block stays the
    one that counts. Nothing is cancelled here: the database ends a statement that takes longer, and
    `StatementTimeoutError` is raised. Raises `ArgumentError` for anything else.
    """
    token = _deadline.set(min(_deadline.get(), _end(limit)))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float | None:
    """Return how many seconds a database may work for the caller, None for any time; never nothing at all.

    A little more than until an enclosing timeout, which is to come first: it stops the database too, unless the caller
    is dead or does not get to it.
    """
    ends = _deadline.get()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        ends = min(ends, anyio.current_effective_deadline() + BEHIND)
    return None if ends == inf else max(ends - _now(), _SHORTEST)


class _Rest(Generic[_T]):
    """What is left of a coroutine that has suspended once: awaiting it goes on where the coroutine stopped."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, _T], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[object, object, _T]:
        coroutine, waits_for = self._coroutine, self._waits_for
        try:
            while True:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(answer)
        except StopIteration as end:
            result: _T = end.value
            return result


async def _run(rest: _Rest[_T]) -> _T:
    return await rest


async def pause(seconds: float) -> None:
    """Wait for a while."""
    await anyio.sleep(seconds)


async def finish(coroutine: Coroutine[Any, Any, _T], *, deadline: float, keep: list[_T] | None = None) -> _T:
    """Run *coroutine* to its end even if the caller is cancelled; then raise the cancellation.

    After *deadline* seconds, or `PATIENCE` seconds after a cancellation of the caller, the coroutine itself is
    cancelled and `TimeoutError` raised (or the caller's cancellation, if there is one; the coroutine's own error is
    then its cause). A result that a cancellation came too late for is put into *keep*. The first step runs in the
    caller's task, the others in a task of their own: it must not enter a task-bound timeout or cancel scope before it
    first waits.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    rest = _Rest(coroutine, waits_for)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await rest
    task = loop.create_task(_run(rest))
    _running.add(task)
    task.add_done_callback(_ended)
    return await _shielded(task, deadline, keep)


async def within(seconds: float, coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run *coroutine*; cancel it and raise `TimeoutError` if it takes longer than *seconds*."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return await coroutine
    with anyio.move_on_after(seconds):
        return await coroutine
    raise TimeoutError(f"not finished within {seconds:g} s and given up")


async def settled(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T | Exception]:
    """Run coroutines side by side; return what each of them returned or raised, in their order.

    A caller who is cancelled cancels those that are running and waits for their ends. Without an event loop they run
    one by one.
    """
    waiting = list(coroutines)
    if len(waiting) == 1:
        return [await _outcome(waiting[0])]
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await _one_by_one(waiting)
    tasks = [loop.create_task(_outcome(each)) for each in waiting]
    interruption = await _wait_for_all(tasks)
    if interruption is not None:
        for task in tasks:
            _failure(task)
        raise interruption
    return [task.result() for task in tasks]


async def together(coroutines: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines side by side, as `settled` does, and return their results.

    If some fail the others still come to their ends; then the error of the first in order is raised.
    """
    results: list[_T] = []
    for outcome in await settled(coroutines):
        if isinstance(outcome, Exception):
            raise outcome
        results.append(outcome)
    return results


async def _outcome(coroutine: Coroutine[Any, Any, _T]) -> _T | Exception:
    try:
        return await coroutine
    except Exception as error:
        return error


async def _one_by_one(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> list[_T | Exception]:
    try:
        return [await _outcome(each) for each in coroutines]
    finally:
        for coroutine in coroutines:
            coroutine.close()


async def _wait_for_all(tasks: list[asyncio.Task[_T]]) -> asyncio.CancelledError | None:
    """Wait until all *tasks* are done; a cancellation of the caller is passed on to them, and returned."""
    interruption: asyncio.CancelledError | None = None
    try:
        if tasks:
            await asyncio.wait(tasks)
    except asyncio.CancelledError as error:
        interruption = error
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            while not all(task.done() for task in tasks):
                with suppress(asyncio.CancelledError):
                    await asyncio.wait(tasks)
    return interruption


async def _shielded(task: asyncio.Task[_T], deadline: float, keep: list[_T] | None) -> _T:
    """Return the result of *task*; cancel it after *deadline* seconds, leave it alone a little later."""
    interruption = await _wait(task, deadline)
    too_late = not task.done()
    if too_late:
        task.cancel()
        interruption = await _wait(task, GRACE) or interruption
    failure = _failure(task)
    if failure is None and keep is not None:
        keep.append(task.result())
    if interruption is not None:
        raise interruption from failure
    if failure is None:
        return task.result()
    if too_late:
        raise TimeoutError(f"not finished within {deadline:g} s and given up") from failure
    raise failure


def _failure(task: asyncio.Task[object]) -> BaseException | None:
    if not task.done() or task.cancelled():
        return asyncio.CancelledError()
    return task.exception()


async def _wait(task: asyncio.Task[Any], seconds: float) -> asyncio.CancelledError | None:
    """Wait until *task* is done or *seconds* are over, whatever arrives; return a cancellation that did.

    A cancellation leaves `PATIENCE` seconds at most.
    """
    ends = time.monotonic() + seconds
    try:
        await _wait_once(task, seconds)
    except asyncio.CancelledError as error:
        # A cancel scope of anyio delivers its cancellation again and again, unless there is a shield.
        ends = min(ends, time.monotonic() + PATIENCE)
        with anyio.CancelScope(shield=True):
            while not task.done() and time.monotonic() < ends:
                with suppress(asyncio.CancelledError):
                    await _wait_once(task, ends - time.monotonic())
        return error
    return None


async def _wait_once(task: asyncio.Task[Any], seconds: float) -> None:
    """Wait until *task* is done or *seconds* are over; being cancelled does not touch the task."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def release(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_later(seconds, release)
    task.add_done_callback(release)
    try:
        await waiter
    finally:
        timer.cancel()
        task.remove_done_callback(release)


def _ended(task: asyncio.Task[Any]) -> None:
    """Let go of a task, and keep its error out of the log when nobody waits for it any more."""
    _running.discard(task)
    if not task.cancelled():
        task.exception()


def current_task() -> "asyncio.Task[Any] | None":
    """Return the running task; None outside of any, and where no event loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; None where there is none, because nothing suspends."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def task_name() -> str:
    """Return what to call the running task in a message."""
    return _name(current_task())


def _name(task: "asyncio.Task[Any] | None") -> str:
    return "no task" if task is None else f"task {task.get_name()!r}"


class Place:
    """A place in the user's code; the line is looked up when somebody asks."""

    __slots__ = ("_code", "_instruction")

    def __init__(self, frame: FrameType) -> None:
        self._code: CodeType = frame.f_code
        self._instruction = frame.f_lasti

    def describe(self) -> str:
        """Return file and line; what was made a task as it is has no line that awaits it."""
        if self._code.co_filename.startswith(_LOOP):
            return "the start of the task"
        line = self._code.co_firstlineno
        for start, end, number in self._code.co_lines():
            if start <= self._instruction < end and number is not None:
                line = number
                break
        return f"{self._code.co_filename}:{line}"


def users_place(depth: int = 1) -> Place:
    """Return the innermost place outside this package on the stack of the caller."""
    frame = sys._getframe(depth)  # noqa: SLF001 - the documented way to a frame
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return Place(frame)


class Guard:
    """Lets one operation at a time through; costs next to nothing while nobody breaks the rule.

    Use ``with guard.enter("flush"):`` around the body of the operation.
    """

    __slots__ = ("_operation", "_place", "_task", "event")

    def __init__(self) -> None:
        self.event: str | None = None
        """The event whose handlers the operation in flight waits for."""
        self._operation: str | None = None
        self._task: asyncio.Task[Any] | None = None
        self._place: Place | None = None

    @property
    def running(self) -> str | None:
        """The operation in flight, None if there is none."""
        return self._operation

    def enter(self, operation: str) -> "Guard":
        """Begin *operation*, to be ended by leaving the ``with`` block; refuse it if another one is in flight."""
        if self._operation is not None:
            raise self._conflict(operation)
        self._operation = operation
        self._task = current_task()
        self._place = users_place(2)
        return self

    def check(self, operation: str) -> None:
        """Refuse *operation*, which never waits, if another one is in flight and does not wait for this caller."""
        if self._operation is not None and not self._waits_for_caller():
            raise self._conflict(operation)

    def _waits_for_caller(self) -> bool:
        return self.event is not None and self._task is current_task()

    def _conflict(self, operation: str) -> ConcurrentUseError:
        where = users_place(3).describe()
        running = (str(self._operation), _name(self._task), "?" if self._place is None else self._place.describe())
        if self.event is not None and self._waits_for_caller():
            return ReentrantUseError(
                operation=operation, task=task_name(), where=where, running=running, event=self.event
            )
        return self._refusal(operation=operation, task=task_name(), where=where, running=running)

    def _refusal(self, **facts: Any) -> ConcurrentUseError:
        """Return the error that says what to do."""
        return ConcurrentUseError(**facts)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._operation = None
        self._task = None
        self._place = None
