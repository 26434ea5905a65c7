"""`session.query()` builds a SELECT step by step; nothing is sent before an end is awaited."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, func, insert, select, text

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    ConcurrentUseError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    Query,
    aliased,
    async_sessionmaker,
    inspect,
    selectinload,
)
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        ann = Author(name="Ann", note="a", books=[Book(title="One"), Book(title="Two")])
        session.add_all([ann, Author(name="Bea", note="b"), Author(name="Cay", books=[Book(title="Three")])])
        await session.commit()
        session.expunge_all()
        statements.clear()
        yield session


def names(found: list[Author]) -> list[str]:
    return [author.name for author in found]


# What comes back


async def test_a_query_of_one_class_gives_objects(session: AsyncSession) -> None:
    found = await session.query(Author).order_by(Author.id).all()

    assert names(found) == ["Ann", "Bea", "Cay"]
    assert found[0] in session


async def test_a_query_of_columns_or_of_several_classes_gives_rows(session: AsyncSession) -> None:
    assert await session.query(Author.name, Author.note).filter_by(name="Ann").all() == [("Ann", "a")]
    (row,) = await session.query(Author, Book).join(Author.books).filter(Book.title == "Three").all()
    assert (row.Author.name, row.Book.title) == ("Cay", "Three")


async def test_a_mapper_stands_for_its_class(session: AsyncSession) -> None:
    assert await session.query(inspect(Author)).count() == 3


async def test_objects_that_are_in_memory_come_back(session: AsyncSession) -> None:
    ann = await session.query(Author).filter_by(name="Ann").one()

    assert await session.query(Author).filter(Author.note == "a").one() is ann


async def test_pending_changes_are_written_before_unless_asked_not_to(session: AsyncSession) -> None:
    session.add(Author(name="Dan"))

    assert await session.query(Author).autoflush(False).count() == 3
    assert await session.query(Author).count() == 4


# Clauses


async def test_filters_add_up(session: AsyncSession) -> None:
    query = session.query(Author).filter(Author.name != "Ann").where(Author.note.is_not(None))

    assert names(await query.all()) == ["Bea"]


async def test_a_query_is_not_changed_by_what_is_built_on_it(session: AsyncSession) -> None:
    every = session.query(Author)
    some = every.filter_by(name="Ann")

    assert await every.count() == 3
    assert await some.count() == 1


async def test_filter_by_looks_at_what_was_joined_last_and_then_before(session: AsyncSession) -> None:
    query = session.query(Author).join(Author.books)

    assert names(await query.filter_by(title="Two").all()) == ["Ann"]
    assert names(await query.filter_by(name="Cay").all()) == ["Cay"]


async def test_a_join_may_name_its_relation(session: AsyncSession) -> None:
    query = session.query(Author, Book).join("books").filter_by(name="Cay")

    assert [book.title for _, book in await query.all()] == ["Three"]


async def test_joins_with_a_condition_and_outer_joins(session: AsyncSession) -> None:
    inner = session.query(Author.name).join(Book, Book.author_id == Author.id).distinct()
    outer = session.query(Author.name, func.count(Book.id)).outerjoin(Author.books).group_by(Author.name)

    assert sorted(await inner.all()) == [("Ann",), ("Cay",)]
    assert await outer.order_by(Author.name).all() == [("Ann", 2), ("Bea", 0), ("Cay", 1)]
    assert await outer.having(func.count(Book.id) > 1).all() == [("Ann", 2)]


async def test_order_limit_offset_and_slices(session: AsyncSession) -> None:
    query = session.query(Author).order_by(Author.name.desc())

    assert names(await query.limit(1).all()) == ["Cay"]
    assert names(await query.offset(1).limit(1).all()) == ["Bea"]
    assert names(await query[1:3].all()) == ["Bea", "Ann"]
    assert names(await query.order_by(None).order_by(Author.name).all()) == ["Ann", "Bea", "Cay"]


async def test_named_parameters_get_their_values(session: AsyncSession) -> None:
    query = session.query(Author).filter(Author.name == bindparam("wanted"))

    assert names(await query.params(wanted="Bea").all()) == ["Bea"]
    assert names(await query.params({"wanted": "Cay"}).all()) == ["Cay"]


async def test_options_say_how_relations_are_loaded(session: AsyncSession, statements: StatementLog) -> None:
    found = await session.query(Author).options(selectinload(Author.books)).order_by(Author.id).all()

    assert [len(author.books) for author in found] == [2, 0, 1]
    assert statements.count == 2


async def test_objects_can_be_overwritten(session: AsyncSession) -> None:
    ann = await session.query(Author).filter_by(name="Ann").one()
    session.autoflush = False
    ann.note = "changed"

    await session.query(Author).populate_existing().all()

    assert ann.note == "a"


async def test_other_things_can_be_selected_with_the_same_criteria(session: AsyncSession) -> None:
    query = session.query(Author).join(Author.books).filter(Book.title == "One")

    assert await query.with_entities(Book.title, Author.name).all() == [("One", "Ann")]
    assert [(author.name, title) for author, title in await query.add_columns(Book.title).all()] == [("Ann", "One")]


async def test_rows_can_be_locked(session: AsyncSession, statements: StatementLog, engine: AsyncEngine) -> None:
    await session.query(Author).with_for_update(nowait=True).all()

    assert ("FOR UPDATE NOWAIT" in statements.sql[0]) == (engine.name == "postgresql")


# Queries made of queries


async def test_a_query_is_a_subquery_of_others(session: AsyncSession) -> None:
    writers = session.query(Book.author_id)

    assert names(await session.query(Author).filter(Author.id.in_(writers)).order_by(Author.id).all()) == ["Ann", "Cay"]
    assert await session.query(session.query(Author).filter_by(name="Ann").exists()).scalar() is True
    some = aliased(Author, session.query(Author).filter(Author.note.is_not(None)).subquery())
    assert await session.query(some.name).order_by(some.name).all() == [("Ann",), ("Bea",)]
    books = session.query(func.count(Book.id)).filter(Book.author_id == Author.id).correlate(Author)
    assert await session.query(Author.name, books.label("books")).order_by(Author.name).all() == [
        ("Ann", 2),
        ("Bea", 0),
        ("Cay", 1),
    ]


async def test_queries_are_united(session: AsyncSession) -> None:
    ann, bea = session.query(Author).filter_by(name="Ann"), session.query(Author).filter_by(name="Bea")

    assert sorted(names(await ann.union(bea).all())) == ["Ann", "Bea"]
    assert await ann.union(session.query(Author)).count() == 3
    assert await ann.union_all(ann).count() == 2
    assert await session.query(Author).except_(ann).count() == 2
    assert await session.query(Author).intersect(ann).count() == 1
    assert await session.query(Author.name).union(session.query(Book.title)).order_by("name").first() == ("Ann",)


async def test_objects_come_from_the_rows_of_another_statement(session: AsyncSession) -> None:
    query = session.query(Author).from_statement(text("SELECT * FROM author WHERE name > :low").bindparams(low="B"))

    assert sorted(names(await query.all())) == ["Bea", "Cay"]


# The ends


async def test_the_first_row_or_none(session: AsyncSession, statements: StatementLog) -> None:
    first = await session.query(Author).order_by(Author.name).first()

    assert first is not None
    assert first.name == "Ann"
    assert "LIMIT" in statements.sql[0]
    assert await session.query(Author).filter_by(name="Zoe").first() is None


async def test_exactly_one_row(session: AsyncSession) -> None:
    query = session.query(Author)

    assert (await query.filter_by(name="Ann").one()).note == "a"
    assert await query.filter_by(name="Zoe").one_or_none() is None
    with pytest.raises(NoResultFound):
        await query.filter_by(name="Zoe").one()
    with pytest.raises(MultipleResultsFound):
        await query.one()
    with pytest.raises(MultipleResultsFound):
        await query.one_or_none()


async def test_one_value(session: AsyncSession) -> None:
    assert await session.query(func.max(Author.name)).scalar() == "Cay"
    assert await session.query(Author.note).filter_by(name="Zoe").scalar() is None


async def test_rows_are_counted_as_they_would_come(session: AsyncSession) -> None:
    assert await session.query(Author).limit(2).count() == 2
    assert await session.query(Author).join(Author.books).count() == 3
    assert await session.query(Author.id).distinct().count() == 3


async def test_get_finds_by_primary_key(session: AsyncSession, statements: StatementLog) -> None:
    ann = await session.query(Author).filter_by(name="Ann").one()
    statements.clear()

    assert await session.query(Author).get(ann.id) is ann
    assert statements.count == 0
    assert await session.query(Author).get(-1) is None
    with pytest.raises(InvalidRequestError, match="this query has criteria"):
        await session.query(Author).filter_by(name="Ann").get(ann.id)


async def test_a_query_is_streamed(session: AsyncSession) -> None:
    assert [author.name async for author in session.query(Author).order_by(Author.id).yield_per(1)] == [
        "Ann",
        "Bea",
        "Cay",
    ]
    assert [row async for row in session.query(Author.name).order_by(Author.id).limit(1)] == [("Ann",)]


async def test_rows_are_updated_and_objects_with_them(session: AsyncSession, observer: AsyncEngine) -> None:
    ann = await session.query(Author).filter_by(name="Ann").one()

    assert await session.query(Author).filter(Author.name == "Ann").update({Author.note: "new"}) == 1
    assert await session.query(Author).filter_by(name="Bea").update({"note": "newer"}, "fetch") == 1

    assert ann.note == "new"
    await session.commit()
    async with AsyncSession(observer) as other:
        assert await other.query(Author.note).order_by(Author.id).all() == [("new",), ("newer",), (None,)]


async def test_rows_are_deleted_and_objects_with_them(session: AsyncSession, observer: AsyncEngine) -> None:
    bea = await session.query(Author).filter_by(name="Bea").one()

    assert await session.query(Author).filter(Author.name == "Bea").delete() == 1

    assert bea not in session
    await session.commit()
    async with AsyncSession(observer) as other:
        assert await other.query(Author).count() == 2


# Classes of one's own


class Named(Query[Any]):
    """A query with a method of its own."""

    def named(self, name: str) -> "Named":
        return self.filter_by(name=name)


async def test_a_session_can_make_queries_of_another_class(engine: AsyncEngine, session: AsyncSession) -> None:
    make_session = async_sessionmaker(engine, query_cls=Named)
    async with make_session() as other, other.fork() as fork:
        for each in (other, fork):
            query = each.query(Author)
            assert isinstance(query, Named)
            assert (await query.named("Ann").limit(1).one()).note == "a"


def test_the_class_has_to_be_one_of_queries(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match=r"query_cls is a subclass of aiosession\.Query, not <class 'int'>"):
        AsyncSession(engine, query_cls=int)  # type: ignore[arg-type]


# Wrong uses

WRONG: dict[str, tuple[Callable[[AsyncSession], Any], type[Exception], str]] = {
    "nothing": (lambda session: session.query(), ArgumentError, "at least one class"),
    "a name": (lambda session: session.query(Author).filter_by(nam=1), ArgumentError, "did you mean 'name'"),
    "a relation": (lambda session: session.query(Author).join("bocks"), ArgumentError, "did you mean 'books'"),
    "a loop": (lambda session: list(session.query(Author)), InvalidRequestError, r"await query\.all\(\)"),
    "a length": (lambda session: len(session.query(Author)), InvalidRequestError, r"await query\.count\(\)"),
    "a truth": (lambda session: bool(session.query(Author)), InvalidRequestError, r"await query\.first\(\)"),
    "an index": (lambda session: session.query(Author)[0], InvalidRequestError, r"offset\(0\)\.first\(\)"),
    "a slice from the end": (lambda session: session.query(Author)[-2:], ArgumentError, "no rows before its first"),
    "a filter of a union": (
        lambda session: session.query(Author).union(session.query(Author)).filter_by(name="Ann"),
        InvalidRequestError,
        r"aliased\(User, query\.subquery\(\)\)",
    ),
}


@pytest.mark.parametrize("use", WRONG)
async def test_wrong_uses_say_what_to_do(session: AsyncSession, statements: StatementLog, use: str) -> None:
    call, error, message = WRONG[use]

    with pytest.raises(error, match=message):
        call(session)

    assert statements.count == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda query: query.limit(1), "limited, ordered"),
        (lambda query: query.order_by(Author.id), "limited, ordered"),
        (lambda query: query.join(Author.books), "cannot follow join"),
    ],
)
async def test_what_only_a_select_can_do_is_refused_for_writes(
    session: AsyncSession, build: Callable[[Query[Author]], Query[Author]], message: str
) -> None:
    query = build(session.query(Author))

    with pytest.raises(InvalidRequestError, match=message):
        await query.delete()
    with pytest.raises(InvalidRequestError, match=message):
        await query.update({"note": None})
    with pytest.raises(InvalidRequestError, match="one mapped class"):
        await session.query(Author.name).delete()
    with pytest.raises(ArgumentError, match="mapping"):
        await session.query(Author).update({})


async def test_the_ends_are_operations_of_the_session(session: AsyncSession) -> None:
    with session.context.guard.enter("something else"), pytest.raises(ConcurrentUseError, match=r"query\.all"):
        await session.query(Author).all()


def test_a_query_shows_its_sql(engine: AsyncEngine) -> None:
    query = AsyncSession(engine).query(Author).filter_by(name="Ann")

    assert "WHERE author.name = :name_1" in str(query)
    assert repr(query).startswith("<Query SELECT author.id")
    assert query.whereclause is not None
    assert [each["name"] for each in query.add_columns(Author.note).column_descriptions] == ["Author", "note"]
    assert str(query.statement) == str(query)
    assert str(select(query.cte("chosen"))).startswith("WITH chosen AS")


async def test_a_closed_session_makes_no_queries(session: AsyncSession) -> None:
    await session.execute(delete(Book))
    await session.execute(insert(Book).values(title="x"))
    await session.close()

    with pytest.raises(InvalidRequestError, match="closed"):
        session.query(Author)
