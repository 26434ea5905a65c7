"""A session runs one operation at a time and says so; other tasks get sessions of their own."""

import asyncio

import pytest
from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import ConcurrentUseError, InvalidRequestError
from tests.session_model import Author, make_tables, put_author


@pytest.fixture
async def key(engine: AsyncEngine) -> int:
    await make_tables(engine)
    return await put_author(engine)


async def test_the_second_operation_fails_and_names_both(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        first = asyncio.create_task(session.get(Author, key), name="reader")
        await asyncio.sleep(0)

        with pytest.raises(ConcurrentUseError) as caught:
            await session.flush()

        assert caught.value.operation == "flush"
        assert caught.value.running_operation == "get"
        assert "reader" in caught.value.running_task
        assert "test_concurrent_use.py" in caught.value.where
        assert caught.value.running_where == "the start of the task"
        assert await first is not None


async def test_gathering_over_one_session_fails_and_harms_nothing(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        results = await asyncio.gather(
            *(session.scalar(select(func.count(Author.id))) for _ in range(5)), return_exceptions=True
        )

        assert results[0] == 1
        assert all(isinstance(result, ConcurrentUseError) for result in results[1:])
        assert await session.scalar(select(func.count(Author.id))) == 1


async def test_a_handle_on_a_transaction_is_guarded_too(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        transaction = await session.begin()
        first = asyncio.create_task(session.get(Author, key))
        await asyncio.sleep(0)

        with pytest.raises(ConcurrentUseError):
            await transaction.commit()

        await first
        await transaction.commit()


async def test_forks_work_at_the_same_time(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, expire_on_commit=False, info={"who": "test"}) as session:

        async def count() -> int | None:
            async with session.fork() as other:
                assert other is not session
                assert other.info == {"who": "test"}
                assert not other.expire_on_commit
                return await other.scalar(select(func.count(Author.id)))

        assert list(await asyncio.gather(count(), count(), count())) == [1, 1, 1]


async def test_a_session_on_a_connection_cannot_be_forked(engine: AsyncEngine, key: int) -> None:
    async with engine.connect() as connection, AsyncSession(connection) as session:
        with pytest.raises(InvalidRequestError, match="bound to a connection"):
            session.fork()


async def test_a_subclass_is_forked_as_itself(engine: AsyncEngine) -> None:
    class Audited(AsyncSession):
        pass

    async with Audited(engine) as session, session.fork() as other:
        assert type(other) is Audited
