"""Transactions that are prepared by hand: connection.begin_twophase() and what finishes them."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from aiosession import AsyncConnection, AsyncEngine, create_async_engine
from aiosession.errors import (
    ArgumentError,
    InvalidRequestError,
    OperationalError,
    PendingRollbackError,
    ProgrammingError,
)
from tests.conftest import TWO_PHASE_DATABASES

metadata = MetaData()
items = Table("items", metadata, Column("id", Integer, primary_key=True, autoincrement=False))


@pytest.fixture(params=TWO_PHASE_DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def preparing(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Give an engine with a table; at the end nothing may be prepared."""
    async with engine.begin() as connection:
        await connection.create_all(metadata)
    yield engine
    async with engine.connect() as connection:
        left = await connection.recover_twophase()
        for xid in left:
            await connection.rollback_prepared(xid)
    assert left == []


async def stored(observer: AsyncEngine) -> list[int]:
    async with observer.connect() as connection:
        return list((await connection.scalars(select(items.c.id).order_by(items.c.id))).all())


async def write(connection: AsyncConnection, number: int) -> None:
    await connection.execute(insert(items).values(id=number))


async def test_a_prepared_transaction_is_seen_once_it_is_committed(
    preparing: AsyncEngine, observer: AsyncEngine
) -> None:
    async with preparing.connect() as connection, connection.begin_twophase("job:1") as transaction:
        await write(connection, 1)
        await transaction.prepare()
        assert transaction.is_prepared
        assert (transaction.xid, await stored(observer)) == ("job:1", [])
    assert await stored(observer) == [1]


async def test_a_prepared_transaction_outlives_its_connection(preparing: AsyncEngine, observer: AsyncEngine) -> None:
    async with preparing.connect() as connection:
        transaction = await connection.begin_twophase("job:2").start()
        await write(connection, 2)
        await transaction.prepare()
        connection.wire().terminate()
    async with observer.connect() as other:
        assert await other.recover_twophase() == ["job:2"]
        await other.commit_prepared("job:2")
    assert await stored(observer) == [2]


async def test_an_exception_rolls_a_prepared_transaction_back(preparing: AsyncEngine, observer: AsyncEngine) -> None:
    async def fail_when_prepared(connection: AsyncConnection) -> None:
        async with connection.begin_twophase() as transaction:
            await write(connection, 3)
            await transaction.prepare()
            raise ZeroDivisionError

    async with preparing.connect() as connection:
        with pytest.raises(ZeroDivisionError):
            await fail_when_prepared(connection)
        assert not connection.in_transaction()
    assert await stored(observer) == []


async def test_without_prepare_it_is_committed_like_any_other(preparing: AsyncEngine, observer: AsyncEngine) -> None:
    async with preparing.connect() as connection, connection.begin_twophase():
        await write(connection, 4)
    assert await stored(observer) == [4]


async def test_savepoints_are_part_of_what_is_prepared(preparing: AsyncEngine, observer: AsyncEngine) -> None:
    async with preparing.connect() as connection:
        transaction = await connection.begin_twophase().start()
        savepoint = await connection.begin_nested().start()
        await write(connection, 5)
        await transaction.prepare()
        assert not savepoint.is_active
        await transaction.commit()
    assert await stored(observer) == [5]


async def test_nothing_but_commit_and_rollback_is_left_to_a_prepared_transaction(preparing: AsyncEngine) -> None:
    async with preparing.connect() as connection:
        transaction = await connection.begin_twophase().start()
        await write(connection, 6)
        await transaction.prepare()
        with pytest.raises(InvalidRequestError, match="nothing but commit"):
            await write(connection, 7)
        with pytest.raises(InvalidRequestError, match="prepared"):
            await transaction.prepare()
        with pytest.raises(InvalidRequestError, match="begun on this connection already"):
            await connection.begin().start()
        await transaction.rollback()


async def test_a_failed_transaction_is_not_prepared(preparing: AsyncEngine, observer: AsyncEngine) -> None:
    async with preparing.connect() as connection:
        transaction = await connection.begin_twophase("job:8").start()
        await write(connection, 8)
        with pytest.raises(ProgrammingError):
            await connection.exec_driver_sql("SELECT * FROM nowhere")
        if preparing.name == "postgresql":
            with pytest.raises(PendingRollbackError):
                await transaction.prepare()
        await transaction.rollback()
    assert await stored(observer) == []


async def test_finishing_what_is_not_there_says_so(preparing: AsyncEngine) -> None:
    async with preparing.connect() as connection:
        for finish in (connection.commit_prepared, connection.rollback_prepared):
            with pytest.raises(InvalidRequestError, match="nothing is prepared under the name 'job:9'"):
                await finish("job:9")


async def test_somebody_else_may_have_finished_a_prepared_transaction(preparing: AsyncEngine) -> None:
    async with preparing.connect() as connection, preparing.connect() as other:
        transaction = await connection.begin_twophase("job:10").start()
        await write(connection, 10)
        await transaction.prepare()
        if preparing.name == "mariadb":
            with pytest.raises(OperationalError, match="still open"):
                await other.rollback_prepared("job:10")
            await transaction.rollback()
            return
        await other.rollback_prepared("job:10")
        with pytest.raises(InvalidRequestError, match="somebody else has finished it"):
            await transaction.commit()
        assert not connection.in_transaction()


@pytest.mark.parametrize("xid", ["", "a b", "a'b", "ä", "x" * 200])
async def test_names_are_checked_before_anything_is_sent(engine: AsyncEngine, xid: str) -> None:
    async with engine.connect() as connection:
        with pytest.raises(ArgumentError, match="name for a prepared transaction"):
            connection.begin_twophase(xid)
        with pytest.raises(ArgumentError, match="name for a prepared transaction"):
            await connection.commit_prepared(xid)


async def test_a_database_that_prepares_nothing_says_so_at_the_begin(sqlite_url: str) -> None:
    engine = create_async_engine(sqlite_url)
    async with engine.connect() as connection:
        with pytest.raises(InvalidRequestError, match="prepares no transactions"):
            await connection.begin_twophase().start()
        assert not connection.in_transaction()
    await engine.dispose()
