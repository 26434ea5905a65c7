"""Databases with replicas: files of SQLite that differ, and a PostgreSQL with a hot standby."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiosession import ReplicatedEngine, create_async_engine, create_replicated_engine
from aiosession.testing.postgres import PostgresCluster, find_binaries
from aiosession.testing.replica import HOW_TO_GET_REPLICAS, PostgresReplica, can_replicate
from tests.replicas.library import Author, Base, make_copy


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ReplicatedEngine]:
    """Open files that say where they are: "primary", "replica 1" and "replica 2"."""
    urls = [f"sqlite:///{tmp_path}/{place}.db" for place in ("primary", "replica1", "replica2")]
    for url, place in zip(urls, ("primary", "replica 1", "replica 2"), strict=True):
        await make_copy(url, place)
    engine = create_replicated_engine(urls[0], replicas=urls[1:], choose=lambda engines: engines[0])
    yield engine
    holders = [
        *engine.pool.status().holders,
        *(each for copy in engine.replicas for each in copy.pool.status().holders),
    ]
    await engine.dispose()
    assert not holders


@dataclass(frozen=True)
class Pair:
    """A server and its standby."""

    primary: PostgresCluster
    replica: PostgresReplica

    def engine(self, *, max_wait: float = 5.0, retry_after: float = 60.0) -> ReplicatedEngine:
        """Return an engine on both."""
        return create_replicated_engine(
            self.primary.url(), replicas=[self.replica.url()], max_wait=max_wait, retry_after=retry_after, name="shop"
        )


@pytest.fixture(scope="session")
def servers() -> Iterator[Pair]:
    """Start a server and a standby that follows it."""
    if find_binaries() is None or not can_replicate():
        pytest.skip(HOW_TO_GET_REPLICAS)
    primary = PostgresCluster({"synchronous_commit": "local"})
    replica = PostgresReplica(primary)
    yield Pair(primary, replica)
    replica.stop()
    primary.stop()


@pytest.fixture
async def pair(servers: Pair) -> AsyncIterator[Pair]:
    """Provide both with the tables and one author, the same in both."""
    engine = create_async_engine(servers.primary.url())
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
        await connection.execute(Author.__table__.insert().values(name="Ann"))
    await servers.replica.catch_up()
    yield servers
    await servers.replica.go_on()
    async with engine.begin() as connection:
        await connection.drop_all(Base.metadata)
    await servers.replica.catch_up()
    await engine.dispose()
