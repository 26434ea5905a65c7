"""How does an airport move? In a unit of work of its own, which is repeated when another one was in its way."""

from aiosession import AsyncSession
from examples.atlas import queries
from examples.atlas.database import Session
from examples.atlas.models import Airport, Subdivision, Transfer
from examples.atlas.refusals import not_found, unprocessable


@Session.retrying(attempts=5, timeout=10)
async def transfer(session: AsyncSession, icao: str, to: str, reason: str) -> Airport:
    """Move an airport to another subdivision of its country and write that into the ledger: both or neither."""
    airport = await queries.airport_for_update(session, icao) or not_found("airport", icao)
    target = await subdivision_in(session, to, airport.country_code)
    session.add(Transfer(airport=airport, from_code=airport.subdivision_code, to_code=target.code, reason=reason))
    airport.subdivision = target
    await session.flush()
    await session.load(airport, Airport.country, Airport.subdivision, Airport.time_zone, Airport.transfers)
    return airport


async def subdivision_in(session: AsyncSession, code: str, country_code: str) -> Subdivision:
    """Return the subdivision, which must exist and lie in the country."""
    found = await session.get(Subdivision, code) or unprocessable(f"no subdivision {code}")
    if found.country_code != country_code:
        unprocessable(f"subdivision {code} lies in {found.country_code}, not in {country_code}")
    return found
