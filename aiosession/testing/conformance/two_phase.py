"""How a driver prepares transactions and finishes prepared ones."""

# ruff: noqa: D103 - the name of a case says what it demands, and any test runner may run it

from aiosession import errors
from aiosession.drivers.protocol import Driver, TransactionOptions, TransactionStatus
from aiosession.testing.conformance.kit import INSERT, case, connected, failure, names, row, sql_for, status, table


@case
async def prepared_transaction_outlives_its_connection(driver: Driver) -> None:
    if not driver.capabilities.two_phase:
        return
    async with table(driver) as (connection, observer):
        if not await connection.can_prepare():
            return
        await connection.begin(TransactionOptions(branch="conformance:1:1"))
        await connection.execute(sql_for(driver, INSERT), row(2))
        await connection.prepare("conformance:1:1")
        assert await names(observer) == ["one"]
        await connection.close()
        assert [each.name for each in await observer.prepared("conformance:1:")] == ["conformance:1:1"]
        assert await observer.prepared("conformance:2:") == []
        assert await observer.commit_prepared("conformance:1:1")
        assert not await observer.commit_prepared("conformance:1:1")
        assert not await observer.rollback_prepared("conformance:1:1")
        assert await names(observer) == ["one", "row 2"]


@case
async def prepared_transaction_can_be_rolled_back(driver: Driver) -> None:
    if not driver.capabilities.two_phase:
        return
    async with table(driver) as (connection, observer):
        if not await connection.can_prepare():
            return
        for number in (2, 3):
            branch = f"conformance:1:{number}"
            await connection.begin(TransactionOptions(branch=branch))
            await connection.execute(sql_for(driver, INSERT), row(number))
            await connection.prepare(branch)
            assert await connection.rollback_prepared(branch)
            assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]


@case
async def failed_transaction_cannot_be_prepared(driver: Driver) -> None:
    if not driver.capabilities.two_phase:
        return
    async with table(driver) as (connection, observer):
        if not await connection.can_prepare():
            return
        await connection.begin(TransactionOptions(branch="conformance:1:1"))
        await connection.execute(sql_for(driver, INSERT), row(2))
        await failure(driver, connection.fetch("SELECT * FROM nowhere"))
        if status(connection) is TransactionStatus.FAILED:
            assert await failure(driver, connection.prepare("conformance:1:1")) is errors.InternalError
            assert await observer.prepared("conformance:") == []
        await connection.rollback()
        assert await names(observer) == ["one"]


@case
async def names_of_branches_are_checked(driver: Driver) -> None:
    async with connected(driver) as connection:
        if not driver.capabilities.two_phase or not await connection.can_prepare():
            return
        for name in ("", "a b", "a'; DROP TABLE x; --", "ä", "x" * 200):
            try:
                await connection.rollback_prepared(name)
            except errors.ArgumentError:
                continue
            raise AssertionError(f"{name!r} was taken for the name of a branch")
