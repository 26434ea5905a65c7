"""A server crashes between the phases, or while others recover, and comes back: everything is settled."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, create_async_engine, recover
from aiosession.errors import AioSessionError, InDoubtError, OperationalError
from aiosession.testing.postgres import PostgresCluster
from aiosession.transaction.recovery import Action
from tests.two_phase.checks import is_everywhere, truth_of, works
from tests.two_phase.conftest import emptied
from tests.two_phase.model import APP, add_unit, binds_of, make_tables, prepared

Engines = list[AsyncEngine]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
PREPARED, DECIDER = 0, 1


@pytest.fixture(scope="module")
def servers() -> Iterator[list[PostgresCluster]]:
    """Start two servers that do not wait for their disks at COMMIT; where it matters, they have to be told to."""
    servers = [PostgresCluster({"synchronous_commit": "off", "wal_writer_delay": "10s"}) for _ in range(2)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
async def urls(servers: list[PostgresCluster]) -> list[str]:
    return [await emptied(server, "postgres") for server in servers]


@pytest.fixture
def kinds() -> list[str]:
    return ["postgresql", "postgresql"]


@pytest.fixture
async def engines(urls: list[str]) -> AsyncIterator[Engines]:
    """Open engines; those of `observers` would notice the crash too."""
    engines = [create_async_engine(url) for url in urls]
    for engine in engines:
        await make_tables(engine)
    async with session_of(engines) as session:
        add_unit(session, engines, "first")
        await session.commit()
    yield engines
    for engine in engines:
        await engine.dispose()


def session_of(engines: Engines) -> AsyncSession:
    return AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP))


async def crash(server: PostgresCluster) -> None:
    await asyncio.to_thread(server.kill)


async def restart(server: PostgresCluster) -> None:
    await asyncio.to_thread(server.start)


async def check(report: Exception | None, urls: list[str], unit: str) -> None:
    observers = [create_async_engine(url) for url in urls]
    try:
        await truth_of(report, observers, unit)
        await works(observers, observers)
    finally:
        for observer in observers:
            await observer.dispose()


@pytest.mark.parametrize("victim", [PREPARED, DECIDER], ids=["one that is prepared", "the one that decides"])
@pytest.mark.parametrize("is_back", [True, False], ids=["back at once", "back later"])
async def test_a_server_crashes_after_prepare(
    engines: Engines, servers: list[PostgresCluster], urls: list[str], victim: int, is_back: bool
) -> None:
    report: Exception | None = None
    async with session_of(engines) as session:
        add_unit(session, engines, "crashed")
        await session.prepare()
        await crash(servers[victim])
        if is_back:
            await restart(servers[victim])
        try:
            await session.commit()
        except AioSessionError as error:
            report = error
            await session.rollback()
        if not is_back:
            await restart(servers[victim])
    assert (report is None) is (victim == PREPARED)
    await check(report, urls, "crashed")


@pytest.mark.parametrize("victim", [PREPARED, DECIDER], ids=["one that was prepared", "the one that decides"])
async def test_a_server_crashes_right_after_the_commit(
    engines: Engines, servers: list[PostgresCluster], urls: list[str], victim: int
) -> None:
    """PostgreSQL is set to lose the last transactions in a crash, but not those that several databases rely on."""
    async with session_of(engines) as session:
        add_unit(session, engines, "crashed")
        await session.commit()
        await crash(servers[victim])
        await restart(servers[victim])
    await check(None, urls, "crashed")


@pytest.mark.parametrize("victim", [PREPARED, DECIDER], ids=["one that is prepared", "the one that decides"])
async def test_recovery_goes_on_when_a_server_is_back(
    engines: Engines, servers: list[PostgresCluster], urls: list[str], victim: int, caplog: pytest.LogCaptureFixture
) -> None:
    await leave_prepared(engines, servers)
    await crash(servers[victim])
    found = await recover(engines, app=APP)
    assert [each.action for each in found] == ([Action.NO_DECIDER] if victim == DECIDER else [])
    assert "recovery cannot reach" in caplog.text
    await restart(servers[victim])

    assert [each.action for each in await recover(engines, app=APP)] == [Action.COMMITTED]
    assert await prepared(engines) == []
    assert await is_everywhere(engines, "crashed")


async def leave_prepared(engines: Engines, servers: list[PostgresCluster]) -> None:
    """Commit while the server that is prepared is down after its promise."""
    async with session_of(engines) as session:
        add_unit(session, engines, "crashed")
        await session.prepare()
        await crash(servers[PREPARED])
        await session.commit()
        await restart(servers[PREPARED])


async def test_recovery_says_so_when_no_server_is_there(engines: Engines, servers: list[PostgresCluster]) -> None:
    for server in servers:
        await crash(server)
    with pytest.raises(OperationalError):
        await recover(engines, app=APP)
    for server in servers:
        await restart(server)
    assert await recover(engines, app=APP) == []


async def test_the_outcome_can_be_asked_for_when_the_decider_is_back(
    engines: Engines, servers: list[PostgresCluster], urls: list[str]
) -> None:
    async with session_of(engines) as session:
        add_unit(session, engines, "crashed")
        await session.prepare()
        await crash(servers[DECIDER])
        with pytest.raises(OperationalError) as caught:
            await session.commit()
        await session.rollback()
    assert not isinstance(caught.value, InDoubtError)  # the decision was not sent
    await restart(servers[DECIDER])
    await check(caught.value, urls, "crashed")
