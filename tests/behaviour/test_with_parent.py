"""``with_parent()``: the rows that an object in memory has in a relation; ``immediateload()``."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession, aliased, immediateload, with_parent
from aiosession.errors import ArgumentError
from aiosession.testing.statements import StatementLog
from tests.behaviour.loading_model import Author, Book, Employee, Tag, fill


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


async def test_it_finds_the_members_of_a_collection(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get_one(Author, 2)

    books = await session.scalars(select(Book).where(with_parent(author, Author.books), Book.id > 4).order_by(Book.id))

    assert [book.id for book in books] == [5, 6]
    assert statements.count == 2


async def test_it_finds_the_object_that_is_referred_to(session: AsyncSession) -> None:
    book = await session.get_one(Book, 4)

    assert (await session.scalars(select(Author).where(with_parent(book, Book.author)))).one().id == 2


async def test_it_finds_nothing_for_an_object_that_refers_to_none(session: AsyncSession) -> None:
    book = await session.get_one(Book, 100)

    assert (await session.scalars(select(Author).where(with_parent(book, Book.author)))).all() == []


async def test_it_passes_through_a_secondary_table(session: AsyncSession) -> None:
    book = await session.get_one(Book, 1)

    tags = await session.scalars(select(Tag.id).where(with_parent(book, Book.tags)).order_by(Tag.id))

    assert tags.all() == [2, 3]


async def test_it_tells_the_sides_of_a_relation_within_a_class_apart(session: AsyncSession) -> None:
    middle = await session.get_one(Employee, 2)

    reports = await session.scalars(select(Employee.id).where(with_parent(middle, Employee.reports)))
    manager = await session.scalars(select(Employee.id).where(with_parent(middle, Employee.manager)))

    assert sorted(reports) == [3, 4]
    assert manager.all() == [1]


async def test_it_gives_rows_of_an_alias(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    book = aliased(Book)

    by_argument = select(book.id).where(with_parent(author, Author.books, from_entity=book)).order_by(book.id)
    by_relation = select(book.id).where(with_parent(author, Author.books.of_type(book))).order_by(book.id)

    assert (await session.scalars(by_argument)).all() == [1, 2, 3]
    assert (await session.scalars(by_relation)).all() == [1, 2, 3]


async def test_it_keeps_the_criteria_of_the_relation(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)

    query = select(Book.id).where(with_parent(author, Author.books.and_(Book.pages > 20)))

    assert (await session.scalars(query)).all() == [3]


async def test_the_flush_before_the_query_gives_a_new_owner_its_keys(session: AsyncSession) -> None:
    book = Book(id=60, title="new", pages=1, author=await session.get_one(Author, 2))
    session.add(book)

    assert (await session.scalars(select(Author.id).where(with_parent(book, Book.author)))).all() == [2]


async def test_every_owner_has_its_own_rows(session: AsyncSession) -> None:
    for number in (1, 3, 2):
        author = await session.get_one(Author, number)
        found = await session.scalars(select(Book.id).where(with_parent(author, Author.books)))
        assert sorted(found) == [3 * number - 2, 3 * number - 1, 3 * number]


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"Author\.books belongs to objects of Author"):
        with_parent(Book(), Author.books)
    with pytest.raises(ArgumentError, match=r"takes a relation such as User\.books, not .*Author\.name"):
        with_parent(Author(), Author.name)
    with pytest.raises(ArgumentError, match=r"Author\.books leads to Book"):
        with_parent(Author(), Author.books, from_entity=Tag)


async def test_immediateload_loads_before_the_result_is_handed_out(
    session: AsyncSession, statements: StatementLog
) -> None:
    query = select(Author).order_by(Author.id).options(immediateload(Author.books).immediateload(Book.tags))

    authors = (await session.scalars(query)).all()

    assert statements.count == 3
    assert [len(author.books[0].tags) for author in authors[:3]] == [2, 2, 2]
