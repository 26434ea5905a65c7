"""Recovery touches nothing that is not its own: other applications, other users, other names."""

import asyncpg
import pytest
from sqlalchemy import make_url, text

from aiosession import AsyncEngine, AsyncSession, TwoPhase, create_async_engine, recover
from aiosession.errors import InvalidRequestError
from aiosession.transaction import two_phase
from tests.two_phase.model import APP, add_unit, binds_of, prepared, presence

Engines = list[AsyncEngine]

pytestmark = pytest.mark.parametrize("kinds", [["postgresql", "postgresql2"]])


async def decisions(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT app FROM aiosession_decision WHERE app <> '' ORDER BY app"))
        return list(found.scalars())


async def test_decisions_of_another_application_are_not_tidied(engines: Engines, observers: Engines) -> None:
    for app in ("one", "two"):
        async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=app)) as session:
            add_unit(session, engines)
            await session.commit()
    async with observers[1].begin() as connection:
        await connection.execute(text("UPDATE aiosession_decision SET decided_at = now() - interval '2 days'"))

    assert await recover(observers, app="one") == []

    assert await decisions(observers[1]) == ["two"]


async def test_what_another_user_has_prepared_is_told_and_left(engines: Engines, observers: Engines) -> None:
    url = make_url(engines[0].url)
    admin = await asyncpg.connect(engines[0].url.render_as_string().replace("+asyncpg", ""))
    await admin.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
    await admin.execute("GRANT ALL ON SCHEMA public TO stranger; GRANT ALL ON ALL TABLES IN SCHEMA public TO stranger")
    stranger = create_async_engine(url.set(username="stranger"))
    try:
        async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
            unit = add_unit(session, engines)
            await session.prepare()

            (found,) = await recover([stranger, observers[1]], app=APP)

            assert (found.action.value, found.is_settled) == (
                "left: another user of the database has prepared it",
                False,
            )
            await session.commit()
        assert await presence(observers, unit) == [True, True]
    finally:
        await stranger.dispose()
        await admin.execute("DROP OWNED BY stranger; DROP ROLE stranger")
        await admin.close()


@pytest.mark.parametrize("name", ["as1:other:0123456789abcdef0123456789abcdef:1", "as1:test:short:1", "mine"])
async def test_foreign_names_are_left_alone(engines: Engines, observers: Engines, name: str) -> None:
    async with engines[0].connect() as connection:
        transaction = await connection.begin_twophase(name).start()
        await connection.exec_driver_sql("INSERT INTO account (unit, balance) VALUES ('foreign', 1)")
        await transaction.prepare()

        assert await recover(observers, app=APP) == []

        assert await prepared(observers) == [name]
        await transaction.rollback()


async def test_a_unit_of_work_that_was_prepared_too_long_ago_is_not_committed(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
        unit = add_unit(session, engines)
        await session.prepare()
        monkeypatch.setattr(two_phase, "LATEST_DECISION", -1.0)
        with pytest.raises(InvalidRequestError, match="too long to be committed safely"):
            await session.commit()
        await session.rollback()
    assert await presence(observers, unit) == [False, False]
