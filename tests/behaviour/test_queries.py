"""Statements over entities give objects, everything else gives values."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Integer, Select, String, exists, func, insert, literal_column, select, text, union, update
from sqlalchemy.sql.base import ExecutableOption

from aiosession import AsyncEngine, AsyncSession, aliased, core, selectinload
from aiosession.errors import ArgumentError
from aiosession.testing.statements import StatementLog
from tests.behaviour.loading_model import Author, Base, Book, Chapter, Employee, Tag, fill


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    statements.clear()
    async with AsyncSession(engine) as session:
        yield session


async def test_entities_and_values_can_be_mixed(session: AsyncSession) -> None:
    query = (
        select(Author, func.count(Book.id).label("books"), Author.name)
        .outerjoin(Author.books)
        .group_by(Author.id, Author.name)
        .order_by(Author.id)
    )

    row = (await session.execute(query)).first()

    assert row is not None
    assert row[0] is row.Author is row._mapping[Author]
    assert row.books == 3
    assert row[2] == row.name == row._mapping[Author.name] == "author 1"


async def test_columns_alone_make_no_objects(session: AsyncSession) -> None:
    rows = (await session.execute(select(Book.title, Book.pages).where(Book.id <= 2).order_by(Book.id))).all()

    assert rows == [("book 1", 10), ("book 2", 20)]
    assert rows[0].pages == 10
    assert len(session.identity_map) == 0


async def test_an_absent_entity_is_none(session: AsyncSession) -> None:
    query = select(Author, Book).outerjoin(Author.books).where(Author.id == 4)

    rows = (await session.execute(query)).all()

    assert len(rows) == 1
    assert rows[0][1] is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: select(Author.id).join(Author.books).where(Book.id == 5), [2]),
        (lambda: select(Author.id).join(Book, Author.books).where(Book.id == 5), [2]),
        (lambda: select(Author.id).join(Book).where(Book.id == 5), [2]),
        (lambda: select(Author.id).join(Book, Book.author_id == Author.id).where(Book.id == 5), [2]),
        (lambda: select(Book.id).join(Book.author).where(Author.id == 2).order_by(Book.id), [4, 5, 6]),
        (lambda: select(Author.id).outerjoin(Author.books).where(Book.id.is_(None)), [4]),
        (lambda: select(Author.id).join_from(Author, Author.books).where(Book.id == 5), [2]),
        (lambda: select(Author.id).select_from(Author).join(Author.books).where(Book.id == 5), [2]),
        (lambda: select(func.count()).select_from(Author).join(Author.books), [9]),
        (lambda: select(Book.id).join(Book.tags).where(Tag.id == 1, Book.id < 5).order_by(Book.id), [2, 3]),
        (lambda: select(Book.id).outerjoin(Book.tags).where(Tag.id.is_(None)), [100]),
        (lambda: select(Author.id).join(Author.books).join(Book.chapters).where(Chapter.heading == "9.2"), [3]),
        (lambda: select(Author.id).join(Author.books.and_(Book.id == 5)), [2]),
        (lambda: select(Author.id).where(exists(select(Book.id).join(Book.tags).where(Tag.id == 9))), []),
        (lambda: select(Author.id).where(Author.id.in_(select(Book.author_id).join(Book.chapters))), [1, 2, 3]),
        (lambda: select(Author.id).where(Author.books.any(Book.id == 5)), [2]),
        (lambda: select(Book.id).where(Book.author.has(Author.id == 3)).order_by(Book.id), [7, 8, 9]),
        (lambda: select(Book.id).where(Book.author == None), [100]),  # noqa: E711 - SQL's IS NULL
        (lambda: select(Author.id).filter_by(name="author 2"), [2]),
        (lambda: select(Book.id).filter_by(pages=20), [2]),
        (lambda: union(select(Author.id).where(Author.id == 1), select(Book.id).where(Book.id == 7)), [1, 7]),
        (lambda: select(Author.id).with_only_columns(func.max(Author.id)), [4]),
        (lambda: select(Author).join(Author.books).with_only_columns(func.count()), [9]),
    ],
)  # fmt: skip
async def test_joins_follow_relations(session: AsyncSession, make, expected) -> None:  # type: ignore[no-untyped-def]  # a table of lambdas
    assert sorted((await session.scalars(make())).all()) == expected


async def test_aliases_join_an_entity_with_itself(session: AsyncSession) -> None:
    manager = aliased(Employee, name="manager")
    query = (
        select(Employee, manager).join(Employee.manager.of_type(manager)).where(manager.id == 2).order_by(Employee.id)
    )

    rows = (await session.execute(query)).all()

    assert [(row.Employee.name, row.manager.name) for row in rows] == [("left", "middle"), ("right", "middle")]


async def test_an_alias_of_a_subquery_is_an_entity(session: AsyncSession) -> None:
    first = select(Book).where(Book.id <= 2).subquery()
    early = aliased(Book, first)

    books = (await session.scalars(select(early).order_by(early.id))).all()

    assert [book.id for book in books] == [1, 2]
    assert books[0] is await session.get(Book, 1)


async def test_joins_in_common_table_expressions_follow_relations(session: AsyncSession) -> None:
    counts = select(Author.id, func.count(Book.id).label("n")).join(Author.books).group_by(Author.id).cte("counts")

    rows = (await session.execute(select(Author, counts.c.n).join(counts, counts.c.id == Author.id))).all()

    assert sorted((author.id, n) for author, n in rows) == [(1, 3), (2, 3), (3, 3)]


async def test_a_scalar_subquery_is_correlated(session: AsyncSession) -> None:
    count = select(func.count(Book.id)).where(Book.author_id == Author.id).correlate(Author).scalar_subquery()

    rows = (await session.execute(select(Author.id, count.label("n")).order_by(Author.id))).all()

    assert rows == [(1, 3), (2, 3), (3, 3), (4, 0)]


async def test_values_of_one_statement_do_not_leak_into_the_next(session: AsyncSession) -> None:
    found = [(await session.scalars(select(Book).where(Book.id == key))).one().id for key in (1, 2, 3)]

    assert found == [1, 2, 3]


async def test_the_same_statement_can_be_executed_with_other_parameters(session: AsyncSession) -> None:
    query = select(Author.name).where(Author.id == literal_column("1"))
    query = query.where(Author.name == text(":name"))

    assert (await session.scalars(query, {"name": "author 1"})).all() == ["author 1"]
    assert (await session.scalars(query, {"name": "nobody"})).all() == []


async def test_statements_about_tables_run_too(session: AsyncSession) -> None:
    tag = Base.metadata.tables["tag"]

    await session.execute(insert(tag), [{"id": 10, "name": "ten"}, {"id": 11, "name": "eleven"}])
    changed = await session.execute(update(tag).where(tag.c.id == 10).values(name="X"))
    rows = (await session.execute(select(tag).where(tag.c.id > 9).order_by(tag.c.id))).all()
    plain = (await session.execute(text("SELECT count(*) AS n FROM tag"))).one()

    assert changed.rowcount == 1
    assert rows == [(10, "X"), (11, "eleven")]
    assert plain.n == 5


async def test_a_locking_query_gives_the_locked_values(session: AsyncSession, engine: AsyncEngine) -> None:
    author = await session.get_one(Author, 1)
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()

    await session.scalars(select(Author).where(Author.id == 1).with_for_update())

    assert author.name == "changed"


async def test_populate_existing_replaces_what_is_in_memory(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    author.name = "mine"

    query = select(Author).execution_options(populate_existing=True, autoflush=False)
    await session.scalars(query)

    assert author.name == "author 1"
    assert not session.dirty


async def test_a_query_leaves_changes_alone(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    author.name = "mine"

    with session.no_autoflush:
        await session.scalars(select(Author))

    assert author.name == "mine"


async def test_a_query_refreshes_stale_objects(
    session: AsyncSession, engine: AsyncEngine, statements: StatementLog
) -> None:
    author = await session.get_one(Author, 1)
    await session.commit()
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()
    assert author.name == "author 1"
    statements.clear()

    await session.scalars(select(Author).where(Author.id == 1))

    assert author.name == "changed"
    assert statements.count == 1


async def test_an_object_in_memory_that_is_fresh_keeps_its_values(session: AsyncSession, engine: AsyncEngine) -> None:
    author = await session.get_one(Author, 1)
    async with AsyncSession(engine) as other:
        (await other.get_one(Author, 1)).name = "changed"
        await other.commit()

    await session.scalars(select(Author).where(Author.id == 1))

    assert author.name == "author 1"


async def test_a_statement_that_cannot_be_compiled_says_so(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match="cannot be compiled"):
        await session.execute(select(Author).join(Tag))


async def test_a_join_to_the_wrong_class_is_refused(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match=r"Author\.books leads to Book"):
        await session.execute(select(Author).join(Tag, Author.books))


async def test_entities_come_from_the_rows_of_sql_text(session: AsyncSession) -> None:
    rows = text("SELECT id, page_count, title FROM book WHERE page_count > :least ORDER BY id")
    query = select(Book).from_statement(rows).options(selectinload(Book.tags))

    books = (await session.scalars(query, {"least": 70})).all()

    assert [(book.id, book.pages) for book in books] == [(8, 80), (9, 90)]
    assert [len(book.tags) for book in books] == [2, 2]
    assert "author_id" not in vars(books[0])


async def test_rows_without_a_key_make_no_entities(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match=r"no column 'id'.*primary key of Book"):
        await session.execute(select(Book).from_statement(text("SELECT title FROM book")))


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_returning_gives_objects_with_their_new_values(session: AsyncSession) -> None:
    book = await session.get_one(Book, 1)

    changed = update(Book).where(Book.id == 1).values(title=Book.title + "!").returning(Book, Book.pages)
    row = (await session.execute(changed)).one()

    assert row[0] is book
    assert (book.title, row[1]) == ("book 1!", 10)


async def test_rows_inserted_in_bulk_come_back_as_objects(session: AsyncSession) -> None:
    rows = [{"id": 20, "name": "x"}, {"id": 21, "name": "y"}]

    tags = (await session.scalars(insert(Tag).returning(Tag), rows)).all()

    assert sorted((tag.id, tag.name) for tag in tags) == [(20, "x"), (21, "y")]
    assert await session.get(Tag, 20) in tags


async def test_a_query_is_compiled_once(session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def query(key: int) -> Select[Author]:
        return select(Author).where(Author.id == key).options(selectinload(Author.books))

    await session.scalars(query(1))
    await session.get(Author, 4)
    session.expunge_all()
    monkeypatch.setattr(core, "compile_statement", None)

    author = (await session.scalars(query(2))).one()
    await session.get(Author, 1)

    assert [book.id for book in author.books] == [4, 5, 6]


async def test_something_else_is_no_option(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match="no loader option of aiosession"):
        await session.execute(select(Author).options(ExecutableOption()))


@pytest.mark.without("mariadb", reason="* comes first there")
async def test_columns_written_as_text_are_found_by_the_names_that_the_database_gives(session: AsyncSession) -> None:
    columns: list[Any] = [text("name AS called"), Author.id, literal_column("*")]

    row = (await session.execute(select(*columns).select_from(Author).order_by(Author.id))).first()

    assert row is not None
    assert row._fields == ("called", "id", "id", "name", "biography")
    assert (row.called, row[1]) == ("author 1", 1)


async def test_columns_of_text_may_be_described_in_another_order(session: AsyncSession) -> None:
    rows = text("SELECT title, id FROM book ORDER BY id").columns(id=Integer, title=String)

    row = (await session.execute(rows)).first()

    assert row is not None
    assert (row.id, row.title) == (1, "book 1")


async def test_text_beside_an_entity_is_refused(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match="literal_column"):
        await session.execute(select(Author, text("name")))

    with pytest.raises(ArgumentError, match="stand for one column"):
        await session.execute(select(literal_column("author.*"), Author).select_from(Author))


async def test_rows_inserted_in_bulk_come_back_in_their_order(session: AsyncSession) -> None:
    rows = [{"id": 31, "name": "x"}, {"id": 30, "name": "y"}]

    tags = (await session.scalars(insert(Tag).returning(Tag, sort_by_parameter_order=True), rows)).all()

    assert [tag.id for tag in tags] == [31, 30]


async def test_an_update_of_many_rows_of_a_table_has_to_say_which(
    session: AsyncSession, statements: StatementLog
) -> None:
    with pytest.raises(ArgumentError, match="needs a where"):
        await session.execute(update(Tag.__table__), [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}])

    assert statements.count == 0


@pytest.mark.parametrize("parameters", [5, ["x"], [{"a": 1}, {"a": 2}]])
async def test_a_query_takes_one_set_of_parameters(session: AsyncSession, parameters: Any) -> None:
    with pytest.raises(ArgumentError, match="one set of parameters"):
        await session.execute(select(Author), parameters)


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_what_a_write_returns_is_fresh(engine: AsyncEngine) -> None:
    await fill(engine)
    async with AsyncSession(engine, stale_reads="raise") as session:
        before = await session.get_one(Tag, 1)

        added = (await session.scalars(insert(Tag).values(id=40, name="new").returning(Tag))).one()
        assert (added.name, before.name) == ("new", "tag 1")

        changed = (await session.scalars(update(Tag).where(Tag.id == 40).values(name="old").returning(Tag))).one()
        assert changed is added
        assert changed.name == "old"
        assert before.name == "tag 1"


async def test_an_inserted_row_costs_no_second_look(session: AsyncSession, statements: StatementLog) -> None:
    tag = await session.get_one(Tag, 1)
    await session.execute(insert(Tag).values(id=41, name="x"))
    statements.clear()

    assert await session.get(Tag, 1) is tag
    assert statements.count == 0
