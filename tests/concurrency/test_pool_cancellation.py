"""No cancellation, at whatever moment, costs the pool a slot or leaves a connection unclean."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverConnection, DriverOptions, TransactionOptions, TransactionStatus
from aiosession.drivers.registry import load_driver
from aiosession.testing.scripted import ScriptedDriver

Operation = Callable[[Pool], Coroutine[Any, Any, None]]
SIZE = 2


class Waiting:
    """Connects slowly: every call of the connection waits for a moment."""

    def __init__(self) -> None:
        self.driver = ScriptedDriver(make_url("sqlite+scripted://"), DriverOptions())
        record = self.driver.record

        async def slowly(call: Any) -> None:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await record(call)

        self.driver.record = slowly  # type: ignore[method-assign]  # the scripted driver made to wait

    async def connect(self) -> DriverConnection:
        return await self.driver.connect()


async def _use(pool: Pool) -> None:
    connection = await pool.acquire()
    try:
        await connection.fetch("SELECT 1")
    finally:
        await pool.release(connection)


async def _write(pool: Pool) -> None:
    connection = await pool.acquire()
    try:
        await connection.begin(TransactionOptions())
        await connection.execute("INSERT")
        await connection.commit()
    finally:
        await pool.release(connection)


async def _queue(pool: Pool) -> None:
    """Wait behind others for a connection."""
    others = [asyncio.create_task(_use(pool)) for _ in range(SIZE)]
    await asyncio.sleep(0)
    try:
        await _use(pool)
    finally:
        await asyncio.wait(others)


async def _dispose(pool: Pool) -> None:
    await _use(pool)
    await pool.dispose()


async def _cancel_at(operation: Coroutine[Any, Any, None], step: int, times: int) -> bool:
    """Run *operation*, cancelling it when it suspends for the *step*-th time; say whether it got that far."""
    suspensions = 0
    task: asyncio.Task[None] | None = None

    class Stepper:
        def __await__(self) -> Any:
            nonlocal suspensions
            try:
                waits = operation.send(None)
                while True:
                    suspensions += 1
                    if step <= suspensions < step + times and task is not None:
                        asyncio.get_running_loop().call_soon(task.cancel)
                    try:
                        answer = yield waits
                    except BaseException as error:
                        waits = operation.throw(error)
                    else:
                        waits = operation.send(answer)
            except StopIteration:
                return

    async def drive() -> None:
        await Stepper()

    task = asyncio.create_task(drive())
    with suppress(asyncio.CancelledError):
        await task
    return suspensions >= step


async def _check(pool: Pool) -> None:
    """Nothing is checked out, nobody waits, and every slot can still be had."""
    for _ in range(20):
        await asyncio.sleep(0)
    status = pool.status()
    assert (status.holders, status.waiting) == ((), 0)
    assert status.open == status.idle
    async with asyncio.timeout(5):
        connections = [await pool.acquire() for _ in range(SIZE)]
    for connection in connections:
        assert connection.status is TransactionStatus.IDLE
        await pool.release(connection)
    await pool.dispose()


@pytest.mark.parametrize("times", [1, 2, 50])
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("operation", [_use, _write, _queue, _dispose])
async def test_cancelled_at_any_moment(operation: Operation, is_warm: bool, times: int) -> None:
    step = 0
    while True:
        step += 1
        pool = Pool(Waiting().connect, PoolOptions(size=SIZE, overflow=0))
        if is_warm:
            await _use(pool)
        reached = await _cancel_at(operation(pool), step, times)
        await _check(pool)
        if not reached:
            break
    assert step > 2


@pytest.mark.parametrize("operation", [_use, _write, _queue, _dispose])
async def test_cancelled_by_a_scope_at_any_moment(operation: Operation) -> None:
    for step in range(12):
        pool = Pool(Waiting().connect, PoolOptions(size=SIZE, overflow=0))
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(_later, step, scope.cancel)
            await operation(pool)
        await _check(pool)


def _later(ticks: int, action: Callable[[], object]) -> None:
    if ticks == 0:
        action()
    else:
        asyncio.get_running_loop().call_soon(_later, ticks - 1, action)


@given(
    moves=st.lists(st.tuples(st.sampled_from(["start", "cancel", "tick", "kill"]), st.integers(0, 7)), max_size=60),
    size=st.integers(1, 3),
)
@settings(max_examples=200, deadline=None)
def test_any_mixture_of_users_and_cancellations_leaves_the_pool_whole(moves: list[tuple[str, int]], size: int) -> None:
    asyncio.run(_mixture(moves, size))


async def _mixture(moves: list[tuple[str, int]], size: int) -> None:
    pool = Pool(Waiting().connect, PoolOptions(size=size, overflow=0))
    tasks: dict[int, asyncio.Task[None]] = {}
    lent: list[DriverConnection] = []

    async def user() -> None:
        connection = await pool.acquire()
        lent.append(connection)
        try:
            assert len(lent) <= size
            assert lent.count(connection) == 1
            await connection.begin(TransactionOptions())
            await connection.commit()
        finally:
            lent.remove(connection)
            await pool.release(connection)

    for move, number in moves:
        if move == "start" and number not in tasks:
            tasks[number] = asyncio.create_task(user())
        elif move == "cancel" and number in tasks:
            tasks.pop(number).cancel()
        elif move == "kill" and lent:
            lent[number % len(lent)].terminate()
        await asyncio.sleep(0)
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
    status = pool.status()
    assert (status.holders, status.waiting, status.open) == ((), 0, status.idle)
    await pool.dispose()


async def test_half_of_a_crowd_gives_up_and_the_rest_is_served_in_order() -> None:
    pool = Pool(Waiting().connect, PoolOptions(size=SIZE, overflow=0))
    served: list[int] = []

    async def user(number: int) -> None:
        connection = await pool.acquire()
        served.append(number)
        try:
            await connection.fetch("SELECT 1")
        finally:
            await pool.release(connection)

    tasks = []
    for number in range(200):
        tasks.append(asyncio.create_task(user(number)))
        await asyncio.sleep(0)
        if number % 2:
            tasks[number // 2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert served == sorted(served)
    assert len(served) >= 100
    await _check(pool)


@pytest.fixture
async def real_pool(database_url: str) -> AsyncIterator[Pool]:
    url = make_url(database_url)
    pool = Pool(load_driver(url)(url, DriverOptions()).connect, PoolOptions(size=SIZE, overflow=0))
    yield pool
    await pool.dispose()


async def _cancel_after(work: Awaitable[None], ticks: int) -> bool:
    task = asyncio.ensure_future(work)
    _later(ticks, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_real_connections_stay_clean(real_pool: Pool) -> None:
    connection = await real_pool.acquire()
    await connection.script("CREATE TABLE t (a INTEGER)")
    await real_pool.release(connection)

    async def write() -> None:
        connection = await real_pool.acquire()
        try:
            await connection.begin(TransactionOptions())
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute("INSERT INTO t VALUES (2)")
            await connection.commit()
        finally:
            await real_pool.release(connection)

    for ticks in range(60):
        was_cancelled = await _cancel_after(write(), ticks)
        connection = await real_pool.acquire()
        assert connection.status is TransactionStatus.IDLE
        count = (await connection.fetch("SELECT count(*) FROM t"))[0][0]
        assert count in (0, 2)
        if not was_cancelled:
            assert count == 2
        await connection.execute("DELETE FROM t")
        assert tuple((await connection.fetch(f"SELECT {ticks}"))[0]) == (ticks,)
        await real_pool.release(connection)
    assert real_pool.status().open <= SIZE
