"""What every driver must do, as cases that any test runner can run: ``await case(driver)`` for each of `CASES`.

A driver is made for an empty database in which its user may create tables. A case cleans up behind itself and raises
`AssertionError` if the driver does not conform. Tables are made with SQL that all databases understand.
"""

# ruff: noqa: D103, PT017 - the name of a case says what it demands, and any test runner may run it

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiosession import errors
from aiosession.drivers.protocol import (
    CommitRefusedError,
    Driver,
    DriverConnection,
    TransactionOptions,
    TransactionStatus,
)

Case: TypeAlias = Callable[[Driver], Awaitable[None]]

_TABLE: Final = """
    CREATE TABLE conformance (
        id INTEGER PRIMARY KEY,
        name VARCHAR(20) NOT NULL UNIQUE,
        parent INTEGER REFERENCES conformance (id),
        amount INTEGER CHECK (amount >= 0)
    )
"""
_ENDLESS: Final = """
    WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000000000) SELECT max(n) FROM r
"""
_ENDLESS_INSERT: Final = """
    INSERT INTO conformance (id, name)
    WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000000000)
    SELECT n + 100, 'n ' || CAST(n AS VARCHAR) FROM r
"""
_SOON: Final = 10.0
CASES: Final[list[Case]] = []
"""All cases; each has a name that says what it demands."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A statement that must fail in the same way everywhere."""

    sql: str
    """With ``{0}``, ``{1}`` where the parameters go; the table has one row, (1, 'one', NULL, 1)."""
    parameters: Sequence[object]
    expected: type[errors.DatabaseError]


_INSERT: Final = "INSERT INTO conformance (id, name, parent, amount) VALUES ({0}, {1}, {2}, {3})"
FAULTS: Final = {
    "duplicate primary key": Fault(_INSERT, (1, "two", None, 1), errors.UniqueViolationError),
    "duplicate unique value": Fault(_INSERT, (2, "one", None, 1), errors.UniqueViolationError),
    "foreign key to nowhere": Fault(_INSERT, (2, "two", 9, 1), errors.ForeignKeyViolationError),
    "null where none may be": Fault(_INSERT, (2, None, None, 1), errors.NotNullViolationError),
    "check violated": Fault(_INSERT, (2, "two", None, -1), errors.CheckViolationError),
    "unknown table": Fault("SELECT * FROM nowhere", (), errors.ProgrammingError),
    "unknown column": Fault("SELECT nothing FROM conformance", (), errors.ProgrammingError),
    "syntax": Fault("SELEC 1", (), errors.ProgrammingError),
    "too few parameters": Fault("SELECT * FROM conformance WHERE id = {0}", (), errors.ProgrammingError),
    "too many parameters": Fault("SELECT * FROM conformance WHERE id = {0}", (1, 2), errors.ProgrammingError),
    "number too large": Fault(_INSERT, (2**70, "two", None, 1), errors.DataError),
    "text for a number": Fault(_INSERT, ("x", "two", None, 1), errors.DataError),
    "object for a text": Fault(_INSERT, (2, object(), None, 1), errors.DataError),
    "surrogate in text": Fault(_INSERT, (2, "\ud800", None, 1), errors.DataError),
}
"""Faults by name, with the class that `Driver.translate` must give for each."""


def sql_for(driver: Driver, text: str) -> str:
    """Put the driver's placeholders in for ``{0}``, ``{1}`` ..."""
    dollar = driver.dialect.paramstyle == "numeric_dollar"
    return text.format(*(f"${number}" if dollar else "?" for number in range(1, 11)))


@asynccontextmanager
async def connected(driver: Driver) -> AsyncIterator[DriverConnection]:
    """Open a connection for the length of a block."""
    connection = await driver.connect()
    try:
        yield connection
    finally:
        if connection.status not in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
            await connection.reset()
        await connection.close()
        connection.terminate()


@asynccontextmanager
async def table(driver: Driver) -> AsyncIterator[tuple[DriverConnection, DriverConnection]]:
    """Make the table with one row; yield a connection to work with and one to look from outside."""
    async with connected(driver) as connection, connected(driver) as observer:
        await observer.script(_TABLE)
        try:
            await connection.execute(sql_for(driver, _INSERT), (1, "one", None, 1))
            yield connection, observer
        finally:
            if connection.status not in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
                await connection.reset()
            await observer.rollback()
            await observer.script("DROP TABLE conformance")


def case(function: Case) -> Case:
    """Add a case to `CASES`."""
    CASES.append(function)
    return function


def status(connection: DriverConnection) -> TransactionStatus:
    """Return the status as it is now (type checkers believe that a property they have seen stays as it was)."""
    return connection.status


async def names(connection: DriverConnection) -> list[object]:
    """Return the names in the table."""
    return [row[0] for row in await connection.fetch("SELECT name FROM conformance ORDER BY id")]


