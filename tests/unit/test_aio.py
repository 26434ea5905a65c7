"""`finish` brings work to its end whatever happens to the caller; `together` leaves nothing running; `Guard` lets one
operation through at a time.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from aiosession import aio
from aiosession.errors import ConcurrentUseError

SOON = 5.0


class Work:
    """Something to finish: waits for `gate`, then notes that it was done."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.is_begun = asyncio.Event()
        self.is_done = False

    async def __call__(self) -> str:
        self.is_begun.set()
        await self.gate.wait()
        await asyncio.sleep(0)
        self.is_done = True
        return "done"


async def test_the_result_of_the_work_is_returned() -> None:
    work = Work()
    work.gate.set()

    assert await aio.finish(work(), deadline=SOON) == "done"


async def test_the_error_of_the_work_is_raised() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await aio.finish(fail(), deadline=SOON)


async def test_an_error_before_the_first_wait_is_raised() -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await aio.finish(fail(), deadline=SOON)


def test_work_that_never_waits_needs_no_event_loop() -> None:
    async def nothing() -> int:
        return 5

    coroutine = aio.finish(nothing(), deadline=SOON)

    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    assert end.value.value == 5


async def test_work_that_never_waits_makes_no_task() -> None:
    async def nothing() -> int:
        return len(asyncio.all_tasks())

    assert await aio.finish(nothing(), deadline=SOON) == 1
    assert len(asyncio.all_tasks()) == 1


async def test_a_cancelled_caller_hears_of_it_after_the_work_is_done() -> None:
    work = Work()
    caller = asyncio.create_task(aio.finish(work(), deadline=SOON))
    await work.is_begun.wait()

    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    work.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.is_done


async def test_many_cancellations_do_not_stop_the_work() -> None:
    work = Work()
    caller = asyncio.create_task(aio.finish(work(), deadline=SOON))
    await work.is_begun.wait()

    for _ in range(5):
        caller.cancel()
        await asyncio.sleep(0)
    work.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.is_done


async def test_a_cancel_scope_that_keeps_cancelling_does_not_stop_the_work() -> None:
    work = Work()
    asyncio.get_running_loop().call_later(0.05, work.gate.set)

    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await aio.finish(work(), deadline=SOON)

    assert work.is_done
    assert scope.cancelled_caught


async def test_a_timeout_around_the_work_becomes_a_timeout_error() -> None:
    work = Work()
    asyncio.get_running_loop().call_later(0.05, work.gate.set)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await aio.finish(work(), deadline=SOON)

    assert work.is_done


async def test_the_error_of_the_work_is_the_cause_of_the_cancellation() -> None:
    gate = asyncio.Event()

    async def fail() -> None:
        await gate.wait()
        raise KeyError("x")

    caller = asyncio.create_task(aio.finish(fail(), deadline=SOON))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert isinstance(caught.value.__cause__, KeyError)


async def test_work_past_its_deadline_is_cancelled() -> None:
    work = Work()

    with pytest.raises(TimeoutError):
        await aio.finish(work(), deadline=0.01)

    assert not work.is_done
    assert len(asyncio.all_tasks()) == 1


async def test_work_that_resists_its_cancellation_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "GRACE", 0.01)
    gate = asyncio.Event()

    async def resist() -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await aio.finish(resist(), deadline=0.01)
    assert time.monotonic() - started < 1

    gate.set()
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)


async def test_a_cancelled_caller_waits_no_longer_than_the_deadline() -> None:
    work = Work()
    caller = asyncio.create_task(aio.finish(work(), deadline=0.05))
    await work.is_begun.wait()
    caller.cancel()

    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert time.monotonic() - started < 1


async def test_a_bare_yield_in_the_work_is_passed_on() -> None:
    async def steps() -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return 3

    assert await aio.finish(steps(), deadline=SOON) == 3


def test_a_guard_lets_operations_through_one_after_the_other() -> None:
    guard = aio.Guard()

    for name in ("flush", "commit"):
        with guard.enter(name):
            assert guard.running == name

    assert guard.running is None


def test_a_guard_is_free_again_after_an_error() -> None:
    guard = aio.Guard()

    with pytest.raises(KeyError), guard.enter("flush"):
        raise KeyError

    assert guard.running is None


