"""How does the atlas get its data? From packages that carry it, as objects, through one session.

Countries and subdivisions come from ``pycountry`` (ISO 3166), airports and time zones from ``airportsdata``.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import airportsdata
import pycountry

from aiosession import AsyncSession
from examples.atlas.models import Airport, Country, Subdivision, TimeZone

AIRPORTS_PER_FLUSH = 4_000

# In use by airports, but user-assigned: not part of ISO 3166.
USER_ASSIGNED = {"XK": ("XKX", "Kosovo")}

Record = Mapping[str, Any]
Progress = Callable[[int], None]


@dataclass
class Source:
    """The raw records, as the packages hand them out."""

    countries: Sequence[Any]
    subdivisions: Sequence[Any]
    airports: Sequence[Record]

    def __len__(self) -> int:
        return len(self.countries) + len(self.subdivisions) + len(self.airports)


@dataclass
class Loaded:
    """What a load has written."""

    counts: dict[str, int] = field(default_factory=dict)
    without_subdivision: int = 0
    seconds: float = 0.0

    @property
    def objects(self) -> int:
        return sum(self.counts.values())


def read_source(countries: Iterable[str] | None = None) -> Source:
    """Read everything, or only the countries with these codes."""
    wanted = None if countries is None else set(countries)
    airports = airportsdata.load("ICAO").values()
    return Source(
        countries=[item for item in pycountry.countries if wanted is None or item.alpha_2 in wanted],
        subdivisions=[item for item in pycountry.subdivisions if wanted is None or item.country_code in wanted],
        airports=[item for item in airports if wanted is None or item["country"] in wanted],
    )


async def load(session: AsyncSession, source: Source, progress: Progress = lambda _count: None) -> Loaded:
    """Write *source* in one transaction; *progress* is called with the number of records done since the last call.

    Nothing here cares about order: relations say what belongs together, the flush finds out what goes first.
    """
    began = perf_counter()
    countries = build_countries(source)
    subdivisions = build_subdivisions(source, countries)
    time_zones = build_time_zones(source, countries)
    session.add_all(countries.values())
    session.add_all(time_zones.values())
    await session.flush()
    progress(len(source.countries) + len(source.subdivisions))

    loaded = Loaded(
        counts={
            "countries": len(countries),
            "subdivisions": len(subdivisions),
            "time zones": len(time_zones),
            "airports": len(source.airports),
        }
    )
    find = SubdivisionIndex(subdivisions.values()).find
    for start in range(0, len(source.airports), AIRPORTS_PER_FLUSH):
        chunk = source.airports[start : start + AIRPORTS_PER_FLUSH]
        airports = [build_airport(record, countries, time_zones, find) for record in chunk]
        loaded.without_subdivision += sum(airport.subdivision is None for airport in airports)
        session.add_all(airports)
        await session.flush()
        progress(len(chunk))

    await session.commit()
    loaded.seconds = perf_counter() - began
    return loaded


def build_countries(source: Source) -> dict[str, Country]:
    """Make the countries, by code."""
    countries = {
        item.alpha_2: Country(
            code=item.alpha_2,
            alpha_3=item.alpha_3,
            name=item.name,
            official_name=getattr(item, "official_name", None),
            flag=getattr(item, "flag", None),
        )
        for item in source.countries
    }
    for code in {record["country"] for record in source.airports} - countries.keys():
        alpha_3, name = USER_ASSIGNED[code]
        countries[code] = Country(code=code, alpha_3=alpha_3, name=name)
    return countries


def build_subdivisions(source: Source, countries: dict[str, Country]) -> dict[str, Subdivision]:
    """Make the subdivisions, each in its country and inside its parent."""
    subdivisions = {
        item.code: Subdivision(code=item.code, name=item.name, kind=item.type, country=countries[item.country_code])
        for item in source.subdivisions
    }
    for item in source.subdivisions:
        if item.parent_code is not None:
            subdivisions[item.code].parent = subdivisions.get(item.parent_code)
    return subdivisions


def build_time_zones(source: Source, countries: dict[str, Country]) -> dict[str, TimeZone]:
    """Make the time zones that airports lie in; a country has those of its airports."""
    pairs = sorted({(record["tz"], record["country"]) for record in source.airports})
    time_zones = {name: TimeZone(name=name) for name in sorted({name for name, _code in pairs})}
    for name, code in pairs:
        countries[code].time_zones.append(time_zones[name])
    return time_zones


def build_airport(
    record: Record,
    countries: dict[str, Country],
    time_zones: dict[str, TimeZone],
    find_subdivision: Callable[[str, str], Subdivision | None],
) -> Airport:
    """Make one airport; where no subdivision is found it stays with its country alone."""
    return Airport(
        icao=record["icao"],
        iata=record["iata"] or None,
        name=record["name"],
        city=record["city"] or None,
        elevation_ft=record["elevation"],
        latitude=record["lat"],
        longitude=record["lon"],
        country=countries[record["country"]],
        subdivision=find_subdivision(record["country"], record["subd"]),
        time_zone=time_zones[record["tz"]],
    )


class SubdivisionIndex:
    """Finds a subdivision by country and name, whatever its accents, hyphens and second names."""

    def __init__(self, subdivisions: Iterable[Subdivision]) -> None:
        self._by_name: dict[tuple[str, str], Subdivision] = {}
        second_names: dict[tuple[str, str], Subdivision] = {}
        for subdivision in subdivisions:
            country = subdivision.code[:2]
            self._by_name.setdefault((country, plain(subdivision.name)), subdivision)
            for part in re.split(r"[\[(\])/,]", subdivision.name):
                second_names.setdefault((country, plain(part)), subdivision)
        self._by_name = second_names | self._by_name

    def find(self, country: str, name: str) -> Subdivision | None:
        """Return the subdivision of *country* with that name, if there is one."""
        key = plain(name)
        return self._by_name.get((country, key)) if key else None


def plain(name: str) -> str:
    """Reduce a name to its letters and digits, without case and accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", name.casefold()) if letter.isalnum())
