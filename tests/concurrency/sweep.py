"""Interrupt an operation at each of its suspensions, one after another."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import anyio


class Moment(Enum):
    """When the cancellation comes, and from whom."""

    START = "as the wait begins"
    DONE = "as what was waited for has just finished"
    TWICE = "as the wait begins, and once more at the next one"
    EVERY = "as the wait begins, and at every later one"
    SCOPE = "as the wait begins, and again at every later wait, as a cancel scope does"
    TIMEOUT = "from asyncio.timeout, as the wait begins"
    SIBLING = "from a task group of which another task fails as the wait begins"


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of the sweep ended."""

    step: int
    was_reached: bool
    """False: the operation ended before it had suspended that often."""
    was_told: bool
    """Whether the cancellation reached it."""
    error: BaseException | None
    """What the operation raised."""
    seconds: float

    @property
    def was_swallowed(self) -> bool:
        """Whether the operation was told to stop and did not say so."""
        return self.was_told and not isinstance(self.error, asyncio.CancelledError)


class SiblingError(Exception):
    """Another task of the group has failed."""


class Interrupted:
    """Awaits a coroutine and has its task cancelled when it suspends for the *step*-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: int, moment: Moment) -> None:
        self.coroutine = coroutine
        self.step = step
        self.moment = moment
        self.count = 0
        self.was_told = False
        self.cancel: Callable[[], object] | None = None
        """How to cancel; None: the task itself."""
        self.error: BaseException | None = None

    async def run(self) -> None:
        """Await the coroutine and remember what it raises."""
        try:
            await self
        except BaseException as error:
            self.error = error
            raise

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self.coroutine
        try:
            waits_for = coroutine.send(None)
            while True:
                self._suspended(waits_for)
                try:
                    answer = yield waits_for
                except BaseException as error:
                    self.was_told = True
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(answer)
        except StopIteration as end:
            return end.value

    def _suspended(self, waits_for: Any) -> None:
        self.count += 1
        task = asyncio.current_task()
        if task is None or not self._is_due():
            return
        if self.moment is Moment.DONE and waits_for is not None:
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            asyncio.get_running_loop().call_soon(self.cancel or task.cancel)

    def _is_due(self) -> bool:
        if self.moment is Moment.EVERY:
            return self.count >= self.step
        return self.count == self.step or (self.moment is Moment.TWICE and self.count == self.step + 1)


async def cancelled_at(operation: Callable[[], Coroutine[Any, Any, Any]], step: int, moment: Moment) -> Run:
    """Run *operation* in a task that is cancelled at suspension *step*."""
    interrupted = Interrupted(operation(), step, moment)
    loop = asyncio.get_running_loop()
    started = loop.time()
    task = asyncio.create_task(_surrounded(interrupted), name="to be cancelled")
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # what the operation itself raised is in `interrupted`
    was_reached = interrupted.count >= step
    return Run(step, was_reached, interrupted.was_told, interrupted.error, loop.time() - started)


async def _surrounded(interrupted: Interrupted) -> None:
    """Run in what the moment asks for: a scope, a timeout, a group; what they make of it is their affair."""
    if interrupted.moment is Moment.SCOPE:
        with anyio.CancelScope() as scope:
            interrupted.cancel = scope.cancel
            await interrupted.run()
    elif interrupted.moment is Moment.TIMEOUT:
        async with asyncio.timeout(None) as timeout:
            interrupted.cancel = lambda: timeout.reschedule(asyncio.get_running_loop().time())
            await interrupted.run()
    elif interrupted.moment is Moment.SIBLING:
        await _with_sibling(interrupted)
    else:
        await interrupted.run()


async def _with_sibling(interrupted: Interrupted) -> None:
    fails: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def decide(answer: bool) -> None:
        if not fails.done():
            fails.set_result(answer)

    async def sibling() -> None:
        if await fails:
            raise SiblingError

    interrupted.cancel = lambda: decide(True)
    with suppress(BaseExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            await interrupted.run()
            decide(False)


async def sweep(attempt: Callable[[int], Awaitable[Run]], *, most: int = 60) -> int:
    """Call *attempt* with 1, 2, ... until the operation ends before it suspends that often; return how often it did."""
    for step in range(1, most + 1):
        run = await attempt(step)
        if not run.was_reached:
            return step - 1
    raise AssertionError(f"the operation suspends more than {most} times")
