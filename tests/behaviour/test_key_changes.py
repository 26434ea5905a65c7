"""Natural keys: what happens to children, in the database and in memory, when a primary key changes."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, String, Table, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    create_async_engine,
    mapped_column,
    relationship,
)
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Country(Base):
    """The database carries its key to its towns."""

    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(10), primary_key=True)
    name: Mapped[str | None]
    towns: Mapped[list["Town"]] = relationship(back_populates="country")
    streets: Mapped[list["Street"]] = relationship(viewonly=True, primaryjoin="Country.code == foreign(Street.country)")


class Town(Base):
    """Has the key of its country in its own."""

    __tablename__ = "town"
    country_code: Mapped[str] = mapped_column(ForeignKey("country.code", onupdate="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    country: Mapped[Country] = relationship(back_populates="towns")
    streets: Mapped[list["Street"]] = relationship(back_populates="town")


class Street(Base):
    """Its foreign key follows through two tables."""

    __tablename__ = "street"
    __table_args__ = (
        ForeignKeyConstraint(["country", "town_name"], ["town.country_code", "town.name"], onupdate="CASCADE"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str | None] = mapped_column(String(10))
    town_name: Mapped[str | None] = mapped_column(String(20))
    town: Mapped[Town | None] = relationship(back_populates="streets")


def _orbit(name: str, **options: Any) -> Table:
    return Table(
        name,
        Base.metadata,
        Column("planet_name", ForeignKey("planet.name", **options), primary_key=True),
        Column("probe_id", ForeignKey("probe.id"), primary_key=True),
    )


carried_orbit = _orbit("carried_orbit", onupdate="CASCADE")
orbit = _orbit("orbit", deferrable=True, initially="DEFERRED")


class Probe(Base):
    __tablename__ = "probe"
    id: Mapped[int] = mapped_column(primary_key=True)
    visited: Mapped[list["Planet"]] = relationship(secondary=orbit, back_populates="visitors")


class Planet(Base):
    """We carry its key to its moons."""

    __tablename__ = "planet"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    moons: Mapped[list["Moon"]] = relationship(back_populates="planet", passive_updates=False)
    probes: Mapped[list[Probe]] = relationship(secondary=carried_orbit)
    visitors: Mapped[list[Probe]] = relationship(secondary=orbit, back_populates="visited", passive_updates=False)


class Moon(Base):
    __tablename__ = "moon"
    id: Mapped[int] = mapped_column(primary_key=True)
    planet_name: Mapped[str | None] = mapped_column(ForeignKey("planet.name", deferrable=True, initially="DEFERRED"))
    planet: Mapped[Planet | None] = relationship(back_populates="moons")


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine whose database minds foreign keys."""
    arguments = {"pragmas": {"foreign_keys": "ON"}} if database_url.startswith("sqlite") else {}
    made = create_async_engine(database_url, connect_args=arguments)
    async with made.begin() as connection:
        await connection.create_all(Base.metadata)
    yield made
    await made.dispose()


@pytest.fixture(autouse=True)
def _quiet(statements: StatementLog) -> None:
    statements.clear()


async def _world(session: AsyncSession) -> Country:
    street = Street()
    country = Country(code="a", towns=[Town(name="x", streets=[street]), Town(name="y")])
    session.add(country)
    await session.commit()
    return country


