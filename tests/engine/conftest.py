"""A connection to a database with two tables in it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from tests.engine.engine_tables import author, metadata


@pytest.fixture
async def library(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine whose database holds three authors."""
    async with engine.begin() as connection:
        await connection.create_all(metadata)
        await connection.execute(insert(author), [{"name": name} for name in ("ann", "bob", "cid")])
    return engine


@pytest.fixture
async def connection(library: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a connection to it."""
    async with library.connect() as connection:
        yield connection
