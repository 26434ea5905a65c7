"""Whoever sits in an open transaction and does nothing is warned about, once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import select, text
from typing_extensions import override

from aiosession import AsyncEngine, AsyncSession, create_async_engine
from aiosession.drivers.idle_watch import IdleWatch
from aiosession.events import StatementEvent
from tests.session_model import Author, make_tables

LIMIT = 10.0


class Setting(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._event = event

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._event.set()


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """An engine, the watch over its pool, and a clock for both."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr("aiosession.drivers.pool.time.monotonic", self.clock)
        self.engine = create_async_engine(url, idle_in_transaction_warning=LIMIT, logging_name="shop")
        watch = self.engine.pool._watch
        assert watch is not None
        self.watch: IdleWatch = watch
        monkeypatch.setattr(watch, "_clock", self.clock)

    def after(self, seconds: float) -> None:
        """Let time go by, and have the watch look."""
        self.clock.now += seconds
        self.watch.look()


@pytest.fixture
async def watched(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    plain = create_async_engine(database_url)
    await make_tables(plain)
    await plain.dispose()
    with monkeypatch.context() as patch:
        found = Watched(database_url, patch)
        yield found
        await found.engine.dispose()


Warnings = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Warnings:
    return lambda: [record for record in caplog.records if record.name == "aiosession.pool"]


async def test_a_session_that_sits_in_its_transaction_is_named(watched: Watched, warnings: Warnings) -> None:
    async with AsyncSession(watched.engine) as session:
        await session.execute(text("SELECT 42"))
        watched.after(LIMIT - 1)
        assert warnings() == []
        watched.after(2)

    (record,) = warnings()
    message = record.getMessage()
    assert record.levelno == logging.WARNING
    assert asyncio.current_task().get_name() in message  # type: ignore[union-attr]
    assert "has sat idle in an open transaction (in transaction) for 11.0 s" in message
    assert "the transaction of a session, begun at" in message
    assert "test_idle_watch.py" in message
    assert "the last statement was SELECT 42" in message
    assert record.__dict__["statement"] == "SELECT 42"
    assert record.__dict__["idle_s"] == 11.0
    assert record.__dict__["engine"] == "shop"


async def test_it_is_warned_about_once(watched: Watched, warnings: Warnings) -> None:
    async with AsyncSession(watched.engine) as session:
        await session.execute(text("SELECT 1"))
        for _ in range(5):
            watched.after(LIMIT + 1)
        assert len(warnings()) == 1
        await session.rollback()
        await session.execute(text("SELECT 2"))
        watched.after(LIMIT + 1)

    assert len(warnings()) == 2


async def test_whoever_keeps_sending_statements_is_not_idle(watched: Watched, warnings: Warnings) -> None:
    async with AsyncSession(watched.engine) as session:
        for _ in range(6):
            await session.execute(text("SELECT 1"))
            watched.after(LIMIT - 1)

    assert warnings() == []


async def test_a_connection_without_a_transaction_may_be_held(watched: Watched, warnings: Warnings) -> None:
    async with watched.engine.connect() as connection:
        await connection.execute(select(Author.id))
        watched.after(LIMIT * 10)
        assert warnings() == []
        async with connection.begin():
            await connection.execute(text("SELECT 1"))
            watched.after(LIMIT + 1)

    (record,) = warnings()
    assert "a connection, opened at" in record.getMessage()


async def test_a_failed_transaction_counts_too(watched: Watched, warnings: Warnings) -> None:
    async with AsyncSession(watched.engine) as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(Exception, match="nowhere"):
            await session.execute(text("SELECT * FROM nowhere"))
        watched.after(LIMIT + 1)

    (record,) = warnings()
    assert record.__dict__["state"] in {"in transaction", "failed transaction"}


async def test_a_statement_that_runs_is_not_idle(watched: Watched, warnings: Warnings) -> None:
    """The statement takes longer than the limit: the clock goes on while it runs."""

    def let_time_go_by(_event: StatementEvent) -> None:
        watched.after(LIMIT * 3)

    async with AsyncSession(watched.engine) as session:
        await session.execute(text("SELECT 1"))
        watched.engine.events.before.add(let_time_go_by)
        await session.execute(text("SELECT 2"))
        watched.engine.events.before.remove(let_time_go_by)

    assert warnings() == []


async def test_a_stream_that_is_open_is_not_idle_but_what_it_leaves_is(watched: Watched, warnings: Warnings) -> None:
    async with AsyncSession(watched.engine) as session:
        session.add_all([Author(id=number, name=f"author {number}") for number in range(1, 5)])
        await session.commit()
        rows = await session.stream(select(Author), execution_options={"yield_per": 1})
        await rows.fetchone()
        watched.after(LIMIT + 1)
        assert warnings() == []
        await rows.close()
        watched.after(LIMIT + 1)

    assert len(warnings()) == 1


async def test_the_timer_runs_while_something_is_lent_and_no_longer(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(sqlite_url, idle_in_transaction_warning=0.04)
    watch = engine.pool._watch
    assert watch is not None
    warned = asyncio.Event()
    handler = Setting(warned)
    logger = logging.getLogger("aiosession.pool")
    logger.addHandler(handler)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await asyncio.wait_for(warned.wait(), 10)
        assert watch._timer is not None
    logger.removeHandler(handler)
    watch._timer.cancel()
    watch._tick()

    assert watch._timer is None
    assert watch._uses == {}
    assert watch._told == {}
    await engine.dispose()


async def test_without_the_option_there_is_no_watch(engine: AsyncEngine) -> None:
    assert engine.pool._watch is None
    assert not engine.events
