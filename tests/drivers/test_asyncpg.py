"""What is particular to PostgreSQL through asyncpg."""

import asyncio
import gc
import json

import asyncpg
import pytest
from sqlalchemy import make_url

from aiosession import errors
from aiosession.drivers.asyncpg import AsyncpgConnection, AsyncpgDriver
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverOptions, TransactionOptions, TransactionStatus
from aiosession.testing.conformance import connected

pytestmark = pytest.mark.postgres


async def _backends(connection: AsyncpgConnection) -> int:
    rows = await connection.fetch("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    count = rows[0][0]
    assert isinstance(count, int)
    return count


async def test_json_is_text_on_the_way_in_and_python_on_the_way_out(asyncpg_driver: AsyncpgDriver) -> None:
    value = {"a": [1, None, "ä", "\\"], "b": {"c": 1.5}}
    text = json.dumps(value)

    async with connected(asyncpg_driver) as connection:
        rows = await connection.fetch(
            "SELECT $1::json, $2::jsonb, $3::jsonb[], $4::json[][]", (text, text, [text, "1"], [[text], ["null"]])
        )

    assert tuple(rows[0]) == (value, value, [value, 1], [[value], [None]])


async def test_json_is_read_by_the_given_function(postgresql_url: str) -> None:
    options = DriverOptions(json_deserializer=lambda text: ("read", text))
    driver = AsyncpgDriver(make_url(postgresql_url), options)

    async with connected(driver) as connection:
        rows = await connection.fetch("""SELECT '{"a": 1}'::json, '{"a":1}'::jsonb""")

    assert tuple(rows[0]) == (("read", '{"a": 1}'), ("read", '{"a": 1}'))


async def test_row_counts_come_from_the_command_tag(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection:
        await connection.script("CREATE TABLE t (a int)")
        assert await connection.execute("INSERT INTO t SELECT generate_series(1, 25)") == 25
        assert await connection.execute("UPDATE t SET a = 1 WHERE a > 20") == 5
        assert await connection.execute("DELETE FROM t WHERE a = $1", (99,)) == 0
        assert await connection.execute("TRUNCATE t") == -1


async def test_a_cancelled_statement_keeps_its_backend(asyncpg_driver: AsyncpgDriver) -> None:
    pool = Pool(asyncpg_driver.connect, PoolOptions(size=1, overflow=0))
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


async def test_a_connection_killed_by_the_server_is_a_disconnect(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as victim, connected(asyncpg_driver) as killer:
        pid = (await victim.fetch("SELECT pg_backend_pid()"))[0][0]
        await killer.fetch("SELECT pg_terminate_backend($1)", (pid,))

        with pytest.raises(Exception, match=r".") as caught:
            await victim.fetch("SELECT 1")

        assert asyncpg_driver.translate(caught.value) is errors.DisconnectError
        assert victim.status is TransactionStatus.CLOSED
        await victim.rollback()


async def test_the_pool_replaces_a_connection_that_the_server_has_closed(asyncpg_driver: AsyncpgDriver) -> None:
    pool = Pool(asyncpg_driver.connect, PoolOptions(size=1, overflow=0, pre_ping=True))
    connection = await pool.acquire()
    pid = (await connection.fetch("SELECT pg_backend_pid()"))[0][0]
    await pool.release(connection)

    async with connected(asyncpg_driver) as killer:
        await killer.fetch("SELECT pg_terminate_backend($1)", (pid,))
        connection = await pool.acquire()
        assert (await connection.fetch("SELECT pg_backend_pid()"))[0][0] != pid
        await pool.release(connection)

    await pool.dispose()


async def test_a_refused_value_holds_no_locks_after_the_release(asyncpg_driver: AsyncpgDriver) -> None:
    pool = Pool(asyncpg_driver.connect, PoolOptions(size=1, overflow=0))
    async with connected(asyncpg_driver) as other:
        await other.script("CREATE TABLE t (a int)")
        connection = await pool.acquire()
        with pytest.raises(asyncpg.PostgresError):
            await connection.fetch("SELECT * FROM t WHERE a = $1", ("x",))

        await pool.release(connection)

        async with asyncio.timeout(5):
            await other.script("DROP TABLE t")
    await pool.dispose()


async def test_a_refused_value_does_not_fail_the_transaction(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection:
        await connection.begin(TransactionOptions())
        with pytest.raises(asyncpg.PostgresError):
            await connection.fetch("SELECT $1::int", ("x",))

        assert connection.status is TransactionStatus.IN_TRANSACTION
        await connection.commit()


async def test_statements_survive_a_change_of_the_schema_outside_a_transaction(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection, connected(asyncpg_driver) as other:
        await other.script("CREATE TABLE t (a int)")
        await connection.fetch("SELECT * FROM t")
        await connection.run("SELECT * FROM t")

        await other.script("ALTER TABLE t ADD b int")

        assert await connection.fetch("SELECT * FROM t") == []
        assert (await connection.run("SELECT * FROM t")).columns == ("a", "b")


async def test_a_transaction_after_a_script_prepares_its_statements_anew(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection, connected(asyncpg_driver) as other:
        await other.script("CREATE TABLE t (a int)")
        await connection.fetch("SELECT * FROM t")

        await other.execute("ALTER TABLE t ADD b int")

        await connection.begin(TransactionOptions())
        assert await connection.fetch("SELECT * FROM t") == []
        await connection.commit()


async def test_a_stale_statement_in_a_transaction_is_an_operational_error(
    asyncpg_driver: AsyncpgDriver, postgresql_url: str
) -> None:
    elsewhere = AsyncpgDriver(make_url(postgresql_url), DriverOptions())
    async with connected(asyncpg_driver) as connection, connected(elsewhere) as other:
        await other.script("CREATE TABLE t (a int)")
        await connection.fetch("SELECT * FROM t")
        await connection.begin(TransactionOptions())
        await other.script("ALTER TABLE t ADD b int")

        with pytest.raises(asyncpg.InvalidCachedStatementError) as caught:
            await connection.fetch("SELECT * FROM t")

        assert asyncpg_driver.translate(caught.value) is errors.OperationalError
        assert connection.status is TransactionStatus.FAILED
        await connection.rollback()
        assert await connection.fetch("SELECT * FROM t") == []


async def test_the_pool_sends_nothing_of_its_own(asyncpg_driver: AsyncpgDriver) -> None:
    sent: list[str] = []
    pool = Pool(asyncpg_driver.connect, PoolOptions(size=1, overflow=0))
    connection = await pool.acquire()
    lower = connection.driver_connection
    assert isinstance(lower, asyncpg.Connection)
    lower.add_query_logger(lambda record: sent.append(record.query))

    await connection.fetch("SELECT 1")
    await pool.release(connection)
    connection = await pool.acquire()
    await connection.fetch("SELECT 2")
    await pool.release(connection)
    await asyncio.sleep(0)

    assert sent == ["SELECT 1", "SELECT 2"]
    await pool.dispose()


async def test_opening_a_connection_sends_no_query(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection, connected(asyncpg_driver) as other:
        pid = (await connection.fetch("SELECT pg_backend_pid()"))[0][0]
        fresh = await asyncpg_driver.connect()
        rows = await other.fetch(
            "SELECT query FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid NOT IN ($1, pg_backend_pid())",
            (pid,),
        )
        assert [row[0] for row in rows] == [""]
        await fresh.close()


async def test_a_forgotten_connection_leaves_the_server(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as observer:
        assert isinstance(observer, AsyncpgConnection)
        forgotten = await asyncpg_driver.connect()
        assert await _backends(observer) == 2

        del forgotten
        gc.collect()

        async with asyncio.timeout(5):
            while await _backends(observer) != 1:  # noqa: ASYNC110 - the server sends no event
                await asyncio.sleep(0.01)


async def test_begin_sets_what_it_is_asked_for(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection:
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
    asyncpg_driver: AsyncpgDriver, sql: str, expected: type[errors.DatabaseError]
) -> None:
    async with connected(asyncpg_driver) as holder, connected(asyncpg_driver) as connection:
        await holder.script("CREATE TABLE t (a int)")
        await holder.begin(TransactionOptions())
        await holder.execute("LOCK TABLE t")
        await connection.begin(TransactionOptions())

        with pytest.raises(asyncpg.PostgresError) as caught:
            await connection.script(sql)

        assert asyncpg_driver.translate(caught.value) is expected


async def test_serialization_failures_can_be_retried(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as one, connected(asyncpg_driver) as two:
        await one.script("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        for connection in (one, two):
            await connection.begin(TransactionOptions(isolation_level="SERIALIZABLE"))
            await connection.fetch("SELECT * FROM t")
        await one.execute("UPDATE t SET a = 2")
        await one.commit()

        with pytest.raises(asyncpg.PostgresError) as caught:
            await two.execute("UPDATE t SET a = 3")

        kind = asyncpg_driver.translate(caught.value)
        assert kind is errors.SerializationError
        assert kind.retryable


async def test_deadlocks_can_be_retried(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as one, connected(asyncpg_driver) as two:
        await one.script("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 0), (2, 0)")
        for connection, row in ((one, 1), (two, 2)):
            await connection.begin(TransactionOptions())
            await connection.execute("UPDATE t SET b = 1 WHERE a = $1", (row,))

        results = await asyncio.gather(
            one.execute("UPDATE t SET b = 2 WHERE a = 2"),
            two.execute("UPDATE t SET b = 2 WHERE a = 1"),
            return_exceptions=True,
        )

        kinds = [asyncpg_driver.translate(each) for each in results if isinstance(each, BaseException)]
        assert kinds == [errors.DeadlockError]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://x/y?statement_cache_sise=5", "did you mean 'statement_cache_size'"),
        ("postgresql://x/y?statement_cache_size=many", "needs a value of type int"),
        ("postgresql://x/y?loop=1", "takes no option 'loop'"),
    ],
)
def test_wrong_options_are_named_before_any_io(url: str, words: str) -> None:
    with pytest.raises(errors.ArgumentError, match=words):
        AsyncpgDriver(make_url(url), DriverOptions())


@pytest.mark.parametrize("port", [1])
async def test_a_server_that_is_not_there_is_a_disconnect(port: int) -> None:
    driver = AsyncpgDriver(make_url(f"postgresql://postgres@127.0.0.1:{port}/x"), DriverOptions())

    with pytest.raises(OSError, match="onnect") as caught:
        await driver.connect()

    assert driver.translate(caught.value) is errors.DisconnectError


async def test_a_wrong_database_is_an_operational_error(postgresql_url: str) -> None:
    driver = AsyncpgDriver(make_url(postgresql_url).set(database="nowhere"), DriverOptions())

    with pytest.raises(asyncpg.PostgresError) as caught:
        await driver.connect()

    assert driver.translate(caught.value) is errors.OperationalError


async def test_the_dialect_learns_the_servers_version(asyncpg_driver: AsyncpgDriver) -> None:
    async with connected(asyncpg_driver) as connection:
        assert asyncpg_driver.dialect.server_version_info == connection.server_version
