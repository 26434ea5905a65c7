"""What a session does with objects and arguments, good and bad."""

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from aiosession import AsyncEngine, AsyncSession, inspect, object_session
from aiosession.errors import (
    ArgumentError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    ObjectNotFoundError,
    UnmappedError,
)
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, Unmapped, make_tables, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine, books=[Book(title="One"), Book(title="Two")])
    statements.clear()
    return key


# Objects


def test_a_class_in_place_of_an_object_is_said_to_be_one(engine: AsyncEngine) -> None:
    session = AsyncSession(engine)

    with pytest.raises(UnmappedError, match="Author is a mapped class; one of its objects is needed"):
        session.add(Author)


def test_an_unknown_option_is_answered_with_the_nearest_one_and_the_list(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match=r"are autobegin, .*; it has no 'autoflsh'; did you mean 'autoflush'\?$"):
        AsyncSession(engine, autoflsh=False)


async def test_an_object_goes_through_its_states(engine: AsyncEngine, key: int) -> None:
    author = Author(name="Bea")
    assert inspect(author).transient
    async with AsyncSession(engine) as session:
        session.add(author)
        assert inspect(author).pending
        assert author in session
        assert author in session.new

        await session.flush()
        assert inspect(author).persistent
        assert author not in session.new

        await session.delete(author)
        assert author in session.deleted
        await session.flush()
        assert inspect(author).deleted
        assert author not in session

        await session.commit()
        assert inspect(author).detached


