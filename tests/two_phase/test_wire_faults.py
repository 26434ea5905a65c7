"""Whatever happens on a line, in either phase or in recovery: what the caller hears is true of all databases."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from sqlalchemy import make_url, text

from aiosession import AsyncEngine, AsyncSession, TwoPhase, aio, create_async_engine, recover
from aiosession.drivers import pool
from aiosession.engine import stack
from aiosession.errors import AioSessionError, InDoubtError, PendingRollbackError
from aiosession.transaction import recovery, unit
from aiosession.transaction.decisions import Decision
from tests.concurrency.proxy import (
    Fault,
    How,
    Proxy,
    When,
    ends_answer_of_mariadb,
    ends_answer_of_postgres,
    proxy_to,
)
from tests.two_phase.checks import is_everywhere, no_victim_works, recovered, truth_of, works
from tests.two_phase.model import APP, add_unit, binds_of, prepared

Engines = list[AsyncEngine]
BOUND = 6.0
SHORT = 0.1
TOLERABLE = 0.4
TWO = ["postgresql", "postgresql2"]
LOCAL = ["postgresql", "sqlite"]
FOREIGN = ["postgresql", "mariadb"]
FOREIGN_DECIDES = ["mariadb", "postgresql"]
"""A branch of XA is named when it begins, so that the decider is chosen early: it is the first."""


@dataclass(frozen=True)
class Behind:
    """Engines of which each that has a server is behind a proxy."""

    engines: Engines
    proxies: dict[int, Proxy]

    def heal(self) -> None:
        for proxy in self.proxies.values():
            proxy.heal()


def killer(observer: AsyncEngine, proxies: dict[int, Proxy], number: int) -> Callable[[], Awaitable[None]]:
    """Have the server end all connections that come through a proxy."""

    async def kill() -> None:
        ports = proxies[number].ports
        async with observer.connect() as connection:
            if observer.name == "postgresql":
                await connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                        f"WHERE client_port IN ({', '.join(map(str, ports))})"
                    )
                )
                return
            clients = await connection.execute(text("SELECT id, host FROM information_schema.processlist"))
            for client, host in clients.all():
                if int(host.rpartition(":")[2] or 0) in ports:
                    await connection.exec_driver_sql(f"KILL {client}")
                    while await connection.scalar(
                        text(f"SELECT 1 FROM information_schema.processlist WHERE id = {client}")
                    ):
                        pass

    return kill


@pytest.fixture
async def behind(urls: list[str], observers: Engines) -> AsyncIterator[Behind]:
    async with AsyncExitStack() as exits:
        engines: Engines = []
        proxies: dict[int, Proxy] = {}
        for number, (url, observer) in enumerate(zip(urls, observers, strict=True)):
            port = make_url(url).port
            if port is None:
                engines.append(create_async_engine(url))
                continue
            ends = ends_answer_of_postgres if observer.name == "postgresql" else ends_answer_of_mariadb
            kill = killer(observer, proxies, number)
            proxy = proxies[number] = await exits.enter_async_context(proxy_to(port, kill, ends))
            engines.append(create_async_engine(make_url(url).set(port=proxy.port)))
        behind = Behind(engines, proxies)
        yield behind
        behind.heal()
        for engine in engines:
            await engine.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything that waits for a silent line give up early."""
    for module, name, seconds in (
        (aio, "PATIENCE", SHORT),
        (aio, "GRACE", SHORT),
        (unit, "CLEANUP_DEADLINE", SHORT),
        (unit, "COMMIT_DEADLINE", TOLERABLE),
        (stack, "ROLLBACK_DEADLINE", SHORT),
        (pool, "RESET_DEADLINE", SHORT),
        (pool, "CLOSE_DEADLINE", SHORT),
    ):
        monkeypatch.setattr(module, name, seconds)


def session_of(engines: Engines) -> AsyncSession:
    return AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP))


async def commit(session: AsyncSession, engines: Engines, unit: str) -> None:
    add_unit(session, engines, unit)
    await session.commit()


