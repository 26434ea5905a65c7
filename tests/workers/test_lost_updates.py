"""Many tasks that count on the same row: with retries no increment is lost, however they collide."""

import asyncio

import pytest

from aiosession import AsyncEngine, AsyncSession, StaleDataError, async_sessionmaker
from tests.workers.retrying_model import Counter, Versioned

TASKS, EACH = 8, 25


@pytest.mark.slow
async def test_no_increment_is_lost_between_serializable_transactions(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    @maker.retrying(attempts=200, wait=0.002, max_wait=0.1, isolation_level="SERIALIZABLE")
    async def increment(session: AsyncSession) -> None:
        counter = await session.get_one(Counter, 1)
        counter.value += 1

    async def count() -> None:
        for _ in range(EACH):
            await increment()

    await asyncio.gather(*(count() for _ in range(TASKS)))

    async with AsyncSession(observer) as session:
        assert (await session.get_one(Counter, 1)).value == TASKS * EACH


@pytest.mark.slow
async def test_no_increment_is_lost_on_rows_with_versions(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async def count() -> None:
        async with maker() as session:
            for _ in range(EACH):
                async for attempt in session.retrying(attempts=200, wait=0.002, max_wait=0.1, on=StaleDataError):
                    async with attempt:
                        row = await session.get_one(Versioned, 1)
                        row.value += 1

    await asyncio.gather(*(count() for _ in range(TASKS)))

    async with AsyncSession(observer) as session:
        row = await session.get_one(Versioned, 1)
        assert (row.value, row.version) == (TASKS * EACH, TASKS * EACH + 1)
