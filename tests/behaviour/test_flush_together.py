"""Writes that do not wait for one another go to the database together, and mean the same as one by one."""

from pathlib import Path

import pytest
from sqlalchemy import delete, text

from aiosession import AsyncEngine, AsyncSession, create_async_engine
from aiosession.errors import StaleDataError, UniqueViolationError
from aiosession.testing.statements import StatementLog
from tests.libpq_trace import traced
from tests.session_model import Author, Book, make_tables, names_seen_by


@pytest.fixture(autouse=True)
async def _rows(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add_all([Author(name="Ann", books=[Book(title="One")]), Author(name="Bob")])
        await session.commit()


async def change_everything(session: AsyncSession) -> Author:
    """Insert, update and delete rows of two tables, none of which needs a value that the database makes."""
    author, book = await session.get_one(Author, 2), await session.get_one(Book, 1)
    author.name = "Bert"
    await session.delete(book)
    session.add(Book(id=7, title="Seven", author_id=2))
    session.add(Author(id=30, name="Cid"))
    return author


async def test_they_are_written_in_their_order(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await change_everything(session)
        statements.clear()

        await session.flush()

        assert sorted(statements.kinds) == ["DELETE", "INSERT", "INSERT", "UPDATE"]
        assert [event.row_count for event in statements.statements] == [1, 1, 1, 1]
        assert all(event.error is None and event.duration is not None for event in statements.events)
    assert await names_seen_by(observer) == ["Ann", "Bert", "Cid"]


async def test_generated_keys_are_waited_for(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await change_everything(session)
        made = [Author(name=f"n{number}", books=[Book(title=f"of {number}")]) for number in range(3)]
        session.add_all(made)
    async with AsyncSession(observer) as other:
        for author in made:
            (book,) = await other.scalars(text("SELECT title FROM book WHERE author_id = :id"), {"id": author.id})
            assert book == f"of {author.name[1:]}"


async def test_a_row_that_is_gone_is_noticed(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await change_everything(session)
        async with observer.begin() as connection:
            await connection.execute(delete(Book.__table__))

        with pytest.raises(StaleDataError, match="book"):
            await session.flush()

        await session.rollback()
    assert await names_seen_by(observer) == ["Ann", "Bob"]


async def test_a_failure_names_its_own_statement_and_nothing_is_left(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        author = await change_everything(session)
        author.name = "Ann"  # which is taken
        statements.clear()

        with pytest.raises(UniqueViolationError) as caught:
            await session.flush()

        assert "UPDATE author" in str(caught.value.statement)
        failed = [event for event in statements.events if event.error is not None]
        assert [event.kind for event in failed] == ["UPDATE"]
        await session.rollback()
        assert author.name == "Bob"
        assert await session.get(Book, 7) is None
    assert await names_seen_by(observer) == ["Ann", "Bob"]


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["psycopg"], indirect=True)
async def test_psycopg_sends_them_in_one_round_trip(engine: AsyncEngine, tmp_path: Path) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        await change_everything(session)

        with traced(connection.get_raw_connection(), tmp_path) as wire:
            await session.flush()

        assert wire.round_trips == 1


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["psycopg"], indirect=True)
async def test_a_graph_takes_a_round_trip_for_each_level(engine: AsyncEngine, tmp_path: Path) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        trips = []
        for turn in range(3):  # after two the statements are prepared
            session.add_all(
                Author(name=f"{turn}: {number}", books=[Book(title=str(each)) for each in range(10)])
                for number in range(100)
            )
            with traced(connection.get_raw_connection(), tmp_path) as wire:
                await session.flush()
            trips.append(wire.round_trips)

    assert trips[-1] == 2


async def test_echo_changes_nothing(database_url: str, engine: AsyncEngine, observer: AsyncEngine) -> None:
    echoing = create_async_engine(database_url, echo=True)
    async with AsyncSession(echoing) as session, session.begin():
        await change_everything(session)
    await echoing.dispose()

    assert await names_seen_by(observer) == ["Ann", "Bert", "Cid"]
