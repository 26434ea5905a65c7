"""Tests can say how many statements something takes, and see which ones there were if it is not so."""

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker, selectinload
from aiosession.errors import ArgumentError
from aiosession.testing.assertions import assert_no_n_plus_one, assert_statements
from tests.session_model import Author, Book, make_tables, put_author


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncSession:
    await make_tables(engine)
    for name in ("Ann", "Bob", "Cid"):
        await put_author(engine, name, books=[Book(title="One")])
    return AsyncSession(engine)


async def test_the_right_number_of_statements_passes(session: AsyncSession, engine: AsyncEngine) -> None:
    with assert_statements(engine, 1, most=1, select=1, insert=0, commit=0) as log:
        await session.scalars(select(Author))

    assert log.kinds == ["SELECT"]


async def test_another_number_fails_and_lists_what_was_sent(session: AsyncSession, engine: AsyncEngine) -> None:
    with pytest.raises(AssertionError, match=r"2 statements were expected, 1 were sent\n  1. SELECT"):  # noqa: SIM117
        with assert_statements(engine, 2):
            await session.scalars(select(Author))


async def test_nothing_sent_is_said_too(engine: AsyncEngine) -> None:
    with pytest.raises(AssertionError, match=r"1 SELECT were expected, 0 were sent\n  \(nothing\)"):  # noqa: SIM117
        with assert_statements(engine, select=1):
            pass


async def test_more_than_the_most_fails(session: AsyncSession, engine: AsyncEngine) -> None:
    with pytest.raises(AssertionError, match="1 statements were expected at most, 2 were sent"):  # noqa: PT012, SIM117
        with assert_statements(engine, most=1):
            await session.scalars(select(Author))
            await session.scalars(select(Book))


async def test_transaction_control_counts_where_it_is_named(session: AsyncSession, engine: AsyncEngine) -> None:
    with assert_statements(engine, 2, begin=1, commit=1, insert=2):
        async with session.begin():
            session.add(Author(name="Dan"))
            await session.flush()
            session.add(Author(name="Eve"))
            await session.flush()


async def test_writes_that_go_out_as_one_statement_count_one_by_one(session: AsyncSession, engine: AsyncEngine) -> None:
    ann = (await session.scalars(select(Author).where(Author.name == "Ann"))).one()
    ann.note = "changed"
    session.add(Book(title="Two", author_id=ann.id))

    with assert_statements(engine, insert=1, update=1, select=0):
        await session.commit()


async def test_a_query_that_begins_with_a_cte_is_a_select(session: AsyncSession, engine: AsyncEngine) -> None:
    names = select(Author.name).cte("names")
    with assert_statements(engine, select=1, insert=0):
        await session.scalars(select(names.c.name))

    with pytest.raises(AssertionError, match="2 times: WITH names"):  # noqa: PT012, SIM117
        with assert_no_n_plus_one(engine):
            for _ in range(2):
                await session.scalars(select(names.c.name))


async def test_an_error_of_the_block_comes_first(engine: AsyncEngine) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with assert_statements(engine, 5):
            raise ZeroDivisionError


async def test_a_question_without_a_number_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="select=1"):  # noqa: SIM117
        with assert_statements(engine):
            pass


async def test_a_verb_that_there_is_not_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="selects: statements are counted as alter, begin"):  # noqa: SIM117
        with assert_statements(engine, selects=0):
            pass


async def test_one_query_for_each_object_is_found(session: AsyncSession, engine: AsyncEngine) -> None:
    keys = (await session.scalars(select(Author.id))).all()

    with pytest.raises(AssertionError, match=r"(?s)3 times: SELECT .*selectinload"):  # noqa: PT012, SIM117
        with assert_no_n_plus_one(engine):
            for key in keys:
                await session.scalars(select(Book).where(Book.author_id == key))


async def test_one_query_for_all_objects_passes(session: AsyncSession, engine: AsyncEngine) -> None:
    with assert_no_n_plus_one(engine):
        for author in (await session.scalars(select(Author).options(selectinload(Author.books)))).all():
            assert [book.title for book in author.books] == ["One"]


async def test_batched_loading_by_attribute_passes(session: AsyncSession, engine: AsyncEngine) -> None:
    with assert_no_n_plus_one(engine):
        for author in (await session.scalars(select(Author))).all():
            assert len(await author.awaitable_attrs.books) == 1


async def test_repetition_can_be_allowed_or_ignored(session: AsyncSession, engine: AsyncEngine) -> None:
    keys = (await session.scalars(select(Author.id))).all()

    with assert_no_n_plus_one(engine, most=3), assert_no_n_plus_one(engine, ignore=r"FROM .?book"):
        for key in keys:
            await session.scalars(select(Book.title).where(Book.author_id == key))


async def test_sessions_makers_registries_and_connections_name_their_engines(
    session: AsyncSession, engine: AsyncEngine
) -> None:
    maker = async_sessionmaker(binds={Author: engine, Book: engine})
    async with engine.connect() as connection:
        for target in (session, maker, async_scoped_session(maker), connection):
            with assert_statements(target, 1):
                await session.scalars(select(Author))


async def test_what_is_bound_to_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="bound to no engine"):  # noqa: SIM117
        with assert_statements(AsyncSession(), 1):
            pass
    with pytest.raises(ArgumentError, match="not on 'engine'"):  # noqa: SIM117
        with assert_statements("engine", 1):  # type: ignore[arg-type]
            pass
