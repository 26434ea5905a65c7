"""The transfers of the atlas as a user of the test kit would test them: each test in a transaction that is undone."""

import pytest
from fastapi import HTTPException
from sqlalchemy import MetaData, select

from aiosession import AsyncEngine, AsyncSession, async_scoped_session
from aiosession.testing.assertions import assert_no_n_plus_one
from examples.atlas.database import Session
from examples.atlas.models import Airport, Base, Country, Subdivision, TimeZone, Transfer
from examples.atlas.transfers import transfer


@pytest.fixture(scope="session")
def aiosession_metadata() -> MetaData:
    return Base.metadata


@pytest.fixture
def aiosession_maker(aiosession_engine: AsyncEngine) -> async_scoped_session[AsyncSession]:
    Session.configure(bind=aiosession_engine)
    return Session


@pytest.fixture
async def iceland(aiosession_session: AsyncSession) -> Country:
    country = Country(code="IS", alpha_3="ISL", name="Iceland")
    country.subdivisions = [Subdivision(code=f"IS-{number}", name=f"No. {number}", kind="Region") for number in (1, 2)]
    country.airports = [
        Airport(
            icao="BIKF",
            name="Keflavik",
            elevation_ft=171,
            latitude=63.98,
            longitude=-22.6,
            subdivision=country.subdivisions[0],
            time_zone=TimeZone(name="Atlantic/Reykjavik"),
        )
    ]
    aiosession_session.add(country)
    await aiosession_session.commit()
    return country


async def test_a_transfer_moves_the_airport_and_is_in_the_ledger(
    aiosession_session: AsyncSession, iceland: Country
) -> None:
    async with Session.scope():
        with assert_no_n_plus_one(Session()):
            moved = await transfer("BIKF", "IS-2", "because")
        assert [line.to_code for line in moved.transfers] == ["IS-2"]

    assert (await aiosession_session.scalars(select(Airport.subdivision_code))).all() == ["IS-2"]
    assert (await aiosession_session.scalars(select(Transfer.reason))).all() == ["because"]


@pytest.mark.parametrize(("icao", "to", "status"), [("XXXX", "IS-2", 404), ("BIKF", "IS-9", 422)])
async def test_a_transfer_that_is_refused_leaves_nothing(
    aiosession_session: AsyncSession, iceland: Country, icao: str, to: str, status: int
) -> None:
    async with Session.scope():
        with pytest.raises(HTTPException) as caught:
            await transfer(icao, to, "because")

    assert caught.value.status_code == status
    assert (await aiosession_session.scalars(select(Transfer))).all() == []
