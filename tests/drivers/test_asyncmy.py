"""What is special about MariaDB through asyncmy, and how values are written for it."""

import asyncio
import datetime as dt
import math
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal

import asyncmy
import pytest
from sqlalchemy import make_url, text

from aiosession import create_async_engine, errors
from aiosession.drivers import asyncmy_batches, asyncmy_errors, mysql
from aiosession.drivers.asyncmy import AsyncmyConnection, AsyncmyDriver
from aiosession.drivers.mysql_values import ParameterCountError, RefusedValueError, filled, literal
from aiosession.drivers.protocol import (
    CommitRefusedError,
    DriverOptions,
    Row,
    TransactionLostError,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.testing.conformance.kit import status


def _quote(text: str) -> str:
    return text.replace("'", "''")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, b"NULL"),
        (True, b"1"),
        (2**64 - 1, str(2**64 - 1).encode()),
        ("it's", b"'it''s'"),
        (1.5, b"1.5e0"),
        (1e300, b"1e+300"),
        (Decimal("1E+3"), b"1000"),
        (b"\x00'", b"X'0027'"),
        (dt.datetime(2024, 2, 29, 1, 2, 3, 4), b"'2024-02-29 01:02:03.000004'"),
        (dt.date(2024, 2, 29), b"'2024-02-29'"),
        (dt.timedelta(days=-1, hours=3), b"'-21:00:00.000000'"),
        (uuid.UUID(int=1), b"'00000000-0000-0000-0000-000000000001'"),
    ],
    ids=repr,
)
def test_values_are_written_as_sql(value: object, written: bytes) -> None:
    assert literal(value, _quote) == written


@pytest.mark.parametrize(
    "value",
    [2**70, math.nan, math.inf, Decimal("NaN"), object(), [1], "\ud800", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)],
    ids=lambda value: "object" if type(value) is object else ascii(value),
)
def test_values_that_would_become_others_are_refused(value: object) -> None:
    with pytest.raises(RefusedValueError):
        literal(value, _quote)


def test_values_are_not_read_as_places() -> None:
    assert filled("SELECT %s, '%%', %s", ("%s", 1), _quote) == b"SELECT '%s', '%', 1"
    with pytest.raises(ParameterCountError):
        filled("SELECT %s", (1, 2), _quote)


def test_rows_of_an_insert_travel_together() -> None:
    assert asyncmy_batches.many("INSERT INTO t (a) VALUES (%s)", [(1,), ("(%s)",)], _quote) == [
        b"INSERT INTO t (a) VALUES (1), ('(%s)')"
    ]
    assert asyncmy_batches.many("UPDATE t SET a = %s", [(1,), (2,)], _quote) == [
        b"UPDATE t SET a = 1",
        b"UPDATE t SET a = 2",
    ]


def test_names_of_branches_come_back_from_the_list_of_prepared_ones() -> None:
    assert mysql.branch("as1:app:77:2") == "'as1:app:77','2'"
    assert mysql.branch_of(10, b"as1:app:772") == "as1:app:77:2"
    with pytest.raises(errors.ArgumentError, match="64"):
        mysql.branch("x" * 65)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1213, errors.DeadlockError),
        (1205, errors.LockNotAvailableError),
        (1062, errors.UniqueViolationError),
        (1452, errors.ForeignKeyViolationError),
        (4025, errors.CheckViolationError),
        (3819, errors.CheckViolationError),
        (1969, errors.StatementTimeoutError),
        (3024, errors.StatementTimeoutError),
        (1064, errors.ProgrammingError),
        (1045, errors.OperationalError),
        (2013, errors.DisconnectError),
        (1927, errors.DisconnectError),
    ],
)
def test_errors_of_the_server_have_classes(number: int, expected: type[errors.DatabaseError]) -> None:
    error = asyncmy.errors.OperationalError(number, "x")

    assert asyncmy_errors.translate(error) is expected
    assert asyncmy_errors.is_disconnect(error) is (expected is errors.DisconnectError)


@pytest.fixture
async def driver(mariadb_url: str) -> AsyncIterator[AsyncmyDriver]:
    driver = AsyncmyDriver(make_url(mariadb_url), DriverOptions())
    yield driver
    await driver.dispose()


@pytest.fixture
async def pair(driver: AsyncmyDriver) -> AsyncIterator[tuple[AsyncmyConnection, AsyncmyConnection]]:
    one, other = await driver.connect(), await driver.connect()
    await one.script("CREATE TABLE item (id INTEGER PRIMARY KEY AUTO_INCREMENT, n INTEGER NOT NULL)")
    yield one, other
    for connection in (one, other):
        connection.terminate()


@pytest.mark.mariadb
async def test_settings_are_made_at_connect(pair: tuple[AsyncmyConnection, AsyncmyConnection]) -> None:
    ((mode, zone, charset),) = await pair[0].fetch("SELECT @@sql_mode, @@time_zone, @@character_set_client")

    assert "STRICT_TRANS_TABLES" in str(mode)
    assert (zone, charset) == ("+00:00", "utf8mb4")


@pytest.mark.mariadb
async def test_an_isolation_level_is_for_one_transaction(pair: tuple[AsyncmyConnection, AsyncmyConnection]) -> None:
    one, other = pair
    await one.begin(TransactionOptions(isolation_level="READ COMMITTED"))
    await one.fetch("SELECT n FROM item")
    await other.execute("INSERT INTO item (n) VALUES (1)")
    assert len(await one.fetch("SELECT n FROM item")) == 1
    await one.rollback()

    await one.begin(TransactionOptions())
    await one.fetch("SELECT n FROM item")
    await other.execute("INSERT INTO item (n) VALUES (2)")
    assert len(await one.fetch("SELECT n FROM item")) == 1
    await one.rollback()


