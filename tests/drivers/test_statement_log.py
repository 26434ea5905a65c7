"""The log of statements tells verbs, tables and texts."""

import pytest

from aiosession.engine.engine import AsyncEngine
from aiosession.events import StatementEvent
from aiosession.testing.statements import StatementLog


async def _run(engine: AsyncEngine, *statements: str) -> None:
    connection = await engine.acquire()
    try:
        for sql in statements:
            await connection.execute(sql)
    finally:
        await engine.release(connection)


async def test_the_log_remembers_statements_without_transaction_control(engine: AsyncEngine) -> None:
    comment = engine.dialect.identifier_preparer.quote("my comment")
    await _run(engine, "CREATE TABLE post (id INTEGER)", f"CREATE TABLE {comment} (id INTEGER)")

    with StatementLog(engine) as log:
        await _run(
            engine,
            "INSERT INTO post VALUES (1)",
            f"insert into  {comment} values (1)",
            "UPDATE post SET id = 2",
            f"DELETE FROM {comment} WHERE id = 1",
        )
    await _run(engine, "DELETE FROM post")

    assert log.tables("INSERT") == ["post", "my comment"]
    assert log.tables("UPDATE") == ["post"]
    assert log.tables("delete") == ["my comment"]
    assert (log.count, len(log), len(list(log))) == (4, 4, 4)
    assert log.sql[1] == f"insert into {comment} values (1)"
    assert [event.row_count for event in log.statements] == [1, 1, 1, 1]
    assert str(log).startswith("INSERT INTO post")
    log.clear()
    assert log.count == 0


async def test_begin_and_commit_are_seen_but_not_counted(engine: AsyncEngine) -> None:
    log = StatementLog(engine)

    async with engine.begin() as connection:
        await connection.exec_driver_sql("SELECT 1")

    assert log.kinds == ["BEGIN", "SELECT", "COMMIT"]
    assert log.count == 1


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM public.t", ["t"]),
        ('SELECT a FROM "Public"."T x" WHERE 1', ["T x"]),
        ("INSERT OR REPLACE INTO t VALUES (1)", ["t"]),
        ("UPDATE ONLY t SET a = 1", ["t"]),
        ("SELECT 1", []),
    ],
)
def test_tables_are_found_in_sql(sql: str, expected: list[str]) -> None:
    log = StatementLog()
    log.events.append(StatementEvent(sql, (), sql.split()[0]))

    assert log.tables(sql.split()[0]) == expected