async def test_a_session_iterates_over_its_objects(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author, pending = await session.get_one(Author, key), Author(name="Bea")
        session.add(pending)

        assert set(session) == {author, pending}


async def test_add_all_takes_nothing_if_one_is_not_mapped(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(UnmappedError, match="Unmapped"):
            session.add_all([Author(name="Bea"), Unmapped()])

        assert not session.new


async def test_an_object_of_another_session_is_refused(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        author = await other.get_one(Author, key)

        with pytest.raises(InvalidRequestError, match="already in the session"):
            session.add(author)
        with pytest.raises(InvalidRequestError, match="another session"):
            session.expire(author)
        with pytest.raises(InvalidRequestError, match="another session"):
            await session.delete(author)


async def test_object_session_tells_where_an_object_is(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)

        assert object_session(author) is session
        session.expunge(author)
        assert object_session(author) is None


async def test_expunged_objects_are_detached(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        session.expunge_all()

        assert inspect(author).detached
        assert author.name == "Ann"


async def test_dirty_is_optimistic_and_flush_compares(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.name = author.name
        author.note = author.note

        assert not session.is_modified(author)
        await session.flush()
        assert statements.kinds == ["SELECT"]


async def test_is_modified_may_leave_out_collections(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.load(author, Author.books)
        author.books.append(Book(title="Three"))

        assert session.is_modified(author)
        assert not session.is_modified(author, include_collections=False)


async def test_queries_flush_first(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        assert await session.scalar(select(func.count(Author.id))) == 2


async def test_no_autoflush_is_for_the_length_of_a_block(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        with session.no_autoflush:
            assert await session.scalar(select(func.count(Author.id))) == 1
        assert await session.scalar(select(func.count(Author.id))) == 2


async def test_autoflush_can_be_off(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        session.add(Author(name="Bea"))
        assert await session.scalar(select(func.count(Author.id))) == 1


async def test_plan_shows_what_a_flush_would_do_and_does_nothing(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea", books=[Book(title="Three")]))

        plan = await session.plan()

        assert [batch.table.name for batch in plan] == ["author", "book"]
        assert "INSERT" in str(plan)
        assert statements.kinds == []
        assert len(session.new) == 2


async def test_load_takes_one_statement_for_all_objects(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    await put_author(engine, "Bea", books=[Book(title="Three")])
    async with AsyncSession(engine) as session:
        authors = (await session.scalars(select(Author).order_by(Author.name))).all()
        statements.clear()

        await session.load(authors, Author.books)

        assert [len(author.books) for author in authors] == [2, 1]
        assert statements.kinds == ["SELECT"]


async def test_an_awaited_attribute_is_loaded_for_all_siblings(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    await put_author(engine, "Bea", books=[Book(title="Three")])
    async with AsyncSession(engine) as session:
        authors = (await session.scalars(select(Author).order_by(Author.name))).all()
        statements.clear()

        counts = [len(await author.awaitable_attrs.books) for author in authors]

        assert counts == [2, 1]
        assert statements.kinds == ["SELECT"]


# Statements


async def test_rows_scalars_and_single_values(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        row = (await session.execute(select(Author.id, Author.name))).one()
        assert (row.id, row[1]) == (key, "Ann")
        assert (await session.scalars(select(Book.title).order_by(Book.title))).all() == ["One", "Two"]
        assert await session.scalar(select(Author.name).where(Author.id == -1)) is None


async def test_core_statements_take_lists_of_parameters(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(insert(Author), [{"name": "Bea"}, {"name": "Cid"}])
        result = await session.execute(update(Author).where(Author.name != "Ann").values(note="x"))
        assert result.rowcount == 2
        await session.execute(delete(Author).where(Author.name == "Cid"))
        await session.commit()

        assert (await session.scalars(select(Author.name).order_by(Author.name))).all() == ["Ann", "Bea"]


async def test_text_takes_parameters(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        found = await session.scalar(text("SELECT name FROM author WHERE id = :id"), {"id": key})
        assert found == "Ann"


async def test_get_one_of_a_missing_row_says_which(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ObjectNotFoundError, match="Author") as caught:
            await session.get_one(Author, -1)

        assert isinstance(caught.value, NoResultFound)


async def test_one_row_means_one(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(MultipleResultsFound):
            (await session.scalars(select(Book))).one()


# Bad input


async def test_sql_in_a_str_is_refused(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match=r"text\('SELECT 1'\)"):
            await session.execute("SELECT 1")
        with pytest.raises(ArgumentError, match="not a statement"):
            await session.scalars(42)
        assert statements.kinds == []


async def test_an_unmapped_class_is_refused(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(UnmappedError, match="Unmapped"):
            await session.get(Unmapped, 1)
        with pytest.raises(UnmappedError, match="Unmapped"):
            session.add(Unmapped())
        assert statements.kinds == []


async def test_a_wrong_key_is_refused_before_any_statement(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="primary key"):
            await session.get(Author, (1, 2))
        with pytest.raises(ArgumentError, match="primary key"):
            await session.get(Author, {"name": "Ann"})
        with pytest.raises(ArgumentError, match=r"Author\.id.*int.*'one'"):
            await session.get(Author, "one")
        assert statements.kinds == []


async def test_unknown_options_are_refused_with_the_nearest_name(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="expire_on_commit"):
        AsyncSession(engine, expire_on_comit=False)
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="populate_existing"):
            await session.get(Author, 1, populate_exsting=True)  # type: ignore[call-arg]  # that is the point
        with pytest.raises(ArgumentError, match="yield_per"):
            await session.execute(select(Author), execution_options={"yield_pr": 1})


async def test_wrong_values_of_options_are_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="SERIALIZABLE"):
        AsyncSession(engine, isolation_level="SERIALISABLE")
    with pytest.raises(ArgumentError, match="stale_reads"):
        AsyncSession(engine, stale_reads="never")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ArgumentError, match="create_async_engine"):
        AsyncSession("sqlite://")  # type: ignore[arg-type]  # that is the point


async def test_info_is_a_copy_of_ones_own(engine: AsyncEngine) -> None:
    info = {"tenant": 1}
    async with AsyncSession(engine, info=info) as session:
        session.info["tenant"] = 2

        assert info == {"tenant": 1}


async def test_options_that_are_none_of_a_transaction_are_refused(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match=r"schema_translate_map is set for the engine"):
            await session.connection(execution_options={"schema_translate_map": {None: "x"}})


async def test_an_object_whose_row_is_gone_for_good_cannot_be_added_again(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        author = Author(name="Ann")
        session.add(author)
        await session.commit()
        await session.delete(author)
        await session.commit()

        with pytest.raises(InvalidRequestError, match="has been deleted; add a new object"):
            session.add(author)

        assert inspect(author).was_deleted
        assert author not in session