@pytest.mark.mariadb
async def test_ddl_commits_and_the_transaction_goes_on(pair: tuple[AsyncmyConnection, AsyncmyConnection]) -> None:
    one, other = pair
    await one.begin(TransactionOptions())
    await one.execute("INSERT INTO item (n) VALUES (1)")
    await one.script("CREATE TABLE more (id INTEGER)")
    assert one.status is TransactionStatus.IN_TRANSACTION
    await one.execute("INSERT INTO item (n) VALUES (2)")
    await one.rollback()

    assert [tuple(row) for row in await other.fetch("SELECT n FROM item")] == [(1,)]


@pytest.mark.mariadb
@pytest.mark.parametrize("branches", [(None, None), ("as1:test:one:1", "as1:test:two:1")], ids=["plain", "XA"])
async def test_a_deadlock_loses_the_transaction_and_says_so(
    pair: tuple[AsyncmyConnection, AsyncmyConnection], branches: tuple[str | None, str | None]
) -> None:
    await pair[0].execute_many("INSERT INTO item (id, n) VALUES (%s, %s)", [(1, 0), (2, 0)])
    for number, connection in enumerate(pair, 1):
        await connection.begin(TransactionOptions(branch=branches[number - 1]))
        await connection.execute("UPDATE item SET n = n + 1 WHERE id = %s", (number,))

    outcomes = await asyncio.gather(
        *(
            connection.execute("UPDATE item SET n = n + 1 WHERE id = %s", (3 - number,))
            for number, connection in enumerate(pair, 1)
        ),
        return_exceptions=True,
    )

    (loser,) = [pair[place] for place, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert loser.status is TransactionStatus.FAILED
    with pytest.raises(TransactionLostError):
        await loser.fetch("SELECT 1")
    with pytest.raises(CommitRefusedError):
        await loser.commit()
    await loser.reset()
    assert status(loser) is TransactionStatus.IDLE
    await loser.begin(TransactionOptions())
    assert await loser.fetch("SELECT 1") == [(1,)]


@pytest.mark.mariadb
async def test_a_cancelled_statement_does_not_run_on(pair: tuple[AsyncmyConnection, AsyncmyConnection]) -> None:
    one, other = pair
    task = asyncio.ensure_future(one.fetch("SELECT SLEEP(30)"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await one.reset()

    assert one.status is TransactionStatus.CLOSED
    running: list[Row] = []
    for _ in range(100):
        running = await other.fetch("SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%%'")
        if not running:
            break
    assert running == []


@pytest.mark.mariadb
async def test_each_row_gets_its_own_key_while_others_insert(
    driver: AsyncmyDriver, pair: tuple[AsyncmyConnection, AsyncmyConnection]
) -> None:
    text = "INSERT INTO item (n) VALUES (%s) RETURNING id"

    async def write(connection: AsyncmyConnection, start: int) -> dict[object, int]:
        numbers = range(start, start + 700)
        found = await connection.fetch_each(text, [(number,) for number in numbers])
        return {rows[0][0]: number for rows, number in zip(found, numbers, strict=True)}

    told = await asyncio.gather(*(write(connection, place * 1000) for place, connection in enumerate(pair)))

    stored = {row[0]: row[1] for row in await pair[0].fetch("SELECT id, n FROM item")}
    assert stored == told[0] | told[1]
    assert pair[0].status is TransactionStatus.IDLE


@pytest.mark.mariadb
async def test_rows_that_are_read_one_by_one_leave_room_for_others(
    pair: tuple[AsyncmyConnection, AsyncmyConnection],
) -> None:
    one, _ = pair
    await one.execute_many("INSERT INTO item (n) VALUES (%s)", [(number,) for number in range(100)])
    await one.begin(TransactionOptions())
    seen: list[object] = []
    async for rows in one.stream("SELECT n FROM item ORDER BY id", size=7):
        seen += [row[0] for row in rows]
        assert await one.fetch("SELECT 5")
    await one.commit()

    assert seen == list(range(100))


@pytest.mark.mariadb
async def test_a_prepared_transaction_keeps_its_connection_out_of_the_pool(
    pair: tuple[AsyncmyConnection, AsyncmyConnection],
) -> None:
    one, other = pair
    await one.begin(TransactionOptions(branch="t:1:1"))
    await one.execute("INSERT INTO item (n) VALUES (1)")
    await one.prepare("t:1:1")
    assert one.status is TransactionStatus.IN_TRANSACTION
    await one.rollback()
    await one.reset()
    assert status(one) is TransactionStatus.CLOSED

    assert await other.commit_prepared("t:1:1")
    assert len(await other.fetch("SELECT n FROM item")) == 1


@pytest.mark.mariadb
async def test_a_connection_that_the_server_has_ended_is_replaced_in_the_pool(mariadb_url: str) -> None:
    engine, other = create_async_engine(mariadb_url), create_async_engine(mariadb_url)
    async with engine.connect() as connection:
        victim = await connection.scalar(text("SELECT CONNECTION_ID()"))
    async with other.connect() as connection:
        await connection.exec_driver_sql(f"KILL {victim}")
        while await connection.scalar(text(f"SELECT 1 FROM information_schema.processlist WHERE id = {victim}")):
            pass

    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT CONNECTION_ID()")) != victim
    await engine.dispose()
    await other.dispose()
