"""A cancelled operation leaves nothing behind: pool, server, data and session are as they should be."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import PendingRollbackError
from tests.concurrency.sweep import Moment, Run, cancelled_at, sweep
from tests.session_model import Author, Book, make_tables, put_author

PREPARATION = Callable[[AsyncSession, int], Awaitable[Any]]
OPERATION = Callable[[AsyncSession, Any], Coroutine[Any, Any, Any]]


async def nothing(_session: AsyncSession, key: int) -> int:
    return key


async def new_authors(session: AsyncSession, _key: int) -> None:
    session.add_all([Author(name=f"New {n}", books=[Book(title="a"), Book(title="b")]) for n in range(3)])


async def one_new_author(session: AsyncSession, _key: int) -> None:
    session.add(Author(name="New"))


async def changed_author(session: AsyncSession, key: int) -> None:
    (await session.get_one(Author, key)).note = "New"


async def deleted_author(session: AsyncSession, key: int) -> None:
    await session.delete(await session.get_one(Author, key))


async def flushed_author(session: AsyncSession, _key: int) -> None:
    session.add(Author(name="New"))
    await session.flush()


async def flushed_in_savepoint(session: AsyncSession, _key: int) -> Any:
    session.add(Author(name="New"))
    savepoint = await session.begin_nested()
    session.add(Author(name="New too"))
    await session.flush()
    return savepoint


async def get(session: AsyncSession, key: int) -> None:
    await session.get(Author, key)


async def query(session: AsyncSession, _key: int) -> None:
    await session.execute(select(Author))


async def flush(session: AsyncSession, _: object) -> None:
    await session.flush()


async def commit(session: AsyncSession, _: object) -> None:
    await session.commit()


async def rollback(session: AsyncSession, _: object) -> None:
    await session.rollback()


async def close(session: AsyncSession, _: object) -> None:
    await session.close()


async def begin_nested(session: AsyncSession, _: object) -> None:
    await session.begin_nested()


async def end(_session: AsyncSession, savepoint: Any) -> None:
    await savepoint.commit()


async def undo(_session: AsyncSession, savepoint: Any) -> None:
    await savepoint.rollback()


async def block(session: AsyncSession, _: object) -> None:
    async with session.begin():
        session.add(Author(name="New"))
        await session.flush()
        async with session.begin_nested():
            session.add(Author(name="New too"))


async def stream(session: AsyncSession, _: object) -> None:
    result = await session.stream(select(Author), execution_options={"yield_per": 2})
    async for _row in result:
        pass


SCENARIOS: dict[str, tuple[PREPARATION, OPERATION]] = {
    "get": (nothing, get),
    "query": (nothing, query),
    "stream": (nothing, stream),
    "flush of inserts": (new_authors, flush),
    "flush of an update": (changed_author, flush),
    "flush of a delete": (deleted_author, flush),
    "commit of one statement": (one_new_author, commit),
    "commit with a flush": (new_authors, commit),
    "commit": (flushed_author, commit),
    "rollback": (flushed_author, rollback),
    "begin_nested": (one_new_author, begin_nested),
    "savepoint released": (flushed_in_savepoint, end),
    "savepoint rolled back": (flushed_in_savepoint, undo),
    "transaction block": (nothing, block),
    "close": (flushed_author, close),
}

COMMITS = {"commit of one statement", "commit with a flush", "commit", "transaction block"}


@pytest.fixture
async def key(engine: AsyncEngine) -> int:
    await make_tables(engine)
    await put_author(engine, "Other")
    return await put_author(engine, books=[Book(title="One"), Book(title="Two")])


@pytest.mark.slow
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_cancelled_at_every_suspension(
    engine: AsyncEngine, observer: AsyncEngine, key: int, scenario: str, moment: Moment
) -> None:
    prepare, operation = SCENARIOS[scenario]
    before = await snapshot(observer)

    async def attempt(step: int) -> Run:
        session = AsyncSession(engine)
        prepared = await prepare(session, key)
        run = await cancelled_at(lambda: operation(session, prepared), step, moment)
        if run.was_reached:
            assert isinstance(run.error, asyncio.CancelledError), f"step {step}: the cancellation was swallowed"
        else:
            assert run.error is None
        assert run.seconds < 1
        await check_session(session, key, is_closed=scenario == "close" and not run.was_reached)
        await check_data(observer, before, may_be_committed=scenario in COMMITS)
        await check_pool_and_server(engine, observer)
        await restore(observer)
        return run

    suspensions = await sweep(attempt)

    assert suspensions >= 1


async def snapshot(observer: AsyncEngine) -> list[Any]:
    async with observer.connect() as connection:
        authors = (await connection.execute(select(Author.name, Author.note).order_by(Author.name))).all()
        books = (await connection.execute(select(func.count(Book.id)))).scalar_one()
        return [*map(tuple, authors), books]


async def check_session(session: AsyncSession, key: int, *, is_closed: bool) -> None:
    """The session is usable after rollback(), and forgets everything that is not in the database."""
    if not is_closed:
        if not session.context.closed:
            await session.rollback()
            assert not session.new
            assert not session.dirty
            assert (await session.execute(select(func.count(Author.id)))).scalar_one() >= 2
            for obj in list(session):
                if isinstance(obj, Author):
                    found = await session.scalar(select(Author.name).where(Author.id == obj.id))
                    assert found is not None
        await session.close()


async def check_data(observer: AsyncEngine, before: list[Any], *, may_be_committed: bool) -> None:
    """All of the work is in the database, or none of it."""
    after = await snapshot(observer)
    if after != before:
        assert may_be_committed, f"{before} became {after}"
        names = [row[0] for row in after[:-1]]
        assert {"New"} <= set(names) or {"New 0", "New 1", "New 2"} <= set(names)
        assert ("New too" in names) or len(names) in {3, 5}


async def check_pool_and_server(engine: AsyncEngine, observer: AsyncEngine) -> None:
    """Nothing is checked out; nobody is idle in a transaction; the next users get clean connections."""
    assert engine.pool.status().holders == ()
    assert engine.pool.status().waiting == 0
    if engine.name == "postgresql":
        async with observer.connect() as connection:
            states = (
                await connection.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                        "AND pid <> pg_backend_pid() AND (state LIKE 'idle in transaction%' OR state = 'active')"
                    )
                )
            ).scalar_one()
            assert states == 0
    for nonce in (17, 42):
        async with AsyncSession(engine) as session:
            assert await session.scalar(text(f"SELECT {nonce}")) == nonce
    async with observer.begin() as connection:  # nobody holds a lock
        await connection.execute(text("UPDATE author SET name = name"))


async def restore(observer: AsyncEngine) -> None:
    async with observer.begin() as connection:
        await connection.execute(
            text("DELETE FROM book WHERE author_id IN (SELECT id FROM author WHERE name LIKE 'New%')")
        )
        await connection.execute(text("DELETE FROM author WHERE name LIKE 'New%'"))


@pytest.mark.parametrize("moment", Moment)
async def test_twenty_cancelled_statements_leave_one_connection(engine: AsyncEngine, key: int, moment: Moment) -> None:
    backends = set()
    for _ in range(20):
        async with AsyncSession(engine) as session:
            await cancelled_at(partial(get, session, key), 1, moment)
        connection = await engine.acquire()
        backends.add(id(connection.driver_connection))
        await engine.release(connection)

    assert len(backends) == 1


async def test_a_cancelled_statement_cannot_be_committed(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="New"))
        await session.flush()
        await cancelled_at(lambda: session.execute(insert(Author).values(name="Newer")), 1, Moment.DONE)

        with pytest.raises(PendingRollbackError, match="CancelledError"):
            await session.commit()
        await session.rollback()

    assert [row[0] for row in (await snapshot(observer))[:-1]] == ["Ann", "Other"]
