"""What handlers are told of a statement: its verb behind comments, and its share of what went out together."""

import asyncio

import pytest
from sqlalchemy import text

from aiosession import AsyncEngine, AsyncSession, create_async_engine
from aiosession.engine.wire import verb
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", "SELECT"),
        ("/* route: x */ SELECT 1", "SELECT"),
        ("-- why\n--\n  insert INTO t", "INSERT"),
        ("# why\nUPDATE t", "UPDATE"),
        ("((SELECT 1) UNION (SELECT 2))", "SELECT"),
        ("/*!50000 DELETE */ FROM t", "DELETE"),
        ("/*M!100500 DELETE */ FROM t", "DELETE"),
        ("/* without end", ""),
        ("-- nothing", ""),
        ("", ""),
    ],
)
def test_the_verb_is_not_taken_from_a_comment(sql: str, expected: str) -> None:
    assert verb(sql) == expected


async def test_a_statement_with_a_comment_is_told_by_its_verb(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("/* route: x */ SELECT 1"))

    assert "SELECT" in statements.kinds
    assert "ROUTE" not in statements.kinds


async def test_the_time_of_statements_that_go_out_together_is_counted_once(psycopg_url: str) -> None:
    engine = create_async_engine(psycopg_url)
    await make_tables(engine)
    log = StatementLog(engine)
    async with AsyncSession(engine, statistics=True) as session:
        session.add(Author(id=1, name="Ann", books=[Book(id=1, title="One")]))
        await session.flush()
        await session.commit()
    await engine.dispose()

    together = [event for event in log.events if event.kind == "INSERT"]
    assert [event.round_trips for event in together] == [1, 0]
    assert together[0].duration
    assert together[1].duration == 0


async def test_statements_that_go_out_together_and_are_cancelled_are_told_of(
    psycopg_url: str, postgresql_url: str
) -> None:
    engine, other = create_async_engine(psycopg_url), create_async_engine(postgresql_url)
    await make_tables(engine)
    log, sent = StatementLog(engine), asyncio.Event()
    engine.events.before.add(lambda event: sent.set() if event.kind == "INSERT" else None)
    session = AsyncSession(engine)
    async with other.begin() as connection:
        await connection.execute(text("LOCK TABLE author IN EXCLUSIVE MODE"))
        session.add(Author(id=1, name="Ann", books=[Book(id=1, title="One")]))
        flush = asyncio.create_task(session.flush())
        await sent.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
    await session.close()
    await engine.dispose()
    await other.dispose()

    (told,) = [event for event in log.events if event.kind == "INSERT"]
    assert isinstance(told.error, asyncio.CancelledError)
