"""Recovery touches nothing that is not its own; and nothing is decided that it may have forgotten."""

import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, recover
from aiosession.errors import SerializationError
from aiosession.transaction import two_phase
from tests.two_phase.model import APP, add_unit, binds_of, prepared, presence

Engines = list[AsyncEngine]

pytestmark = pytest.mark.parametrize("kinds", [["postgresql", "postgresql2"]])


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
        monkeypatch.setattr(two_phase, "_LONGEST_PREPARED", -1.0)
        with pytest.raises(SerializationError, match="was prepared more than"):
            await session.commit()
        await session.rollback()
    assert await presence(observers, unit) == [False, False]
