"""The driver does what aiosession demands of all drivers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from aiosession.drivers.protocol import Driver, DriverFactory, DriverOptions
from aiosession.testing.conformance import CASES, Case
from aiosession_sqlite3 import ThreadsDriver

FACTORY: DriverFactory = ThreadsDriver
"""For the type checker: it compares the class with the protocol, signature by signature."""


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Driver]:
    driver = FACTORY(make_url(f"sqlite+threads:///{tmp_path}/test.db"), DriverOptions())
    yield driver
    await driver.dispose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_driver_conforms(case: Case, driver: Driver) -> None:
    await case(driver)
