"""What does the service ask the database? Every statement of the atlas; each loads what its answer shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from aiosession import AsyncSession, Load
from aiosession.ext.fastapi import load_options
from examples.atlas import schemas
from examples.atlas.models import Airport, Country, Subdivision, TimeZone

COUNTRY_ITEM = load_options(schemas.CountryItem, Country)
COUNTRY_DETAIL = load_options(schemas.CountryDetail, Country)
SUBDIVISION_DETAIL = load_options(schemas.SubdivisionDetail, Subdivision)
AIRPORT_ITEM = load_options(schemas.AirportItem, Airport)
AIRPORT_DETAIL = load_options(schemas.AirportDetail, Airport)


@dataclass(frozen=True)
class Listing:
    """One page of entities, and how many there are in all."""

    total: int
    limit: int
    offset: int
    items: Sequence[object]


async def page(
    session: AsyncSession, statement: Select[Any], options: Sequence[Load], *, limit: int, offset: int
) -> Listing:
    """Count what *statement* selects and load one page of it."""
    total = await session.scalar(select(func.count()).select_from(statement.order_by(None).subquery()))
    rows = await session.scalars(statement.options(*options).limit(limit).offset(offset))
    return Listing(total or 0, limit, offset, rows.all())


def countries() -> Select[Country]:
    """Select all countries."""
    return select(Country).order_by(Country.name)


async def country(session: AsyncSession, code: str) -> Country | None:
    """Return one country with its time zones and subdivisions."""
    return await session.get(Country, code, options=COUNTRY_DETAIL)


async def subdivision(session: AsyncSession, code: str) -> Subdivision | None:
    """Return one subdivision with what is around it and inside it."""
    return await session.get(Subdivision, code, options=SUBDIVISION_DETAIL)


async def count_airports(session: AsyncSession, subdivision_code: str) -> int:
    """Count the airports of a subdivision."""
    counted = select(func.count()).select_from(Airport).where(Airport.subdivision_code == subdivision_code)
    return await session.scalar(counted) or 0


def airports(*, country_code: str | None, subdivision_code: str | None, text: str | None) -> Select[Airport]:
    """Select airports by where they lie, or by a part of name, city or code."""
    statement = select(Airport).order_by(Airport.icao)
    if country_code is not None:
        statement = statement.where(Airport.country_code == country_code)
    if subdivision_code is not None:
        statement = statement.where(Airport.subdivision_code == subdivision_code)
    if text is not None:
        statement = statement.where(mentions(text))
    return statement


def mentions(text: str) -> ColumnElement[bool]:
    """Build the condition that an airport's name or city contains *text*, or that it is one of its codes."""
    return or_(
        Airport.name.icontains(text, autoescape=True),
        Airport.city.icontains(text, autoescape=True),
        Airport.icao == text.upper(),
        Airport.iata == text.upper(),
    )


async def airport(session: AsyncSession, icao: str) -> Airport | None:
    """Return one airport with all that its page shows."""
    return await session.scalar(select(Airport).where(Airport.icao == icao).options(*AIRPORT_DETAIL))


async def airport_for_update(session: AsyncSession, icao: str) -> Airport | None:
    """Return one airport and keep others from changing it until the transaction ends."""
    return await session.scalar(select(Airport).where(Airport.icao == icao).with_for_update())


async def time_zone(session: AsyncSession, name: str) -> TimeZone | None:
    """Return the time zone of that name."""
    return await session.scalar(select(TimeZone).where(TimeZone.name == name))
