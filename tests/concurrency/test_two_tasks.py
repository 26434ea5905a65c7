"""Two tasks on one session: the second call fails at once, the first is not disturbed, no attribute write is lost."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import ConcurrentUseError
from tests.session_model import Author, make_tables, names_seen_by, put_author

OPERATIONS: dict[str, Callable[[AsyncSession, int], Coroutine[Any, Any, Any]]] = {
    "get": lambda session, key: session.get(Author, key),
    "execute": lambda session, key: session.execute(select(Author)),
    "flush": lambda session, key: session.flush(),
    "commit": lambda session, key: session.commit(),
    "rollback": lambda session, key: session.rollback(),
    "refresh_all": lambda session, key: session.refresh_all(),
    "connection": lambda session, key: session.connection(),
    "plan": lambda session, key: session.plan(),
    "close": lambda session, key: session.close(),
}


@pytest.fixture
async def key(engine: AsyncEngine) -> int:
    await make_tables(engine)
    return await put_author(engine)


@pytest.mark.parametrize("second", OPERATIONS)
async def test_no_operation_disturbs_a_flush(engine: AsyncEngine, observer: AsyncEngine, key: int, second: str) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Author(name=name) for name in ("Bea", "Cid")])
        first = asyncio.create_task(session.flush(), name="first")
        await asyncio.sleep(0)

        with pytest.raises(ConcurrentUseError, match=r"flush.*first"):
            await OPERATIONS[second](session, key)

        await first
        await session.commit()
        assert await names_seen_by(observer) == ["Ann", "Bea", "Cid"]


async def test_writes_to_attributes_during_a_flush_stay_dirty(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.note = "flushed"
        flush = asyncio.create_task(session.flush())
        await asyncio.sleep(0)
        author.note = "meanwhile"
        bea = Author(name="Bea")
        session.add(bea)
        await flush

        assert author in session.dirty
        assert bea in session.new
        await session.commit()

    async with AsyncSession(observer) as session:
        assert (await session.get_one(Author, key)).note == "meanwhile"
    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_other_users_of_the_pool_are_not_harmed(engine: AsyncEngine, key: int) -> None:
    async def innocent() -> str:
        async with AsyncSession(engine) as session:
            return (await session.get_one(Author, key)).name

    async with AsyncSession(engine) as shared:
        answers = await asyncio.gather(
            shared.get(Author, key),
            shared.execute(select(Author)),
            *(innocent() for _ in range(5)),
            return_exceptions=True,
        )

        assert isinstance(answers[1], ConcurrentUseError)
        assert answers[2:] == ["Ann"] * 5


async def test_the_guard_is_free_again_after_an_error(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(Exception, match="str"):
            await session.execute("SELECT 1")

        assert await session.get(Author, key) is not None
