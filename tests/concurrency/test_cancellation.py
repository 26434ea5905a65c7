"""A cancelled operation leaves nothing behind: pool, server, data, tasks and session are as they should be."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from aiosession import AsyncEngine, AsyncSession, create_async_engine, inspect
from aiosession.errors import PendingRollbackError
from tests.concurrency.scenarios import COMMITS, SCENARIOS, get
from tests.concurrency.sweep import Moment, Run, cancelled_at, sweep
from tests.session_model import Author, Book, make_tables, put_author

MAY_COME_TOO_LATE = {Moment.SCOPE, Moment.TIMEOUT, Moment.SIBLING}
"""They are not delivered to a task that has what it waits for already, which may be the end of the operation."""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine of one connection: whoever keeps it makes the next one fail."""
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=1)
    yield engine
    await engine.dispose()


@pytest.fixture
async def key(engine: AsyncEngine) -> int:
    await make_tables(engine)
    await put_author(engine, "Other")
    return await put_author(engine, books=[Book(title="One"), Book(title="Two")])


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_cancelled_at_every_suspension(
    engine: AsyncEngine, observer: AsyncEngine, key: int, scenario: str
) -> None:
    prepare, operation = SCENARIOS[scenario]
    before = await snapshot(observer)

    sessions: list[weakref.ref[AsyncSession]] = []
    tasks = asyncio.all_tasks()

    async def attempt(moment: Moment, step: int) -> Run:
        session = AsyncSession(engine)
        sessions.append(weakref.ref(session))
        prepared = await prepare(session, key)
        held = [*session, *session.new, *session.deleted]
        run = await cancelled_at(lambda: operation(session, prepared), step, moment)
        if run.was_reached:
            assert run.was_told or moment in MAY_COME_TOO_LATE, f"step {step}: it was never told"
            assert not run.was_swallowed, f"step {step}: the cancellation was swallowed"
        else:
            assert run.error is None
        assert run.seconds < 1
        await check_session(session, observer, [*held, *session], key)
        await check_data(observer, before, scenario)
        await check_pool_and_server(engine, observer)
        await restore(observer, key)
        return run

    for moment in Moment:
        steps = await sweep(told(partial(attempt, moment), moment), most=100)
        assert steps >= 1 or scenario == "dispose"  # a driver may close connections without waiting
    await check_nothing_is_left(sessions, asyncio.all_tasks() - tasks)


def told(attempt: Callable[[int], Awaitable[Run]], moment: Moment) -> Callable[[int], Awaitable[Run]]:
    """Have errors of *attempt* say which one it was."""

    async def tell(step: int) -> Run:
        try:
            return await attempt(step)
        except BaseException as error:
            error.add_note(f"cancelled {moment.value}, at suspension {step}")
            raise

    return tell


async def check_nothing_is_left(sessions: Iterable[weakref.ref[AsyncSession]], tasks: set[asyncio.Task[Any]]) -> None:
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=1)
    assert not tasks
    gc.collect()
    assert not [session for reference in sessions if (session := reference()) is not None]


async def snapshot(observer: AsyncEngine) -> list[Any]:
    async with observer.connect() as connection:
        authors = (await connection.execute(select(Author.name, Author.note).order_by(Author.name))).all()
        books = (await connection.execute(select(func.count(Book.id)))).scalar_one()
        return [*map(tuple, authors), books]


async def check_session(session: AsyncSession, observer: AsyncEngine, held: list[object], key: int) -> None:
    """The session is usable after rollback(), and its objects are what the database says they are."""
    if not session.context.closed:
        await session.rollback()
        assert not session.new
        assert not session.dirty
        assert not session.deleted
        for obj in held:
            if isinstance(obj, Author):
                await check_object(obj, observer)
        found = await session.get_one(Author, key, populate_existing=True)
        await check_object(found, observer)
    await session.close()


async def check_object(author: Author, observer: AsyncEngine) -> None:
    """A persistent object has a row of its values; one that is transient or detached has none."""
    async with observer.connect() as connection:
        rows = (await connection.execute(select(Author.id, Author.note).where(Author.name == author.name))).all()
    if inspect(author).persistent:
        assert [tuple(row) for row in rows] == [(author.id, author.note)]
    else:
        assert not rows, f"{author.name} is {inspect(author)}, but it is in the database"


async def check_data(observer: AsyncEngine, before: list[Any], scenario: str) -> None:
    """All of the work is in the database, or none of it."""
    after = await snapshot(observer)
    if after != before:
        assert scenario in COMMITS, f"{before} became {after}"
        names = [row[0] for row in after[:-1]]
        if ("Ann", "New") in after:  # the one update, alone or with a book
            assert after[-1] == before[-1] + (scenario == "commit of two tables in one statement")
            return
        assert "Newest" not in names
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


async def restore(observer: AsyncEngine, key: int) -> None:
    async with observer.begin() as connection:
        await connection.execute(
            text("DELETE FROM book WHERE title = 'New' OR author_id IN (SELECT id FROM author WHERE name LIKE 'New%')")
        )
        await connection.execute(text("DELETE FROM author WHERE name LIKE 'New%'"))
        await connection.execute(text(f"UPDATE author SET note = NULL WHERE id = {key}"))


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.without("mariadb", reason="asyncmy closes the connection of a cancelled statement")
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
