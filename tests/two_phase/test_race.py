"""Sessions commit while recovery, which never waits for anybody, is at work beside them all the time."""

import asyncio
import os
from collections import Counter
from uuid import uuid4

import pytest

from aiosession import AsyncEngine, AsyncSession, InDoubt, async_sessionmaker, recover
from aiosession.errors import InDoubtError, OperationalError
from aiosession.transaction.recovery import Action
from tests.two_phase.checks import is_everywhere, works
from tests.two_phase.model import APP, add_unit, prepared

Engines = list[AsyncEngine]
COORDINATORS = 6
UNITS = int(os.environ.get("AIOSESSION_RACE_UNITS", "15"))
"""How many units of work each of them commits; more take longer."""
RECOVERERS = 3


async def coordinate(maker: async_sessionmaker[AsyncSession], engines: Engines) -> dict[str, bool]:
    """Commit units of work one after the other; return which were committed, as the caller is told."""
    told = {}
    async with maker() as session:
        for _ in range(UNITS):
            unit = add_unit(session, engines, str(uuid4()))
            try:
                await session.commit()
            except InDoubtError as error:
                told[unit] = bool(await error.resolve())
                await session.rollback()
            except OperationalError:  # recovery was faster, or SQLite had no time for one more writer
                told[unit] = False
                await session.rollback()
            else:
                told[unit] = True
    return told


async def recover_until(ended: asyncio.Event, engines: Engines, found: list[InDoubt]) -> None:
    while not ended.is_set():
        found += await recover(engines, app=APP)


@pytest.mark.slow
@pytest.mark.timeout(60 + COORDINATORS * UNITS)
@pytest.mark.parametrize(
    "kinds", [["postgresql", "postgresql2"], ["postgresql", "sqlite"], ["postgresql", "neighbour"]], ids="+".join
)
async def test_recovery_and_commit_agree_whoever_is_faster(
    engines: Engines, observers: Engines, maker: async_sessionmaker[AsyncSession]
) -> None:
    ended = asyncio.Event()
    found: list[InDoubt] = []
    recoverers = [asyncio.create_task(recover_until(ended, engines, found)) for _ in range(RECOVERERS)]
    told: dict[str, bool] = {}
    for each in await asyncio.gather(*(coordinate(maker, engines) for _ in range(COORDINATORS))):
        told |= each
    ended.set()
    await asyncio.gather(*recoverers)

    assert all(each.is_settled for each in await recover(observers, app=APP))
    assert await prepared(observers) == []
    assert {unit: await is_everywhere(observers, unit) for unit in told} == told
    await works(engines, observers)

    actions = Counter(each.action for each in found)
    done = {action: {each.global_id for each in found if each.action is action} for action in Action}
    assert done[Action.COMMITTED].isdisjoint(done[Action.ROLLED_BACK])
    outcomes = Counter(told.values())
    left = Counter(repr(each.error) for each in found if each.action is Action.FAILED)
    print(f"committed {outcomes[True]}, rolled back {outcomes[False]}, recovery: {dict(actions)} {left}")  # noqa: T201
