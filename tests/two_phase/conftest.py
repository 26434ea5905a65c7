"""Databases of several kinds that commit as one, and others to look at them from outside."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, async_sessionmaker, create_async_engine
from aiosession.testing.postgres import PostgresCluster
from tests.conftest import EMPTY_DATABASE, emptied_mariadb
from tests.two_phase.model import APP, PLACES, binds_of, make_tables, prepared

KINDS = [
    pytest.param(["postgresql", "postgresql2"], id="postgresql+postgresql", marks=pytest.mark.postgres),
    pytest.param(["postgresql", "neighbour"], id="same-cluster", marks=pytest.mark.postgres),
    pytest.param(["psycopg", "postgresql2"], id="psycopg+postgresql", marks=pytest.mark.postgres),
    pytest.param(["postgresql", "sqlite"], id="postgresql+sqlite", marks=pytest.mark.postgres),
    pytest.param(["sqlite", "postgresql"], id="sqlite+postgresql", marks=pytest.mark.postgres),
    pytest.param(["postgresql", "postgresql2", "sqlite"], id="three", marks=pytest.mark.postgres),
    pytest.param(["mariadb", "postgresql"], id="mariadb+postgresql", marks=[pytest.mark.postgres, pytest.mark.mariadb]),
    pytest.param(["mariadb", "sqlite"], id="mariadb+sqlite", marks=pytest.mark.mariadb),
    pytest.param(
        ["mariadb", "postgresql", "mariadb2"], id="two-of-mariadb", marks=[pytest.mark.postgres, pytest.mark.mariadb]
    ),
]
"""Which databases the first, second and third are; in the order in which their rows are written."""


@pytest.fixture(scope="session")
def second_postgres() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster()
    yield cluster
    cluster.stop()


async def emptied(cluster: PostgresCluster, database: str) -> str:
    """Name a database in which there is nothing, not even something prepared."""
    admin = await asyncpg.connect(cluster.url(driver="postgresql"))
    try:
        if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await admin.execute(f"CREATE DATABASE {database}")
    finally:
        await admin.close()
    connection = await asyncpg.connect(cluster.url(database, driver="postgresql"))
    try:
        for (gid,) in await connection.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
            await connection.execute(f"ROLLBACK PREPARED '{gid}'")
        await connection.execute(EMPTY_DATABASE)
    finally:
        await connection.close()
    return cluster.url(database)


_CLUSTERS = {
    "postgresql": "postgres",
    "psycopg": "postgres",
    "neighbour": "postgres",
    "postgresql2": "second_postgres",
    "mariadb": "mariadb",
}


@pytest.fixture
def clusters(request: pytest.FixtureRequest, kinds: list[str]) -> dict[str, Any]:
    """Start the servers that are needed."""
    return {kind: request.getfixturevalue(_CLUSTERS[kind]) for kind in kinds if kind in _CLUSTERS}


@pytest.fixture
async def mariadb_urls(kinds: list[str], clusters: dict[str, Any]) -> dict[str, str]:
    """Name two databases of one server."""
    if "mariadb" not in kinds:
        return {}
    url = await emptied_mariadb(clusters["mariadb"])
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("CREATE DATABASE other")
    await engine.dispose()
    return {"mariadb": url, "mariadb2": clusters["mariadb"].url("other")}


@pytest.fixture
async def urls(kinds: list[str], clusters: dict[str, Any], mariadb_urls: dict[str, str], tmp_path: Path) -> list[str]:
    """Name the databases."""
    return [
        mariadb_urls[kind]
        if kind in mariadb_urls
        else (await emptied(clusters[kind], "neighbour" if kind == "neighbour" else "postgres")).replace(
            "+asyncpg", "+psycopg" if kind == "psycopg" else "+asyncpg"
        )
        if kind in clusters
        else f"{kind}+aiosqlite:///{tmp_path}/local.db"
        for kind in kinds
    ]


@pytest.fixture(params=KINDS)
def kinds(request: pytest.FixtureRequest) -> list[str]:
    """Say which databases take part."""
    found: list[str] = request.param
    return found


@pytest.fixture
async def observers(urls: list[str]) -> AsyncIterator[list[AsyncEngine]]:
    """Open engines to look from outside; at the end nothing may be prepared."""
    engines = [create_async_engine(url) for url in urls]
    for engine, classes in zip(engines, PLACES, strict=False):
        await make_tables(engine, *classes)
    yield engines
    left = await prepared(engines)
    for engine in engines:
        await engine.dispose()
    assert left == []


@pytest.fixture
async def engines(urls: list[str], observers: list[AsyncEngine]) -> AsyncIterator[list[AsyncEngine]]:
    """Open the engines of the sessions; at the end nobody may hold a connection."""
    engines = [create_async_engine(url) for url in urls]
    yield engines
    holders = [str(holder) for engine in engines for holder in engine.pool.status().holders]
    for engine in engines:
        await engine.dispose()
    assert not holders


@pytest.fixture
def maker(engines: list[AsyncEngine]) -> async_sessionmaker[AsyncSession]:
    """Make sessions whose databases commit as one."""
    return async_sessionmaker(binds=binds_of(engines), twophase=TwoPhase(app=APP))
