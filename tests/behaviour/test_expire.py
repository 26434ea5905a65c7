"""Expired means stale, not erased: values stay readable and are read anew when next needed."""

import pytest
from sqlalchemy import select, update

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import InvalidRequestError, NotLoadedError, ObjectNotFoundError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine, books=[Book(title="One"), Book(title="Two")])
    statements.clear()
    return key


async def rename(engine: AsyncEngine, name: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(update(Author.__table__).values(name=name))


async def test_a_stale_value_can_be_read_and_is_renewed_by_get(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.commit()
        await rename(observer, "Zoe")
        assert author.name == "Ann"

        assert await session.get(Author, key) is author

        assert author.name == "Zoe"


async def test_a_query_renews_stale_values(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.commit()
        await rename(observer, "Zoe")

        await session.execute(select(Author))

        assert author.name == "Zoe"


async def test_without_expire_on_commit_values_stay_fresh(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine, expire_on_commit=False) as session:
        author = await session.get_one(Author, key)
        await session.commit()
        statements.clear()

        assert await session.get(Author, key) is author
        assert statements.kinds == []


async def test_expire_throws_away_unflushed_changes(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.name = "Zoe"

        session.expire(author)

        assert author.name == "Ann"
        assert author not in session.dirty


async def test_expire_of_one_attribute_leaves_the_others(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.name, author.note = "Zoe", "kept"

        session.expire(author, ["name"])

        assert (author.name, author.note) == ("Ann", "kept")


async def test_expire_all_and_refresh_all_take_one_statement_per_class(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        books = (await session.scalars(select(Book))).all()
        session.expire_all()
        await rename(observer, "Zoe")
        statements.clear()

        await session.refresh_all()

        assert author.name == "Zoe"
        assert len(books) == 2
        assert statements.kinds == ["SELECT", "SELECT"]


async def test_refresh_reads_the_row_again(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await rename(observer, "Zoe")

        await session.refresh(author)

        assert author.name == "Zoe"


async def test_refresh_of_a_relation_loads_it(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)

        await session.refresh(author, ["books"])

        assert sorted(book.title for book in author.books) == ["One", "Two"]


async def test_refresh_of_a_row_that_is_gone_says_so(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = Author(name="Bea")
        session.add(author)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(Author.__table__.delete().where(Author.__table__.c.name == "Bea"))

        with pytest.raises(ObjectNotFoundError, match="Author"):
            await session.refresh(author)


async def test_only_persistent_objects_can_be_refreshed(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        pending = Author(name="Bea")
        session.add(pending)
        with pytest.raises(InvalidRequestError, match="pending"):
            await session.refresh(pending)

        foreign = await other.get_one(Author, key)
        with pytest.raises(InvalidRequestError, match="another session"):
            await session.refresh(foreign)


async def test_stale_reads_can_be_made_an_error(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, stale_reads="raise") as session:
        author = await session.get_one(Author, key)
        await session.commit()

        with pytest.raises(NotLoadedError, match="name"):
            _ = author.name
        assert author.id == key
        await session.refresh(author)
        assert author.name == "Ann"


async def test_an_update_of_the_class_makes_its_objects_stale(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)

        await session.execute(update(Author).values(name="Zoe"))

        assert (await session.get_one(Author, key)).name == "Zoe"
        assert author.name == "Zoe"
        await session.rollback()
