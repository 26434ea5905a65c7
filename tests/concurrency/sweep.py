"""Cancel an operation at each of its suspensions, one after another."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import anyio


class Moment(Enum):
    """When the cancellation comes."""

    START = "as the wait begins"
    DONE = "as what was waited for has just finished"
    SCOPE = "as the wait begins, and again at every later wait, as a cancel scope does"


@dataclass(frozen=True, slots=True)
class Run:
    """How one run of the sweep ended."""

    step: int
    was_reached: bool
    """False: the operation ended before it had suspended that often."""
    error: BaseException | None
    seconds: float


class _Interrupted:
    """Awaits a coroutine and has its task cancelled when it suspends for the *step*-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: int, moment: Moment) -> None:
        self.coroutine = coroutine
        self.step = step
        self.moment = moment
        self.count = 0
        self.scope = anyio.CancelScope()

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self.coroutine
        try:
            waits_for = coroutine.send(None)
            while True:
                self._suspended(waits_for)
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(answer)
        except StopIteration as end:
            return end.value

    def _suspended(self, waits_for: Any) -> None:
        self.count += 1
        task = asyncio.current_task()
        if self.count != self.step or task is None:
            return
        if self.moment is Moment.DONE and waits_for is not None:
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            cancel = self.scope.cancel if self.moment is Moment.SCOPE else task.cancel
            asyncio.get_running_loop().call_soon(cancel)


async def cancelled_at(operation: Callable[[], Coroutine[Any, Any, Any]], step: int, moment: Moment) -> Run:
    """Run *operation* in a task that is cancelled at suspension *step*."""
    interrupted = _Interrupted(operation(), step, moment)

    async def run() -> None:
        with interrupted.scope:
            await interrupted
        if interrupted.scope.cancelled_caught:
            raise asyncio.CancelledError

    loop = asyncio.get_running_loop()
    started = loop.time()
    task = asyncio.create_task(run(), name="to be cancelled")
    await asyncio.wait([task])
    error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
    return Run(step, interrupted.count >= step, error, loop.time() - started)


async def sweep(attempt: Callable[[int], Awaitable[Run]], *, most: int = 60) -> int:
    """Call *attempt* with 1, 2, ... until the operation ends before it suspends that often; return how often it did."""
    for step in range(1, most + 1):
        run = await attempt(step)
        if not run.was_reached:
            return step - 1
    raise AssertionError(f"the operation suspends more than {most} times")
