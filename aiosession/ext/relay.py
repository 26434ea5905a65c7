"""How do the events of an outbox reach their handler? In batches that a relay takes for a while, hands on and deletes.

Taking is a short transaction and nothing is locked while handlers work. A relay takes the first event of a key and with
it those that follow; nobody else gets anything of the key until the first one is deleted, or its time is over.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from math import inf
from typing import Any, Final, TypeAlias, TypedDict
from uuid import UUID

import anyio
from sqlalchemy import ColumnElement, Table, and_, delete, exists, or_, select, update

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    InvalidRequestError,
    OperationalError,
    PoolTimeoutError,
    Retrying,
    async_sessionmaker,
)

_log: Final = logging.getLogger("aiosession.outbox")
_SETTLING: Final = 5.0
"""Seconds to note what was delivered, when the relay is cancelled."""
_LAST_START, _LAST_END = 0.5, 0.75
"""The parts of a lease after which no event is begun, and after which a handler is broken off.

The rest is there to note what was delivered, before somebody else may take it.
"""
_LONGEST_ERROR: Final = 2000
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event as its handler gets it."""

    id: UUID
    """The same in each delivery: what a receiver remembers to do a thing once."""
    topic: str
    key: str | None
    payload: Any
    """What the serializer made of the event, as JSON gives it back."""
    headers: Mapping[str, str]
    created_at: datetime
    """When it was published, in UTC."""
    attempt: int
    """Which delivery this is, from 1, as far as earlier ones came to an end."""
    position: int
    """Its place in the table."""


Handler: TypeAlias = Callable[[OutboxEvent], Awaitable[object] | None]


class RelayOptions(TypedDict, total=False):
    """How a relay works; see `Outbox.relay`."""

    batch: int
    every: float
    lease: float
    attempts: int
    backoff: float
    max_backoff: float


@dataclass(frozen=True, slots=True)
class _Options:
    batch: int = 100
    every: float = 1.0
    lease: float = 60.0
    attempts: int = 10
    backoff: float = 1.0
    max_backoff: float = 300.0

    def wait(self, failures: int) -> timedelta:
        """Return how long an event waits after so many failures."""
        doubled = self.backoff * 2.0 ** min(failures - 1, 60)
        return timedelta(seconds=min(doubled, self.max_backoff))


@dataclass(slots=True)
class _Batch:
    """Events that were taken together, and what became of them."""

    events: list[OutboxEvent]
    heads: list[int]
    """The positions of those that are kept from other relays, and the followers of their keys with them."""
    times: dict[int, datetime]
    """Until when each is out of reach of others; if it is another time by now, another relay is at work on it."""
    delivered: list[int] = field(default_factory=list)
    failed: list[tuple[OutboxEvent, str]] = field(default_factory=list)
    running: OutboxEvent | None = None
    """The one that the handler is at work on."""

    @property
    def untouched(self) -> list[int]:
        """The heads that nothing became of."""
        return list({*self.heads} - {*self.delivered} - {event.position for event, _ in self.failed})


