"""Units of work that their sessions have left between the phases, and what is known of them."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from aiosession import AsyncEngine, AsyncSession, TwoPhase
from aiosession.engine.wire import EngineConnection
from aiosession.errors import OperationalError
from tests.two_phase.model import APP, add_unit, binds_of

Engines = list[AsyncEngine]


async def leave(engines: Engines, options: TwoPhase | None = None, *, is_decided: bool) -> str:
    """Have a session vanish between the phases, before the decision or right after it."""
    async with AsyncSession(binds=binds_of(engines), twophase=options or TwoPhase(app=APP)) as session:
        unit = add_unit(session, engines, str(uuid4()))
        await session.prepare()
        if is_decided:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(EngineConnection, "commit_prepared", lost)
                await session.commit()
        else:
            await session.invalidate()
    return unit


async def lost(self: EngineConnection, branch: str) -> bool:
    raise OperationalError(f"COMMIT PREPARED '{branch}'", None, ConnectionError("lost"))


async def ask(engine: AsyncEngine, sql: str) -> list[object]:
    async with engine.begin() as connection:
        result = await connection.execute(text(sql))
        return [row[0] for row in result] if result.returns_rows else []


async def age(engine: AsyncEngine, hours: int) -> None:
    await ask(engine, f"UPDATE aiosession_decision SET decided_at = decided_at - interval '{hours} hours'")


async def decisions(engine: AsyncEngine) -> list[object]:
    return await ask(engine, "SELECT outcome FROM aiosession_decision WHERE global_id <> 'database' ORDER BY outcome")
