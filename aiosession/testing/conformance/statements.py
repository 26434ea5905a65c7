"""How a driver sends statements: rows, counts, many rows, streams, errors."""

# ruff: noqa: D103 - the name of a case says what it demands, and any test runner may run it

from contextlib import aclosing

from aiosession import errors
from aiosession.drivers.protocol import Driver, TransactionOptions, TransactionStatus
from aiosession.testing.conformance.kit import (
    FAULTS,
    INSERT,
    case,
    connected,
    failure,
    names,
    row,
    sql_for,
    status,
    table,
)


@case
async def rows_come_by_position_and_in_order(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute(sql_for(driver, INSERT), row(2))
        rows = await connection.fetch("SELECT id, name, parent, amount FROM conformance ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, "one", None, 1), row(2)]


@case
async def execute_counts_affected_rows(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        assert await connection.execute(sql_for(driver, INSERT), row(2)) == 1
        assert await connection.execute("UPDATE conformance SET amount = 5") == 2
        assert await connection.execute("DELETE FROM conformance WHERE id = 77") == 0


@case
async def execute_many_writes_all_rows(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        count = await connection.execute_many(sql_for(driver, INSERT), [row(number) for number in range(2, 12)])
        assert count == (10 if driver.capabilities.counts_many else -1)
        assert len(await names(observer)) == 11


@case
async def execute_many_writes_all_rows_or_none(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        rows = [row(2), row(3), row(2)]
        kind = await failure(driver, connection.execute_many(sql_for(driver, INSERT), rows))
        assert kind is errors.UniqueViolationError
        assert await names(observer) == ["one"]
        assert status(connection) is TransactionStatus.IDLE


@case
async def fetch_each_answers_in_the_order_of_its_rows(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute_many(sql_for(driver, INSERT), [row(number) for number in range(2, 6)])
        text = sql_for(driver, "SELECT name FROM conformance WHERE id = {0}")
        answers = await connection.fetch_each(text, [(4,), (77,), (2,)])
        assert [[row[0] for row in rows] for rows in answers] == [["row 4"], [], ["row 2"]]


@case
async def returning_gives_rows(driver: Driver) -> None:
    if not driver.capabilities.returning:
        return
    async with table(driver) as (connection, observer):
        rows = await connection.fetch(sql_for(driver, INSERT + " RETURNING id, name"), row(2))
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
        await connection.execute_many(sql_for(driver, INSERT), [row(number) for number in range(2, 11)])
        await connection.begin(TransactionOptions(write=False))
        text = sql_for(driver, "SELECT id FROM conformance WHERE id > {0} ORDER BY id")
        sizes = [len(chunk) async for chunk in connection.stream(text, (0,), size=4)]
        await connection.rollback()
        assert sizes == [4, 4, 2]


@case
async def stream_can_be_left_early(driver: Driver) -> None:
    async with table(driver) as (connection, _):
        await connection.execute_many(sql_for(driver, INSERT), [row(number) for number in range(2, 11)])
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
async def copied_rows_are_part_of_the_transaction(driver: Driver) -> None:
    if not driver.capabilities.copies:
        return
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        count = await connection.copy("conformance", None, ("id", "name", "parent", "amount"), [row(2), row(3)])
        assert count == 2
        assert await names(observer) == ["one"]
        await connection.commit()
        assert len(await names(observer)) == 3
