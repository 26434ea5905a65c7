"""What is left open is told of, with the place, the task and the last statement; and nothing leaks."""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select, text

from aiosession import AsyncEngine, AsyncSession
from tests.session_model import Author, make_tables


@pytest.fixture(autouse=True)
async def _rows(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 6)])
        await session.commit()


async def told(leave: Callable[[], Awaitable[object]]) -> list[str]:
    """Return what warnings of resources say when everything that *leave* has made is gone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        await leave()
        for _ in range(5):  # the event loop closes generators that were left, in a task of its own
            gc.collect()
            await asyncio.sleep(0)
    return [
        str(each.message)
        for each in caught
        if "aiosession" in str(each.message) or "pool" in str(each.message) or "stream" in str(each.message)
    ]


async def told_once(leave: Callable[[], Awaitable[object]]) -> str:
    """Return the one warning that there is when everything that *leave* has made is gone."""
    messages = await told(leave)
    assert len(messages) == 1, messages
    return messages[0]


async def settled(engine: AsyncEngine) -> None:
    """Wait until the pool has its connection back, or has given it up."""
    for _ in range(100):
        if not engine.status().pool.holders:
            return
        await asyncio.sleep(0.01)


async def test_a_session_that_is_forgotten_in_its_transaction_is_told_of(engine: AsyncEngine) -> None:
    async def leave() -> None:
        session = AsyncSession(engine)
        await session.execute(text("SELECT 42"))

    message = await told_once(leave)

    assert "a connection was never given back to its pool" in message
    assert f"task {asyncio.current_task().get_name()!r}" in message  # type: ignore[union-attr]
    assert "the transaction of a session, begun at" in message
    assert "test_left_open.py" in message
    assert "the last statement was SELECT 42" in message
    await settled(engine)


async def test_a_session_that_holds_nothing_may_be_forgotten(engine: AsyncEngine) -> None:
    async def leave() -> None:
        session = AsyncSession(engine)
        await session.get(Author, 1)

    assert await told(leave) == []


async def test_a_connection_that_is_forgotten_is_told_of(engine: AsyncEngine) -> None:
    async def leave() -> None:
        connection = await engine.connect()
        await connection.execute(text("SELECT 43"))

    message = await told_once(leave)

    assert "a connection, opened at" in message
    assert "test_left_open.py" in message
    assert "the last statement was SELECT 43" in message
    await settled(engine)


async def test_a_stream_of_a_session_that_is_left_open_is_told_of(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:

        async def leave() -> None:
            async for _row in await session.stream(select(Author), execution_options={"yield_per": 1}):
                break

        message = await told_once(leave)

        assert "the stream opened at" in message
        assert "test_left_open.py" in message
        assert f"task {asyncio.current_task().get_name()!r}" in message  # type: ignore[union-attr]
        assert "was not closed, nor read to its end; its statement was SELECT author.id" in message


async def test_a_stream_of_a_connection_that_is_left_open_is_told_of(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:

        async def leave() -> None:
            rows = await connection.stream(select(Author.id), execution_options={"yield_per": 1})
            await rows.fetchone()

        message = await told_once(leave)

        assert "the stream opened at" in message
        assert "SELECT author.id" in message


async def test_streams_that_are_read_or_closed_or_end_with_their_owner_are_all_right(engine: AsyncEngine) -> None:
    async def leave() -> None:
        options = {"yield_per": 1}
        async with AsyncSession(engine) as session:
            [_ async for _ in await session.stream(select(Author), execution_options=options)]
            rows = await session.stream(select(Author), execution_options=options)
            await rows.first()
            async with await session.stream(select(Author), execution_options=options) as others:
                await others.fetchone()
            unread = await session.stream(select(Author), execution_options=options)
            kept = await session.stream(select(Author), execution_options=options)
            await kept.fetchone()
        del unread, kept

    assert await told(leave) == []
