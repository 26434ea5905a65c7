"""How does the atlas answer HTTP? A session per request, committed before its answer, which is read from entities."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Response, status

from aiosession import AsyncEngine
from aiosession.ext.fastapi import AsyncSessionMiddleware, SessionDep, health, lifespan
from examples.atlas import queries, schemas
from examples.atlas.database import Session
from examples.atlas.models import Airport, Country
from examples.atlas.refusals import add_refusals, described, not_found, unprocessable
from examples.atlas.transfers import subdivision_in, transfer

Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0)]
Countries = schemas.Page[schemas.CountryItem]
Airports = schemas.Page[schemas.AirportItem]

NOT_FOUND = described(404)
CONFLICT = described(409)

router = APIRouter(responses=described(422, 500, 503))


def create_app(engine: AsyncEngine) -> FastAPI:
    """Make the service over *engine*; it disposes of the engine when it stops."""
    app = FastAPI(title="Atlas", summary="The world's airports", lifespan=lifespan(engine))
    Session.configure(bind=engine)
    app.add_middleware(AsyncSessionMiddleware, sessions=Session)
    add_refusals(app)
    app.add_route("/health", health(engine))
    app.include_router(router)
    return app


@router.get("/countries")
async def list_countries(session: SessionDep, limit: Limit = 50, offset: Offset = 0) -> Countries:
    """List the countries, page by page."""
    listing = await queries.page(session, queries.countries(), queries.COUNTRY_ITEM, limit=limit, offset=offset)
    return Countries.model_validate(listing)


@router.get("/countries/{code}", response_model=schemas.CountryDetail, responses=NOT_FOUND)
async def show_country(code: str, session: SessionDep) -> Country:
    """Show a country with its time zones and subdivisions."""
    country = await queries.country(session, code.upper())
    return country if country is not None else not_found("country", code)


@router.get("/subdivisions/{code}", responses=NOT_FOUND)
async def show_subdivision(code: str, session: SessionDep) -> schemas.SubdivisionDetail:
    """Show a subdivision with what it lies in, what lies in it, and how many airports it has."""
    subdivision = await queries.subdivision(session, code.upper())
    if subdivision is None:
        not_found("subdivision", code)
    answer = schemas.SubdivisionDetail.model_validate(subdivision)
    answer.airport_count = await queries.count_airports(session, subdivision.code)
    return answer


@router.get("/airports")
async def list_airports(
    session: SessionDep,
    country: schemas.CountryCode | None = None,
    subdivision: schemas.SubdivisionCode | None = None,
    q: Annotated[str | None, Query(min_length=2, max_length=80)] = None,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Airports:
    """List or search airports, page by page."""
    statement = queries.airports(country_code=country, subdivision_code=subdivision, text=q)
    listing = await queries.page(session, statement, queries.AIRPORT_ITEM, limit=limit, offset=offset)
    return Airports.model_validate(listing)


@router.get("/airports/{icao}", response_model=schemas.AirportDetail, responses=NOT_FOUND)
async def show_airport(icao: str, session: SessionDep) -> Airport:
    """Show an airport with everything around it."""
    airport = await queries.airport(session, icao.upper())
    return airport if airport is not None else not_found("airport", icao)


@router.post("/airports", response_model=schemas.AirportDetail, status_code=201, responses=CONFLICT)
async def create_airport(body: schemas.AirportCreate, session: SessionDep, response: Response) -> Airport:
    """Add an airport."""
    airport = Airport(
        **body.model_dump(exclude={"country", "subdivision", "time_zone"}),
        country=await session.get(Country, body.country) or unprocessable(f"no country {body.country}"),
        subdivision=await subdivision_in(session, body.subdivision, body.country) if body.subdivision else None,
        time_zone=await queries.time_zone(session, body.time_zone) or unprocessable(f"no time zone {body.time_zone}"),
    )
    session.add(airport)
    response.headers["location"] = f"/airports/{airport.icao}"
    return airport


@router.patch("/airports/{icao}", response_model=schemas.AirportDetail, responses=NOT_FOUND | CONFLICT)
async def patch_airport(icao: str, body: schemas.AirportPatch, session: SessionDep) -> Airport:
    """Change some attributes of an airport."""
    airport = await queries.airport(session, icao.upper()) or not_found("airport", icao)
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(airport, name, value)
    return airport


@router.delete("/airports/{icao}", status_code=204, responses=NOT_FOUND)
async def delete_airport(icao: str, session: SessionDep) -> Response:
    """Remove an airport and its part of the ledger."""
    airport = await queries.airport(session, icao.upper()) or not_found("airport", icao)
    await session.delete(airport)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post(
    "/airports/{icao}/transfers",
    response_model=schemas.AirportDetail,
    status_code=201,
    responses=NOT_FOUND | CONFLICT,
)
async def transfer_airport(icao: str, body: schemas.TransferCreate) -> Airport:
    """Move an airport to another subdivision of its country and write that into the ledger: both or neither."""
    return await transfer(icao.upper(), body.to, body.reason)
