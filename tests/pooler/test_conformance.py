"""Drivers conform behind a pooler too."""

import pytest
from sqlalchemy import make_url

from aiosession.drivers.protocol import DriverOptions
from aiosession.drivers.registry import load_driver
from aiosession.testing.conformance import CASES, Case

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_driver_conforms_behind_a_pooler(case: Case, pooled_url: str) -> None:
    url = make_url(pooled_url)

    await case(load_driver(url)(url, DriverOptions(pooled=True)))
