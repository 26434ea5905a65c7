"""Sessions behind a pooler that lends connections of the server for one transaction at a time."""

import asyncio
import enum
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import JSON, func, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    TwoPhase,
    create_async_engine,
    mapped_column,
    recover,
)
from aiosession.errors import ArgumentError, InternalError, SerializationError, UniqueViolationError
from aiosession.testing.postgres import PostgresCluster
from tests.session_model import Author, Book, make_tables, names_seen_by

pytestmark = pytest.mark.postgres


class Mood(enum.Enum):
    calm = 1
    cross = 2


class Base(DeclarativeBase):
    pass


class Cat(Base):
    __tablename__ = "cat"
    id: Mapped[int] = mapped_column(primary_key=True)
    mood: Mapped[Mood]
    traits: Mapped[dict[str, Any]] = mapped_column(JSON)


@pytest.fixture(autouse=True)
async def _tables(pooled: AsyncEngine) -> None:
    await make_tables(pooled)


async def left_behind(engine: AsyncEngine) -> list[tuple[int, str, str]]:
    """Return what statements are prepared on the connections of the server, and settings that ours would change."""
    asked = text(
        "SELECT (SELECT count(*) FROM pg_prepared_statements WHERE statement !~ 'pg_prepared_statements'), "
        "current_setting('jit'), current_setting('default_transaction_isolation'), pg_sleep(0.02)::text"
    )

    async def ask() -> tuple[int, str, str]:
        async with engine.connect() as connection:
            count, jit, level, _ = (await connection.execute(asked)).one()
            return count, jit, level

    return list(await asyncio.gather(*(ask() for _ in range(6))))


async def test_changes_are_written_and_read(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        author = Author(name="Ann", books=[Book(title="One"), Book(title="Two")])
        session.add(author)
        await session.commit()
        author.name = "Anne"
        author.books.pop()
        await session.commit()
        assert await session.scalar(select(func.count()).select_from(Book)) == 1

    assert await names_seen_by(direct) == ["Anne"]


async def test_many_sessions_share_few_connections_of_the_server(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async def work(number: int) -> None:
        async with AsyncSession(pooled) as session:
            author = Author(name=f"author {number:02}")
            session.add(author)
            await session.commit()
            for round_ in range(3):
                author.note = f"round {round_}"
                await session.flush()
                assert await session.scalar(text("SELECT note FROM author WHERE id = :id"), {"id": author.id})
                await session.commit()
                assert (await session.get_one(Author, author.id)).note == f"round {round_}"

    await asyncio.gather(*(work(number) for number in range(40)))

    assert len(await names_seen_by(direct)) == 40
    async with direct.connect() as connection:
        backends = await connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = :kind AND pid <> pg_backend_pid()"),
            {"kind": "client backend"},
        )
    assert backends <= 3


async def test_nothing_stays_on_connections_of_the_server(pooled: AsyncEngine) -> None:
    async with pooled.begin() as connection:
        await connection.create_all(Base.metadata)
    for round_ in range(4):
        async with AsyncSession(pooled, isolation_level="SERIALIZABLE") as session:
            session.add(Cat(id=round_, mood=Mood.cross, traits={"lives": 9}))
            await session.commit()
        async with AsyncSession(pooled) as session:
            cats = (await session.scalars(select(Cat))).all()
            assert {cat.mood for cat in cats} == {Mood.cross}
            await session.execute(text("SELECT * FROM cat"))
            async with await session.stream(select(Cat), execution_options={"yield_per": 1}) as rows:
                assert await rows.fetchone() is not None
            await session.bulk_copy(Author, [{"name": f"author {round_}"}])
            await session.commit()

    found = await left_behind(pooled)

    assert {count for count, _, _ in found} == {0}
    assert {level for _, _, level in found} == {"read committed"}
    assert len({jit for _, jit, _ in found}) == 1


async def test_rows_are_streamed_within_the_transaction(pooled: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 8)])
        await session.flush()

        query = select(Author).where(Author.id > 2).order_by(Author.id)
        async with await session.stream_scalars(query, execution_options={"yield_per": 2}) as authors:
            assert [author.id async for author in authors] == [3, 4, 5, 6, 7]


