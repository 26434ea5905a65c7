"""Where decisions are kept: one table, found, made and shared; and a server that prepares nothing may have it."""

import asyncio
from collections.abc import Iterator

import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, async_sessionmaker, create_async_engine, recover
from aiosession.errors import (
    InvalidRequestError,
    ProgrammingError,
)
from aiosession.testing.postgres import PostgresCluster
from aiosession.transaction.recovery import Action
from tests.two_phase.checks import is_everywhere
from tests.two_phase.leftovers import age, ask, leave
from tests.two_phase.model import APP, Base, Order, add_unit, binds_of, prepared

Engines = list[AsyncEngine]
Maker = async_sessionmaker[AsyncSession]
TWO = ["postgresql", "postgresql2"]

pytestmark = [pytest.mark.postgres, pytest.mark.parametrize("kinds", [TWO], ids="+".join)]


@pytest.mark.parametrize(
    ("table", "schema"), [("choices", None), ("aiosession_decision", "ours"), ("Odd name", "ours")]
)
async def test_the_table_may_be_anywhere(engines: Engines, observers: Engines, table: str, schema: str | None) -> None:
    if schema:
        for observer in observers:
            await ask(observer, f"CREATE SCHEMA {schema}")
    unit = await leave(engines, TwoPhase(app=APP, table=table, schema=schema), is_decided=True)

    assert [each.action for each in await recover(observers, app=APP)] == [Action.NO_DECIDER]
    (found,) = await recover(observers, app=APP, table=table, schema=schema)
    assert found.action is Action.COMMITTED
    assert await is_everywhere(observers, unit)


async def test_there_is_one_table_for_all_tenants(engines: Engines, observers: Engines) -> None:
    """Wherever ``schema_translate_map`` puts the tables of the application."""
    units = []
    for tenant in ("one", "two"):
        theirs = [engine.execution_options(schema_translate_map={None: tenant}) for engine in engines]
        for observer in observers:
            await ask(observer, f"CREATE SCHEMA {tenant}")
            async with observer.execution_options(schema_translate_map={None: tenant}).begin() as connection:
                await connection.create_all(Base.metadata)
        units.append((theirs, await leave(theirs, is_decided=True)))
    assert [each.action for each in await recover(observers, app=APP)] == [Action.COMMITTED] * 2
    for theirs, unit in units:
        assert await is_everywhere(theirs, unit)


async def test_applications_may_share_a_table(engines: Engines, observers: Engines) -> None:
    """Neither settles what is the other's, nor deletes a decision that the other needs."""
    units = {app: await leave(engines, TwoPhase(app=app), is_decided=True) for app in ("one", "two")}
    await age(observers[1], 2)
    for _ in range(2):
        await recover(observers, app="one")
    assert await is_everywhere(observers, units["one"])
    assert len(await prepared(observers)) == 1
    await recover(observers, app="two")
    assert await is_everywhere(observers, units["two"])


async def test_names_of_applications_are_taken_literally(engines: Engines, observers: Engines) -> None:
    unit = await leave(engines, TwoPhase(app="a-b"), is_decided=True)
    for app in ("a.b", "a", "a-", ".-."):
        assert await recover(observers, app=app) == []
    (found,) = await recover(observers, app="a-b")
    assert found.is_settled
    assert await is_everywhere(observers, unit)


async def test_many_may_make_the_table_at_the_same_time(engines: Engines, observers: Engines, maker: Maker) -> None:
    async def commit() -> str:
        async with maker() as session:
            unit = add_unit(session, engines)
            await session.commit()
            return unit

    for unit in await asyncio.gather(*(commit() for _ in range(4))):
        assert await is_everywhere(observers, unit)


async def test_a_user_who_may_not_make_the_table_is_told_what_to_do(observers: Engines, urls: list[str]) -> None:
    for observer in observers:
        await ask(
            observer,
            "DO $$ BEGIN CREATE USER guest; EXCEPTION WHEN duplicate_object THEN NULL; END $$ LANGUAGE plpgsql",
        )
        await ask(observer, "REVOKE CREATE ON SCHEMA public FROM public")
        await ask(observer, "GRANT USAGE ON SCHEMA public TO guest")
        await ask(observer, "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
        await ask(observer, "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest")
    guests = [create_async_engine(url.replace("postgres@", "guest@")) for url in urls]
    async with AsyncSession(binds=binds_of(guests), twophase=TwoPhase(app=APP)) as session:
        add_unit(session, guests)
        with pytest.raises(ProgrammingError) as caught:
            await session.commit()
        await session.rollback()
    assert any("aiosession.decision_table(metadata)" in note for note in caught.value.__notes__)
    assert await recover(guests, app=APP) == []
    for engine in guests:
        await engine.dispose()


# Servers that do not prepare ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unprepared() -> Iterator[PostgresCluster]:
    cluster = PostgresCluster({"max_prepared_transactions": "0"})
    yield cluster
    cluster.stop()


async def test_a_postgresql_as_it_is_by_default_decides(
    engines: Engines, observers: Engines, unprepared: PostgresCluster
) -> None:
    plain = create_async_engine(unprepared.url())
    async with plain.begin() as connection:
        await connection.drop_all(Base.metadata)
        await connection.create_all(Base.metadata)
    mixed = [plain, engines[0]]
    async with observers[0].begin() as connection:
        await connection.create_all(Base.metadata)
    unit = await leave(mixed, is_decided=True)
    (found,) = await recover(mixed, app=APP)
    assert found.action is Action.COMMITTED
    assert await is_everywhere(mixed, unit)

    another = create_async_engine(unprepared.url())
    async with AsyncSession(binds={Order: another, **binds_of([plain])}, twophase=TwoPhase(app=APP)) as session:
        add_unit(session, [plain, another])
        with pytest.raises(InvalidRequestError, match="two such databases cannot commit as one"):
            await session.flush()
        await session.rollback()
    for engine in (plain, another):
        await engine.dispose()
