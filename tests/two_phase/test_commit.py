"""What a session with twophase=True writes to several databases, it writes to all of them or to none."""

import pytest
from sqlalchemy import MetaData, func, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    TwoPhase,
    async_sessionmaker,
    create_async_engine,
    decision_table,
    events,
    recover,
)
from aiosession.errors import ArgumentError, IntegrityError, InvalidRequestError, PendingRollbackError
from aiosession.testing.statements import StatementLog
from tests.two_phase.model import APP, Account, Line, Note, Order, add_unit, binds_of, prepared, presence

Maker = async_sessionmaker[AsyncSession]
Engines = list[AsyncEngine]


async def test_all_databases_have_it_after_the_commit(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.flush()
        assert await presence(observers, unit) == [False] * len(engines) or "sqlite" in {e.name for e in engines}
        await session.commit()
    assert await presence(observers, unit) == [True] * len(engines)


async def test_a_session_lives_through_many_units_of_work(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        for _ in range(3):
            unit = add_unit(session, engines)
            await session.commit()
            assert await presence(observers, unit) == [True] * len(engines)


async def test_none_has_it_after_a_rollback(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.flush()
        await session.rollback()
    assert await presence(observers, unit) == [False] * len(engines)


async def test_a_block_commits_all_or_rolls_all_back(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session, session.begin():
        kept = add_unit(session, engines)

    async def fail() -> str:
        async with maker() as session, session.begin():
            lost.append(add_unit(session, engines))
            await session.flush()
            raise ZeroDivisionError

    lost: list[str] = []
    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await presence(observers, kept) == [True] * len(engines)
    assert await presence(observers, lost[0]) == [False] * len(engines)


async def test_one_that_cannot_prepare_keeps_all_from_committing(
    engines: Engines, observers: Engines, maker: Maker
) -> None:
    """A deferred foreign key is looked at when the transaction is prepared, or committed by the one that decides."""
    async with maker() as session:
        unit = add_unit(session, engines)
        session.add(Line(order_id=77))
        await session.flush()
        with pytest.raises(IntegrityError):
            await session.commit()
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()
        assert await presence(observers, unit) == [False] * len(engines)

        again = add_unit(session, engines)
        await session.commit()
    assert await presence(observers, again) == [True] * len(engines)


async def test_where_only_one_database_was_changed_nothing_is_prepared(
    engines: Engines, observers: Engines, maker: Maker
) -> None:
    logs = [StatementLog(engine) for engine in engines]
    async with maker() as session:
        unit = add_unit(session, engines[:1])
        await session.flush()
        await session.scalars(select(Order))
        await session.commit()
    assert (await presence(observers, unit))[0]
    assert not any("PREPARE" in log.kinds for log in logs)


async def test_a_single_write_is_one_statement(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        add_unit(session, engines[:1])
        with StatementLog(engines[0]) as log:
            await session.commit()
    assert log.kinds == ["INSERT"]


async def test_those_that_were_only_read_take_no_part(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        await session.begin()
        for class_ in (Order, Account, Note)[: len(engines)]:
            await session.scalars(select(class_))
        with StatementLog(engines[1]) as log:
            unit = add_unit(session, engines[:1])
            await session.commit()
    assert (await presence(observers, unit))[0]
    assert log.kinds == ["COMMIT"]


async def test_changes_in_savepoints_are_part_of_it(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.flush()
        savepoint = await session.begin_nested()
        lost = add_unit(session, engines)
        await session.flush()
        await savepoint.rollback()
        async with session.begin_nested():
            kept = add_unit(session, engines)
        await session.commit()
    assert await presence(observers, unit) == await presence(observers, kept) == [True] * len(engines)
    assert await presence(observers, lost) == [False] * len(engines)


async def test_prepared_work_waits_for_commit_or_rollback(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        for end in ("commit", "rollback"):
            unit = add_unit(session, engines)
            await session.prepare()
            assert len(set(await prepared(observers))) == len(engines) - 1
            assert session.is_active is False
            with pytest.raises(InvalidRequestError, match="nothing but commit"):
                await session.scalars(select(Account))
            with pytest.raises(InvalidRequestError, match="nothing but commit"):
                await session.prepare()
            await (session.commit() if end == "commit" else session.rollback())
            assert await presence(observers, unit) == [end == "commit"] * len(engines)
            assert await prepared(observers) == []


async def test_closing_rolls_prepared_work_back(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.prepare()
    assert await presence(observers, unit) == [False] * len(engines)


async def test_what_is_changed_after_prepare_is_refused(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.prepare()
        session.add(Account(unit="late"))
        with pytest.raises(InvalidRequestError, match="after prepare"):
            await session.commit()
        await session.rollback()
    assert await presence(observers, unit) == [False] * len(engines)


async def test_handlers_of_before_commit_are_called_once(engines: Engines, observers: Engines, maker: Maker) -> None:
    called: list[object] = []
    events.listen(maker, "before_commit", called.append)
    async with maker() as session:
        add_unit(session, engines)
        await session.prepare()
        await session.commit()
    assert called == [session]


async def test_decisions_are_forgotten_when_all_have_followed(
    engines: Engines, observers: Engines, maker: Maker
) -> None:
    async with maker() as session:
        for _ in range(60):
            add_unit(session, engines)
            await session.commit()
    rows = 0
    for observer in observers:
        async with observer.connect() as connection:
            rows += int(await connection.scalar(text("SELECT count(*) FROM aiosession_decision")) or 0)
    assert rows == len(engines) + 10  # each has its id; ten are not forgotten yet


async def test_recovery_leaves_prepared_work_alone_until_it_is_old_enough(
    engines: Engines, observers: Engines, maker: Maker
) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.prepare()
        (found,) = await recover(observers, app=APP, older_than=3600)
        assert not found.is_settled
        await session.commit()
    assert await presence(observers, unit) == [True] * len(engines)
    assert await recover(observers, app=APP) == []


@pytest.mark.parametrize("kinds", [["postgresql", "postgresql2"]])
async def test_recovery_may_be_faster_than_the_decision(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session:
        unit = add_unit(session, engines)
        await session.prepare()
        (found,) = await recover(observers, app=APP)
        assert found.action.value == "rolled back"
        with pytest.raises(Exception, match="recovery has rolled this unit of work back") as caught:
            await session.commit()
        assert getattr(caught.value, "retryable", False)
        await session.rollback()
        assert await presence(observers, unit) == [False, False]
        unit = add_unit(session, engines)
        await session.commit()
    assert await presence(observers, unit) == [True, True]


# Who may take part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [["sqlite"]])
async def test_two_databases_that_cannot_prepare_are_refused_when_the_second_joins(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('other')}/other.db")
    async with AsyncSession(binds=binds_of([*engines, other]), twophase=True) as session:
        session.add(Account(unit="1"))
        await session.flush()
        session.add(Order(unit="1"))
        with pytest.raises(InvalidRequestError, match="two such databases cannot commit as one"):
            await session.flush()
        await session.rollback()
    await other.dispose()


@pytest.mark.parametrize("kinds", [["sqlite", "postgresql"]])
async def test_one_that_cannot_prepare_has_to_be_the_one_that_decides(engines: Engines) -> None:
    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(decider=engines[1])) as session:
        session.add(Account(unit="1"))
        with pytest.raises(InvalidRequestError, match="would have to be the one that decides"):
            await session.flush()
        await session.rollback()


async def test_the_decider_can_be_said(engines: Engines, observers: Engines) -> None:
    decider = next((engine for engine in engines if not engine.capabilities.two_phase), engines[0])
    options = TwoPhase(app=APP, decider=decider, table="choices")
    async with AsyncSession(binds=binds_of(engines), twophase=options) as session:
        unit = add_unit(session, engines)
        await session.commit()
    assert await presence(observers, unit) == [True] * len(engines)
    async with observers[engines.index(decider)].connect() as connection:
        rows = (await connection.execute(text("SELECT outcome, participants FROM choices"))).all()
    assert sorted(row.outcome for row in rows if row.participants) == ["commit"]


@pytest.mark.parametrize("kinds", [["postgresql", "postgresql2", "sqlite"]])
async def test_a_decider_that_was_not_used_takes_part_all_the_same(engines: Engines, observers: Engines) -> None:
    options = TwoPhase(app=APP, decider=engines[2])
    async with AsyncSession(binds=binds_of(engines), twophase=options) as session:
        unit = add_unit(session, engines[:2])
        await session.commit()
    assert await presence(observers, unit) == [True, True, False]


@pytest.mark.parametrize("kinds", [["postgresql", "postgresql2"]])
async def test_the_table_of_decisions_can_be_part_of_the_schema(engines: Engines, observers: Engines) -> None:
    metadata = MetaData()
    table = decision_table(metadata, "ours")
    for observer in observers:
        async with observer.begin() as connection:
            await connection.create_all(metadata)
    async with AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP, table="ours")) as session:
        add_unit(session, engines)
        await session.commit()
    counts = []
    for observer in observers:
        async with observer.connect() as connection:
            counts.append(await connection.scalar(select(func.count()).select_from(table)))
    assert counts == [1, 2]


@pytest.mark.parametrize("kinds", [["postgresql", "postgresql2"]])
async def test_a_session_on_a_connection_takes_part_in_the_transaction_of_its_owner_only(
    engines: Engines, observers: Engines
) -> None:
    async with engines[0].connect() as connection:
        async with AsyncSession(connection, twophase=True) as session:
            session.add(Account(unit="1"))
            with pytest.raises(InvalidRequestError, match="bind it to engines"):
                await session.flush()
            await session.rollback()
        async with connection.begin() as transaction:
            async with AsyncSession(connection, binds={Order: engines[1]}, twophase=TwoPhase(app=APP)) as session:
                session.add_all([Account(unit="1"), Order(unit="1")])
                await session.commit()
            await transaction.rollback()
    assert await presence(observers, "1") == [False, True]


@pytest.mark.parametrize("app", ["", "a b", "a:b", "x" * 25, "é", 7])
def test_the_name_of_an_application_is_checked(app: object) -> None:
    with pytest.raises(ArgumentError, match="no name for an application"):
        TwoPhase(app=app)  # type: ignore[arg-type]


def test_other_options_are_checked(sqlite_url: str) -> None:
    with pytest.raises(ArgumentError, match="decider is an engine"):
        TwoPhase(decider=sqlite_url)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="table is the name of a table"):
        TwoPhase(table="")
    with pytest.raises(ArgumentError, match="twophase is True, False or TwoPhase"):
        AsyncSession(create_async_engine(sqlite_url), twophase="yes")  # type: ignore[arg-type]


async def test_prepare_needs_twophase(sqlite_url: str) -> None:
    async with AsyncSession(create_async_engine(sqlite_url)) as session:
        with pytest.raises(InvalidRequestError, match="twophase=True"):
            await session.prepare()


async def test_a_fork_commits_in_the_same_way(engines: Engines, observers: Engines, maker: Maker) -> None:
    async with maker() as session, session.fork() as other:
        unit = add_unit(other, engines)
        await other.commit()
    assert await presence(observers, unit) == [True] * len(engines)
