"""One object by its primary key, and objects read again."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete

from aiosession import AsyncEngine, AsyncSession, selectinload
from aiosession.errors import ArgumentError, InvalidRequestError, ObjectNotFoundError
from aiosession.testing.statements import StatementLog
from tests.behaviour.loading_model import Author, Book, Chapter, fill


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    statements.clear()
    async with AsyncSession(engine) as session:
        yield session


async def test_get_costs_one_statement_and_then_none(session: AsyncSession, statements: StatementLog) -> None:
    first = await session.get(Author, 1)
    second = await session.get(Author, 1)

    assert first is second
    assert statements.kinds == ["SELECT"]


async def test_a_row_that_is_not_there_is_none(session: AsyncSession) -> None:
    assert await session.get(Author, 99) is None
    assert await session.get(Author, None) is None


@pytest.mark.parametrize("identity", [(1, 2), [1, 2], {"number": 2, "book_id": 1}])
async def test_a_composite_key_can_be_given_in_several_ways(session: AsyncSession, identity: object) -> None:
    chapter = await session.get_one(Chapter, identity)

    assert chapter.heading == "1.2"


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (1, r"\(book_id, number\)"),
        ((1, 2, 3), r"\(book_id, number\)"),
        ({"book_id": 1}, r"\(book_id, number\)"),
        ({"book_id": 1, "nmber": 1}, "did you mean 'number'"),
        ((1, "2"), "Chapter.number takes values of type int"),
    ],
)
async def test_a_wrong_key_is_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, identity: object, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        await session.get(Chapter, identity)

    assert statements.count == 0


async def test_a_stale_object_is_read_again_by_get(
    session: AsyncSession, engine: AsyncEngine, statements: StatementLog
) -> None:
    author = await session.get_one(Author, 1)
    await session.commit()
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()
    statements.clear()

    assert await session.get(Author, 1) is author

    assert author.name == "changed"
    assert statements.count == 1


async def test_a_locked_get_reads_the_row(session: AsyncSession, engine: AsyncEngine) -> None:
    author = await session.get_one(Author, 1)
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()

    await session.get(Author, 1, with_for_update=True)

    assert author.name == "changed"


async def test_populate_existing_throws_changes_away(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    author.name = "mine"

    with session.no_autoflush:
        await session.get(Author, 1, populate_existing=True)

    assert author.name == "author 1"


async def test_refresh_reads_columns_again(session: AsyncSession, engine: AsyncEngine) -> None:
    author = await session.get_one(Author, 1)
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()

    await session.refresh(author)

    assert author.name == "changed"


async def test_refresh_reads_named_attributes(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get_one(Author, 1)
    statements.clear()

    await session.refresh(author, ["books", "biography"])

    assert statements.count == 2
    assert author.biography == "born 1"
    assert len(author.books) == 3


async def test_refresh_of_a_row_that_is_gone_is_an_error(session: AsyncSession) -> None:
    book = await session.get_one(Book, 100)
    await session.execute(delete(Book.__table__).where(Book.__table__.c.id == 100))

    with pytest.raises(ObjectNotFoundError, match="Book"):
        await session.refresh(book)


async def test_refresh_wants_an_object_of_the_session(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequestError):
        await session.refresh(Author(name="new"))


async def test_refresh_names_unknown_attributes(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)

    with pytest.raises(ArgumentError, match="did you mean 'name'"):
        await session.refresh(author, ["nam"])


async def test_everything_stale_is_read_again_with_a_statement_per_class(
    session: AsyncSession, statements: StatementLog
) -> None:
    authors = [await session.get_one(Author, key) for key in (1, 2, 3)]
    books = [await session.get_one(Book, key) for key in (1, 2, 3)]
    await session.commit()
    statements.clear()

    await session.refresh_all()

    assert sorted(statements.tables("SELECT")) == ["author", "book"]
    assert len(authors) == len(books)


@pytest.mark.parametrize("lock", [5, {"nowaitt": True}])
async def test_a_wrong_lock_is_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, lock: Any
) -> None:
    with pytest.raises(ArgumentError, match="nowait"):
        await session.get(Author, 1, with_for_update=lock)

    assert statements.count == 0


async def test_a_single_option_or_name_in_the_place_of_a_list_is_refused(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)

    with pytest.raises(ArgumentError, match="options is a list"):
        await session.get(Author, 1, options=selectinload(Author.books))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"\['name'\]"):
        await session.refresh(author, "name")
    with pytest.raises(ArgumentError, match=r"\['name'\]"):
        session.expire(author, "name")
