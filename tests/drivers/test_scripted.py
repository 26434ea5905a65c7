"""The scripted driver answers, fails, hangs and drops the line as it is told."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from sqlalchemy import make_url

from aiosession.drivers.protocol import CommitRefusedError, DriverOptions, Reply, TransactionOptions, TransactionStatus
from aiosession.errors import ArgumentError, DisconnectError, UniqueViolationError
from aiosession.testing.conformance import status
from aiosession.testing.scripted import DriverCall, ScriptedDriver

T = TypeVar("T")


def scripted(url: str = "postgresql+scripted://") -> ScriptedDriver:
    return ScriptedDriver(make_url(url), DriverOptions())


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it suspended")


def test_calls_are_recorded_and_answered_in_order() -> None:
    driver = scripted()
    driver.answer([(1, "a"), (2, "b")], 7, [[(1,)], []], Reply(("x",), [(1,)], 1))
    connection = drive(driver.connect())

    assert drive(connection.fetch("SELECT", (5,))) == [(1, "a"), (2, "b")]
    assert drive(connection.execute("UPDATE")) == 7
    assert drive(connection.fetch_each("SELECT", [(1,), (2,)])) == [[(1,)], []]
    assert drive(connection.run("SELECT")).columns == ("x",)
    assert driver.calls[:2] == [DriverCall(1, "connect"), DriverCall(1, "fetch", "SELECT", (5,))]


def test_without_a_script_there_are_no_rows_and_all_writes_work() -> None:
    driver = scripted()
    connection = drive(driver.connect())

    assert drive(connection.fetch("SELECT")) == []
    assert drive(connection.execute("UPDATE")) == 1
    assert drive(connection.execute_many("INSERT", [(1,), (2,)])) == 2
    assert drive(connection.fetch_each("SELECT", [(1,), (2,)])) == [[], []]
    assert drive(connection.run("SELECT")) == Reply(None, [], 1)


def test_a_plan_answers_what_the_script_does_not() -> None:
    driver = scripted()
    driver.plan = lambda call: [(call.parameters[0],)] if call.verb == "fetch" else None
    connection = drive(driver.connect())

    assert drive(connection.fetch("SELECT", (9,))) == [(9,)]


async def test_streams_come_in_chunks() -> None:
    driver = scripted()
    driver.answer([(number,) for number in range(5)])
    connection = await driver.connect()

    assert [chunk async for chunk in connection.stream("SELECT", size=2)] == [[(0,), (1,)], [(2,), (3,)], [(4,)]]


def test_a_failed_statement_fails_its_transaction() -> None:
    driver = scripted()
    error = UniqueViolationError("INSERT", (), ValueError("twice"))
    driver.answer(error)
    connection = drive(driver.connect())
    drive(connection.begin(TransactionOptions()))

    with pytest.raises(UniqueViolationError):
        drive(connection.execute("INSERT"))

    assert status(connection) is TransactionStatus.FAILED
    with pytest.raises(CommitRefusedError):
        drive(connection.commit())
    assert status(connection) is TransactionStatus.IDLE


def test_the_line_drops_where_it_should() -> None:
    driver = scripted()
    driver.drop_at(3)
    connection = drive(driver.connect())
    drive(connection.fetch("SELECT 1"))

    with pytest.raises(ConnectionError) as caught:
        drive(connection.fetch("SELECT 2"))

    assert driver.translate(caught.value) is DisconnectError
    assert status(connection) is TransactionStatus.CLOSED


async def test_a_hanging_call_can_be_cancelled() -> None:
    driver = scripted()
    driver.hang_at(2)
    connection = await driver.connect()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await connection.fetch("SELECT")

    assert status(connection) is TransactionStatus.ACTIVE
    await connection.reset()
    assert status(connection) is TransactionStatus.IDLE


def test_it_compiles_like_the_database_that_it_stands_in_for() -> None:
    assert scripted("postgresql+scripted://").dialect.paramstyle == "numeric_dollar"
    assert scripted("sqlite+scripted://").dialect.paramstyle == "qmark"
    with pytest.raises(ArgumentError, match="not 'oracle'"):
        scripted("oracle+scripted://")
