"""A database that never answers again: everything that a session does ends within bounds and says what it knows."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import CommitOutcomeUnknownError
from aiosession.testing.scripted import ScriptedDriver
from aiosession.transaction import loose, unit
from tests.session_model import Author
from tests.without_loop import scripted

BOUND = 2.0


@pytest.fixture(autouse=True)
def _short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "COMMIT_DEADLINE", 0.05)
    monkeypatch.setattr(loose, "COMMIT_DEADLINE", 0.05)
    monkeypatch.setattr(unit, "CLEANUP_DEADLINE", 0.05)


@pytest.fixture
def database() -> tuple[AsyncEngine, ScriptedDriver]:
    return scripted("postgresql")


@pytest.fixture
async def flushed(database: tuple[AsyncEngine, ScriptedDriver]) -> AsyncIterator[tuple[AsyncSession, ScriptedDriver]]:
    """Open a session with a flushed object; at the end its connection is back in the pool."""
    engine, driver = database
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann"))
        await session.flush()
        yield session, driver
    assert engine.pool.status().holders == ()
    await engine.dispose()


def hang_now(driver: ScriptedDriver) -> None:
    driver.hang_at(len(driver.calls) + 1)


async def test_a_commit_that_is_never_answered_has_an_unknown_outcome(
    flushed: tuple[AsyncSession, ScriptedDriver],
) -> None:
    session, driver = flushed
    hang_now(driver)

    async with asyncio.timeout(BOUND):
        with pytest.raises(CommitOutcomeUnknownError):
            await session.commit()
        await session.rollback()


async def test_a_cancel_is_delivered_although_commit_is_never_answered(
    flushed: tuple[AsyncSession, ScriptedDriver],
) -> None:
    session, driver = flushed
    hang_now(driver)

    task = asyncio.create_task(session.commit())
    await asyncio.sleep(0.01)
    task.cancel()

    async with asyncio.timeout(BOUND):
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.rollback()
    assert session.is_active


async def test_a_rollback_that_is_never_answered_drops_the_connection(
    flushed: tuple[AsyncSession, ScriptedDriver],
) -> None:
    session, driver = flushed
    hang_now(driver)

    async with asyncio.timeout(BOUND):
        await session.rollback()

    assert session.is_active
    assert not session.in_transaction()


async def test_a_single_write_that_is_never_answered_has_an_unknown_outcome(
    database: tuple[AsyncEngine, ScriptedDriver],
) -> None:
    engine, driver = database
    driver.hang_at(2)

    async with asyncio.timeout(BOUND), AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann"))
        with pytest.raises(CommitOutcomeUnknownError):
            await session.commit()

    assert engine.pool.status().holders == ()
    await engine.dispose()
