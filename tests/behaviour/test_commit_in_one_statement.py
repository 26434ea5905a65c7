"""A commit of a few writes goes out as one statement, where the database can and it makes no difference."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from aiosession import ArgumentError, AsyncEngine, AsyncSession, IntegrityError, StaleDataError
from aiosession.testing.statements import StatementLog
from tests.ledger_model import ACCOUNT, Account, Badge, Entry, Owner, make_rows, seen


@pytest.fixture(autouse=True)
async def _rows(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_rows(engine)
    statements.clear()


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine) as session:
        yield session


def went_out_as_one(statements: StatementLog, engine: AsyncEngine) -> bool:
    """Whether the writes were one statement without BEGIN, where that can be."""
    expected = ["WITH"] if engine.name == "postgresql" else ["BEGIN", "COMMIT"]
    kinds = statements.kinds if engine.name == "postgresql" else [statements.kinds[0], statements.kinds[-1]]
    return kinds == expected


async def test_a_change_and_a_new_row_are_committed_by_one_statement(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    account = await session.get_one(Account, 101)
    statements.clear()
    account.balance -= 30
    entry = Entry(amount=-30, account=account)
    session.add(entry)

    await session.commit()

    assert went_out_as_one(statements, engine)
    assert await seen(observer, Entry.id, Entry.amount, Entry.account_id) == [(entry.id, -30, 101)]
    assert await seen(observer, Account.id, Account.balance) == [(101, 70), (102, 100), (103, 100)]
    assert entry not in session.new
    assert not session.dirty


async def test_many_new_rows_get_their_own_keys(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    account = await session.get_one(Account, 102)
    statements.clear()
    account.balance = 0
    entries = [Entry(amount=number, account_id=102) for number in range(50)]
    session.add_all(entries)

    await session.commit()

    assert went_out_as_one(statements, engine)
    rows = dict(await seen(observer, Entry.id, Entry.amount))
    assert [rows[entry.id] for entry in entries] == list(range(50))


async def test_new_rows_of_two_tables_get_their_own_keys(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    owner, entries = Owner(name="Cay"), [Entry(amount=number, account_id=101) for number in range(3)]
    session.add_all([owner, *entries])

    await session.commit()

    assert went_out_as_one(statements, engine)
    assert (owner.id, owner.name, 1) in await seen(observer, Owner.id, Owner.name, Owner.version)
    assert await seen(observer, Entry.id, Entry.amount) == [(entry.id, entry.amount) for entry in entries]


@pytest.mark.parametrize("number", [1, 3])
async def test_a_row_that_is_gone_leaves_nothing_written(
    session: AsyncSession, observer: AsyncEngine, number: int
) -> None:
    accounts = [await session.get_one(Account, key + 101) for key in range(number)]
    async with observer.begin() as connection:
        await connection.execute(delete(ACCOUNT).where(ACCOUNT.c.id == 101))
    for account in accounts:
        account.balance = 7
    session.add(Entry(amount=7, account_id=103))

    with pytest.raises(StaleDataError) as caught:
        await session.commit()

    assert (caught.value.table, caught.value.operation) == ("account", "UPDATE")
    assert (caught.value.expected, caught.value.matched) == (number, number - 1)
    assert await seen(observer, Account.id, Account.balance) == [(102, 100), (103, 100)]
    assert await seen(observer, Entry.id) == []
    await session.rollback()
    assert await session.get_one(Account, 103) in session


async def test_a_row_with_a_newer_version_leaves_nothing_written(session: AsyncSession, observer: AsyncEngine) -> None:
    owner = await session.get_one(Owner, 101)
    async with observer.begin() as connection:
        await connection.execute(update(Owner.__table__).where(Owner.__table__.c.id == 101).values(version=9))
    owner.name = "Anna"
    session.add(Entry(amount=1, account_id=101))

    with pytest.raises(StaleDataError, match="owner"):
        await session.commit()

    assert await seen(observer, Entry.id) == []
    assert await seen(observer, Owner.id, Owner.name) == [(101, "Ann"), (102, "Bea")]


async def test_a_refused_row_leaves_nothing_written(session: AsyncSession, observer: AsyncEngine) -> None:
    account = await session.get_one(Account, 101)
    account.balance = 7
    session.add(Owner(name="Ann"))

    with pytest.raises(IntegrityError):
        await session.commit()

    assert await seen(observer, Account.id, Account.balance) == [(101, 100), (102, 100), (103, 100)]
    await session.rollback()
    assert account.balance == 100


async def test_changes_of_many_rows_need_no_transaction_of_several_statements(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    accounts = (await session.scalars(select(Account))).all()
    statements.clear()
    for account in accounts:
        account.balance += account.id - 100

    await session.commit()

    assert went_out_as_one(statements, engine)
    assert await seen(observer, Account.id, Account.balance) == [(101, 101), (102, 102), (103, 103)]


async def test_rows_that_go_together_are_deleted_together(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    session.add_all([Entry(amount=number, account_id=102) for number in range(3)])
    await session.commit()
    account = await session.get_one(Account, 102)
    await session.load(account, Account.entries)
    await session.delete(account)
    statements.clear()

    await session.commit()

    assert statements.tables("DELETE") == ["entry", "account"]
    assert went_out_as_one(statements, engine)
    assert await seen(observer, Account.id) == [(101,), (103,)]
    assert await seen(observer, Entry.id) == []


async def test_keys_that_others_follow_are_changed_statement_by_statement(
    session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    badge = Badge(owner_code="a")
    session.add(badge)
    await session.commit()
    owner, account = await session.get_one(Owner, 101), await session.get_one(Account, 101)
    statements.clear()
    owner.code = "z"
    account.balance = 1

    await session.commit()

    assert "WITH" not in statements.kinds
    assert await seen(observer, Badge.id, Badge.owner_code) == [(badge.id, "z")]


async def test_rows_that_wait_for_a_key_are_written_statement_by_statement(
    session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    session.add(Account(balance=1, entries=[Entry(amount=1)]))

    await session.commit()

    assert statements.kinds == ["BEGIN", "INSERT", "INSERT", "COMMIT"]
    assert len(await seen(observer, Entry.id)) == 1


async def change(session: AsyncSession) -> None:
    account = await session.get_one(Account, 101)
    account.balance += 1
    session.add(Entry(amount=1, account_id=101))


async def in_a_begin_block(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        await change(session)


async def in_a_savepoint(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin_nested():
            await change(session)
        await session.commit()


async def after_another_write(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Owner(name="Cay"))
        await session.flush()
        await change(session)
        await session.commit()


async def switched_off(engine: AsyncEngine) -> None:
    async with AsyncSession(engine.execution_options(combine_writes=False)) as session:
        await change(session)
        await session.commit()


@pytest.mark.parametrize("work", [in_a_begin_block, in_a_savepoint, after_another_write, switched_off])
async def test_a_transaction_that_is_more_than_this_commit_has_its_statements_one_by_one(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, work: Any
) -> None:
    await work(engine)

    assert statements.tables("UPDATE") == ["account"]
    assert statements.kinds[-1] == "COMMIT"
    assert "WITH" not in statements.kinds
    assert len(await seen(observer, Entry.id)) == 1


async def test_serializable_work_stays_in_its_transaction(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine, isolation_level="SERIALIZABLE") as session:
        await change(session)
        statements.clear()
        await session.commit()

    assert statements.kinds[-1] == "COMMIT"


def test_the_switch_is_true_or_false(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="combine_writes is True or False, not 'no'"):
        engine.execution_options(combine_writes="no")


async def test_a_trigger_sees_what_was_written_before_its_row(
    engine: AsyncEngine, session: AsyncSession, observer: AsyncEngine
) -> None:
    if engine.name != "postgresql":
        return
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "NEW.amount := (SELECT balance FROM account WHERE id = NEW.account_id); RETURN NEW; END $$"
            )
        )
        await connection.execute(
            text("CREATE TRIGGER noted BEFORE UPDATE ON entry FOR EACH ROW EXECUTE FUNCTION note()")
        )
    entry = Entry(amount=0, account_id=101)
    session.add(entry)
    await session.commit()
    account = await session.get_one(Account, 101)
    account.balance, entry.amount = 55, 1

    await session.commit()

    assert await seen(observer, Entry.id, Entry.amount) == [(entry.id, 55)]


@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
async def test_what_goes_to_a_connection_of_the_applications_stays_in_its_transaction(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with engine.connect() as connection:
        await connection.begin()
        await connection.execute(select(1))
        async with AsyncSession(binds={Owner: engine, Badge: connection}) as session:
            session.add_all([Owner(name="new"), Badge(owner_code=None)])
            await session.commit()
        await connection.rollback()

    assert await seen(observer, Owner.name) == [("Ann",), ("Bea",), ("new",)]
    assert await seen(observer, Badge.id) == []
