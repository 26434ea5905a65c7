"""Every driver does what the shipped cases demand."""

import asyncio

import pytest
import uvloop
from sqlalchemy import make_url

from aiosession.drivers.protocol import Driver, DriverOptions
from aiosession.drivers.registry import load_driver
from aiosession.testing.conformance import CASES, Case


def _name(case: Case) -> str:
    return getattr(case, "__name__", "case")


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_driver_conforms(case: Case, driver: Driver) -> None:
    await case(driver)


@pytest.mark.postgres
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("case", CASES, ids=_name)
def test_driver_for_postgresql_conforms_on_uvloop(case: Case, library: str, postgresql_url: str) -> None:
    url = make_url(postgresql_url).set(drivername=f"postgresql+{library}")
    driver = load_driver(url)(url, DriverOptions())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(case, driver))


async def _run(case: Case, driver: Driver) -> None:
    await case(driver)
