"""Fixtures only: the databases that every behaviour test runs on, and ways to look at what happened."""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncmy
import asyncpg
import psycopg  # noqa: F401 - looking for libpq blocks, so that it is not left to the first engine
import pytest
from blockbuster import blockbuster_ctx
from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.ext.compiler import compiles

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.testing import mariadb as mariadb_kit
from aiosession.testing.mariadb import MariadbServer
from aiosession.testing.postgres import HOW_TO_GET, PostgresCluster, find_binaries
from aiosession.testing.statements import StatementLog

MARIADB = pytest.param("mariadb", id="mariadb", marks=pytest.mark.mariadb)
DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
    pytest.param("psycopg", id="psycopg", marks=pytest.mark.postgres),
    MARIADB,
]
TWO_PHASE_DATABASES = [
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
    pytest.param("psycopg", id="psycopg", marks=pytest.mark.postgres),
    MARIADB,
]
"""Those that prepare transactions."""
EMPTY_DATABASE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend';
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name);
        END LOOP;
    END $$;
    CREATE SCHEMA public;
"""
EMPTY_MARIADB = """
    SELECT CONCAT('KILL ', id) FROM information_schema.processlist
    WHERE user = 'aiosession' AND id <> CONNECTION_ID()
    UNION ALL
    SELECT CONCAT('DROP DATABASE `', schema_name, '`') FROM information_schema.schemata
    WHERE schema_name NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the databases that cannot do what a test is about; the marks say why."""
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives to the end: thousands of tests ask it whether something is gone."""
    gc.collect()
    gc.freeze()


def _is_left_out(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    names = set() if callspec is None else set(callspec.id.split("-"))
    return any(mark.args[0] in names for mark in item.iter_markers("without"))


@compiles(ForeignKeyConstraint, "mysql", "mariadb")
def _without_deferrable(constraint: ForeignKeyConstraint, compiler: Any, **options: Any) -> str:
    """Leave out what MariaDB has no word for: its foreign keys are looked at row by row."""
    kept = constraint.deferrable, constraint.initially
    constraint.deferrable = constraint.initially = None
    try:
        return str(compiler.visit_foreign_key_constraint(constraint, **options))
    finally:
        constraint.deferrable, constraint.initially = kept


@pytest.fixture(scope="session", autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """Fail whatever blocks the event loop from within our package."""
    with blockbuster_ctx("aiosession") as detector:
        for function in detector.functions.values():
            # asyncpg looks for ~/.pgpass when it connects without a password
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
        yield


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """Put the levels of our loggers back: ``echo`` sets them for good, and engines made later would log too."""
    yield
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.startswith("aiosession") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    """Start a server for this test process, if there is one to start."""
    if find_binaries() is None:
        pytest.skip(HOW_TO_GET)
    cluster = PostgresCluster()
    yield cluster
    cluster.stop()


@pytest.fixture
async def postgresql_url(postgres: PostgresCluster) -> str:
    """Name a database on the server that has nothing in it and nobody connected."""
    connection = await asyncpg.connect(postgres.url(driver="postgresql"))
    try:
        await connection.execute(EMPTY_DATABASE)
    finally:
        await connection.close()
    return postgres.url()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariadbServer]:
    """Start a server for this test process, if there is one to start."""
    if mariadb_kit.find_binaries() is None:
        pytest.skip(mariadb_kit.HOW_TO_GET)
    with mariadb_kit.mariadb_server() as server:
        yield server


async def emptied_mariadb(server: MariadbServer) -> str:
    """Name a database on a server in which there is nothing else and to which nobody is connected."""
    connection = await asyncmy.connect(host="127.0.0.1", port=server.port, user="aiosession", autocommit=True)
    try:
        cursor = connection.cursor()
        await cursor.execute(EMPTY_MARIADB)
        for statement in [row[0] for row in await cursor.fetchall()]:
            with suppress(asyncmy.errors.OperationalError):  # a connection that has ended in the meantime
                await cursor.execute(statement)
        await cursor.execute("CREATE DATABASE test")
    finally:
        connection.close()
    return server.url()


@pytest.fixture
async def mariadb_url(mariadb: MariadbServer) -> str:
    """Name a database on the server that has nothing in it and nobody connected."""
    return await emptied_mariadb(mariadb)


@pytest.fixture
def psycopg_url(postgresql_url: str) -> str:
    """Name the same database, reached through psycopg."""
    return postgresql_url.replace("+asyncpg", "+psycopg")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Name a file that does not exist yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database; once for each system."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine on an empty database; at the end nobody may hold a connection."""
    asyncio.get_running_loop().set_debug(bool(os.environ.get("AIOSESSION_TEST_DEBUG")))
    engine = create_async_engine(database_url)
    yield engine
    holders = engine.pool.status().holders
    await engine.dispose()
    assert not holders, f"connections were not given back: {[str(holder) for holder in holders]}"


@pytest.fixture
async def observer(database_url: str, engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Open a second engine on the same database, to look at it from outside."""
    observer = create_async_engine(database_url)
    yield observer
    await observer.dispose()


@pytest.fixture
def statements(engine: AsyncEngine) -> StatementLog:
    """Listen to what the engine sends."""
    return StatementLog(engine)
