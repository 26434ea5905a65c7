"""What is particular to SQLite through aiosqlite."""

import asyncio
import gc
import os
import sqlite3
import threading
from contextlib import aclosing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from aiosession import errors
from aiosession.drivers.aiosqlite import AiosqliteDriver
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverOptions, TransactionLostError, TransactionOptions, TransactionStatus
from aiosession.drivers.sqlite_thread import SqliteThread
from aiosession.testing.conformance import connected

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"


def _driver(url: str, **connect_args: object) -> AiosqliteDriver:
    return AiosqliteDriver(make_url(url), DriverOptions(connect_args=connect_args))


class HopCounter:
    """Counts what is put into the queue of a connection's thread."""

    def __init__(self, thread: object, monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(thread, SqliteThread)
        self.hops = 0
        queue = thread._tx
        monkeypatch.setattr(thread, "_tx", self)
        self._queue = queue

    def put_nowait(self, item: object) -> None:
        self.hops += 1
        self._queue.put_nowait(item)  # type: ignore[arg-type]  # whatever aiosqlite puts there


async def test_every_statement_is_one_hop(sqlite_driver: AiosqliteDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        counter = HopCounter(connection.driver_connection, monkeypatch)

        await connection.begin(TransactionOptions())
        await connection.execute("INSERT INTO t VALUES (1)")
        await connection.execute_many("INSERT INTO t VALUES (?)", [(2,), (3,)])
        await connection.fetch("SELECT a FROM t")
        await connection.fetch_each("SELECT a FROM t WHERE a = ?", [(1,), (2,)])
        await connection.run("SELECT a FROM t")
        await connection.commit()

        assert counter.hops == 7


async def test_rollback_of_nothing_is_no_hop(sqlite_driver: AiosqliteDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(sqlite_driver) as connection:
        counter = HopCounter(connection.driver_connection, monkeypatch)

        await connection.rollback()
        await connection.reset()

        assert counter.hops == 0


async def test_files_are_in_wal_mode_and_foreign_keys_are_on(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        assert tuple((await connection.fetch("PRAGMA journal_mode"))[0]) == ("wal",)
        assert tuple((await connection.fetch("PRAGMA foreign_keys"))[0]) == (1,)
        assert tuple((await connection.fetch("PRAGMA busy_timeout"))[0]) == (50,)


async def test_pragmas_can_be_chosen(sqlite_url: str) -> None:
    driver = _driver(sqlite_url, pragmas={"journal_mode": "DELETE", "synchronous": "OFF"})

    async with connected(driver) as connection:
        assert tuple((await connection.fetch("PRAGMA journal_mode"))[0]) == ("delete",)
        assert tuple((await connection.fetch("PRAGMA synchronous"))[0]) == (0,)
    assert not driver.capabilities.concurrent_reads


async def test_many_connections_can_open_a_new_file_at_once(sqlite_url: str) -> None:
    driver = _driver(sqlite_url)

    connections = await asyncio.gather(*(driver.connect() for _ in range(10)))

    for connection in connections:
        await connection.close()


async def test_a_database_in_memory_belongs_to_one_driver() -> None:
    one, two = _driver("sqlite://"), _driver("sqlite:///:memory:")
    async with connected(one) as connection:
        await connection.script("CREATE TABLE t (a INTEGER)")

    async with connected(one) as later, connected(two) as elsewhere:
        assert await later.fetch("SELECT * FROM t") == []
        with pytest.raises(sqlite3.OperationalError):
            await elsewhere.fetch("SELECT * FROM t")

    await one.dispose()
    async with connected(one) as connection:
        assert await connection.fetch("SELECT * FROM sqlite_master") == []
    await one.dispose()
    await two.dispose()


async def test_a_busy_file_is_a_lock_that_is_not_available(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as holder, connected(sqlite_driver) as other:
        await holder.begin(TransactionOptions())

        with pytest.raises(sqlite3.OperationalError) as caught:
            await other.begin(TransactionOptions())

        kind = sqlite_driver.translate(caught.value)
        assert kind is errors.LockNotAvailableError
        assert kind.retryable
        assert other.status is TransactionStatus.IDLE


async def test_a_reader_overtaken_by_a_writer_has_to_repeat(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as reader, connected(sqlite_driver) as writer:
        await writer.script("CREATE TABLE t (a INTEGER)")
        await reader.begin(TransactionOptions(write=False))
        await reader.fetch("SELECT * FROM t")
        await writer.execute("INSERT INTO t VALUES (1)")

        with pytest.raises(sqlite3.OperationalError) as caught:
            await reader.execute("INSERT INTO t VALUES (2)")

        assert sqlite_driver.translate(caught.value) is errors.SerializationError


async def test_an_interrupted_transaction_lets_nothing_run_on(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script("CREATE TABLE t (a INTEGER)")
        await connection.begin(TransactionOptions())
        task = asyncio.create_task(connection.execute(f"INSERT INTO t {ENDLESS}"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await connection.fetch("SELECT 1")

        if connection.status is TransactionStatus.FAILED:
            with pytest.raises(TransactionLostError):
                await connection.execute("INSERT INTO t VALUES (1)")
        await connection.rollback()

        assert connection.status is TransactionStatus.IDLE
        assert await connection.fetch("SELECT * FROM t") == []


async def test_a_call_cancelled_in_the_queue_never_runs(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script("CREATE TABLE t (a INTEGER)")
        thread = connection.driver_connection
        assert isinstance(thread, SqliteThread)
        gate = threading.Event()
        thread.post(gate.wait)
        task = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.status is TransactionStatus.ACTIVE
        gate.set()
        await connection.reset()

        assert await connection.fetch("SELECT * FROM t") == []


async def test_a_cancelled_batch_stops_between_its_rows(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script("CREATE TABLE t (a INTEGER)")
        task = asyncio.create_task(
            connection.execute_many("INSERT INTO t VALUES (?)", [(number,) for number in range(2_000_000)])
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        async with asyncio.timeout(1):
            await connection.reset()

        assert await connection.fetch("SELECT count(*) FROM t") == [(0,)]


async def test_a_stream_left_early_locks_nobody_out(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection, connected(sqlite_driver) as other:
        await connection.script("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
        async with aclosing(connection.stream("SELECT * FROM t", size=1)) as chunks:
            async for _ in chunks:
                assert connection.status is TransactionStatus.ACTIVE
                break

        assert connection.status is TransactionStatus.IDLE
        await connection.fetch("SELECT 1")
        await other.script("DROP TABLE t")


async def test_a_script_keeps_triggers_in_one_piece(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script(
            """
            CREATE TABLE t (a TEXT);
            CREATE TRIGGER twice AFTER INSERT ON t WHEN new.a <> ';' BEGIN
                INSERT INTO t VALUES (';');
                INSERT INTO t VALUES (';');
            END;
            INSERT INTO t VALUES ('x') -- no semicolon at the end
            """
        )
        assert await connection.fetch("SELECT count(*) FROM t") == [(3,)]


async def test_a_pooled_connection_survives_cancellation(sqlite_driver: AiosqliteDriver) -> None:
    pool = Pool(sqlite_driver.connect, PoolOptions(size=1, overflow=0))
    seen = set()

    for _ in range(5):
        connection = await pool.acquire()
        seen.add(id(connection.driver_connection))
        task = asyncio.create_task(connection.fetch(ENDLESS))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pool.release(connection)

    assert len(seen) == 1
    await pool.dispose()


async def test_the_thread_keeps_no_result(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        rows = await connection.fetch("SELECT 1.5")
        async with asyncio.timeout(5):
            while gc.get_referrers(rows):  # noqa: ASYNC110 - garbage sends no event
                await asyncio.sleep(0.001)


async def test_a_forgotten_connection_ends_its_thread(sqlite_driver: AiosqliteDriver) -> None:
    connection = await sqlite_driver.connect()
    thread = connection.driver_connection._thread

    del connection
    gc.collect()

    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_a_connection_terminated_while_it_works_ends_soon(sqlite_driver: AiosqliteDriver) -> None:
    connection = await sqlite_driver.connect()
    thread = connection.driver_connection._thread
    task = asyncio.create_task(connection.fetch(ENDLESS))
    await asyncio.sleep(0.05)

    connection.terminate()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await task

    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_regexp_and_floor_are_there(sqlite_driver: AiosqliteDriver) -> None:
    async with connected(sqlite_driver) as connection:
        rows = await connection.fetch("SELECT 'abc' REGEXP 'b.$', 'abc' REGEXP '^b', NULL REGEXP 'x', floor(1.5)")
        assert rows == [(1, 0, None, 1)]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://host/file.db", "is no SQLite URL"),
        ("sqlite://user@/file.db", "is no SQLite URL"),
        ("sqlite:///file.db?timeot=5", "did you mean 'timeout'"),
        ("sqlite:///file.db?timeout=soon", "needs a value of type float"),
        ("sqlite:///file.db?uri=maybe", "needs a value of type bool"),
    ],
)
def test_wrong_urls_are_refused_before_any_io(url: str, words: str) -> None:
    with pytest.raises(errors.ArgumentError, match=words):
        _driver(url)


@pytest.mark.parametrize("pragmas", [{"a b": 1}, {"x": "1; DROP TABLE t"}, 5])
def test_wrong_pragmas_are_refused(pragmas: object) -> None:
    with pytest.raises(errors.ArgumentError):
        _driver("sqlite://", pragmas=pragmas)


async def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a b%41 ü#.db"
    url = make_url("sqlite://").set(database=str(path))

    for query in ({}, {"mode": "rwc"}):
        driver = AiosqliteDriver(url.set(query=query), DriverOptions())
        async with connected(driver) as connection:
            await connection.fetch("SELECT 1")

    assert await asyncio.to_thread(os.listdir, tmp_path) == [path.name]


async def test_a_missing_file_in_mode_rw_is_an_operational_error(tmp_path: Path) -> None:
    driver = _driver(f"sqlite:///{tmp_path / 'none.db'}?mode=rw")

    with pytest.raises(sqlite3.OperationalError) as caught:
        await driver.connect()

    assert driver.translate(caught.value) is errors.OperationalError


async def test_mode_ro_refuses_to_write(sqlite_driver: AiosqliteDriver, sqlite_url: str) -> None:
    async with connected(sqlite_driver) as connection:
        await connection.script("CREATE TABLE t (a INTEGER)")

        async with connected(_driver(f"{sqlite_url}?mode=ro")) as reader:
            assert await reader.fetch("SELECT * FROM t") == []
            with pytest.raises(sqlite3.OperationalError):
                await reader.execute("INSERT INTO t VALUES (1)")
