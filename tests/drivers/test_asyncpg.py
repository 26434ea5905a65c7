"""What is particular to PostgreSQL through asyncpg."""

import asyncio
import json

import asyncpg
import pytest
from sqlalchemy import make_url

from aiosession import errors
from aiosession.drivers.asyncpg import AsyncpgDriver
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import DriverOptions, TransactionOptions, TransactionStatus
from aiosession.testing.conformance import connected

pytestmark = pytest.mark.postgres


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
