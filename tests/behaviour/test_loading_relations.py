"""Relations are loaded for many owners at once, and never by reading."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import ForeignKey, String, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    NotLoadedError,
    create_async_engine,
    mapped_column,
    relationship,
    selectinload,
)
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.testing.statements import StatementLog
from tests.behaviour.loading_model import AUTHORS, Author, Book, Chapter, Employee, Profile, Tag, fill


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    statements.clear()
    async with AsyncSession(engine) as session:
        yield session


async def test_a_relation_is_loaded_for_all_owners_with_one_statement(
    session: AsyncSession, statements: StatementLog
) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()
    statements.clear()

    await session.load(authors, Author.books)

    assert statements.kinds == ["SELECT"]
    assert [[book.id for book in author.books] for author in authors] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], []]


async def test_members_of_a_loaded_collection_know_their_owner(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get_one(Author, 1)
    await session.load(author, Author.books)
    statements.clear()

    assert all(book.author is author for book in author.books)
    assert statements.count == 0


async def test_a_reference_is_found_in_memory_first(session: AsyncSession, statements: StatementLog) -> None:
    authors = (await session.scalars(select(Author))).all()
    books = (await session.scalars(select(Book).order_by(Book.id))).all()
    statements.clear()

    await session.load(books, Book.author)

    assert statements.count == 0
    assert {book.author for book in books} == {*authors[: AUTHORS - 1], None}


async def test_references_that_are_not_in_memory_come_with_one_statement(
    session: AsyncSession, statements: StatementLog
) -> None:
    books = (await session.scalars(select(Book).order_by(Book.id))).all()
    statements.clear()

    await session.load(books, Book.author)

    assert statements.kinds == ["SELECT"]
    assert [book.author.id if book.author else None for book in books] == [1, 1, 1, 2, 2, 2, 3, 3, 3, None]


async def test_many_to_many_goes_through_the_secondary_table(session: AsyncSession, statements: StatementLog) -> None:
    books = (await session.scalars(select(Book).where(Book.id <= 3).order_by(Book.id))).all()
    statements.clear()

    await session.load(books, Book.tags)

    assert statements.kinds == ["SELECT"]
    assert [[tag.id for tag in book.tags] for book in books] == [[2, 3], [1, 3], [1, 2]]


async def test_one_to_one_holds_an_object_or_none(session: AsyncSession) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()

    await session.load(authors, Author.profile)

    profiles = [author.profile for author in authors]
    assert isinstance(profiles[0], Profile)
    assert profiles[1:] == [None, None, None]


async def test_a_path_loads_what_is_behind_a_relation(session: AsyncSession, statements: StatementLog) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()
    statements.clear()

    await session.load(authors, Author.books, Book.tags, Book.chapters)

    assert statements.kinds == ["SELECT"] * 3
    assert [chapter.heading for chapter in authors[1].books[0].chapters] == ["4.1", "4.2"]
    assert [tag.name for tag in authors[0].books[2].tags] == ["tag 1", "tag 2"]


async def test_what_is_loaded_is_not_loaded_again(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get_one(Author, 1)
    await session.load(author, Author.books, Author.name)
    statements.clear()

    await session.load(author, Author.books, Author.name)

    assert statements.count == 0


async def test_owners_of_several_classes_can_be_mixed(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    tag = await session.get_one(Tag, 1)

    await session.load([author, tag], Author.books, Tag.books)

    assert [book.id for book in author.books] == [1, 2, 3]
    assert [book.id for book in tag.books] == [2, 3, 5, 6, 8, 9]


async def test_composite_keys_find_their_rows(session: AsyncSession, statements: StatementLog) -> None:
    chapters = (await session.scalars(select(Chapter).where(Chapter.book_id <= 2))).all()
    await session.commit()
    statements.clear()

    await session.refresh_all()

    assert statements.kinds == ["SELECT"]
    assert sorted(chapter.heading for chapter in chapters) == ["1.1", "1.2", "2.1", "2.2"]


async def test_a_self_reference_is_loaded_level_by_level(session: AsyncSession, statements: StatementLog) -> None:
    query = select(Employee).where(Employee.id == 1).options(selectinload(Employee.reports, recursion_depth=3))

    boss = (await session.scalars(query)).one()

    assert statements.kinds == ["SELECT"] * 4
    assert [employee.name for employee in boss.reports[0].reports] == ["left", "right"]
    assert boss.reports[0].reports[0].reports == []


async def test_an_unloaded_relation_says_how_to_load_it(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)

    with pytest.raises(NotLoadedError, match=r"session\.load\(author, Author\.books\)"):
        _ = author.books


async def test_awaitable_attributes_load_for_all_siblings(session: AsyncSession, statements: StatementLog) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()
    statements.clear()

    books = await authors[0].awaitable_attrs.books
    biography = await authors[0].awaitable_attrs.biography

    assert len(books) == 3
    assert biography == "born 1"
    assert statements.kinds == ["SELECT", "SELECT"]
    assert [author.biography for author in authors] == ["born 1", "born 2", "born 3", "born 4"]
    assert [len(author.books) for author in authors] == [3, 3, 3, 0]


async def test_siblings_that_have_it_are_left_alone(session: AsyncSession, statements: StatementLog) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()
    await session.load(authors[0], Author.books)
    kept = authors[0].books
    statements.clear()

    await authors[1].awaitable_attrs.books

    assert statements.kinds == ["SELECT"]
    assert authors[0].books is kept


async def test_members_added_through_a_back_reference_are_merged_in(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    book = Book(id=50, title="new", pages=1, author=author)
    session.add(book)

    with session.no_autoflush:
        await session.load(author, Author.books)

    assert [each.id for each in author.books] == [1, 2, 3, 50]


async def test_a_changed_collection_is_not_overwritten(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    await session.load(author, Author.books)
    author.books.pop()

    with session.no_autoflush:
        await session.scalars(select(Author).options(selectinload(Author.books)))

    assert [book.id for book in author.books] == [1, 2]


async def test_stale_relations_are_read_again(session: AsyncSession, engine: AsyncEngine) -> None:
    author = await session.get_one(Author, 1)
    await session.load(author, Author.books)
    await session.commit()
    async with AsyncSession(engine) as other:
        other.add(Book(id=60, title="later", pages=1, author_id=1))
        await other.commit()

    assert [book.id for book in author.books] == [1, 2, 3]
    await session.load(author, Author.books)

    assert [book.id for book in author.books] == [1, 2, 3, 60]


@pytest.mark.without("mariadb", reason="keys go in chunks there: no arrays")
async def test_thousands_of_owners_need_one_statement(session: AsyncSession, statements: StatementLog) -> None:
    session.add_all([Employee(id=100 + number, name=str(number), manager_id=1) for number in range(3000)])
    await session.commit()
    employees = (await session.scalars(select(Employee))).all()
    statements.clear()

    await session.load(employees, Employee.reports)

    assert statements.kinds == ["SELECT"]
    assert sum(len(employee.reports) for employee in employees) == 3003


async def test_load_names_the_relation_that_is_missing_in_a_path(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)

    with pytest.raises(ArgumentError, match=r"Book\.tags.*only objects of Author"):
        await session.load(author, Book.tags)


@pytest.mark.parametrize("attribute", ["books", None, Author])
async def test_load_takes_mapped_attributes(session: AsyncSession, attribute: object) -> None:
    author = await session.get_one(Author, 1)

    with pytest.raises(ArgumentError, match="mapped attributes"):
        await session.load(author, attribute)


async def test_load_refuses_columns_of_objects_without_a_row(session: AsyncSession) -> None:
    with pytest.raises(InvalidRequestError, match="transient"):
        await session.load(Author(name="new"), Author.biography)


async def test_keys_that_only_the_database_takes_for_equal_are_named(sqlite_url: str) -> None:
    class Own(DeclarativeBase):
        pass

    class Country(Own):
        __tablename__ = "country"
        code: Mapped[str] = mapped_column(String(collation="NOCASE"), primary_key=True)
        cities: Mapped[list["City"]] = relationship(back_populates="country")

    class City(Own):
        __tablename__ = "city"
        name: Mapped[str] = mapped_column(primary_key=True)
        code: Mapped[str] = mapped_column(String(collation="NOCASE"), ForeignKey("country.code"))
        country: Mapped[Country] = relationship(back_populates="cities")

    engine = create_async_engine(sqlite_url)
    async with engine.begin() as connection:
        await connection.create_all(Own.metadata)
    async with AsyncSession(engine) as session:
        session.add_all([Country(code="FR"), City(name="Lille", code="fr")])
        await session.commit()

        with pytest.raises(InvalidRequestError, match=r"Country\.cities.*key 'fr'"):
            await session.load(await session.get_one(Country, "FR"), Country.cities)
        with pytest.raises(InvalidRequestError, match=r"City\.country.*key \('FR',\)"):
            await session.load(await session.get_one(City, "Lille"), City.country)
    await engine.dispose()
