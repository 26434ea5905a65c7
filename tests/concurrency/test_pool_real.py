"""Cancelling work on a real database, at each of its suspensions, leaves no trace and keeps the connection."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from sqlalchemy import make_url

from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverConnection, DriverOptions, TransactionOptions, TransactionStatus
from aiosession.drivers.registry import load_driver
from tests.concurrency.sweep import Moment, cancelled_at

Work = Callable[[DriverConnection], Coroutine[Any, Any, None]]


async def _write(connection: DriverConnection) -> None:
    await connection.begin(TransactionOptions())
    await connection.execute("INSERT INTO t VALUES (1)")
    await connection.execute_many("INSERT INTO t SELECT 2 WHERE 1 = 1", [(), ()])
    await connection.commit()


async def _read(connection: DriverConnection) -> None:
    await connection.fetch("SELECT a FROM t")
    await connection.run("SELECT count(*) FROM t")
    await connection.fetch_each("SELECT a FROM t", [(), (), ()])


async def _savepoint(connection: DriverConnection) -> None:
    await connection.begin(TransactionOptions())
    await connection.savepoint("here")
    await connection.execute("INSERT INTO t VALUES (1)")
    await connection.rollback_to_savepoint("here")
    await connection.execute("INSERT INTO t VALUES (3)")
    await connection.release_savepoint("here")
    await connection.rollback()


async def _stream(connection: DriverConnection) -> None:
    await connection.begin(TransactionOptions(write=False))
    async with aclosing(connection.stream("SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3", size=1)) as chunks:
        async for _ in chunks:
            pass
    await connection.commit()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    url = make_url(database_url)
    pool = Pool(load_driver(url)(url, DriverOptions()).connect, PoolOptions(size=1, overflow=0))
    connection = await pool.acquire()
    await connection.script("CREATE TABLE t (a INTEGER)")
    await pool.release(connection)
    yield pool
    await pool.dispose()


async def _borrow(pool: Pool, work: Work) -> None:
    connection = await pool.acquire()
    try:
        await work(connection)
    finally:
        await pool.release(connection)


async def _check(pool: Pool, step: int) -> object:
    """Use the pool twice more; return what identifies its connection."""
    status = pool.status()
    assert (status.open, status.idle, status.holders, status.waiting) == (1, 1, (), 0)
    identity: object = None
    for _ in range(2):
        connection = await pool.acquire()
        assert connection.status is TransactionStatus.IDLE
        assert tuple((await connection.fetch(f"SELECT {step}"))[0]) == (step,)
        assert (await connection.fetch("SELECT count(*) FROM t"))[0][0] in (0, 3)
        await connection.execute("DELETE FROM t")
        identity = id(connection.driver_connection)
        await pool.release(connection)
    return identity


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("work", [_write, _read, _savepoint, _stream])
@pytest.mark.without("mariadb", reason="asyncmy closes the connection of a cancelled statement")
async def test_cancelled_work_costs_no_connection(pool: Pool, work: Work, moment: Moment) -> None:
    connections = {await _check(pool, 0)}
    step = 0
    while True:
        step += 1
        run = await cancelled_at(lambda: _borrow(pool, work), step, moment)
        connections.add(await _check(pool, step))
        if not run.was_reached:
            break
        assert run.error is None or isinstance(run.error, asyncio.CancelledError)
        assert run.seconds < 1

    assert step > 3
    assert len(connections) == 1


@pytest.mark.parametrize("moment", Moment)
async def test_a_cancelled_attempt_to_connect_leaves_nothing_open(database_url: str, moment: Moment) -> None:
    url = make_url(database_url)
    driver = load_driver(url)(url, DriverOptions())
    step = 0
    while True:
        step += 1
        pool = Pool(driver.connect, PoolOptions(size=1, overflow=0))
        run = await cancelled_at(lambda: _borrow(pool, _nothing), step, moment)  # noqa: B023 - used at once
        status = pool.status()
        assert (status.open, status.holders, status.waiting) == (status.idle, (), 0)
        await pool.dispose()
        if not run.was_reached:
            break
    assert step > 1


async def _nothing(connection: DriverConnection) -> None:
    assert connection.status is TransactionStatus.IDLE
