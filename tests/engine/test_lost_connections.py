"""What a connection does when its database goes away, step by step; the driver is a script."""

import asyncio
from typing import cast

import pytest
from sqlalchemy import insert, select

from aiosession.drivers.protocol import CommitRefusedError
from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import CommitOutcomeUnknownError, DisconnectError, InternalError, OperationalError
from aiosession.testing.scripted import ScriptedDriver
from tests.engine.engine_tables import author

STEPS = ("connect", "begin", "execute", "commit")


@pytest.fixture
def scripted() -> AsyncEngine:
    return create_async_engine("postgresql+scripted://")


def _driver(engine: AsyncEngine) -> ScriptedDriver:
    return cast("ScriptedDriver", engine.driver)


async def _write(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(author).values(id=1, name="x"))


async def test_steps_are_the_ones_that_are_tried(scripted: AsyncEngine) -> None:
    await _write(scripted)

    assert tuple(_driver(scripted).verbs) == STEPS


@pytest.mark.parametrize("step", range(1, len(STEPS) + 1), ids=STEPS)
async def test_connection_that_is_lost_at_any_step_is_not_kept(scripted: AsyncEngine, step: int) -> None:
    _driver(scripted).drop_at(step)

    with pytest.raises(OperationalError):
        await _write(scripted)

    assert not scripted.pool.status().holders
    await _write(scripted)


async def test_lost_commit_says_that_nobody_knows(scripted: AsyncEngine) -> None:
    _driver(scripted).drop_at(STEPS.index("commit") + 1)

    with pytest.raises(CommitOutcomeUnknownError) as caught:
        await _write(scripted)

    assert isinstance(caught.value.__cause__, DisconnectError)
    assert await caught.value.resolve() is None


async def test_commit_that_the_database_refuses_is_an_error(scripted: AsyncEngine) -> None:
    _driver(scripted).fail_at(STEPS.index("commit") + 1, CommitRefusedError("ROLLBACK"))

    with pytest.raises(InternalError, match="answered COMMIT with ROLLBACK"):
        await _write(scripted)


async def test_errors_of_other_origin_pass_unchanged(scripted: AsyncEngine) -> None:
    _driver(scripted).fail_at(STEPS.index("execute") + 1, ZeroDivisionError("not of the database"))

    with pytest.raises(ZeroDivisionError) as caught:
        await _write(scripted)

    assert caught.value.__cause__ is None


@pytest.mark.parametrize("step", range(1, len(STEPS)), ids=STEPS[:-1])
async def test_cancellation_at_any_step_keeps_no_connection(scripted: AsyncEngine, step: int) -> None:
    _driver(scripted).hang_at(step)
    task = asyncio.create_task(_write(scripted))
    await asyncio.sleep(0.01)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not scripted.pool.status().holders


def test_calls_need_no_event_loop(scripted: AsyncEngine) -> None:
    async def work() -> list[tuple[object, ...]]:
        connection: AsyncConnection
        async with scripted.connect() as connection:
            _driver(scripted).answer([(1, "ann")])
            rows = (await connection.execute(select(author.c.id, author.c.name))).all()
            await connection.commit()
        return [tuple(row) for row in rows]

    coroutine = work()
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)

    assert end.value.value == [(1, "ann")]