class Relay:
    """Delivers the events of an outbox to a handler; made by `Outbox.relay`.

    Several may run, in as many processes as you like: an event is handed to one of them at a time. An event whose relay
    dies is delivered by another one when its *lease* is over: at least once, and rarely twice. The handler is told the
    id, for receivers that must not do a thing twice. One handler works at a time; run several relays to have more.
    """

    def __init__(
        self, table: Table, source: AsyncEngine | async_sessionmaker[Any], handler: Handler, **options: Any
    ) -> None:
        self._table: Final = table
        self._handler: Final = handler
        self._options: Final = _checked(options)
        if not callable(handler):
            raise ArgumentError(f"handler is a function that takes an event; {handler!r} cannot be called")
        self._write: Final = _transactions(source, table)
        self._stops = False
        self._stopped: anyio.Event | None = None
        """Set by `stop`; there is one while `run` is at work."""

    async def run(self) -> None:
        """Deliver events until `stop` is called or the task is cancelled; wait for more where there are none.

        A database that cannot be reached is waited for. What was handed over before a cancellation counts as delivered.
        Raises `InvalidRequestError` while it is running already: make another relay with ``outbox.relay(...)``.
        """
        if self._stopped is not None:
            raise InvalidRequestError("this relay is running; for more of them call outbox.relay(...) once for each")
        self._stopped = anyio.Event()
        try:
            while not self._stops:
                await self._deliver_or_wait(self._stopped)
        finally:
            self._stops, self._stopped = False, None

    async def _deliver_or_wait(self, stopped: anyio.Event) -> None:
        try:
            is_idle = not (await self._deliver()).events
        except (OperationalError, PoolTimeoutError) as error:
            _log.warning("the outbox cannot be read or written, which is tried again: %s", error)
            is_idle = True
        if is_idle and not self._stops:
            with anyio.move_on_after(self._options.every):
                await stopped.wait()

    def stop(self) -> None:
        """Have `run` return when the handler that is at work has come to its end; never waits."""
        self._stops = True
        if self._stopped is not None:
            self._stopped.set()

    async def drain(self) -> int:
        """Deliver everything that can be delivered now and return how many events were; those that fail wait."""
        if self._stopped is None:
            self._stops = False  # of a run() that never was
        total = 0
        while not self._stops and (batch := await self._deliver()).events:
            total += len(batch.delivered)
        return total

    async def _deliver(self) -> _Batch:
        """Take a batch, hand it over and note what became of it."""
        began, lease = anyio.current_time(), self._options.lease
        batch: _Batch = await self._write(self._take)
        if not batch.events:
            return batch
        try:
            with anyio.CancelScope(deadline=began + _LAST_END * lease) as scope:
                await self._hand_over(batch, last_start=began + _LAST_START * lease)
            if scope.cancelled_caught and batch.running is not None:
                batch.failed.append((batch.running, f"broken off: it took too long for lease={lease:g} seconds"))
        except BaseException:
            await self._note(batch, by=anyio.current_time() + _SETTLING)
            raise
        await self._note(batch, by=max(began + lease, anyio.current_time() + _SETTLING))
        return batch

    async def _note(self, batch: _Batch, *, by: float) -> None:
        """Write down what became of a batch, shielded; what is not noted in time is delivered again."""
        with anyio.CancelScope(deadline=by, shield=True) as scope:
            await self._write(self._settle, batch)
        if scope.cancelled_caught:
            _log.warning(
                "%d delivered events could not be noted in time: they will be delivered again", len(batch.delivered)
            )

    # Taking

    async def _take(self, session: AsyncSession) -> _Batch:
        """Keep the first events of keys, and events without one, from others for a while; read what follows them."""
        table, now = self._table.c, datetime.now(UTC)
        heads = await self._rows(session, self._can_be_taken(now), locks=True)
        if not heads:
            return _Batch([], [], {})
        positions = [row.position for row in heads]
        kept = now + timedelta(seconds=self._options.lease)
        await session.execute(update(self._table).where(table.position.in_(positions)).values(available_at=kept))
        keys = {row.key for row in heads if row.key is not None}
        following = and_(table.key.in_(keys), table.dead_at.is_(None), table.position.not_in(positions))
        followers = _due(await self._rows(session, following), now) if keys else []
        times = {row.position: row.available_at for row in followers} | dict.fromkeys(positions, kept)
        rows = sorted([*heads, *followers], key=lambda row: int(row.position))
        return _Batch([_event(row) for row in rows], positions, times)

    def _can_be_taken(self, now: datetime) -> ColumnElement[bool]:
        table, earlier = self._table.c, self._table.alias("earlier").c
        before = and_(earlier.key == table.key, earlier.position < table.position, earlier.dead_at.is_(None))
        is_first = or_(table.key.is_(None), ~exists().where(before))
        return and_(table.dead_at.is_(None), table.available_at <= now, is_first)

    async def _rows(self, session: AsyncSession, condition: ColumnElement[bool], *, locks: bool = False) -> list[Any]:
        wanted = select(self._table).where(condition).order_by(self._table.c.position).limit(self._options.batch)
        if locks:
            wanted = wanted.with_for_update(skip_locked=True)
        return list((await session.execute(wanted)).all())

    # Handing over

    async def _hand_over(self, batch: _Batch, *, last_start: float) -> None:
        """Call the handler for one event after the other, as long as there is time for another one."""
        held: set[str] = set()
        for event in batch.events:
            if self._stops or anyio.current_time() > last_start:
                return
            if event.key in held:
                continue
            error = await self._handled(event, batch)
            if error is not None:
                batch.failed.append((event, error))
                if event.key is not None:
                    held.add(event.key)

    async def _handled(self, event: OutboxEvent, batch: _Batch) -> str | None:
        """Call the handler; return what it raised as text, None if the event is delivered."""
        batch.running = event
        try:
            answer = self._handler(event)
            if isawaitable(answer):
                await answer
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise  # it is the relay that is cancelled, and not something that the handler waits for
            _log.warning("event %s (%s) failed in attempt %d: %r", event.id, event.topic, event.attempt, error)
            batch.running = None
            return repr(error)[:_LONGEST_ERROR]
        batch.running = None
        batch.delivered.append(event.position)
        return None

    # Settling

    async def _settle(self, session: AsyncSession, batch: _Batch) -> None:
        """Delete what was delivered, have what failed wait, and give back what nothing was done with.

        Where a lease was over before, another relay may be at work by now: only what was delivered is noted then.
        """
        table, now = self._table.c, datetime.now(UTC)
        if batch.delivered:
            await session.execute(delete(self._table).where(table.position.in_(batch.delivered)))
        for event, error in batch.failed:
            ours = and_(table.position == event.position, table.available_at == batch.times[event.position])
            await session.execute(update(self._table).where(ours).values(**self._after_failure(event, error, now)))
        for kept in {batch.times[position] for position in batch.untouched}:
            ours = and_(table.position.in_(batch.untouched), table.available_at == kept)
            await session.execute(update(self._table).where(ours).values(available_at=now))

    def _after_failure(self, event: OutboxEvent, error: str, now: datetime) -> dict[str, Any]:
        """Return what is written of an event that could not be delivered."""
        values: dict[str, Any] = {"attempts": event.attempt, "last_error": error, "available_at": now}
        if event.attempt < self._options.attempts:
            return {**values, "available_at": now + self._options.wait(event.attempt)}
        _log.error("event %s (%s) is given up after %d attempts", event.id, event.topic, event.attempt)
        return {**values, "dead_at": now}