async def failure(driver: Driver, awaitable: Awaitable[object]) -> type[errors.DatabaseError] | None:
    """Return what the driver makes of the error of *awaitable*, None if there was none."""
    try:
        await awaitable
    except Exception as error:
        translated = driver.translate(error)
        assert translated is not None, f"{error!r} is not translated"
        return translated
    return None


def _row(number: int) -> tuple[object, ...]:
    return (number, f"row {number}", None, number)


@case
async def rows_come_by_position_and_in_order(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        rows = await connection.fetch("SELECT id, name, parent, amount FROM conformance ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, "one", None, 1), _row(2)]


@case
async def execute_counts_affected_rows(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        assert await connection.execute(sql_for(driver, _INSERT), _row(2)) == 1
        assert await connection.execute("UPDATE conformance SET amount = 5") == 2
        assert await connection.execute("DELETE FROM conformance WHERE id = 77") == 0


@case
async def execute_many_writes_all_rows(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        count = await connection.execute_many(sql_for(driver, _INSERT), [_row(number) for number in range(2, 12)])
        assert count == (10 if driver.capabilities.counts_many else -1)
        assert len(await names(observer)) == 11


@case
async def execute_many_writes_all_rows_or_none(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        rows = [_row(2), _row(3), _row(2)]
        kind = await failure(driver, connection.execute_many(sql_for(driver, _INSERT), rows))
        assert kind is errors.UniqueViolationError
        assert await names(observer) == ["one"]
        assert status(connection) is TransactionStatus.IDLE


@case
async def fetch_each_answers_in_the_order_of_its_rows(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute_many(sql_for(driver, _INSERT), [_row(number) for number in range(2, 6)])
        text = sql_for(driver, "SELECT name FROM conformance WHERE id = {0}")
        answers = await connection.fetch_each(text, [(4,), (77,), (2,)])
        assert [[row[0] for row in rows] for rows in answers] == [["row 4"], [], ["row 2"]]


@case
async def returning_gives_rows(driver: Driver) -> None:
    if not driver.capabilities.returning:
        return
    async with table(driver) as (connection, observer):
        rows = await connection.fetch(sql_for(driver, _INSERT + " RETURNING id, name"), _row(2))
        assert [tuple(row) for row in rows] == [(2, "row 2")]
        assert await names(observer) == ["one", "row 2"]


@case
async def run_tells_columns_rows_and_count(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        reply = await connection.run("SELECT id, name AS label FROM conformance")
        assert (reply.columns, [tuple(row) for row in reply.rows]) == (("id", "label"), [(1, "one")])
        empty = await connection.run("SELECT id FROM conformance WHERE id = 77")
        assert (empty.columns, list(empty.rows)) == (("id",), [])
        update = await connection.run("UPDATE conformance SET amount = 7")
        assert (update.columns, list(update.rows), update.count) == (None, [], 1)


@case
async def stream_yields_chunks(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute_many(sql_for(driver, _INSERT), [_row(number) for number in range(2, 11)])
        await connection.begin(TransactionOptions(write=False))
        text = sql_for(driver, "SELECT id FROM conformance WHERE id > {0} ORDER BY id")
        sizes = [len(chunk) async for chunk in connection.stream(text, (0,), size=4)]
        await connection.rollback()
        assert sizes == [4, 4, 2]


@case
async def stream_can_be_left_early(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute_many(sql_for(driver, _INSERT), [_row(number) for number in range(2, 11)])
        await connection.begin(TransactionOptions())
        async with aclosing(connection.stream("SELECT id FROM conformance", size=2)) as chunks:
            async for _ in chunks:
                break
        await connection.execute("DELETE FROM conformance")
        await connection.commit()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(connection) == []


@case
async def script_runs_several_statements(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.script("CREATE TABLE one (a INTEGER); CREATE TABLE two (b INTEGER); DROP TABLE one;")
        assert await connection.fetch("SELECT b FROM two") == []
        await connection.script("DROP TABLE two")


@case
async def nothing_is_seen_before_commit(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        if driver.capabilities.concurrent_reads:
            assert await names(observer) == ["one"]
        await connection.commit()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one", "row 2"]


@case
async def rollback_undoes_and_may_be_repeated(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        await connection.rollback()
        await connection.rollback()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]


@case
async def savepoints_nest(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.savepoint("outer_one")
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        await connection.savepoint("inner_one")
        await connection.execute(sql_for(driver, _INSERT), _row(3))
        await connection.rollback_to_savepoint("inner_one")
        await connection.release_savepoint("inner_one")
        await connection.release_savepoint("outer_one")
        await connection.commit()
        assert await names(observer) == ["one", "row 2"]


@case
async def savepoint_saves_from_a_failed_statement(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.savepoint("before")
        assert await failure(driver, connection.execute(sql_for(driver, _INSERT), (1, "x", None, 1)))
        await connection.rollback_to_savepoint("before")
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        await connection.commit()
        assert await names(observer) == ["one", "row 2"]


@case
async def names_of_savepoints_are_checked(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.begin(TransactionOptions())
        for name in ("", "a b", 'a"; DROP TABLE x; --', "1a", "ä", "x" * 64):
            try:
                await connection.savepoint(name)
            except errors.ArgumentError:
                continue
            raise AssertionError(f"{name!r} was taken for a savepoint's name")
        await connection.rollback()


@case
async def faults_have_the_same_class_everywhere(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        for name, fault in FAULTS.items():
            sql = sql_for(driver, fault.sql)
            found = await failure(driver, connection.fetch(sql, fault.parameters))
            assert found is fault.expected, f"{name}: {found}"
            if connection.status is TransactionStatus.ACTIVE:
                await connection.reset()
            assert status(connection) is TransactionStatus.IDLE, f"{name}: {status(connection)}"


@case
async def failed_transaction_can_be_rolled_back(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        assert await failure(driver, connection.fetch("SELECT * FROM nowhere"))
        await connection.rollback()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]
        await connection.begin(TransactionOptions())
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.rollback()


@case
async def commit_never_rolls_back_silently(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        await failure(driver, connection.fetch("SELECT * FROM nowhere"))
        try:
            await connection.commit()
        except CommitRefusedError as error:
            assert driver.translate(error) is errors.InternalError
            assert await names(observer) == ["one"]
        else:
            assert await names(observer) == ["one", "row 2"]
        assert status(connection) is TransactionStatus.IDLE


@case
async def read_only_transaction_refuses_to_write(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions(read_only=True, write=False))
        assert await failure(driver, connection.execute(sql_for(driver, _INSERT), _row(2)))
        await connection.rollback()
        await connection.execute(sql_for(driver, _INSERT), _row(3))
        assert await names(observer) == ["one", "row 3"]


@case
async def isolation_levels_are_checked(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.begin(TransactionOptions(isolation_level="SERIALIZABLE"))
        await connection.commit()
        for level in ("SERIALISABLE", "READ COMMITTED; DROP TABLE x", ""):
            try:
                await connection.begin(TransactionOptions(isolation_level=level))
            except errors.ArgumentError:
                assert status(connection) is TransactionStatus.IDLE
                continue
            raise AssertionError(f"{level!r} was taken for an isolation level")


@case
async def cancelled_statement_leaves_the_connection_usable(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await _cancel(connection.fetch(_ENDLESS))
        assert status(connection) is not TransactionStatus.IDLE
        await asyncio.wait_for(connection.reset(), _SOON)
        if driver.capabilities.server_side_cancel:
            assert status(connection) is TransactionStatus.IDLE
            assert await names(connection) == ["one"]
        assert await names(observer) == ["one"]


@case
async def copied_rows_are_part_of_the_transaction(driver: Driver) -> None:
    if not driver.capabilities.copies:
        return
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        count = await connection.copy("conformance", None, ("id", "name", "parent", "amount"), [_row(2), _row(3)])
        assert count == 2
        assert await names(observer) == ["one"]
        await connection.commit()
        assert len(await names(observer)) == 3


@case
async def cancelled_transaction_leaves_nothing(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, _INSERT), _row(2))
        await _cancel(connection.execute(_ENDLESS_INSERT))
        await asyncio.wait_for(connection.reset(), _SOON)
        if driver.capabilities.server_side_cancel:
            assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]
        await observer.execute(sql_for(driver, _INSERT), _row(3))


async def _cancel(work: Awaitable[object]) -> None:
    """Start *work*, and cancel it when it has been sent."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the cancellation was swallowed")


@case
async def closed_connection_says_so(driver: Driver) -> None:
    for end in ("close", "terminate"):
        connection = await driver.connect()
        if end == "close":
            await connection.close()
        connection.terminate()
        connection.terminate()
        assert status(connection) is TransactionStatus.CLOSED
        try:
            await connection.fetch("SELECT 1")
        except Exception as error:
            assert driver.is_disconnect(error), f"{error!r}"
            assert driver.translate(error) is errors.DisconnectError
        else:
            raise AssertionError("a closed connection answered")


@case
async def ping_and_reset_leave_an_idle_connection_idle(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.ping()
        await connection.reset()
        assert status(connection) is TransactionStatus.IDLE
        assert connection.server_version > (0,)
        assert connection.driver_connection is not None


@case
async def errors_of_others_are_not_translated(driver: Driver) -> None:
    assert driver.translate(KeyError("x")) is None
    assert driver.translate(asyncio.CancelledError()) is None
    assert not driver.is_disconnect(KeyError("x"))