async def commit_by_hand(session: AsyncSession, engines: Engines, unit: str) -> None:
    add_unit(session, engines, unit)
    await session.prepare()
    await session.commit()


async def roll_back(session: AsyncSession, engines: Engines, unit: str) -> None:
    add_unit(session, engines, unit)
    await session.prepare()
    await session.rollback()


Work = Callable[[AsyncSession, Engines, str], Awaitable[None]]

IN_PREPARED = {
    "INSERT": b"in doubt?",  # the value that is written
    "PREPARE": b"PREPARE TRANSACTION",
    "COMMIT PREPARED": b"COMMIT PREPARED",
}
IN_MARIADB = {"INSERT": b"in doubt?", "PREPARE": b"XA PREPARE", "COMMIT PREPARED": b"XA COMMIT"}
IN_DECIDER = {"INSERT": b"in doubt?", "decision": b"1@", "COMMIT": b"COMMIT\x00"}
FAULTS = [
    pytest.param(
        *(kinds, place, work, Fault(trigger, when, how)),
        id=f"{who}, {how.name} {when.name} {name}, {said}",
        marks=[pytest.mark.mariadb] if "mariadb" in kinds else [],
    )
    for kinds, place, who, triggers in (
        (TWO, 0, "prepared", IN_PREPARED),
        (TWO, 1, "decider", IN_DECIDER),
        (LOCAL, 0, "prepared beside SQLite", IN_PREPARED),
        (FOREIGN, 1, "MariaDB prepared", IN_MARIADB),
        (FOREIGN_DECIDES, 0, "MariaDB decides", {"decision": b"INSERT INTO aiosession_decision", "COMMIT": b"COMMIT"}),
    )
    for name, trigger in triggers.items()
    for how in How
    for when in When
    for said, work in (("commit()", commit), ("prepare() before", commit_by_hand))
    if work is commit or how is How.CUT
    if not (name == "INSERT" and how is How.HOLE)  # how long a statement may take is for the caller to say
]


async def reported(work: Awaitable[None]) -> Exception | None:
    """Run *work* in bounded time and return what its caller hears."""
    try:
        async with asyncio.timeout(BOUND):
            await work
    except AioSessionError as error:
        return error
    return None


async def warm_up(behind: Behind, observers: Engines) -> None:
    async with session_of(behind.engines) as session:
        await commit(session, behind.engines, "first")
    assert await is_everywhere(observers, "first")


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("kinds", "place", "work", "fault"), FAULTS)
async def test_the_report_is_true_and_all_databases_agree(
    behind: Behind, observers: Engines, work: Work, place: int, fault: Fault
) -> None:
    await warm_up(behind, observers)
    proxy = behind.proxies[place]
    proxy.arm(fault)

    async with session_of(behind.engines) as session:
        report = await reported(work(session, behind.engines, "in doubt?"))
        assert proxy.has_struck
        behind.heal()
        if report is not None:
            assert not session.is_active
            with pytest.raises(PendingRollbackError):
                await session.commit()
            await session.rollback()
        await truth_of(report, observers, "in doubt?")
        await commit(session, behind.engines, "again")

    assert await is_everywhere(observers, "again")
    await works(behind.engines, observers)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize(("kinds", "place", "trigger"), [(TWO, 0, b"ROLLBACK PREPARED"), (TWO, 1, b"ROLLBACK\x00")])
