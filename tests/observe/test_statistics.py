"""A session counts what it has cost, if somebody wants that."""

import asyncio
import logging
from pathlib import Path

import pytest
from psycopg import AsyncConnection
from sqlalchemy import select, text

from aiosession import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker, create_replicated_engine
from aiosession.errors import InvalidRequestError
from aiosession.testing.statements import StatementLog
from tests.libpq_trace import traced
from tests.session_model import Author, Book, make_tables, put_author


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    await make_tables(engine)


async def test_statements_rows_and_flushes_are_counted(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine, statistics=True) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 4)])
        await session.flush()
        await session.flush()  # nothing to write
        found = (await session.scalars(select(Author))).all()
        await session.commit()
        counted = session.statistics

    assert len(found) == 3
    assert counted.statements.total() == len(statements.events)
    assert counted.statements["SELECT"] == 1
    assert counted.statements["COMMIT"] == 1
    assert counted.round_trips == len(statements.events)
    assert counted.rows >= 3
    assert counted.flushes == 1
    assert counted.commits == 1
    assert counted.flush_time > 0
    assert counted.commit_time > 0
    assert counted.database_time > 0
    assert counted.slowest_time <= counted.database_time
    assert counted.operations == {"flush": 2, "scalars": 1, "commit": 1, "close": 1}
    assert "3 rows" in str(counted) or "6 rows" in str(counted)


async def test_a_hit_of_the_identity_map_is_counted(engine: AsyncEngine) -> None:
    key = await put_author(engine)
    async with AsyncSession(engine, statistics=True) as session:
        author = await session.get(Author, key)
        assert await session.get(Author, key) is author
        await session.get_one(Author, key)

        assert session.statistics.found_in_memory == 2
        assert session.statistics.statements == {"SELECT": 1}


async def test_failures_are_counted(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, statistics=True) as session:
        with pytest.raises(Exception, match="nowhere"):
            await session.execute(text("SELECT * FROM nowhere"))

        assert session.statistics.failures == 1


async def test_a_stream_counts_its_chunks(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 8)])
        await session.commit()
    async with AsyncSession(engine, statistics=True) as session:
        async with await session.stream(select(Author), execution_options={"yield_per": 3}) as rows:
            assert len(await rows.all()) == 7

        assert session.statistics.statements["SELECT"] == 1
        assert session.statistics.rows == 7


async def test_others_are_not_counted(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, statistics=True) as session, AsyncSession(engine) as other:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(session.get(Author, 1))
            tasks.create_task(other.get(Author, 2))
        await other.get(Author, 3)
        async with engine.connect() as connection:
            await connection.execute(select(Author.id))

        assert session.statistics.statements == {"SELECT": 1}


async def test_counting_can_begin_anew(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, statistics=True) as session:
        await session.get(Author, 1)
        session.statistics.reset()

        assert not session.statistics.statements
        assert session.statistics.round_trips == 0
        assert session.statistics.slowest is None

        await session.get(Author, 2)
        assert session.statistics.round_trips == 1


async def test_a_session_that_counts_nothing_says_how_to_make_one_that_does(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidRequestError, match="statistics=True"):
            _ = session.statistics


async def test_a_fork_counts_for_itself(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, statistics=True) as session, session.fork() as other:
        await other.get(Author, 1)

        assert session.statistics.round_trips == 0
        assert other.statistics.round_trips == 1


async def test_a_scope_counts_and_tells_at_its_end(engine: AsyncEngine, caplog: pytest.LogCaptureFixture) -> None:
    Session = async_scoped_session(async_sessionmaker(engine))
    with caplog.at_level(logging.INFO, "aiosession.statistics"):
        async with Session.scope(statistics=True):
            await Session.get(Author, 1)
            assert Session.statistics.round_trips == 1

    (record,) = [record for record in caplog.records if record.name == "aiosession.statistics"]
    assert record.getMessage().startswith("1 statements (1 SELECT); 1 round trips")
    assert record.__dict__["statistics"].rows == 0


async def test_the_connection_of_a_session_is_counted_too(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, statistics=True) as session:
        connection = await session.connection()
        await connection.execute(select(Author.id))

        assert session.statistics.statements["SELECT"] == 1


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_reads_of_replicas_are_counted(kind: str, tmp_path: Path) -> None:
    url = f"{kind}+aiosqlite:///{tmp_path}/copied.db"
    engine = create_replicated_engine(url, replicas=[url])
    await make_tables(engine)
    async with AsyncSession(engine, statistics=True) as session:
        await session.get(Author, 1)

        assert session.statistics.statements == {"SELECT": 1}
    await engine.dispose()


@pytest.mark.without("sqlite", "no line to trace")
@pytest.mark.without("postgresql", "asyncpg writes no trace")
@pytest.mark.without("mariadb", "asyncmy writes no trace")
async def test_round_trips_are_those_on_the_wire(engine: AsyncEngine, tmp_path: Path) -> None:
    key = await put_author(engine)
    async with AsyncSession(engine, statistics=True) as session:
        connection = await session.connection()
        author = await session.get_one(Author, key)
        raw = connection.get_raw_connection()
        assert isinstance(raw, AsyncConnection)
        told = (0, 0, 0)
        for round_ in range(3):  # by then everything is prepared
            author.name = f"name {round_}"
            session.add_all([Author(id=100 + round_, name=f"more {round_}"), Book(id=100 + round_, title="One")])
            session.statistics.reset()
            with traced(raw, tmp_path) as wire:
                await session.flush()
                await session.execute(select(Author.id))
            counted = session.statistics
            told = (counted.statements.total(), counted.round_trips, wire.round_trips)

        assert told == (4, 2, 2)
        await session.commit()


async def test_each_answer_that_is_waited_for_is_a_round_trip(engine: AsyncEngine) -> None:
    """asyncpg asks once for each set of parameters where rows are wanted of each; the others do not."""
    heard: list[int] = []
    engine.events.after.add(lambda event: heard.append(event.round_trips) if event.many else None)
    wire = await engine.acquire("a test")
    placeholder = {"postgresql": "$1", "sqlite": "?", "mariadb": "%s"}[engine.name]
    await wire.fetch_each(f"SELECT id FROM author WHERE id = {placeholder}", [(1,), (2,), (3,)])
    await engine.release(wire)

    assert heard == [1 if engine.capabilities.fetch_each else 3]
