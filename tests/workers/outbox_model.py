"""Orders, and an outbox beside them."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from aiosession import AsyncEngine, DeclarativeBase, Mapped, async_sessionmaker, mapped_column
from aiosession.ext.outbox import Outbox, OutboxEvent, OutboxSession


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


outbox = Outbox(Base.metadata)
Maker = async_sessionmaker[OutboxSession]


class Received:
    """A handler that keeps what it gets, and fails where it is told to."""

    def __init__(self, fails: Callable[[OutboxEvent], bool] = lambda _event: False) -> None:
        self.events: list[OutboxEvent] = []
        self.tried: list[OutboxEvent] = []
        self.fails = fails
        self.before: Callable[[OutboxEvent], Awaitable[None]] | None = None

    async def __call__(self, event: OutboxEvent) -> None:
        self.tried.append(event)
        if self.before is not None:
            await self.before(event)
        if self.fails(event):
            raise ConnectionError(f"no one takes {event.payload}")
        self.events.append(event)

    @property
    def payloads(self) -> list[object]:
        return [event.payload for event in self.events]


async def rows(engine: AsyncEngine) -> list[object]:
    """Return what waits, as somebody else sees it."""
    async with engine.connect() as connection:
        found = await connection.execute(select(outbox.table.c.payload).order_by(outbox.table.c.position))
        return [row.payload for row in found]


async def publish(maker: Maker, *payloads: str, key: str | None = None) -> None:
    async with maker.begin() as session:
        for payload in payloads:
            session.publish(payload, topic="letters", key=key)


async def state(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    """Return what waits: payload, failures, last error, and whether it was given up."""
    table = outbox.table.c
    async with engine.connect() as connection:
        found = await connection.execute(
            select(table.payload, table.attempts, table.last_error, table.dead_at).order_by(table.position)
        )
        return [(row.payload, row.attempts, row.last_error, row.dead_at is not None) for row in found]


async def make_due(engine: AsyncEngine) -> None:
    """Let the time pass for which events wait."""
    past = datetime.now(UTC) - timedelta(hours=1)
    async with engine.begin() as connection:
        await connection.execute(update(outbox.table).values(available_at=past))
