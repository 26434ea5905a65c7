"""A commit in two phases that is cancelled, wherever it waits: all databases have the unit of work, or none has it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, aio, create_async_engine, recover
from aiosession.engine.wire import EngineConnection
from aiosession.errors import DisconnectError, InDoubtError
from tests.concurrency.sweep import Moment, Run, cancelled_at, sweep
from tests.two_phase.checks import is_everywhere, recovered, works
from tests.two_phase.model import APP, add_unit, binds_of

Engines = list[AsyncEngine]
TWO = ["postgresql", "postgresql2"]
LOCAL = ["postgresql", "sqlite"]
MOST = 120


@dataclass
class Case:
    """What is cancelled, on which engines, in which session."""

    engines: Engines
    session: AsyncSession
    unit: str
    doubt: InDoubtError | None = None


@pytest.fixture
async def engines(urls: list[str], observers: Engines) -> AsyncIterator[Engines]:
    """Open engines of one connection each: whoever keeps it makes the next one fail."""
    engines = [create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=1) for url in urls]
    yield engines
    for engine in engines:
        await engine.dispose()


async def nothing(case: Case) -> None:
    """There is nothing to do before."""


async def write(case: Case) -> None:
    add_unit(case.session, case.engines, case.unit)
    await case.session.flush()


async def prepare(case: Case) -> None:
    await write(case)
    await case.session.prepare()


async def vanish(case: Case) -> None:
    async with AsyncSession(binds=binds_of(case.engines), twophase=TwoPhase(app=APP)) as session:
        add_unit(session, case.engines, case.unit)
        await session.prepare()
        await session.invalidate()


async def come_into_doubt(case: Case) -> None:
    await prepare(case)
    commit = EngineConnection.commit

    async def unanswered(connection: EngineConnection) -> None:
        await commit(connection)
        raise DisconnectError("COMMIT", None, ConnectionError("lost"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EngineConnection, "commit", unanswered)
        with pytest.raises(InDoubtError) as caught:
            await case.session.commit()
    case.doubt = caught.value


async def flush_and_commit(case: Case) -> None:
    add_unit(case.session, case.engines, case.unit)
    await case.session.flush()
    await case.session.commit()


async def commit(case: Case) -> None:
    await case.session.commit()


async def roll_back(case: Case) -> None:
    await case.session.rollback()


async def prepare_it(case: Case) -> None:
    await case.session.prepare()


async def recover_it(case: Case) -> None:
    await recover(case.engines, app=APP)


async def resolve(case: Case) -> None:
    assert case.doubt is not None
    assert await case.doubt.resolve() is True


Step = Callable[[Case], Awaitable[None]]
SCENARIOS: dict[str, tuple[Step, Callable[[Case], Any], bool | None]] = {
    "flush and commit": (nothing, flush_and_commit, None),
    "prepare": (write, prepare_it, False),
    "commit after prepare": (prepare, commit, None),
    "rollback after prepare": (prepare, roll_back, False),
    "recovery": (vanish, recover_it, False),
    "resolving a doubt": (come_into_doubt, resolve, True),
}
"""What comes before, what is cancelled, and whether the unit of work is committed in the end, if that is certain."""
BESIDES = {"prepare", "rollback after prepare", "recovery", "resolving a doubt"}
FEW = [Moment.START, Moment.DONE, Moment.SCOPE]
"""The moments that differ most; the others are tried in the commit itself."""


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TWO, LOCAL], ids="+".join)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_cancelled_at_every_suspension(engines: Engines, observers: Engines, scenario: str) -> None:
    await check_every_point(engines, observers, scenario, FEW if scenario in BESIDES else list(Moment))


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TWO, LOCAL], ids="+".join)
@pytest.mark.parametrize("scenario", ["flush and commit", "commit after prepare", "prepare"])
async def test_cancelled_where_nothing_shields_it(
    engines: Engines, observers: Engines, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an event loop ends, which cancels what others are shielded from: at every message in between."""

    async def unshielded(coroutine: Coroutine[Any, Any, Any], *, deadline: float, keep: Any = None) -> Any:
        return await coroutine

    monkeypatch.setattr(aio, "finish", unshielded)
    await check_every_point(engines, observers, scenario, FEW)


async def check_every_point(engines: Engines, observers: Engines, scenario: str, moments: list[Moment]) -> None:
    before, operation, is_certain = SCENARIOS[scenario]
    await works(engines, observers)  # which makes the tables

    async def attempt(moment: Moment, step: int) -> Run:
        async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
            case = Case(engines, session, str(uuid4()))
            await before(case)
            run = await cancelled_at(lambda: operation(case), step, moment)
            if run.was_reached:
                assert not run.was_swallowed, "the cancellation was swallowed"
            assert run.seconds < 5
            await session.rollback()
            is_committed = await recovered(observers, case.unit)
            if is_certain is not None:
                assert is_committed is is_certain
            if not run.was_reached:
                assert run.error is None
                assert is_certain is not None or is_committed
            assert [engine.pool.status().holders for engine in engines] == [()] * len(engines)
            add_unit(session, engines, again := str(uuid4()))
            await session.commit()
        assert await is_everywhere(observers, again)
        return run

    points = 0
    for moment in moments:

        async def told(step: int, moment: Moment = moment) -> Run:
            try:
                return await attempt(moment, step)
            except BaseException as error:
                error.add_note(f"cancelled {moment.value}, at suspension {step}")
                raise

        points += await sweep(told, most=MOST)
    print(f"{scenario}: cancelled at {points} points")  # noqa: T201
    assert points >= len(FEW)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "to be cancelled"]
