"""Rows handed out while they arrive."""

import pytest
from sqlalchemy import insert, select

from aiosession import AsyncEngine, AsyncSession, contains_eager, selectinload
from aiosession.errors import ArgumentError, ResourceClosedError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables


@pytest.fixture(autouse=True)
async def _rows(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        await session.execute(insert(Author), [{"id": n, "name": f"Author {n}"} for n in range(1, 11)])
        await session.execute(insert(Book), [{"title": f"Book {n}", "author_id": n} for n in range(1, 11)])
        await session.commit()
    statements.clear()


async def test_entities_come_in_chunks(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        result = await session.stream_scalars(select(Author).order_by(Author.id), execution_options={"yield_per": 3})

        names = [author.name async for author in result]

        assert names == [f"Author {n}" for n in range(1, 11)]


async def test_rows_can_be_taken_in_partitions(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        result = await session.stream(select(Author.id).order_by(Author.id), execution_options={"yield_per": 4})

        assert [len(rows) async for rows in result.partitions(4)] == [4, 4, 2]


async def test_a_streamed_object_is_the_one_in_the_identity_map(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get(Author, 3)
        streamed = [each async for each in await session.stream_scalars(select(Author).order_by(Author.id))]

        assert streamed[2] is author


async def test_relations_are_loaded_chunk_by_chunk(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        query = select(Author).order_by(Author.id).options(selectinload(Author.books))
        result = await session.stream_scalars(query, execution_options={"yield_per": 5})

        assert [author.books[0].title async for author in result] == [f"Book {n}" for n in range(1, 11)]
        assert statements.kinds.count("SELECT") == 3


async def test_a_collection_from_the_statements_own_join_cannot_be_streamed(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="selectinload"):
            await session.stream(select(Author).join(Author.books).options(contains_eager(Author.books)))


async def test_the_session_can_be_used_between_chunks(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        result = await session.stream_scalars(select(Author).order_by(Author.id), execution_options={"yield_per": 2})
        titles = []
        async for author in result:
            titles.extend((await session.scalars(select(Book.title).where(Book.author_id == author.id))).all())

        assert len(titles) == 10


async def test_a_stream_that_is_left_early_frees_its_connection(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        async with await session.stream(select(Author), execution_options={"yield_per": 2}) as result:
            assert await result.fetchone() is not None
        assert await session.scalar(select(Author.id).where(Author.id == 1)) == 1
    assert engine.pool.status().holders == ()


async def test_a_stream_cannot_be_read_after_the_session_is_closed(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        result = await session.stream(select(Author), execution_options={"yield_per": 2})
        await result.fetchone()

    with pytest.raises(ResourceClosedError):
        await result.all()
