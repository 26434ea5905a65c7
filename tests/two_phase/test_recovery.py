"""What recover(), recovery() and the command do with what is prepared, and with what is none of their business."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from aiosession import AsyncEngine, AsyncSession, TwoPhase, async_sessionmaker, create_async_engine, recover, recovery
from aiosession.command import main
from aiosession.engine.wire import EngineConnection
from aiosession.errors import (
    ArgumentError,
    DisconnectError,
    InDoubtError,
    OperationalError,
    SerializationError,
)
from aiosession.transaction import recovery as recovery_module
from aiosession.transaction import settling, two_phase
from aiosession.transaction.decisions import Decision
from aiosession.transaction.recovery import Action
from tests.two_phase.checks import is_everywhere, works
from tests.two_phase.leftovers import age, ask, decisions, leave, lost
from tests.two_phase.model import APP, add_unit, binds_of, prepared

Engines = list[AsyncEngine]
Maker = async_sessionmaker[AsyncSession]
TWO = ["postgresql", "postgresql2"]

pytestmark = [pytest.mark.postgres, pytest.mark.parametrize("kinds", [TWO], ids="+".join)]


@pytest.fixture
async def foreign(urls: list[str], observers: Engines) -> AsyncIterator[list[str]]:
    """Prepare what is none of ours; afterwards it has to be there still."""
    names = [f"as1:{APP}2:{32 * '0'}:1", f"as1:{APP}", f"as1:{APP}:7:1", "another manager's"]
    connection = await asyncpg.connect(urls[0].replace("+asyncpg", ""))
    for name in names:
        quoted = name.replace("'", "''")
        await connection.execute(f"BEGIN; CREATE TABLE t_{uuid4().hex} (); PREPARE TRANSACTION '{quoted}'")
    yield names
    left = await connection.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
    for name in names:
        quoted = name.replace("'", "''")
        await connection.execute(f"ROLLBACK PREPARED '{quoted}'")
    await connection.close()
    assert sorted(row[0] for row in left) == sorted(names)


# What is settled, and how it is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_decided", [True, False], ids=["decided", "undecided"])
async def test_what_is_left_is_settled_and_nothing_else(
    engines: Engines, observers: Engines, foreign: list[str], is_decided: bool
) -> None:
    unit = await leave(engines, is_decided=is_decided)

    (found,) = await recover(observers, app=APP)

    assert (found.app, found.is_settled, found.error) == (APP, True, None)
    assert found.action is (Action.COMMITTED if is_decided else Action.ROLLED_BACK)
    assert found.decision is (Decision.COMMIT if is_decided else Decision.ABORT)
    assert found.branches == (f"{observers[0].url.render_as_string()}#1",)
    assert found.age is not None
    assert timedelta(0) <= found.age < timedelta(minutes=1)
    assert await is_everywhere(observers, unit) is is_decided
    assert sorted(await prepared(observers)) == sorted(foreign)
    await works(engines, observers)


@pytest.mark.parametrize("is_decided", [True, False], ids=["decided", "undecided"])
async def test_a_dry_run_changes_nothing(engines: Engines, observers: Engines, is_decided: bool) -> None:
    await leave(engines, is_decided=is_decided)
    await age(observers[1], 48)
    rows = await decisions(observers[1])

    (found,) = await recover(observers, app=APP, dry_run=True)

    assert found.action is (Action.WOULD_COMMIT if is_decided else Action.WOULD_ROLL_BACK)
    assert found.decision is (Decision.COMMIT if is_decided else None)
    assert not found.is_settled
    assert len(await prepared(observers)) == 1
    assert await decisions(observers[1]) == rows
    await recover(observers, app=APP)


async def test_what_is_younger_is_left(engines: Engines, observers: Engines) -> None:
    await leave(engines, is_decided=True)

    (found,) = await recover(observers, app=APP, older_than=3600)
    assert (found.action, found.decision, found.is_settled) == (Action.TOO_YOUNG, Decision.COMMIT, False)

    (found,) = await recover(observers, app=APP, older_than=0.000001)
    assert found.action is Action.COMMITTED


async def test_without_its_decider_a_unit_of_work_is_left(engines: Engines, observers: Engines) -> None:
    unit = await leave(engines, is_decided=True)

    (found,) = await recover(observers[0], app=APP)
    assert (found.action, found.decision, found.is_settled) == (Action.NO_DECIDER, None, False)
    assert "database that decides" in found.action.value
    assert len(await prepared(observers)) == 1

    await recover(observers, app=APP)
    assert await is_everywhere(observers, unit)


async def test_a_database_may_be_given_twice(engines: Engines, observers: Engines, urls: list[str]) -> None:
    again = [create_async_engine(url.replace("127.0.0.1", "localhost")) for url in urls]
    unit = await leave(engines, is_decided=True)

    (found,) = await recover([*observers, *observers, *again], app=APP)

    assert (found.action, len(found.branches)) == (Action.COMMITTED, 1)
    assert await is_everywhere(observers, unit)
    for engine in again:
        await engine.dispose()


async def test_a_database_that_cannot_be_reached_does_not_keep_others_from_it(
    engines: Engines, observers: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    unit = await leave(engines, is_decided=True)
    nowhere = create_async_engine("postgresql+asyncpg://postgres@127.0.0.1:1/postgres")

    (found,) = await recover([nowhere, *observers], app=APP)

    assert found.is_settled
    assert await is_everywhere(observers, unit)
    assert "recovery cannot reach postgresql+asyncpg://postgres@127.0.0.1:1/postgres" in caplog.text
    with pytest.raises(OperationalError):
        await recover(nowhere)


async def test_what_fails_is_told_and_done_by_the_next(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    await leave(engines, is_decided=True)
    monkeypatch.setattr(EngineConnection, "commit_prepared", lost)
    (found,) = await recover(observers, app=APP)
    assert (found.action, found.decision, found.is_settled) == (Action.FAILED, Decision.COMMIT, False)
    assert isinstance(found.error, OperationalError)
    monkeypatch.undo()
    assert [each.action for each in await recover(observers, app=APP)] == [Action.COMMITTED]


async def test_a_coordinator_that_is_just_deciding_is_waited_for_but_not_for_ever(
    engines: Engines, observers: Engines, urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line is silent, and its server does not know: the decision is written and may still be committed."""
    monkeypatch.setattr(recovery_module, "PATIENCE", 1.0)
    await leave(engines, is_decided=False)
    (name,) = await prepared(observers)
    coordinator = await asyncpg.connect(urls[1].replace("+asyncpg", ""))
    await coordinator.execute("BEGIN")
    await coordinator.execute(
        "INSERT INTO aiosession_decision (global_id, outcome, participants) VALUES ($1, 'commit', '')",
        name.split(":")[2],
    )

    (found,) = await recover(observers, app=APP)
    assert (found.action, found.decision) == (Action.FAILED, None)
    assert len(await prepared(observers)) == 1

    passing = asyncio.create_task(recover(observers, app=APP))
    while not await ask(observers[1], "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        pass
    await coordinator.execute("COMMIT")
    assert [each.action for each in await passing] == [Action.COMMITTED]
    await coordinator.close()


async def test_another_users_branch_is_told_of_and_its_decision_kept(
    engines: Engines, observers: Engines, urls: list[str]
) -> None:
    unit = await leave(engines, is_decided=True)
    await age(observers[1], 2)
    for observer in observers:
        await ask(
            observer,
            "DO $$ BEGIN CREATE USER stranger; EXCEPTION WHEN duplicate_object THEN NULL; END $$ LANGUAGE plpgsql",
        )
        await ask(observer, "GRANT USAGE ON SCHEMA public TO stranger")
        await ask(observer, "GRANT ALL ON aiosession_decision TO stranger")
    strangers = [create_async_engine(url.replace("postgres@", "stranger@")) for url in urls]

    for _ in range(2):
        (found,) = await recover(strangers, app=APP)
        assert found.action is Action.FAILED
    for engine in strangers:
        await engine.dispose()

    await recover(observers, app=APP)
    assert await is_everywhere(observers, unit)


async def test_what_others_have_finished_is_not_called_rolled_back(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and settling a coordinator commits, and forgets the decision."""
    unit = await leave(engines, is_decided=True)
    settle = settling.abort_unless_decided

    async def come_late(*args: object) -> Decision:
        monkeypatch.setattr(recovery_module, "abort_unless_decided", settle)
        await recover(observers, app=APP)
        await ask(observers[1], "DELETE FROM aiosession_decision WHERE outcome = 'commit'")
        return await settle(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery_module, "abort_unless_decided", come_late)
    (found,) = await recover(observers, app=APP)
    assert (found.action, found.decision, found.is_settled) == (Action.GONE, None, True)
    assert await is_everywhere(observers, unit)


# Old rows -------------------------------------------------------------------------------------------------------------


async def test_decisions_are_deleted_when_they_are_old_and_carried_out(engines: Engines, observers: Engines) -> None:
    await leave(engines, is_decided=True)
    await recover(observers, app=APP)
    await recover(observers, app=APP)
    assert await decisions(observers[1]) == ["commit"]  # it is young

    await age(observers[1], 2)
    await recover(observers[1], app=APP)
    assert await decisions(observers[1]) == ["commit"]  # not all participants were looked at

    await recover(observers, app=APP)
    assert await decisions(observers[1]) == []


async def test_a_decision_stays_as_long_as_something_is_prepared(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = await leave(engines, is_decided=True)
    await age(observers[1], 48)
    monkeypatch.setattr(EngineConnection, "commit_prepared", lost)
    for _ in range(2):
        await recover(observers, app=APP)
        await recover(observers, app=APP, older_than=3600)
        await recover(observers, app="another")
    assert await decisions(observers[1]) == ["commit"]
    monkeypatch.undo()
    await recover(observers, app=APP)
    assert await is_everywhere(observers, unit)


async def test_that_something_was_rolled_back_is_known_for_a_day(engines: Engines, observers: Engines) -> None:
    await leave(engines, is_decided=False)
    await recover(observers, app=APP)
    await age(observers[1], 23)
    await recover(observers, app=APP)
    assert await decisions(observers[1]) == ["abort"]
    await age(observers[1], 2)
    await recover(observers, app=APP)
    assert await decisions(observers[1]) == []


async def test_a_decision_is_as_old_as_it_is_not_as_its_transaction(engines: Engines, observers: Engines) -> None:
    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
        add_unit(session, engines)
        await session.flush()
        (before,) = await ask(observers[1], "SELECT clock_timestamp()")
        await session.commit()
    (decided,) = await ask(observers[1], "SELECT decided_at FROM aiosession_decision WHERE outcome = 'commit'")
    assert str(decided) > str(before)


async def test_what_was_prepared_too_long_ago_is_not_decided_any_more(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery may have rolled it back so long ago that it has forgotten that."""
    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
        unit = add_unit(session, engines)
        await session.prepare()
        monkeypatch.setattr(two_phase, "_LONGEST_PREPARED", 0.0)
        with pytest.raises(SerializationError, match="prepared more than"):
            await session.commit()
        await session.rollback()
    assert await is_everywhere(observers, unit) is False


@pytest.mark.parametrize("is_kept", [True, False], ids=["decision kept", "decision deleted"])
async def test_an_outcome_that_is_asked_for_too_late_is_unknown_rather_than_wrong(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    commit = EngineConnection.commit

    async def unanswered(self: EngineConnection) -> None:
        monkeypatch.setattr(EngineConnection, "commit", commit)
        await commit(self)
        raise DisconnectError("COMMIT", None, ConnectionError("lost"))

    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
        unit = add_unit(session, engines)
        await session.prepare()
        monkeypatch.setattr(EngineConnection, "commit", unanswered)
        with pytest.raises(InDoubtError) as caught:
            await session.commit()
    await recover(observers, app=APP)
    assert await is_everywhere(observers, unit)
    monkeypatch.setattr(settling, "KEPT_COMMITS", timedelta(0))
    if not is_kept:
        await age(observers[1], 2)
        await recover(observers, app=APP)
    assert await caught.value.resolve() is (True if is_kept else None)


# The loop -------------------------------------------------------------------------------------------------------------


async def test_the_loop_goes_on_after_errors_and_ends_when_it_is_cancelled(
    engines: Engines, observers: Engines, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = 0
    run = recovery_module.Recoverer.run

    async def fail_at_first(self: recovery_module.Recoverer) -> object:
        nonlocal passes
        passes += 1
        if passes == 1:
            raise OperationalError("SELECT", None, ConnectionError("not there yet"))
        return await run(self)

    monkeypatch.setattr(recovery_module.Recoverer, "run", fail_at_first)
    unit = await leave(engines, is_decided=True)
    task = asyncio.create_task(recovery(observers, app=APP, every=0.01, older_than=0))
    async with asyncio.timeout(10):
        while await prepared(engines) or ": committed" not in caplog.text:  # it tells of it afterwards
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await is_everywhere(observers, unit)
    assert "recovery failed and is tried again" in caplog.text
    assert ": committed" in caplog.text


async def test_the_loop_leaves_young_ones_alone(engines: Engines, observers: Engines) -> None:
    await leave(engines, is_decided=True)
    task = asyncio.create_task(recovery(observers, app=APP, every=0.001))
    for _ in range(20):
        assert len(await prepared(engines)) == 1
    task.cancel()
    await asyncio.wait([task])
    await recover(observers, app=APP)


# Arguments and the command --------------------------------------------------------------------------------------------


async def test_arguments_are_checked(observers: Engines) -> None:
    with pytest.raises(ArgumentError, match="takes engines"):
        await recover(["postgresql://localhost"])  # type: ignore[list-item]
    with pytest.raises(ArgumentError, match="none were given"):
        await recover([])
    with pytest.raises(ArgumentError, match="older_than is a number of seconds"):
        await recover(observers, older_than=-1)
    with pytest.raises(ArgumentError, match="no name for an application"):
        await recover(observers, app="a:b")
    with pytest.raises(ArgumentError, match="seconds between two passes"):
        await recovery(observers, every=0)


async def command(*arguments: str) -> int:
    """Run the command in another thread, where it has an event loop of its own."""
    return await asyncio.to_thread(main, ["--app", APP, *arguments])


async def test_the_command_tells_what_it_does(
    engines: Engines, observers: Engines, urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    unit = await leave(engines, is_decided=True)

    assert await command("--dry-run", *urls) == 1
    assert len(await prepared(observers)) == 1
    assert await command("--older-than", "3600", *urls) == 1
    assert await command(urls[0]) == 1
    assert await command(*urls) == 0
    assert await command(*urls) == 0
    told = capsys.readouterr().out.splitlines()

    assert told[0].split() == ["global", "id", "participants", "age", "decision", "action"]
    assert [line.split("  ")[-1] for line in told[2::3]] == [
        "would be committed",
        "left: younger than older_than",
        "left: the database that decides is not among those given",
        "committed",
    ]
    assert f"{observers[0].url.render_as_string()}#1" in told[2]
    assert told[-1] == "nothing is in doubt"
    assert await is_everywhere(observers, unit)


async def test_the_status_of_the_command_says_what_is_wrong(
    observers: Engines, urls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = "postgresql+asyncpg://postgres@127.0.0.1:1/postgres"
    assert await command(nowhere) == 1
    assert "aiosession.recover:" in capsys.readouterr().err
    assert await command(nowhere, *urls) == 1  # who knows what is prepared there
    assert capsys.readouterr().out == "nothing is in doubt\n"
    assert await command("--app", "a:b", *urls) == 2
    with pytest.raises(SystemExit) as caught:
        await asyncio.to_thread(main, [])
    assert caught.value.code == 2


async def test_an_error_that_is_no_answer_to_the_decision_is_no_refusal(
    engines: Engines, observers: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = EngineConnection.commit

    async def stumble(self: EngineConnection) -> None:
        monkeypatch.setattr(EngineConnection, "commit", commit)
        await commit(self)
        raise ZeroDivisionError

    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP)) as session:
        unit = add_unit(session, engines)
        await session.prepare()
        monkeypatch.setattr(EngineConnection, "commit", stumble)
        with pytest.raises(InDoubtError) as caught:
            await session.commit()
    assert await caught.value.resolve() is True
    assert await is_everywhere(observers, unit)
