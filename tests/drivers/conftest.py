"""A driver for each database, without an engine around it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import make_url

from aiosession.drivers.aiosqlite import AiosqliteDriver
from aiosession.drivers.asyncpg import AsyncpgDriver
from aiosession.drivers.protocol import Driver, DriverOptions
from aiosession.drivers.psycopg import PsycopgDriver
from aiosession.drivers.registry import load_driver


@pytest.fixture
def memory_url() -> str:
    """Name a database in memory."""
    return "sqlite://"


@pytest.fixture(
    params=[
        pytest.param("memory", id="sqlite-memory"),
        pytest.param("sqlite", id="sqlite"),
        pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
        pytest.param("psycopg", id="psycopg", marks=pytest.mark.postgres),
        pytest.param("mariadb", id="mariadb", marks=pytest.mark.mariadb),
    ]
)
def driver_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database; once for each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def driver(driver_url: str) -> AsyncIterator[Driver]:
    """Make a driver for an empty database."""
    url = make_url(driver_url)
    driver = load_driver(url)(url, DriverOptions())
    yield driver
    await driver.dispose()


@pytest.fixture
def asyncpg_driver(postgresql_url: str) -> AsyncpgDriver:
    """Make a driver for PostgreSQL."""
    return AsyncpgDriver(make_url(postgresql_url), DriverOptions())


@pytest.fixture
def psycopg_driver(psycopg_url: str) -> PsycopgDriver:
    """Make a driver for PostgreSQL through psycopg."""
    return PsycopgDriver(make_url(psycopg_url), DriverOptions())


@pytest.fixture
def sqlite_driver(sqlite_url: str) -> AiosqliteDriver:
    """Make a driver for a file that gives up on locks soon."""
    return AiosqliteDriver(make_url(sqlite_url), DriverOptions(connect_args={"timeout": 0.05}))
