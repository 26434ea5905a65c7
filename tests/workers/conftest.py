"""Sessions over a database with two counters."""

import pytest

from aiosession import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from tests.workers.retrying_model import Base, Counter, Versioned


@pytest.fixture
async def maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make sessions for a database with a counter at 0."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    made = async_sessionmaker(engine)
    async with made.begin() as session:
        session.add_all([Counter(id=1, value=0), Versioned(id=1, value=0)])
    return made