async def test_what_is_rolled_back_after_prepare_is_nowhere(
    behind: Behind, observers: Engines, how: How, when: When, place: int, trigger: bytes
) -> None:
    await warm_up(behind, observers)
    proxy = behind.proxies[place]
    proxy.arm(Fault(trigger, when, how))

    async with session_of(behind.engines) as session:
        assert await reported(roll_back(session, behind.engines, "undone")) is None
        assert proxy.has_struck
        behind.heal()
        assert await recovered(observers, "undone") is False
        await commit(session, behind.engines, "again")

    assert await is_everywhere(observers, "again")
    await works(behind.engines, observers)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("is_before", [True, False], ids=["resolve() before recovery", "after"])
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("kinds", [TWO])
async def test_recovery_and_the_one_in_doubt_agree(
    behind: Behind, observers: Engines, when: When, is_before: bool
) -> None:
    await warm_up(behind, observers)
    behind.proxies[1].arm(Fault(b"COMMIT\x00", when, How.HOLE))

    async with session_of(behind.engines) as session:
        with pytest.raises(InDoubtError) as caught:
            await commit(session, behind.engines, "in doubt?")
        await session.rollback()
    behind.heal()
    await no_victim_works(observers)
    if is_before:
        assert await caught.value.resolve() is (when is When.AFTER)
    for found in await recover(observers, app=APP):
        assert found.is_settled
        assert found.global_id == caught.value.global_id
    assert await caught.value.resolve() is (when is When.AFTER)
    assert await is_everywhere(observers, "in doubt?") is (when is When.AFTER)


# Recovery -------------------------------------------------------------------------------------------------------------

LISTING = b"pg_prepared_xacts"
AT_RECOVERY = [
    pytest.param(
        *(kinds, is_decided, place, trigger),
        id=f"{'+'.join(kinds)}, {'decided' if is_decided else 'undecided'}, {place}, {name}",
        marks=[pytest.mark.mariadb] if "mariadb" in kinds else [],
    )
    for kinds, is_decided, place, name, trigger in (
        (TWO, True, 0, "listing", LISTING),
        (TWO, True, 1, "listing", LISTING),
        (TWO, True, 1, "rows", b"decided_at"),
        (TWO, True, 1, "INSERT", b"abort"),
        (TWO, True, 0, "COMMIT PREPARED", b"COMMIT PREPARED"),
        (TWO, True, 1, "DELETE", b"DELETE FROM"),
        (TWO, False, 0, "listing", LISTING),
        (TWO, False, 1, "INSERT", b"abort"),
        (TWO, False, 0, "ROLLBACK PREPARED", b"ROLLBACK PREPARED"),
        (FOREIGN, True, 1, "listing", b"XA RECOVER"),
        (FOREIGN, True, 1, "XA COMMIT", b"XA COMMIT"),
        (FOREIGN, False, 1, "XA ROLLBACK", b"XA ROLLBACK"),
    )
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize(("kinds", "is_decided", "place", "trigger"), AT_RECOVERY)
async def test_what_a_recovery_could_not_reach_is_settled_by_the_next(
    behind: Behind, observers: Engines, how: How, when: When, is_decided: bool, place: int, trigger: bytes
) -> None:
    await warm_up(behind, observers)
    await leave_prepared(behind, observers, is_decided=is_decided)
    proxy = behind.proxies[place]
    proxy.arm(Fault(trigger, when, how))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "PATIENCE", TOLERABLE)
        async with asyncio.timeout(BOUND):
            outcome = await recover(behind.engines, app=APP)
    assert proxy.has_struck
    behind.heal()

    assert await recovered(observers, "in doubt?") is is_decided
    for each in outcome:
        assert each.decision in {None, Decision.COMMIT if is_decided else Decision.ABORT}
    await works(behind.engines, observers)


async def leave_prepared(behind: Behind, observers: Engines, *, is_decided: bool) -> None:
    """Leave a transaction prepared: by COMMIT PREPARED that does not arrive, or a decision that does not."""
    decider = 0 if observers[1].name == "mariadb" else 1
    finish = (1, b"XA COMMIT") if decider == 0 else (0, b"COMMIT PREPARED")
    place, trigger = finish if is_decided else (decider, b"2@" if decider == 0 else b"1@")
    strike = behind.proxies[place]
    strike.arm(Fault(trigger, When.BEFORE, How.HOLE))
    async with session_of(behind.engines) as session:
        report = await reported(commit(session, behind.engines, "in doubt?"))
        assert (report is None) is is_decided
    behind.heal()
    await no_victim_works(observers)
    assert len(await prepared(observers)) == 1
    async with observers[decider].begin() as connection:
        await connection.execute(text("UPDATE aiosession_decision SET decided_at = decided_at - interval '2 hours'"))
