"""How a driver begins and ends transactions and savepoints."""

# ruff: noqa: D103, PT017 - the name of a case says what it demands, and any test runner may run it

from aiosession import errors
from aiosession.drivers.protocol import CommitRefusedError, Driver, TransactionOptions, TransactionStatus
from aiosession.testing.conformance.kit import INSERT, case, connected, failure, names, row, sql_for, status, table


@case
async def nothing_is_seen_before_commit(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.execute(sql_for(driver, INSERT), row(2))
        if driver.capabilities.concurrent_reads:
            assert await names(observer) == ["one"]
        await connection.commit()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one", "row 2"]


@case
async def rollback_undoes_and_may_be_repeated(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, INSERT), row(2))
        await connection.rollback()
        await connection.rollback()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]


@case
async def savepoints_nest(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.savepoint("outer_one")
        await connection.execute(sql_for(driver, INSERT), row(2))
        await connection.savepoint("inner_one")
        await connection.execute(sql_for(driver, INSERT), row(3))
        await connection.rollback_to_savepoint("inner_one")
        await connection.release_savepoint("inner_one")
        await connection.release_savepoint("outer_one")
        await connection.commit()
        assert await names(observer) == ["one", "row 2"]


@case
async def savepoint_saves_from_a_failed_statement(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.savepoint("before")
        assert await failure(driver, connection.execute(sql_for(driver, INSERT), (1, "x", None, 1)))
        await connection.rollback_to_savepoint("before")
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.execute(sql_for(driver, INSERT), row(2))
        await connection.commit()
        assert await names(observer) == ["one", "row 2"]


@case
async def names_of_savepoints_are_checked(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.begin(TransactionOptions())
        for name in ("", "a b", 'a"; DROP TABLE x; --', "1a", "ä", "x" * 64):
            try:
                await connection.savepoint(name)
            except errors.ArgumentError:
                continue
            raise AssertionError(f"{name!r} was taken for a savepoint's name")
        await connection.rollback()


@case
async def failed_transaction_can_be_rolled_back(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, INSERT), row(2))
        assert await failure(driver, connection.fetch("SELECT * FROM nowhere"))
        await connection.rollback()
        assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]
        await connection.begin(TransactionOptions())
        assert status(connection) is TransactionStatus.IN_TRANSACTION
        await connection.rollback()


@case
async def commit_never_rolls_back_silently(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, INSERT), row(2))
        await failure(driver, connection.fetch("SELECT * FROM nowhere"))
        try:
            await connection.commit()
        except CommitRefusedError as error:
            assert driver.translate(error) is errors.InternalError
            assert await names(observer) == ["one"]
        else:
            assert await names(observer) == ["one", "row 2"]
        assert status(connection) is TransactionStatus.IDLE


@case
async def read_only_transaction_refuses_to_write(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions(read_only=True, write=False))
        assert await failure(driver, connection.execute(sql_for(driver, INSERT), row(2)))
        await connection.rollback()
        await connection.execute(sql_for(driver, INSERT), row(3))
        assert await names(observer) == ["one", "row 3"]


@case
async def isolation_levels_are_checked(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.begin(TransactionOptions(isolation_level="SERIALIZABLE"))
        await connection.commit()
        for level in ("SERIALISABLE", "READ COMMITTED; DROP TABLE x", ""):
            try:
                await connection.begin(TransactionOptions(isolation_level=level))
            except errors.ArgumentError:
                assert status(connection) is TransactionStatus.IDLE
                continue
            raise AssertionError(f"{level!r} was taken for an isolation level")
