"""The atlas on both databases: what it loads, what it answers, what it refuses."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession
from aiosession.testing.statements import StatementLog
from examples.atlas.database import is_filled, rebuild
from examples.atlas.loader import Loaded, SubdivisionIndex, load, read_source
from examples.atlas.models import Airport, Country, Subdivision, TimeZone, Transfer
from examples.atlas.service import create_app

COUNTRIES = ("IS", "AZ", "XK")
KEFLAVIK = "BIKF"


@pytest.fixture
async def loaded(engine: AsyncEngine) -> Loaded:
    await rebuild(engine)
    async with AsyncSession(engine) as session:
        return await load(session, read_source(COUNTRIES))


@pytest.fixture
async def client(engine: AsyncEngine, loaded: Loaded) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://atlas") as client,
    ):
        yield client


def new_airport(**changes: object) -> dict[str, object]:
    return {
        "icao": "ZZ99",
        "name": "Surtsey",
        "latitude": 63.303,
        "longitude": -20.605,
        "country": "IS",
        "subdivision": "IS-8",
        "time_zone": "Atlantic/Reykjavik",
        **changes,
    }


async def test_all_records_become_rows_with_their_relations(engine: AsyncEngine, loaded: Loaded) -> None:
    async with AsyncSession(engine) as session:
        counts = {
            kind: await session.scalar(select(func.count()).select_from(kind))
            for kind in (Country, Subdivision, TimeZone, Airport)
        }
        keflavik = (await session.scalars(select(Airport).where(Airport.icao == KEFLAVIK))).one()
        await session.load(keflavik, Airport.country, Airport.time_zone)
        await session.load(keflavik.country, Country.time_zones)
        nakhchivan = await session.get_one(Subdivision, "AZ-NX")
        await session.load(nakhchivan, Subdivision.children)

    assert list(counts.values()) == list(loaded.counts.values())
    assert keflavik.country.name == "Iceland"
    assert keflavik.country.time_zones == [keflavik.time_zone]
    assert {child.code for child in nakhchivan.children} >= {"AZ-BAB", "AZ-CUL"}


async def test_airports_without_a_known_subdivision_stay_with_their_country(
    engine: AsyncEngine, loaded: Loaded
) -> None:
    async with AsyncSession(engine) as session:
        lost = (await session.scalars(select(Airport).where(Airport.subdivision_code.is_(None)))).all()

    assert len(lost) == loaded.without_subdivision
    assert {airport.country_code for airport in lost} >= {"XK"}


async def test_an_empty_database_is_seen_as_such(engine: AsyncEngine) -> None:
    assert not await is_filled(engine)


def test_subdivisions_are_found_whatever_their_accents() -> None:
    index = SubdivisionIndex([Subdivision(code="CA-QC", name="Québec", kind="Province")])

    assert index.find("CA", "Quebec") is not None
    assert index.find("CA", "") is None
    assert index.find("US", "Quebec") is None


async def test_lists_come_in_pages(client: httpx.AsyncClient) -> None:
    countries = (await client.get("/countries", params={"limit": 1, "offset": 1})).json()
    airports = (await client.get("/airports", params={"country": "IS", "limit": 2})).json()

    assert (countries["total"], [item["code"] for item in countries["items"]]) == (3, ["IS"])
    assert airports["total"] > 50
    assert len(airports["items"]) == 2


async def test_details_show_relations(client: httpx.AsyncClient) -> None:
    country = (await client.get("/countries/is")).json()
    subdivision = (await client.get("/subdivisions/AZ-NX")).json()
    airport = (await client.get(f"/airports/{KEFLAVIK}")).json()

    assert country["time_zones"] == [{"name": "Atlantic/Reykjavik"}]
    assert {"AZ-BAB", "AZ-CUL"} <= {child["code"] for child in subdivision["children"]}
    assert subdivision["country"]["name"] == "Azerbaijan"
    assert airport["time_zone"] == {"name": "Atlantic/Reykjavik"}
    assert airport["transfers"] == []


async def test_the_search_looks_at_names_cities_and_codes(client: httpx.AsyncClient) -> None:
    by_name = (await client.get("/airports", params={"q": "keflavik"})).json()
    by_code = (await client.get("/airports", params={"q": "kef"})).json()
    for_percent = (await client.get("/airports", params={"q": "%%"})).json()

    assert KEFLAVIK in [item["icao"] for item in by_name["items"]]
    assert KEFLAVIK in [item["icao"] for item in by_code["items"]]
    assert for_percent["total"] == 0


async def test_an_airport_can_be_created_changed_and_deleted(client: httpx.AsyncClient) -> None:
    created = await client.post("/airports", json=new_airport())
    changed = await client.patch("/airports/ZZ99", json={"name": "Surtsey International", "iata": "SUR"})
    stored = await client.get("/airports/ZZ99")
    deleted = await client.delete("/airports/ZZ99")
    gone = await client.get("/airports/ZZ99")

    assert (created.status_code, created.headers["location"]) == (201, "/airports/ZZ99")
    assert created.json()["subdivision"]["code"] == "IS-8"
    assert changed.json() == stored.json() == {**created.json(), "name": "Surtsey International", "iata": "SUR"}
    assert (deleted.status_code, gone.status_code) == (204, 404)


@pytest.mark.parametrize(
    "changes",
    [
        {"latitude": 91},
        {"icao": "toolong"},
        {"name": " "},
        {"country": "QQ"},
        {"time_zone": "Mars/Olympus"},
        {"subdivision": "AZ-NX"},
        {"subdivision": "IS-99"},
        {"colour": "red"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_body_that_makes_no_sense_is_unprocessable(
    client: httpx.AsyncClient, changes: dict[str, object]
) -> None:
    answer = await client.post("/airports", json=new_airport(**changes))

    assert answer.status_code == 422
    assert (await client.get("/airports/ZZ99")).status_code == 404


@pytest.mark.parametrize("path", ["/countries/QQ", "/subdivisions/QQ-1", "/airports/QQQQ"])
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_a_code_that_is_taken_is_a_conflict(client: httpx.AsyncClient) -> None:
    await client.post("/airports", json=new_airport())

    again = await client.post("/airports", json=new_airport())
    stolen = await client.patch("/airports/ZZ99", json={"iata": "KEF", "name": "Other"})

    assert (again.status_code, stolen.status_code) == (409, 409)
    assert (await client.get("/airports/ZZ99")).json()["name"] == "Surtsey"


@pytest.mark.without("mariadb", reason="it stores no time zones")
async def test_a_transfer_moves_the_airport_and_writes_the_ledger(client: httpx.AsyncClient) -> None:
    await client.post("/airports", json=new_airport())

    moved = await client.post("/airports/ZZ99/transfers", json={"to": "IS-7", "reason": "redistricting"})

    entry = moved.json()["transfers"][0]
    assert moved.status_code == 201
    assert moved.json()["subdivision"]["code"] == "IS-7"
    assert (entry["from_code"], entry["to_code"], entry["reason"]) == ("IS-8", "IS-7", "redistricting")


@pytest.mark.without("mariadb", reason="it stores no time zones")
async def test_a_refused_transfer_changes_nothing(engine: AsyncEngine, client: httpx.AsyncClient) -> None:
    before = (await client.post("/airports", json=new_airport())).json()

    same_place = await client.post("/airports/ZZ99/transfers", json={"to": "IS-8", "reason": "nowhere"})
    abroad = await client.post("/airports/ZZ99/transfers", json={"to": "AZ-NX", "reason": "abroad"})

    assert (same_place.status_code, abroad.status_code) == (409, 422)
    assert (await client.get("/airports/ZZ99")).json() == before
    async with AsyncSession(engine) as session:
        assert await session.scalar(select(func.count()).select_from(Transfer)) == 0


async def test_a_page_costs_the_same_whatever_its_length(client: httpx.AsyncClient, statements: StatementLog) -> None:
    await client.get("/airports", params={"limit": 1})
    short = statements.count
    statements.clear()
    await client.get("/airports", params={"limit": 100})

    assert short == statements.count == 2
