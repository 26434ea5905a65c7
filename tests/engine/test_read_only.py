"""An engine made with read_only=True cannot write, inside of transactions and outside."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select, text

from aiosession import AsyncEngine, create_async_engine
from aiosession.errors import ArgumentError, DatabaseError

city = Table("city", MetaData(), Column("id", Integer, primary_key=True))
REFUSALS = "(?i)readonly|read-only|read only"


@pytest.fixture
async def reading(engine: AsyncEngine, database_url: str) -> AsyncIterator[AsyncEngine]:
    async with engine.begin() as connection:
        await connection.create_all(city.metadata)
        await connection.execute(insert(city).values(id=1))
    reading = create_async_engine(database_url, read_only=True)
    yield reading
    await reading.dispose()


async def test_it_reads(reading: AsyncEngine) -> None:
    async with reading.connect() as connection:
        assert (await connection.scalars(select(city.c.id))).all() == [1]
    async with reading.begin() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM city")) == 1


async def test_it_writes_nothing_in_transactions(reading: AsyncEngine) -> None:
    with pytest.raises(DatabaseError, match=REFUSALS):
        async with reading.begin() as connection:
            await connection.execute(insert(city).values(id=2))
    with pytest.raises(DatabaseError, match=REFUSALS):
        async with reading.begin() as connection:
            await connection.execute(text("DROP TABLE city"))


async def test_it_writes_nothing_outside_of_transactions(reading: AsyncEngine) -> None:
    async with reading.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(DatabaseError, match=REFUSALS):
            await connection.execute(insert(city).values(id=2))
        assert (await connection.scalars(select(city.c.id))).all() == [1]


async def test_it_writes_nothing_after_a_read_only_transaction_either(reading: AsyncEngine) -> None:
    wire = await reading.acquire()
    try:
        connection = wire.lent
        await connection.fetch("SELECT 1")
        with pytest.raises(Exception, match=REFUSALS):
            await connection.execute("DELETE FROM city")
    finally:
        await reading.release(wire)


async def test_settings_of_ones_own_stay(postgresql_url: str) -> None:
    given = {"server_settings": {"application_name": "reports"}}
    reading = create_async_engine(postgresql_url, read_only=True, connect_args=given)

    async with reading.connect() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "reports"
        assert await connection.scalar(text("SHOW default_transaction_read_only")) == "on"
    assert given == {"server_settings": {"application_name": "reports"}}
    await reading.dispose()


async def test_a_database_in_memory_would_stay_empty() -> None:
    with pytest.raises(ArgumentError, match="in memory"):
        create_async_engine("sqlite://", read_only=True)
    with pytest.raises(ArgumentError, match="read_only must be True or False"):
        create_async_engine("sqlite:///file.db", read_only="yes")  # type: ignore[arg-type]