async def test_loaded_children_keep_in_step_where_the_database_carries_the_key(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        country = await _world(session)
        first, second = country.towns
        (street,) = first.streets
        await session.refresh(country)
        statements.clear()

        country.code = "b"
        await session.flush()

        assert [event.kind for event in statements.statements] == ["UPDATE"]
        assert (first.country_code, second.country_code, street.country) == ("b", "b", "b")
        assert not session.dirty
        assert await session.get(Town, ("b", "x")) is first
        assert await session.get(Town, ("a", "x")) is None
        first.streets.append(Street())
        await session.commit()
        assert {found.country for found in await session.scalars(select(Street))} == {"b"}


async def test_children_loaded_by_a_query_of_their_own_keep_in_step(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await _world(session)
    async with AsyncSession(engine) as session:
        country = await session.get_one(Country, "a")
        towns = (await session.scalars(select(Town).order_by(Town.name))).all()

        country.code = "b"
        await session.flush()

        assert [town.country_code for town in towns] == ["b", "b"]
        assert await session.get(Town, ("b", "y")) is towns[1]


async def test_rollback_brings_back_the_keys_of_children(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        country = await _world(session)
        town = country.towns[0]
        country.code = "b"
        await session.flush()

        await session.rollback()

        assert (country.code, town.country_code, town.streets[0].country) == ("a", "a", "a")
        assert await session.get(Town, ("a", "x")) is town
        assert await session.get(Country, "a") is country


async def test_a_child_that_moves_away_in_the_same_flush_is_not_taken_along(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        country = await _world(session)
        town, other = country.towns[0], Country(code="c")
        session.add(other)
        await session.flush()

        country.code = "b"
        town.country = other
        await session.commit()

        assert (town.country_code, country.towns[0].country_code) == ("c", "b")
        stored = await session.execute(select(Town.country_code, Town.name).order_by(Town.name))
        assert [tuple(row) for row in stored] == [("c", "x"), ("b", "y")]


async def test_a_new_child_of_a_parent_that_changes_its_key_gets_the_new_one(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        country = await _world(session)
        country.code = "b"
        country.towns.append(Town(name="z"))

        await session.commit()

        assert {town.country_code for town in country.towns} == {"b"}


@pytest.mark.without("mariadb", reason="foreign keys cannot wait for the end of the transaction there")
async def test_we_carry_the_key_where_the_database_does_not(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Planet(name=f"p{n}", moons=[Moon(), Moon()]) for n in range(3)])
        await session.commit()
    async with AsyncSession(engine) as session:
        planets = (await session.scalars(select(Planet).order_by(Planet.name))).all()
        statements.clear()

        for planet in planets:
            planet.name += "!"
        await session.commit()

        assert len(statements.of_kind("SELECT")) == 2  # moons, and visitors
        assert [moon.planet_name for moon in planets[0].moons] == ["p0!", "p0!"]
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM moon WHERE planet_name LIKE 'p_!'")) == 6


@pytest.mark.parametrize(("relation", "table"), [("probes", carried_orbit), ("visitors", orbit)])
@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.without("mariadb", reason="foreign keys cannot wait for the end of the transaction there")
async def test_connecting_rows_follow_a_key_whoever_carries_it(
    engine: AsyncEngine, observer: AsyncEngine, relation: str, table: Table, is_loaded: bool
) -> None:
    async with AsyncSession(engine) as session:
        probes = [Probe(), Probe(), Probe()]
        session.add_all([Planet(name=f"p{n}", **{relation: probes[:2]}) for n in range(2)])
        session.add(probes[2])
        await session.commit()
        planet = await session.get_one(Planet, "p0")
        if is_loaded:
            await session.load(planet, Planet.probes, Planet.visitors)
            getattr(planet, relation).remove(probes[0])
            getattr(planet, relation).append(probes[2])

        planet.name = "q"
        await session.commit()

        kept = probes[1:] if is_loaded else probes[:2]
        expected = {("q", probe.id) for probe in kept} | {("p1", probe.id) for probe in probes[:2]}
    async with observer.connect() as connection:
        assert {tuple(row) for row in await connection.execute(select(table))} == expected


async def _check_memory(
    session: AsyncSession, countries: list[Country], towns: list[Town], streets: list[Street]
) -> None:
    """What objects say is what the database says, and they are found by the keys they have."""
    assert {country.code for country in countries} == set(await session.scalars(select(Country.__table__.c.code)))
    stored = await session.execute(select(Town.__table__.c.country_code, Town.__table__.c.name))
    assert {(town.country_code, town.name) for town in towns} == {tuple(row) for row in stored}
    table = Street.__table__
    stored = await session.execute(select(table.c.id, table.c.country, table.c.town_name))
    assert {(street.id, street.country, street.town_name) for street in streets} == {tuple(row) for row in stored}
    for country in countries:
        assert session.identity_map.get((Country, (country.code,), None)) is country
    for town in towns:
        assert session.identity_map.get((Town, (town.country_code, town.name), None)) is town
        assert town.country_code == town.country.code
    for street in streets:
        assert street.town is None or (street.country, street.town_name) == (street.town.country_code, street.town.name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_keys_change_memory_says_what_the_database_says(
    engine: AsyncEngine, data: st.DataObject
) -> None:
    names = iter(range(1000))
    async with AsyncSession(engine) as session:
        countries = [Country(code=f"c{n}") for n in range(3)]
        towns = [Town(country=countries[n % 3], name=f"t{n}") for n in range(5)]
        streets = [Street(town=towns[n % 5]) for n in range(7)]
        session.add_all([*countries, *towns, *streets])
        await session.flush()

        for _ in range(3):
            for country in data.draw(st.sets(st.sampled_from(countries), max_size=2)):
                country.code = f"d{next(names)}"
            for town in data.draw(st.sets(st.sampled_from(towns), max_size=3)):
                if data.draw(st.booleans()):
                    town.name = f"u{next(names)}"
                else:
                    town.country = data.draw(st.sampled_from(countries))
            for street in data.draw(st.sets(st.sampled_from(streets), max_size=3)):
                street.town = data.draw(st.sampled_from([None, *towns]))
            await session.flush()
            await _check_memory(session, countries, towns, streets)

        await session.rollback()
        assert [country.code for country in countries] == ["c0", "c1", "c2"]
        assert [town.name for town in towns] == [f"t{n}" for n in range(5)]