async def test_savepoints_and_failures(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        session.add(Author(id=1, name="Ann"))
        await session.flush()
        with pytest.raises(UniqueViolationError):
            async with session.begin_nested():
                session.add(Author(id=2, name="Ann"))
        session.add(Author(id=3, name="Cid"))
        await session.commit()

    assert await names_seen_by(direct) == ["Ann", "Cid"]


async def test_isolation_levels_hold_for_their_transaction_only(pooled: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        session.add(Author(id=1, name="Ann"))
        await session.commit()
    async with AsyncSession(pooled, isolation_level="REPEATABLE READ") as first, AsyncSession(pooled) as second:
        author = await first.get_one(Author, 1)
        (await second.get_one(Author, 1)).name = "Anne"
        await second.commit()
        author.name = "Ann again"
        with pytest.raises(SerializationError):
            await first.commit()
        await first.rollback()
        assert await second.scalar(text("SHOW transaction_isolation")) == "read committed"


async def test_read_only_sessions_write_nothing(pooled_url: str, direct: AsyncEngine) -> None:
    engine = create_async_engine(pooled_url, pooler="transaction", read_only=True)
    async with AsyncSession(engine) as session:
        with pytest.raises(InternalError, match="read-only transaction"):
            await session.execute(text("INSERT INTO author (name) VALUES ('Eve')"))
    await engine.dispose()

    assert await names_seen_by(direct) == []


async def test_a_cancelled_statement_stops_on_the_server(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.execute(text("SELECT pg_sleep(600) /* long */"))
        await session.rollback()
        assert await session.scalar(text("SELECT 1")) == 1
    async with direct.connect() as connection:
        running = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* long */%' "
                "AND pid <> pg_backend_pid()"
            )
        )

    assert running == 0


async def test_schema_changes_do_not_disturb_others(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async with AsyncSession(pooled) as session:
        for number in range(6):
            assert (await session.scalars(select(Author))).all() == []
            await session.execute(text("SELECT * FROM author"))
            await session.rollback()
            async with direct.begin() as connection:
                await connection.exec_driver_sql(f"ALTER TABLE author ADD COLUMN more{number} integer")


async def test_a_pool_that_is_used_up_at_the_pooler_waits(pooled: AsyncEngine) -> None:
    holding = [AsyncSession(pooled) for _ in range(3)]
    for session in holding:
        await session.execute(text("SELECT 1"))
    waiting = asyncio.create_task(names_seen_by(pooled))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    for session in holding:
        await session.close()

    assert await waiting == []


@pytest.fixture
async def second(bouncer: Any, postgres: PostgresCluster, direct: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Open an engine on a second database behind the same PgBouncer."""
    async with direct.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("DROP DATABASE IF EXISTS second WITH (FORCE)")
        await connection.exec_driver_sql("CREATE DATABASE second")
    engine = create_async_engine(bouncer.url("second"), pooler="transaction")
    await make_tables(engine)
    yield engine
    await engine.dispose()


async def test_two_databases_commit_as_one(pooled: AsyncEngine, second: AsyncEngine) -> None:
    binds = {Author: pooled, Book: second}
    for number in range(5):
        async with AsyncSession(binds=binds, twophase=TwoPhase(app="pooled")) as session:
            session.add_all([Author(id=number, name=f"author {number}"), Book(id=number, title="One")])
            await session.commit()

    assert len(await names_seen_by(pooled)) == 5
    async with AsyncSession(second) as session:
        assert await session.scalar(select(func.count()).select_from(Book)) == 5
    assert await recover([pooled, second], app="pooled") == []


async def test_what_is_left_prepared_is_finished_on_any_connection(pooled: AsyncEngine, direct: AsyncEngine) -> None:
    async with pooled.connect() as connection:
        transaction = connection.begin_twophase("left-behind")
        await transaction
        await connection.execute(text("INSERT INTO author (id, name) VALUES (1, 'Ann')"))
        await transaction.prepare()
        async with pooled.connect() as other:
            assert "left-behind" in await other.recover_twophase()
            await other.commit_prepared("left-behind")

        with pytest.raises(Exception, match="somebody else has finished it"):
            await transaction.commit()

    assert await names_seen_by(direct) == ["Ann"]


@pytest.mark.parametrize(
    ("url", "pooler", "message"),
    [
        ("sqlite+aiosqlite://", "transaction", "is for PostgreSQL behind pgbouncer; sqlite.aiosqlite does not know"),
        ("postgresql+asyncpg://localhost/shop", "session", "pooler must be None or 'transaction', not 'session'"),
    ],
)
def test_wrong_poolers_are_refused(url: str, pooler: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_async_engine(url, pooler=pooler)


def test_a_pooled_connection_is_no_session_of_the_server(pooled_url: str) -> None:
    assert not create_async_engine(pooled_url, pooler="transaction").capabilities.keeps_session
    assert create_async_engine(pooled_url).capabilities.keeps_session
