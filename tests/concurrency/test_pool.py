"""The pool is fair, loses no slot, and says who holds what."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import make_url

from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverConnection, DriverOptions, TransactionOptions, TransactionStatus
from aiosession.errors import ArgumentError, PoolTimeoutError, WrongEventLoopError
from aiosession.testing.scripted import ScriptedDriver


def scripted() -> ScriptedDriver:
    return ScriptedDriver(make_url("sqlite+scripted://"), DriverOptions())


def make_pool(
    size: int = 1, overflow: int = 0, timeout: float = 5.0, driver: ScriptedDriver | None = None, **options: float
) -> Pool:
    return Pool(
        (driver or scripted()).connect,
        PoolOptions(size=size, overflow=overflow, timeout=timeout, **options),  # type: ignore[arg-type]  # flags pass as floats
    )


@asynccontextmanager
async def borrowed(pool: Pool, note: str = "") -> AsyncIterator[DriverConnection]:
    connection = await pool.acquire(note)
    try:
        yield connection
    finally:
        await pool.release(connection)


def numbers(pool: Pool) -> tuple[int, int, int, int]:
    """Return how many connections are open, idle, held, and how many tasks wait."""
    status = pool.status()
    return status.open, status.idle, len(status.holders), status.waiting


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_connection_is_opened_when_it_is_needed_and_used_again() -> None:
    driver = scripted()
    pool = make_pool(size=2, driver=driver)
    assert numbers(pool) == (0, 0, 0, 0)

    for _ in range(3):
        async with borrowed(pool):
            assert numbers(pool) == (1, 0, 1, 0)

    assert numbers(pool) == (1, 1, 0, 0)
    assert driver.verbs == ["connect"]


def test_an_idle_connection_is_had_without_an_event_loop() -> None:
    pool = make_pool()

    async def use() -> None:
        for _ in range(2):
            async with borrowed(pool):
                pass

    with pytest.raises(StopIteration):
        use().send(None)


def test_without_an_event_loop_nobody_can_wait() -> None:
    pool = make_pool()

    async def use() -> None:
        async with borrowed(pool), borrowed(pool):
            raise AssertionError("not reached")

    with pytest.raises(PoolTimeoutError):
        use().send(None)
    assert numbers(pool) == (1, 1, 0, 0)


async def test_the_fast_path_makes_no_tasks() -> None:
    pool = make_pool()
    async with borrowed(pool):
        pass
    before = asyncio.all_tasks()

    async with borrowed(pool):
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize(("lifo", "expected"), [(True, 2), (False, 0)])
async def test_which_idle_connection_is_chosen(lifo: bool, expected: int) -> None:
    pool = make_pool(size=3, lifo=lifo)
    connections = [await pool.acquire() for _ in range(3)]
    for connection in connections:
        await pool.release(connection)

    async with borrowed(pool) as chosen:
        assert chosen is connections[expected]


async def test_waiters_are_served_in_their_order() -> None:
    pool = make_pool()
    served: list[int] = []

    async def use(number: int) -> None:
        async with borrowed(pool):
            served.append(number)
            await asyncio.sleep(0)

    async with borrowed(pool):
        tasks = []
        for number in range(20):
            tasks.append(asyncio.create_task(use(number)))
            await asyncio.sleep(0)
        assert numbers(pool) == (1, 0, 1, 20)
    await asyncio.gather(*tasks)

    assert served == list(range(20))


async def test_a_newcomer_does_not_overtake_one_who_was_served() -> None:
    pool = make_pool()
    served: list[str] = []

    async def use(name: str) -> None:
        async with borrowed(pool):
            served.append(name)

    connection = await pool.acquire()
    waiter = asyncio.create_task(use("waiter"))
    await settle()
    await pool.release(connection)
    newcomer = asyncio.create_task(use("newcomer"))
    await asyncio.gather(newcomer, waiter)

    assert served == ["waiter", "newcomer"]


async def test_the_timeout_error_names_the_holders() -> None:
    pool = make_pool(timeout=0.02)

    async def hold(gate: asyncio.Event) -> None:
        async with borrowed(pool, "session 17"):
            await gate.wait()

    gate = asyncio.Event()
    holder = asyncio.create_task(hold(gate), name="request-5")
    await settle()

    with pytest.raises(PoolTimeoutError, match=r"task 'request-5' for session 17, 0\.\d s ago") as caught:
        await pool.acquire()
    gate.set()
    await holder

    assert (caught.value.size, caught.value.waiting, len(caught.value.holders)) == (1, 0, 1)
    assert numbers(pool) == (1, 1, 0, 0)


async def test_the_timeout_is_kept() -> None:
    pool = make_pool(timeout=0.05)

    async with borrowed(pool):
        started = time.monotonic()
        with pytest.raises(PoolTimeoutError):
            await pool.acquire()

    assert 0.04 < time.monotonic() - started < 1


async def test_overflow_is_closed_when_it_comes_back() -> None:
    driver = scripted()
    pool = make_pool(size=1, overflow=2, driver=driver)

    connections = [await pool.acquire() for _ in range(3)]
    assert numbers(pool) == (3, 0, 3, 0)
    for connection in connections:
        await pool.release(connection)

    assert numbers(pool) == (1, 1, 0, 0)
    assert driver.verbs.count("close") == 2


async def test_a_size_of_zero_has_no_limit() -> None:
    pool = make_pool(size=0)

    connections = [await pool.acquire() for _ in range(50)]
    for connection in connections:
        await pool.release(connection)

    assert numbers(pool) == (50, 50, 0, 0)


async def test_a_connection_in_a_transaction_is_cleaned_and_kept() -> None:
    driver = scripted()
    pool = make_pool(driver=driver)

    async with borrowed(pool) as connection:
        await connection.begin(TransactionOptions())

    assert driver.verbs == ["connect", "begin", "reset"]
    async with borrowed(pool) as again:
        assert again is connection
        assert again.status is TransactionStatus.IDLE


async def test_a_connection_that_cannot_be_cleaned_is_replaced() -> None:
    driver = scripted()
    driver.fail_at(3, ConnectionResetError())
    pool = make_pool(driver=driver)

    async with borrowed(pool) as connection:
        await connection.begin(TransactionOptions())

    assert connection.status is TransactionStatus.CLOSED
    assert numbers(pool) == (0, 0, 0, 0)
    async with borrowed(pool) as other:
        assert other is not connection


async def test_a_closed_connection_is_replaced() -> None:
    pool = make_pool()
    async with borrowed(pool) as first:
        pass
    first.terminate()

    async with borrowed(pool) as second:
        assert second is not first
        assert second.status is TransactionStatus.IDLE


async def test_the_next_in_line_gets_a_new_connection_for_a_dropped_one() -> None:
    pool = make_pool()
    connection = await pool.acquire()
    waiter = asyncio.create_task(pool.acquire())
    await settle()

    connection.terminate()
    await pool.release(connection)

    other = await waiter
    assert other.status is TransactionStatus.IDLE
    await pool.release(other)
    assert numbers(pool) == (1, 1, 0, 0)


async def test_a_failed_attempt_to_connect_frees_its_slot() -> None:
    driver = scripted()
    driver.fail_at(1, ConnectionRefusedError())
    pool = make_pool(driver=driver)

    with pytest.raises(ConnectionRefusedError):
        await pool.acquire()

    async with borrowed(pool):
        assert numbers(pool) == (1, 0, 1, 0)


async def test_when_the_first_cannot_connect_the_next_in_line_tries() -> None:
    driver = scripted()
    gate = asyncio.Event()
    attempts = 0

    async def connect() -> DriverConnection:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await gate.wait()
            raise ConnectionRefusedError
        return await driver.connect()

    pool = Pool(connect, PoolOptions(size=1, overflow=0))
    first = asyncio.create_task(pool.acquire())
    second = asyncio.create_task(pool.acquire())
    await settle()
    gate.set()

    with pytest.raises(ConnectionRefusedError):
        await first
    await pool.release(await second)


async def test_old_connections_are_replaced() -> None:
    driver = scripted()
    pool = make_pool(driver=driver, recycle=0)
    async with borrowed(pool) as first:
        pass

    async with borrowed(pool) as second:
        assert second is not first

    assert driver.verbs == ["connect", "close", "connect"]


async def test_a_dead_connection_is_found_by_the_ping() -> None:
    driver = scripted()
    driver.drop_at(2)
    pool = make_pool(driver=driver, pre_ping=True)
    async with borrowed(pool) as first:
        pass

    async with borrowed(pool) as second:
        assert second is not first

    assert driver.verbs == ["connect", "ping", "close", "connect"]


async def test_giving_back_twice_does_nothing() -> None:
    pool = make_pool()
    connection = await pool.acquire()

    await pool.release(connection)
    await pool.release(connection)

    assert numbers(pool) == (1, 1, 0, 0)


async def test_dispose_closes_idle_connections_now_and_others_later() -> None:
    driver = scripted()
    pool = make_pool(size=2, driver=driver)
    held = await pool.acquire()
    async with borrowed(pool):
        pass

    await pool.dispose()
    assert numbers(pool) == (1, 0, 1, 0)
    assert driver.verbs.count("close") == 1
    await pool.release(held)

    assert numbers(pool) == (0, 0, 0, 0)
    assert held.status is TransactionStatus.CLOSED
    async with borrowed(pool) as fresh:
        assert fresh.status is TransactionStatus.IDLE


async def test_dispose_does_not_wait_for_a_dead_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosession.drivers.pool.CLOSE_DEADLINE", 0.02)
    driver = scripted()
    driver.hang_at(2)
    pool = make_pool(driver=driver)
    async with borrowed(pool) as connection:
        pass

    async with asyncio.timeout(2):
        await pool.dispose()

    assert connection.status is TransactionStatus.CLOSED
    assert numbers(pool) == (0, 0, 0, 0)


async def test_a_release_does_not_wait_for_a_dead_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosession.drivers.pool.RESET_DEADLINE", 0.02)
    driver = scripted()
    driver.hang_at(3)
    pool = make_pool(driver=driver)

    async with asyncio.timeout(2):
        async with borrowed(pool) as connection:
            await connection.begin(TransactionOptions())

    assert connection.status is TransactionStatus.CLOSED
    assert numbers(pool) == (0, 0, 0, 0)


def test_another_event_loop_is_refused_while_connections_are_open() -> None:
    pool = make_pool()

    async def use() -> None:
        async with borrowed(pool):
            pass

    asyncio.run(use())
    with pytest.raises(WrongEventLoopError):
        asyncio.run(use())
    asyncio.run(pool.dispose())
    asyncio.run(use())


async def test_a_forgotten_connection_is_reported_and_its_slot_comes_back() -> None:
    pool = make_pool()

    with pytest.warns(ResourceWarning, match=r"never given back to its pool; it was handed to task .* for session 17"):
        await pool.acquire("session 17")
    await settle()

    assert numbers(pool) == (0, 0, 0, 0)
    async with borrowed(pool):
        pass


@pytest.mark.parametrize("options", [{"size": -1}, {"overflow": -2}, {"timeout": -1.0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ArgumentError):
        PoolOptions(**options)  # type: ignore[arg-type]  # that is the point
