"""Many tasks that count on the same row: with retries no increment is lost, however they collide."""

import asyncio

import pytest
from sqlalchemy import Integer

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    StaleDataError,
    async_sessionmaker,
    mapped_column,
)

TASKS, EACH = 8, 25


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture
async def maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make sessions for a database with two counters at 0."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    made = async_sessionmaker(engine)
    async with made.begin() as session:
        session.add_all([Counter(id=1, value=0), Versioned(id=1, value=0)])
    return made


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
