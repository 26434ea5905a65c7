"""How a connection is cancelled, reset and closed."""

# ruff: noqa: D103, PT017 - the name of a case says what it demands, and any test runner may run it

import asyncio
from collections.abc import Awaitable

from aiosession import errors
from aiosession.drivers.protocol import Driver, TransactionOptions, TransactionStatus
from aiosession.testing.conformance.kit import (
    ENDLESS,
    ENDLESS_INSERT,
    INSERT,
    SOON,
    case,
    connected,
    names,
    row,
    sql_for,
    status,
    table,
)


@case
async def cancelled_statement_leaves_the_connection_usable(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await _cancel(connection.fetch(ENDLESS))
        if status(connection) is TransactionStatus.IDLE:  # said by a driver that has waited for the statement's end
            assert await asyncio.wait_for(names(connection), SOON) == ["one"]
        await asyncio.wait_for(connection.reset(), SOON)
        if driver.capabilities.server_side_cancel:
            assert status(connection) is TransactionStatus.IDLE
            assert await names(connection) == ["one"]
        assert await names(observer) == ["one"]


@case
async def cancelled_transaction_leaves_nothing(driver: Driver) -> None:
    async with table(driver) as (connection, observer):
        await connection.begin(TransactionOptions())
        await connection.execute(sql_for(driver, INSERT), row(2))
        await _cancel(connection.execute(ENDLESS_INSERT))
        await asyncio.wait_for(connection.reset(), SOON)
        if driver.capabilities.server_side_cancel:
            assert status(connection) is TransactionStatus.IDLE
        assert await names(observer) == ["one"]
        await observer.execute(sql_for(driver, INSERT), row(3))


async def _cancel(work: Awaitable[object]) -> None:
    """Start *work*, and cancel it when it has been sent."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    raise AssertionError("the cancellation was swallowed")


@case
async def closed_connection_says_so(driver: Driver) -> None:
    for end in ("close", "terminate"):
        connection = await driver.connect()
        if end == "close":
            await connection.close()
        connection.terminate()
        connection.terminate()
        assert status(connection) is TransactionStatus.CLOSED
        try:
            await connection.fetch("SELECT 1")
        except Exception as error:
            assert driver.is_disconnect(error), f"{error!r}"
            assert driver.translate(error) is errors.DisconnectError
        else:
            raise AssertionError("a closed connection answered")


@case
async def ping_and_reset_leave_an_idle_connection_idle(driver: Driver) -> None:
    async with connected(driver) as connection:
        await connection.ping()
        await connection.reset()
        assert status(connection) is TransactionStatus.IDLE
        assert connection.server_version > (0,)
        assert connection.driver_connection is not None


@case
async def errors_of_others_are_not_translated(driver: Driver) -> None:
    assert driver.translate(KeyError("x")) is None
    assert driver.translate(asyncio.CancelledError()) is None
    assert not driver.is_disconnect(KeyError("x"))
