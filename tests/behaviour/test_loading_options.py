"""Options say what comes with a query and how."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, func, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Load,
    Mapped,
    NotLoadedError,
    aliased,
    column_property,
    contains_eager,
    create_async_engine,
    defaultload,
    defer,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    raiseload,
    relationship,
    selectinload,
    subqueryload,
    undefer,
    undefer_group,
)
from aiosession.errors import ArgumentError
from aiosession.testing.statements import StatementLog
from tests.behaviour.loading_model import Author, Book, Chapter, Employee, Tag, fill


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    statements.clear()
    async with AsyncSession(engine) as session:
        yield session


def loaded(obj: object) -> set[str]:
    return {name for name in vars(obj) if not name.startswith("_")}


@pytest.mark.parametrize(("option", "sent"), [(selectinload, 2), (subqueryload, 2), (joinedload, 1)])
async def test_a_collection_comes_with_its_owners(
    session: AsyncSession, statements: StatementLog, option: Callable[..., Any], sent: int
) -> None:
    authors = (await session.scalars(select(Author).options(option(Author.books)).order_by(Author.id))).all()

    assert statements.count == sent
    assert [[book.id for book in author.books] for author in authors] == [[1, 2, 3], [4, 5, 6], [7, 8, 9], []]


@pytest.mark.parametrize(("option", "sent"), [(selectinload, 2), (joinedload, 1)])
async def test_a_reference_comes_with_its_owners(
    session: AsyncSession, statements: StatementLog, option: Callable[..., Any], sent: int
) -> None:
    books = (await session.scalars(select(Book).options(option(Book.author)).order_by(Book.id))).all()

    assert statements.count == sent
    assert [book.author and book.author.name for book in books][-2:] == ["author 3", None]


async def test_options_chain_along_relations(session: AsyncSession, statements: StatementLog) -> None:
    query = select(Author).options(selectinload(Author.books).selectinload(Book.tags).load_only(Tag.id))

    author = (await session.scalars(query.where(Author.id == 1))).one()

    assert statements.count == 3
    assert loaded(author.books[0].tags[0]) == {"id"}


async def test_joined_collections_of_collections_are_put_together(
    session: AsyncSession, statements: StatementLog
) -> None:
    query = select(Author).options(joinedload(Author.books).joinedload(Book.tags)).order_by(Author.id)

    authors = (await session.scalars(query)).all()

    assert statements.count == 1
    assert [len(author.books) for author in authors] == [3, 3, 3, 0]
    assert [tag.id for tag in authors[0].books[0].tags] == [2, 3]


async def test_a_limit_counts_owners_not_joined_rows(session: AsyncSession) -> None:
    query = select(Author).options(joinedload(Author.books)).order_by(Author.id).limit(2)

    authors = (await session.scalars(query)).all()

    assert [[book.id for book in author.books] for author in authors] == [[1, 2, 3], [4, 5, 6]]


async def test_joined_loading_leaves_the_rows_of_a_mixture_alone(session: AsyncSession) -> None:
    query = select(Author, Book.title).join(Author.books).options(joinedload(Author.books)).order_by(Book.id).limit(4)

    rows = (await session.execute(query)).all()

    assert [(author.id, title) for author, title in rows] == [
        (1, "book 1"),
        (1, "book 2"),
        (1, "book 3"),
        (2, "book 4"),
    ]
    assert len(rows[3][0].books) == 3


async def test_joined_collections_can_be_streamed(session: AsyncSession) -> None:
    query = select(Author).options(joinedload(Author.books)).order_by(Author.id).execution_options(yield_per=2)

    found = [[book.id for book in author.books] async for author in await session.stream_scalars(query)]

    assert found == [[1, 2, 3], [4, 5, 6], [7, 8, 9], []]


async def test_load_only_leaves_the_other_columns_unloaded(session: AsyncSession) -> None:
    book = (await session.scalars(select(Book).options(load_only(Book.title)).where(Book.id == 1))).one()

    assert loaded(book) == {"id", "title"}
    with pytest.raises(NotLoadedError, match=r"Book\.pages"):
        _ = book.pages


@pytest.mark.parametrize(
    "option", [undefer(Author.biography), undefer_group("long"), Load(Author).undefer_group("long")]
)
async def test_deferred_columns_can_be_had(session: AsyncSession, option: Any) -> None:
    author = (await session.scalars(select(Author).options(option).where(Author.id == 1))).one()

    assert author.biography == "born 1"


async def test_deferred_columns_are_left_out(session: AsyncSession) -> None:
    author = (await session.scalars(select(Author).options(defer(Author.name)).where(Author.id == 1))).one()

    assert loaded(author) == {"id"}


async def test_deferred_columns_are_loaded_on_demand(session: AsyncSession, statements: StatementLog) -> None:
    authors = (await session.scalars(select(Author).order_by(Author.id))).all()
    statements.clear()

    await session.load(authors, Author.biography)

    assert statements.count == 1
    assert authors[3].biography == "born 4"


async def test_a_loaded_object_gets_the_columns_that_it_lacks(session: AsyncSession) -> None:
    author = (await session.scalars(select(Author).options(load_only(Author.id)).where(Author.id == 1))).one()

    await session.scalars(select(Author).options(undefer(Author.biography)).where(Author.id == 1))

    assert (author.name, author.biography) == ("author 1", "born 1")


async def test_contains_eager_takes_the_statements_own_join(session: AsyncSession, statements: StatementLog) -> None:
    query = (
        select(Author).join(Author.books).where(Book.id.in_([2, 3, 4])).options(contains_eager(Author.books))
    ).order_by(Book.id)

    authors = (await session.scalars(query)).all()

    assert statements.count == 1
    assert [[book.id for book in author.books] for author in authors] == [[2, 3], [4]]


async def test_contains_eager_takes_an_alias(session: AsyncSession) -> None:
    other = aliased(Book)
    query = (
        select(Author)
        .join(Author.books.of_type(other))
        .where(other.id == 5)
        .options(contains_eager(Author.books, alias=other))
    )

    author = (await session.scalars(query)).one()

    assert [book.id for book in author.books] == [5]


async def test_criteria_limit_what_is_loaded(session: AsyncSession) -> None:
    for least in (2, 3):
        session.expunge_all()
        query = select(Author).options(selectinload(Author.books.and_(Book.id >= least))).where(Author.id == 1)

        author = (await session.scalars(query)).one()

        assert [book.id for book in author.books] == list(range(least, 4))


async def test_criteria_of_a_joined_relation_are_part_of_the_join(session: AsyncSession) -> None:
    for least in (2, 3):
        session.expunge_all()
        query = select(Author).options(joinedload(Author.books.and_(Book.id >= least))).where(Author.id == 1)

        author = (await session.scalars(query)).one()

        assert [book.id for book in author.books] == list(range(least, 4))


async def test_defaultload_says_something_about_what_is_behind(session: AsyncSession) -> None:
    query = select(Author).options(selectinload(Author.books), defaultload(Author.books).load_only(Book.title))

    author = (await session.scalars(query.where(Author.id == 1))).one()

    assert loaded(author.books[0]) == {"id", "title"}


async def test_options_beside_one_another(session: AsyncSession, statements: StatementLog) -> None:
    query = select(Author).options(
        selectinload(Author.books).options(selectinload(Book.tags), selectinload(Book.chapters))
    )

    author = (await session.scalars(query.where(Author.id == 1))).one()

    assert statements.count == 4
    assert len(author.books[0].tags) == len(author.books[0].chapters) == 2


@pytest.mark.parametrize("option", [raiseload(Author.books), lazyload(Author.books), raiseload("*")])
async def test_relations_can_be_left_out(session: AsyncSession, statements: StatementLog, option: Any) -> None:
    author = (await session.scalars(select(Author).options(option).where(Author.id == 1))).one()

    assert statements.count == 1
    with pytest.raises(NotLoadedError):
        _ = author.books


async def test_get_takes_options(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get(Author, 1, options=[selectinload(Author.books), undefer(Author.biography)])

    assert author is not None
    assert statements.count == 2
    assert (author.biography, len(author.books)) == ("born 1", 3)


async def test_get_loads_what_an_object_in_memory_lacks(session: AsyncSession, statements: StatementLog) -> None:
    author = await session.get_one(Author, 1)
    statements.clear()

    await session.get(Author, 1, options=[selectinload(Author.books)])

    assert statements.count == 1
    assert len(author.books) == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (lambda: selectinload(Author.name), "selectinload.*relations of Author.*Author.name"),
        (lambda: selectinload(Author.books).selectinload(Author.books), "relations of Book here.*belongs to Author"),
        (lambda: load_only(Author.books), "load_only.*columns of Author.*Author.books"),
        (lambda: selectinload(Author.books).load_only(Author.name), "columns of Book here"),
        (
            lambda: selectinload("books"),  # type: ignore[arg-type]  # what the test is about
            "mapped attributes.*'books'",
        ),
        (selectinload, "at least one"),
        (lambda: Load(Author).undefer_group("lang"), "no deferred group 'lang'.*'long'"),
        (lambda: selectinload(Author.books).options(selectinload(Author.books)), "options of Book"),
    ],
)
def test_a_wrong_option_says_what_was_expected(option: Callable[[], object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        option()


async def test_an_option_of_an_entity_that_is_not_selected_is_refused(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match="Chapter"):
        await session.execute(select(Author).options(selectinload(Chapter.book)))


@pytest.mark.parametrize("depth", [0, -1])
async def test_a_recursion_without_an_end_is_refused(depth: int) -> None:
    with pytest.raises(ArgumentError, match="recursion_depth"):
        selectinload(Employee.reports, recursion_depth=depth)


async def test_expressions_come_with_every_joined_relation_to_their_class(sqlite_url: str) -> None:
    class Own(DeclarativeBase):
        pass

    class City(Own):
        __tablename__ = "city"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column()
        loud: Mapped[str] = column_property(func.upper(name).label("loud"))

    class Flight(Own):
        __tablename__ = "flight"
        id: Mapped[int] = mapped_column(primary_key=True)
        start_id: Mapped[int] = mapped_column(ForeignKey("city.id"))
        stop_id: Mapped[int] = mapped_column(ForeignKey("city.id"))
        end_id: Mapped[int] = mapped_column(ForeignKey("city.id"))
        start: Mapped[City] = relationship(foreign_keys=start_id, lazy="joined")
        stop: Mapped[City] = relationship(foreign_keys=stop_id, lazy="joined")
        end: Mapped[City] = relationship(foreign_keys=end_id, lazy="joined")

    engine = create_async_engine(sqlite_url)
    async with engine.begin() as connection:
        await connection.create_all(Own.metadata)
    async with AsyncSession(engine) as session:
        session.add(Flight(start=City(name="a"), stop=City(name="b"), end=City(name="c")))
        await session.commit()
        session.expunge_all()

        flight = (await session.scalars(select(Flight))).one()

        assert (flight.start.loud, flight.stop.loud, flight.end.loud) == ("A", "B", "C")
    await engine.dispose()
