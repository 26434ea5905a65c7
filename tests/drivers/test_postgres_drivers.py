"""What the drivers for PostgreSQL have in common, whichever library is below."""

import asyncio
import gc
from typing import TypeAlias

import pytest
from sqlalchemy import make_url

from aiosession import errors
from aiosession.drivers.asyncpg import AsyncpgConnection, AsyncpgDriver
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import CommitOutcome, DriverOptions, TransactionOptions, TransactionStatus
from aiosession.drivers.psycopg import PsycopgConnection, PsycopgDriver
from aiosession.testing.conformance import connected

pytestmark = pytest.mark.postgres

PostgresConnection: TypeAlias = AsyncpgConnection | PsycopgConnection
PostgresDriver: TypeAlias = AsyncpgDriver | PsycopgDriver


@pytest.fixture(params=[AsyncpgDriver, PsycopgDriver])
def postgres_driver(request: pytest.FixtureRequest, postgresql_url: str) -> PostgresDriver:
    """Make a driver for PostgreSQL; once for each library."""
    driver: PostgresDriver = request.param(make_url(postgresql_url), DriverOptions())
    return driver


async def _backends(connection: PostgresConnection) -> int:
    rows = await connection.fetch("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    count = rows[0][0]
    assert isinstance(count, int)
    return count


async def test_row_counts_come_from_the_command_tag(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection:
        await connection.script("CREATE TABLE t (a int)")
        assert await connection.execute("INSERT INTO t SELECT generate_series(1, 25)") == 25
        assert await connection.execute("UPDATE t SET a = 1 WHERE a > 20") == 5
        assert await connection.execute("DELETE FROM t WHERE a = $1", (99,)) == 0
        assert await connection.execute("TRUNCATE t") == -1


async def test_a_cancelled_statement_keeps_its_backend(postgres_driver: PostgresDriver) -> None:
    pool = Pool(postgres_driver.connect, PoolOptions(size=1, overflow=0))
    pids = set()

    for _ in range(5):
        connection = await pool.acquire()
        pids.add((await connection.fetch("SELECT pg_backend_pid()"))[0][0])
        task = asyncio.create_task(connection.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pool.release(connection)

    assert len(pids) == 1
    await pool.dispose()


async def test_a_connection_killed_by_the_server_is_a_disconnect(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as victim, connected(postgres_driver) as killer:
        pid = (await victim.fetch("SELECT pg_backend_pid()"))[0][0]
        await killer.fetch("SELECT pg_terminate_backend($1)", (pid,))

        with pytest.raises(Exception, match=r".") as caught:
            await victim.fetch("SELECT 1")

        assert postgres_driver.translate(caught.value) is errors.DisconnectError
        assert victim.status is TransactionStatus.CLOSED
        await victim.rollback()


async def test_the_pool_replaces_a_connection_that_the_server_has_closed(postgres_driver: PostgresDriver) -> None:
    pool = Pool(postgres_driver.connect, PoolOptions(size=1, overflow=0, pre_ping=True))
    connection = await pool.acquire()
    pid = (await connection.fetch("SELECT pg_backend_pid()"))[0][0]
    await pool.release(connection)

    async with connected(postgres_driver) as killer:
        await killer.fetch("SELECT pg_terminate_backend($1)", (pid,))
        connection = await pool.acquire()
        assert (await connection.fetch("SELECT pg_backend_pid()"))[0][0] != pid
        await pool.release(connection)

    await pool.dispose()


async def test_statements_survive_a_change_of_the_schema_outside_a_transaction(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection, connected(postgres_driver) as other:
        await other.script("CREATE TABLE t (a int)")
        await connection.fetch("SELECT * FROM t")
        await connection.run("SELECT * FROM t")

        await other.script("ALTER TABLE t ADD b int")

        assert await connection.fetch("SELECT * FROM t") == []
        assert (await connection.run("SELECT * FROM t")).columns == ("a", "b")


async def test_opening_a_connection_sends_no_query(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection, connected(postgres_driver) as other:
        pid = (await connection.fetch("SELECT pg_backend_pid()"))[0][0]
        fresh = await postgres_driver.connect()
        rows = await other.fetch(
            "SELECT query FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid NOT IN ($1, pg_backend_pid())",
            (pid,),
        )
        assert [row[0] for row in rows] == [""]
        await fresh.close()


async def test_a_forgotten_connection_leaves_the_server(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as observer:
        assert isinstance(observer, PostgresConnection)
        forgotten = await postgres_driver.connect()
        assert await _backends(observer) == 2

        del forgotten
        gc.collect()

        async with asyncio.timeout(5):
            while await _backends(observer) != 1:  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(0.01)


async def test_begin_sets_what_it_is_asked_for(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection:
        await connection.begin(TransactionOptions(isolation_level="repeatable_read", read_only=True, deferrable=True))
        rows = await connection.fetch(
            "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), "
            "current_setting('transaction_deferrable')"
        )
        await connection.rollback()
        after = await connection.fetch("SELECT current_setting('transaction_isolation')")

    assert tuple(rows[0]) == ("repeatable read", "on", "on")
    assert tuple(after[0]) == ("read committed",)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("LOCK TABLE t IN ACCESS EXCLUSIVE MODE NOWAIT", errors.LockNotAvailableError),
        ("SET LOCAL statement_timeout = 20; SELECT pg_sleep(10)", errors.StatementTimeoutError),
        ("SET LOCAL lock_timeout = 20; LOCK TABLE t", errors.LockNotAvailableError),
    ],
)
async def test_locks_and_timeouts(
    postgres_driver: PostgresDriver, sql: str, expected: type[errors.DatabaseError]
) -> None:
    async with connected(postgres_driver) as holder, connected(postgres_driver) as connection:
        await holder.script("CREATE TABLE t (a int)")
        await holder.begin(TransactionOptions())
        await holder.execute("LOCK TABLE t")
        await connection.begin(TransactionOptions())

        with pytest.raises(Exception, match=r".") as caught:
            await connection.script(sql)

        assert postgres_driver.translate(caught.value) is expected


async def test_serialization_failures_can_be_retried(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as one, connected(postgres_driver) as two:
        await one.script("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        for connection in (one, two):
            await connection.begin(TransactionOptions(isolation_level="SERIALIZABLE"))
            await connection.fetch("SELECT * FROM t")
        await one.execute("UPDATE t SET a = 2")
        await one.commit()

        with pytest.raises(Exception, match=r".") as caught:
            await two.execute("UPDATE t SET a = 3")

        kind = postgres_driver.translate(caught.value)
        assert kind is errors.SerializationError
        assert kind.retryable


async def test_deadlocks_can_be_retried(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as one, connected(postgres_driver) as two:
        await one.script("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 0), (2, 0)")
        for connection, row in ((one, 1), (two, 2)):
            await connection.begin(TransactionOptions())
            await connection.execute("UPDATE t SET b = 1 WHERE a = $1", (row,))

        results = await asyncio.gather(
            one.execute("UPDATE t SET b = 2 WHERE a = 2"),
            two.execute("UPDATE t SET b = 2 WHERE a = 1"),
            return_exceptions=True,
        )

        kinds = [postgres_driver.translate(each) for each in results if isinstance(each, BaseException)]
        assert kinds == [errors.DeadlockError]


@pytest.mark.parametrize("kind", [AsyncpgDriver, PsycopgDriver])
async def test_a_server_that_is_not_there_is_a_disconnect(kind: type[PostgresDriver]) -> None:
    driver = kind(make_url("postgresql://postgres@127.0.0.1:1/x"), DriverOptions())

    with pytest.raises(Exception, match="onnect") as caught:
        await driver.connect()

    assert driver.translate(caught.value) is errors.DisconnectError


@pytest.mark.parametrize("kind", [AsyncpgDriver, PsycopgDriver])
async def test_a_wrong_database_is_an_operational_error(postgresql_url: str, kind: type[PostgresDriver]) -> None:
    driver = kind(make_url(postgresql_url).set(database="nowhere"), DriverOptions())

    with pytest.raises(Exception, match=r".") as caught:
        await driver.connect()

    assert driver.translate(caught.value) is errors.OperationalError


async def test_the_dialect_learns_the_servers_version(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection:
        assert postgres_driver.dialect.server_version_info == connection.server_version


async def test_the_number_of_a_transaction_that_writes_comes_with_its_begin(postgres_driver: PostgresDriver) -> None:
    async with connected(postgres_driver) as connection, connected(postgres_driver) as observer:
        await connection.begin(TransactionOptions())
        rows = await connection.fetch("SELECT pg_current_xact_id()::text")
        number = connection.transaction_number
        assert number == rows[0][0]
        assert number is not None
        assert await observer.outcome(number) is CommitOutcome.IN_PROGRESS
        await connection.commit()
        assert await observer.outcome(number) is CommitOutcome.COMMITTED
        await connection.begin(TransactionOptions(write=False))
        assert connection.transaction_number is None
        await connection.rollback()


async def test_statements_can_be_sent_again_when_a_cancelled_one_was_not_waited_for(
    postgres_driver: PostgresDriver,
) -> None:
    async with connected(postgres_driver) as connection:
        task = asyncio.create_task(connection.execute_many("SELECT pg_sleep($1)", [(0.01,), (30,), (30,)]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.wait_for(connection.reset(), 5)

        assert [tuple(row) for row in await connection.fetch("SELECT 1")] == [(1,)]


async def test_a_connection_is_dropped_under_a_statement_in_flight(postgres_driver: PostgresDriver) -> None:
    connection = await postgres_driver.connect()
    task = asyncio.create_task(connection.fetch("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.05)

    connection.terminate()

    assert connection.status is TransactionStatus.CLOSED
    async with asyncio.timeout(5):
        with pytest.raises(Exception, match=r".") as caught:
            await task
    assert postgres_driver.is_disconnect(caught.value)