def _due(rows: Sequence[Any], now: datetime) -> list[Any]:
    """Return the rows that may be delivered: nothing of a key after one that has to wait."""
    waiting: set[str] = set()
    found = []
    for row in rows:
        if row.available_at > now:
            waiting.add(row.key)
        elif row.key not in waiting:
            found.append(row)
    return found


def _event(row: Any) -> OutboxEvent:
    return OutboxEvent(
        id=row.id,
        topic=row.topic,
        key=row.key,
        payload=row.payload,
        headers=row.headers,
        created_at=row.created_at,
        attempt=row.attempts + 1,
        position=row.position,
    )


class _Transactions:
    """Runs functions over a session of their own, each a transaction that is repeated if it has to be."""

    def __init__(self, retrying: Retrying[Any]) -> None:
        self._retrying: Final = retrying

    async def __call__(self, work: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run *work* and return what it returns."""

        async def once(session: AsyncSession) -> Any:
            return await work(session, *args)

        return await self._retrying(once)()


def _transactions(source: AsyncEngine | async_sessionmaker[Any], table: Table) -> _Transactions:
    options: dict[str, Any] = source.kw if isinstance(source, async_sessionmaker) else {"bind": source}
    engine = (options.get("binds") or {}).get(table, options.get("bind"))
    if not isinstance(engine, AsyncEngine):
        raise ArgumentError(
            f"a relay needs the engine of its outbox, or a sessionmaker that has it as bind, or in binds for the table "
            f"{table.name!r}; got {source!r}"
        )
    # A snapshot, and with it the locks on gaps of MariaDB, would only stand in the way of those who publish.
    level = "READ COMMITTED" if engine.capabilities.row_locks else None
    maker = async_sessionmaker(engine, schema_translate_map=options.get("schema_translate_map"))
    return _Transactions(maker.retrying(attempts=_ATTEMPTS, isolation_level=level, max_wait=1.0))


def _checked(given: Mapping[str, Any]) -> _Options:
    unknown = given.keys() - RelayOptions.__annotations__.keys()
    if unknown:
        names = ", ".join(RelayOptions.__annotations__)
        raise ArgumentError(f"a relay has the options {names}, but not {', '.join(sorted(unknown))}")
    options = _Options(**given)
    for name in ("batch", "attempts"):
        value = getattr(options, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} is a whole number from 1, not {value!r}")
    for name in ("every", "lease", "backoff", "max_backoff"):
        value = getattr(options, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < inf:
            raise ArgumentError(f"{name} is a number of seconds, not {value!r}")
    if options.lease == 0:
        raise ArgumentError("lease is how many seconds a relay has for a batch; with 0 there is time for nothing")
    return options
