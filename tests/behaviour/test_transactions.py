"""Commit and rollback: databases and objects in step, failures that cannot be overlooked."""

import asyncio
import gc

import pytest
from sqlalchemy import insert, select, text

from aiosession import AsyncEngine, AsyncSession, inspect
from aiosession.errors import (
    IntegrityError,
    InvalidRequestError,
    PendingRollbackError,
    ResourceClosedError,
    UniqueViolationError,
)
from aiosession.events import StatementEvent
from tests.session_model import Author, Book, make_tables, names_seen_by, put_author

on_postgresql = pytest.mark.parametrize(
    "database_url",
    [pytest.param(name, marks=pytest.mark.postgres) for name in ("postgresql", "psycopg")],
    indirect=True,
)
"""What only this database does: give up the whole transaction, know several isolation levels."""


@pytest.fixture
async def key(engine: AsyncEngine) -> int:
    await make_tables(engine)
    return await put_author(engine)


async def test_commit_makes_work_visible_to_others(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Author(name="Bea"), Author(name="Cid")])
        await session.flush()
        assert await names_seen_by(observer) == ["Ann"]

        await session.commit()

        assert await names_seen_by(observer) == ["Ann", "Bea", "Cid"]
        assert engine.pool.status().holders == ()


async def test_leaving_the_session_rolls_back(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        await session.flush()

    assert await names_seen_by(observer) == ["Ann"]
    assert engine.pool.status().holders == ()


async def test_a_block_commits_at_its_end(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin() as transaction:
            session.add(Author(name="Bea"))
            assert transaction.is_active

        assert not transaction.is_active
        assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_block_that_raises_rolls_back(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
            async with session.begin():
                session.add(Author(name="Bea"))
                await session.flush()
                raise ZeroDivisionError

        assert await names_seen_by(observer) == ["Ann"]
        assert not session.in_transaction()


async def test_an_awaited_begin_is_ended_by_its_handle(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        transaction = await session.begin()
        session.add(Author(name="Bea"))
        await transaction.commit()

        assert await names_seen_by(observer) == ["Ann", "Bea"]
        with pytest.raises(InvalidRequestError, match="committed"):
            await transaction.commit()


async def test_nothing_can_be_done_in_a_block_whose_transaction_has_ended(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin():
            await session.commit()
            with pytest.raises(InvalidRequestError, match="leave the block"):
                await session.get(Author, key)

        assert await session.get(Author, key) is not None


async def test_rollback_puts_attributes_back_without_sql(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.name = "Zoe"
        await session.flush()
        author.note = "unflushed"

        await session.rollback()

        assert author.name == "Ann"
        assert inspect(author).attrs.note.value is None


async def test_rollback_expunges_what_was_added(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        flushed, pending = Author(name="Bea"), Author(name="Cid")
        session.add(flushed)
        await session.flush()
        session.add(pending)

        await session.rollback()

        assert flushed not in session
        assert pending not in session
        assert inspect(flushed).transient


async def test_rollback_brings_deleted_objects_back(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.delete(author)
        await session.flush()
        assert author not in session

        await session.rollback()

        assert author in session
        assert await session.get(Author, key) is author


async def test_a_failed_flush_needs_a_rollback(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Author(name="Bea"), Author(name="Ann")])
        with pytest.raises(UniqueViolationError):
            await session.flush()

        assert not session.is_active
        assert engine.pool.status().holders == ()
        with pytest.raises(PendingRollbackError, match="UniqueViolationError"):
            await session.execute(select(Author))
        with pytest.raises(PendingRollbackError):
            await session.commit()

        await session.rollback()
        assert session.is_active
        session.add(Author(name="Bea"))
        await session.commit()
        assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_failed_flush_leaves_the_objects_as_they_were(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        first, second = Author(name="Bea"), Author(name="Ann")
        session.add_all([first, second])

        with pytest.raises(IntegrityError):
            await session.flush()

        assert first in session.new
        assert second in session.new
        await session.rollback()


async def test_a_commit_of_one_statement_that_fails_needs_a_rollback(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        with pytest.raises(UniqueViolationError):
            await session.commit()

        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        assert await session.get(Author, key) is not None


async def test_a_swallowed_error_never_becomes_a_silent_rollback(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(insert(Author).values(name="Bea"))
        with pytest.raises(UniqueViolationError):
            await session.execute(insert(Author).values(name="Ann"))

        if engine.name == "postgresql":  # which gives the whole transaction up
            with pytest.raises(PendingRollbackError):
                await session.commit()
            await session.rollback()
            assert await names_seen_by(observer) == ["Ann"]
        else:
            await session.commit()
            assert await names_seen_by(observer) == ["Ann", "Bea"]


@on_postgresql
async def test_a_block_with_a_swallowed_error_raises_at_its_end(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(PendingRollbackError):  # noqa: PT012 - the block is what is tested
            async with session.begin():
                with pytest.raises(UniqueViolationError):
                    await session.execute(insert(Author).values(name="Ann"))

        assert await session.get(Author, key) is not None


async def test_a_closed_session_says_what_to_do(engine: AsyncEngine, key: int) -> None:
    session = AsyncSession(engine)
    await session.close()

    with pytest.raises(ResourceClosedError, match="reset"):
        await session.get(Author, key)
    with pytest.raises(ResourceClosedError):
        session.add(Author(name="Bea"))
    with pytest.raises(ResourceClosedError):
        await session.commit()
    await session.close()


async def test_a_session_can_be_reset_and_used_again(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        session.add(Author(name="Bea"))
        await session.flush()

        await session.reset()

        assert list(session) == []
        assert inspect(author).detached
        assert await session.get(Author, key) is not author


async def test_close_may_be_made_to_only_reset(engine: AsyncEngine, key: int) -> None:
    session = AsyncSession(engine, close_resets_only=True)
    await session.close()

    assert await session.get(Author, key) is not None


async def test_values_stay_readable_after_commit_and_close(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.commit()
        assert author.name == "Ann"

    assert author.name == "Ann"


async def test_a_new_object_knows_its_key_after_commit(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = Author(name="Bea")
        book = Book(title="One", author=author)
        session.add(book)
        await session.commit()

        assert book.author_id == author.id


async def test_connection_gives_the_transaction_of_the_session(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        await connection.execute(text("UPDATE author SET name = 'Zoe'"))

        assert await session.scalar(select(Author.name)) == "Zoe"
        await session.rollback()
        assert await names_seen_by(observer) == ["Ann"]


async def test_the_connection_of_a_session_cannot_end_its_transaction(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        with pytest.raises(InvalidRequestError, match=r"session\.commit"):
            await connection.commit()
        await connection.close()

        assert await session.scalar(select(Author.name)) == "Ann"


async def test_the_connection_of_a_session_is_useless_after_its_transaction(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        await session.commit()

        with pytest.raises(ResourceClosedError):
            await connection.execute(select(Author.name))


async def test_a_savepoint_on_the_connection_of_a_session_undoes_a_failed_statement(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        connection = await session.connection()
        with pytest.raises(UniqueViolationError):
            async with connection.begin_nested():
                await connection.execute(insert(Author).values(name="Ann"))
        session.add(Author(name="Bea"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


@on_postgresql
async def test_one_transaction_may_have_an_isolation_level_of_its_own(engine: AsyncEngine, key: int) -> None:
    level = text("SHOW transaction_isolation")
    async with AsyncSession(engine) as session:
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        assert await session.scalar(level) == "serializable"
        with pytest.raises(InvalidRequestError, match="begun already"):
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        await session.commit()

        await session.connection()
        assert await session.scalar(level) == "read committed"


async def test_a_session_can_work_in_a_connections_transaction(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection) as session:
            session.add(Author(name="Bea"))
            await session.commit()
        assert await names_seen_by(observer) == ["Ann"]
        await outer.rollback()

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_session_can_begin_and_commit_on_a_connection(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with engine.connect() as connection, AsyncSession(connection) as session:
        session.add(Author(name="Bea"))
        await session.commit()

        assert await names_seen_by(observer) == ["Ann", "Bea"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_forgotten_session_gives_its_connection_back(engine: AsyncEngine, key: int) -> None:
    session = AsyncSession(engine)
    session.add(Author(name="Bea"))
    await session.flush()

    del session
    gc.collect()
    await asyncio.sleep(0)

    assert engine.pool.status().holders == ()


@pytest.mark.parametrize("authors", [1, 2], ids=["in a statement of its own", "in a transaction"])
async def test_a_handler_that_fails_after_a_commit_changes_nothing_about_it(
    engine: AsyncEngine, observer: AsyncEngine, caplog: pytest.LogCaptureFixture, authors: int
) -> None:
    await make_tables(engine)

    def fail(event: StatementEvent) -> None:
        raise RuntimeError(event.kind)

    async with AsyncSession(engine) as session:
        for number in range(authors):
            session.add(Author(name=f"author {number}"))
            if number:
                await session.flush()
        with engine.events.after.listening(fail):
            await session.commit()

        assert not session.new

    assert len(await names_seen_by(observer)) == authors
    assert "a handler failed after the statement" in caplog.text


async def test_work_after_the_end_of_a_blocks_transaction_is_not_dropped_without_a_word(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidRequestError, match="would not be written"):  # noqa: PT012 - leaving is the test
            async with session.begin():
                session.add(Author(name="Bea"))
                await session.commit()
                session.add(Author(name="Cay"))

        await session.commit()
    assert await names_seen_by(observer) == ["Ann", "Bea", "Cay"]