def test_a_second_operation_in_no_task_is_refused_and_changes_nothing() -> None:
    guard = aio.Guard()

    with guard.enter("flush"):
        with pytest.raises(ConcurrentUseError) as caught, guard.enter("commit"):
            raise AssertionError("not reached")
        assert guard.running == "flush"

    assert caught.value.task == "no task"


async def test_the_error_names_both_tasks_operations_and_places() -> None:
    guard = aio.Guard()
    gate = asyncio.Event()

    async def first() -> None:
        with guard.enter("flush"):
            await gate.wait()

    async def second() -> None:
        with guard.enter("commit"):
            raise AssertionError("not reached")

    running = asyncio.create_task(first(), name="writer")
    await asyncio.sleep(0)
    with pytest.raises(ConcurrentUseError) as caught:
        await asyncio.create_task(second(), name="reader")
    gate.set()
    await running

    error = caught.value
    assert (error.operation, error.task) == ("commit", "task 'reader'")
    assert (error.running_operation, error.running_task) == ("flush", "task 'writer'")
    assert error.where == _line_of(second, "guard.enter")
    assert error.running_where == _line_of(first, "guard.enter")


def _line_of(function: Callable[[], Coroutine[Any, Any, None]], text: str) -> str:
    lines, start = inspect.getsourcelines(function)
    number = next(index for index, line in enumerate(lines) if text in line)
    return f"{inspect.getsourcefile(function)}:{start + number}"


async def test_task_name_says_who_runs() -> None:
    async def name() -> str:
        return aio.task_name()

    assert await asyncio.create_task(name(), name="me") == "task 'me'"


# together


async def test_things_run_at_the_same_time_and_results_come_in_order() -> None:
    first, second = asyncio.Event(), asyncio.Event()

    async def meet(mine: asyncio.Event, other: asyncio.Event, name: str) -> str:
        mine.set()
        await other.wait()
        return name

    assert await aio.together([meet(first, second, "a"), meet(second, first, "b")]) == ["a", "b"]
    assert await aio.together([]) == []


def test_without_an_event_loop_things_run_one_by_one() -> None:
    done: list[int] = []

    async def note(number: int) -> int:
        done.append(number)
        if number == 1:
            raise KeyError(number)
        return number

    with pytest.raises(StopIteration) as end:
        aio.together([note(0), note(2)]).send(None)
    assert end.value.value == [0, 2]
    with pytest.raises(KeyError):
        aio.together([note(1), note(3)]).send(None)
    assert done == [0, 2, 1, 3]


async def test_the_first_error_is_raised_when_all_have_ended() -> None:
    done: list[str] = []

    async def fail(error: Exception) -> None:
        raise error

    async def slowly() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        done.append("slowly")

    with pytest.raises(KeyError):
        await aio.together([slowly(), fail(KeyError("x")), fail(ValueError("y"))])
    assert done == ["slowly"]


async def test_a_cancelled_caller_cancels_all_and_waits_for_their_ends() -> None:
    ended: list[int] = []
    begun = asyncio.Semaphore(0)

    async def hang(number: int) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    before = asyncio.all_tasks()
    running = asyncio.create_task(aio.together([hang(1), hang(2)]))
    await begun.acquire()
    await begun.acquire()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert ended == [1, 2]
    assert asyncio.all_tasks() == before


async def test_a_cancel_scope_ends_all() -> None:
    ended: list[int] = []

    async def hang(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with anyio.move_on_after(0.01) as scope:
        await aio.together([hang(1), hang(2)])

    assert scope.cancelled_caught
    assert ended == [1, 2]


def test_deadlines_are_known_without_an_event_loop() -> None:
    assert aio.time_left() is None
    with aio.deadline(20), aio.deadline(30):
        left = aio.time_left()
        assert left is not None
        assert 19 < left <= 20
    assert aio.time_left() is None


async def test_a_time_that_is_over_is_never_nothing_which_would_mean_any_time() -> None:
    with aio.deadline(-5):
        assert aio.time_left() == 0.001
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert aio.time_left() == 0.001
        await anyio.lowlevel.checkpoint()


async def test_a_shielded_block_has_no_deadline_of_those_around_it() -> None:
    with anyio.fail_after(20), anyio.CancelScope(shield=True):
        await anyio.lowlevel.checkpoint()
        assert aio.time_left() is None
