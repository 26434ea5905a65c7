"""Fixtures only: two shards of each system, and sessions over them."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from aiosession import AsyncEngine, create_async_engine
from aiosession.testing.postgres import PostgresCluster
from tests.conftest import DATABASES
from tests.sharding.sharded_model import SHARDS, make_tables


async def _databases(cluster: PostgresCluster) -> list[str]:
    connection = await asyncpg.connect(cluster.url(driver="postgresql"))
    try:
        there = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for name in SHARDS:
            if f"shard_{name}" not in there:
                await connection.execute(f"CREATE DATABASE shard_{name}")
    finally:
        await connection.close()
    return [cluster.url(f"shard_{name}") for name in SHARDS]


@pytest.fixture(params=DATABASES)
def cluster(request: pytest.FixtureRequest) -> PostgresCluster | None:
    """Start a server for the shards, or none for files of SQLite; once for each system."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
async def shard_urls(cluster: PostgresCluster | None, tmp_path: Path) -> list[str]:
    """Name databases, one for each shard."""
    if cluster is None:
        return [f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in SHARDS]
    return await _databases(cluster)


@pytest.fixture
async def shards(shard_urls: list[str]) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Open an engine for each shard, with tables; at the end nobody may hold a connection."""
    engines = {name: create_async_engine(url) for name, url in zip(SHARDS, shard_urls, strict=True)}
    for engine in engines.values():
        await make_tables(engine)
    yield engines
    holders = [holder for engine in engines.values() for holder in engine.pool.status().holders]
    for engine in engines.values():
        await engine.dispose()
    assert not holders, f"connections were not given back: {[str(holder) for holder in holders]}"


@pytest.fixture
async def observers(shard_urls: list[str], shards: dict[str, AsyncEngine]) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Open a second engine on each shard, to look at it from outside."""
    engines = {name: create_async_engine(url) for name, url in zip(SHARDS, shard_urls, strict=True)}
    yield engines
    for engine in engines.values():
        await engine.dispose()
