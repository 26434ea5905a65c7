"""Fixtures: PgBouncer in transaction mode, with few connections to the server, and engines that go through it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from aiosession import AsyncEngine, create_async_engine
from aiosession.testing.pgbouncer import HOW_TO_GET, Pgbouncer, find_binary
from aiosession.testing.pgbouncer import pgbouncer as running
from aiosession.testing.postgres import PostgresCluster


@pytest.fixture(scope="session")
def bouncer(postgres: PostgresCluster) -> Iterator[Pgbouncer]:
    """Start a PgBouncer for this test process, if there is one to start."""
    if find_binary() is None:
        pytest.skip(HOW_TO_GET)
    with running(postgres) as server:
        yield server


@pytest.fixture(scope="session")
def bouncer_for_sessions(postgres: PostgresCluster) -> Iterator[Pgbouncer]:
    """Start one that keeps a connection of the server for each client as long as the client stays."""
    if find_binary() is None:
        pytest.skip(HOW_TO_GET)
    with running(postgres, {"pool_mode": "session"}) as server:
        yield server


@pytest.fixture(params=["asyncpg", "psycopg"])
def pooled_url(request: pytest.FixtureRequest, bouncer: Pgbouncer, postgresql_url: str) -> str:
    """Name an empty database, reached through PgBouncer; once for each driver."""
    return bouncer.url(driver=f"postgresql+{request.param}")


@pytest.fixture
async def pooled(pooled_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine behind PgBouncer; at the end nobody may hold a connection."""
    engine = create_async_engine(pooled_url, pooler="transaction", pool_size=20, max_overflow=0)
    yield engine
    holders = engine.status().pool.holders
    await engine.dispose()
    assert not holders


@pytest.fixture
async def direct(postgresql_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine on the same database without PgBouncer, to look at it from outside."""
    engine = create_async_engine(postgresql_url)
    yield engine
    await engine.dispose()
