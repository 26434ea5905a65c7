"""Statements are logged for people and for machines, all of them or the slow ones."""

import asyncio
import logging
from typing import Any

import pytest
from sqlalchemy import literal, select, text

from aiosession import AsyncEngine, AsyncSession, create_async_engine
from aiosession.errors import ArgumentError
from aiosession.events import StatementEvent
from aiosession.testing.scripted import DriverCall, ScriptedDriver
from tests.session_model import Author, make_tables
from tests.without_loop import to_the_end


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return record.__dict__


async def logged(caplog: pytest.LogCaptureFixture, url: str, **options: Any) -> list[logging.LogRecord]:
    with caplog.at_level(logging.INFO, "aiosession.engine"):
        engine = create_async_engine(url, **options)
        async with engine.connect() as connection:
            await connection.execute(select(literal("secret value")))
        await engine.dispose()
    return [record for record in caplog.records if record.name.startswith("aiosession.engine")]


async def test_a_record_has_its_facts_in_attributes(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = await logged(caplog, database_url)
    found = fields(record)

    assert found["statement"].startswith("SELECT")
    assert found["kind"] == "SELECT"
    assert found["parameters"] == "('secret value',)"
    assert found["duration_ms"] > 0
    assert found["rows"] == 1
    assert found["round_trips"] == 1
    assert found["connection"] > 0
    assert found["engine"] == create_async_engine(database_url).url.render_as_string()
    assert found["task"] == f"task {asyncio.current_task().get_name()!r}"  # type: ignore[union-attr]
    assert found["error"] is None
    assert found["many"] is False


async def test_hidden_parameters_are_nowhere_in_a_record(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    (record,) = await logged(caplog, database_url, hide_parameters=True)

    assert fields(record)["parameters"] is None
    assert "secret value" not in str(fields(record))
    assert "(parameters hidden)" in record.getMessage()


async def test_engines_are_told_apart_by_their_names(caplog: pytest.LogCaptureFixture) -> None:
    (record,) = await logged(caplog, "sqlite+aiosqlite://", logging_name="shop")

    assert record.name == "aiosession.engine.shop"
    assert fields(record)["engine"] == "shop"


async def test_a_failure_is_logged_with_its_error(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aiosession.engine"):
        engine = create_async_engine(database_url)
        async with engine.connect() as connection:
            with pytest.raises(Exception, match="nowhere"):
                await connection.execute(text("SELECT * FROM nowhere"))
        await engine.dispose()
    (record,) = [record for record in caplog.records if fields(record).get("kind") == "SELECT"]

    assert fields(record)["error"] in {"ProgrammingError", "OperationalError"}


async def test_a_cancelled_statement_is_logged(postgresql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aiosession.engine"):
        engine = create_async_engine(postgresql_url)
        async with engine.connect() as connection:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.execute(text("SELECT pg_sleep(60)")), 0.05)
        await engine.dispose()
    (record,) = [record for record in caplog.records if fields(record).get("kind") == "SELECT"]

    assert fields(record)["error"] == "CancelledError"


def test_only_slow_statements_are_warned_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_async_engine("postgresql+scripted://", slow_statement=0.05, hide_parameters=True)
    driver = engine.driver
    assert isinstance(driver, ScriptedDriver)
    clock = [0.0]
    monkeypatch.setattr("aiosession.engine.wire.perf_counter", lambda: clock[0])

    def answer(call: DriverCall) -> None:
        clock[0] += 0.06 if "slow" in call.sql else 0.04

    async def work() -> None:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("SELECT quick")
            await connection.exec_driver_sql("SELECT slow", ("secret value",))

    driver.plan = answer
    to_the_end(work())

    (record,) = [record for record in caplog.records if record.name == "aiosession.slow"]
    assert record.levelno == logging.WARNING
    assert fields(record)["statement"] == "SELECT slow"
    assert fields(record)["duration_ms"] == 60
    assert "secret value" not in record.getMessage()


async def test_streams_are_logged_with_the_rows_that_were_read(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 8)])
        await session.commit()
    heard: list[StatementEvent] = []
    engine.events.after.add(heard.append)
    async with AsyncSession(engine) as session:
        rows = await session.stream(select(Author), execution_options={"yield_per": 3})
        assert len(await rows.fetchmany(2)) == 2
        await rows.close()

    (event,) = [event for event in heard if event.kind == "SELECT"]
    assert event.row_count == 3
    assert event.round_trips == 1
    assert event.error is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slow_statement": -1}, "slow_statement must be 0 or more"),
        ({"slow_statement": float("nan")}, "slow_statement must be 0 or more, not nan"),
        ({"idle_in_transaction_warning": 0}, "idle_in_transaction_warning must be more than 0 seconds, not 0"),
        ({"idle_in_transaction_warning": -1.0}, "idle_in_transaction_warning must be more than 0 seconds"),
        ({"idle_in_transaction_warning": float("nan")}, "idle_in_transaction_warning must be more than 0 seconds"),
        ({"slow_statement": "fast"}, "slow_statement must be a number of seconds, or None, not 'fast'"),
        ({"slow_statment": 1}, "did you mean 'slow_statement'"),
        ({"echo": "loud"}, "echo must be True, False or 'debug', not 'loud'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        create_async_engine("sqlite+aiosqlite://", **options)


async def test_a_handler_that_fails_silences_no_other(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[StatementEvent] = []

    async def fail(_event: StatementEvent) -> None:
        raise KeyError("mine")

    engine = create_async_engine("sqlite+aiosqlite://", slow_statement=0)
    engine.events.after.add(fail, first=True)
    engine.events.after.add(heard.append)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    await engine.dispose()

    assert "SELECT" in [event.kind for event in heard]
    assert "SELECT 1" in [fields(each).get("statement") for each in caplog.records if each.name == "aiosession.slow"]
    assert any("a handler failed after the statement SELECT 1" in each.getMessage() for each in caplog.records)
