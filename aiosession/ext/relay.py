"""How do the events of an outbox reach their handler? In batches that a relay takes for a while, hands on and deletes.

Taking is a short transaction and nothing is locked while handlers work. A relay takes the first event of a key and with
it those that follow; nobody else gets anything of the key until the first one is deleted, or its time is over. What was
taken has the end of that time in ``available_at``: a relay changes rows only as long as they have the time it has set.
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
"""Seconds to note what was delivered, when the relay is cancelled or the lease is over."""
_LONGEST_WAIT: Final = 1e9
"""Seconds, some thirty years: more than that is a mistake, and leads to times that databases do not know."""
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
    until: datetime
    """When others may take them: what their rows say as long as nobody else has."""
    delivered: list[OutboxEvent] = field(default_factory=list)
    failed: list[tuple[OutboxEvent, str]] = field(default_factory=list)
    running: OutboxEvent | None = None
    """The one that the handler is at work on."""
    is_noted: bool = False
    """Whether it stands in the database what became of them."""

    @property
    def is_touched(self) -> bool:
        """Whether anything became of any of them."""
        return bool(self.delivered or self.failed)

    @property
    def untouched(self) -> list[UUID]:
        """The events that nothing became of."""
        touched = {event.id for event in (*self.delivered, *(event for event, _ in self.failed))}
        return [event.id for event in self.events if event.id not in touched]


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
        self._bell: anyio.Event | None = None
        """Ends a pause; None if it does not run."""

    async def run(self) -> None:
        """Deliver events until `stop` is called or the task is cancelled; wait for more where there are none.

        A database that cannot be reached is waited for. What was handed over before a cancellation counts as delivered.
        Raises `InvalidRequestError` if this relay runs already.
        """
        if self._bell is not None:
            raise InvalidRequestError("this relay runs already; make another one with outbox.relay() to have two")
        try:
            while not self._stops:
                bell = self._bell = anyio.Event()  # who rings from now on tells of what may not have been seen
                if not await self._goes_on() and not self._stops:
                    with anyio.move_on_after(self._options.every):
                        await bell.wait()
        finally:
            self._stops, self._bell = False, None

    async def _goes_on(self) -> bool:
        """Deliver a batch; False if it is time for a pause."""
        try:
            return (await self._deliver()).is_touched
        except (OperationalError, PoolTimeoutError) as error:
            _log.warning("the outbox cannot be read or written, which is tried again: %s", error)
            return False

    def stop(self) -> None:
        """Have `run` return when the handler that is at work has come to its end; never waits."""
        self._stops = True
        self.wake()

    def wake(self) -> None:
        """Have `run` look for events now instead of after *every* seconds; never waits.

        To be called on the event loop of `run`: after a commit that published something, or when the database tells of
        one. Does nothing while it does not run.
        """
        if self._bell is not None:
            self._bell.set()

    async def drain(self) -> int:
        """Deliver everything that can be delivered now and return how many events were; those that fail wait.

        It is not ended by `stop`. An event of which could not be noted that it was delivered is not counted.
        """
        total = 0
        while (batch := await self._deliver(stops=False)).is_touched:
            total += len(batch.delivered) if batch.is_noted else 0
        return total

    async def _deliver(self, *, stops: bool = True) -> _Batch:
        """Take a batch, hand it over and note what became of it; *stops*: as long as `stop` was not called."""
        began, lease = anyio.current_time(), self._options.lease
        batch: _Batch = await self._write(self._take)
        if not batch.events:
            return batch
        try:
            with anyio.CancelScope(deadline=began + _LAST_END * lease) as scope:
                await self._hand_over(batch, last_start=began + _LAST_START * lease, stops=stops)
            if scope.cancelled_caught and batch.running is not None:
                batch.failed.append((batch.running, f"broken off: it took too long for lease={lease:g} seconds"))
            with anyio.CancelScope(deadline=max(began + lease, anyio.current_time() + _SETTLING)):
                await self._note(batch)
        except Exception:
            raise
        except BaseException:  # cancelled, so there is little time
            with anyio.move_on_after(_SETTLING, shield=True):
                await self._note(batch)
            raise
        finally:
            self._report(batch)
        return batch

    async def _note(self, batch: _Batch) -> None:
        if not batch.is_noted:
            await self._write(self._settle, batch)
            batch.is_noted = True

    def _report(self, batch: _Batch) -> None:
        """Log what nobody would otherwise hear of."""
        if batch.delivered and not batch.is_noted:
            number = len(batch.delivered)
            _log.warning("%d delivered events could not be noted as such and will be delivered again", number)
        if not batch.is_touched and batch.running is None and not self._stops:
            _log.warning("no event was begun within half of lease=%g seconds; make it longer", self._options.lease)

    # Taking

    async def _take(self, session: AsyncSession) -> _Batch:
        """Keep first events of keys, what follows them, and events without a key, from others for a while."""
        table, now = self._table.c, datetime.now(UTC)
        until = now + timedelta(seconds=self._options.lease)
        rows = await self._rows(session, self._can_be_taken(now), self._options.batch, locks=True)
        if not rows:
            return _Batch([], until)
        keys, room = {row.key for row in rows if row.key is not None}, self._options.batch - len(rows)
        if keys and room:
            heads = [row.position for row in rows]
            following = and_(table.key.in_(keys), table.dead_at.is_(None), table.position.not_in(heads))
            rows += _due(await self._rows(session, following, room), now)
        taken = table.position.in_([row.position for row in rows])
        await session.execute(update(self._table).where(taken).values(available_at=until))
        return _Batch([_event(row) for row in sorted(rows, key=lambda row: int(row.position))], until)

    def _can_be_taken(self, now: datetime) -> ColumnElement[bool]:
        table, earlier = self._table.c, self._table.alias("earlier").c
        before = and_(earlier.key == table.key, earlier.position < table.position, earlier.dead_at.is_(None))
        is_first = or_(table.key.is_(None), ~exists().where(before))
        return and_(table.dead_at.is_(None), table.available_at <= now, is_first)

    async def _rows(
        self, session: AsyncSession, condition: ColumnElement[bool], most: int, *, locks: bool = False
    ) -> list[Any]:
        wanted = select(self._table).where(condition).order_by(self._table.c.position).limit(most)
        if locks:
            wanted = wanted.with_for_update(skip_locked=True)
        return list((await session.execute(wanted)).all())

    # Handing over

    async def _hand_over(self, batch: _Batch, *, last_start: float, stops: bool) -> None:
        """Call the handler for one event after the other, as long as there is time for another one."""
        held: set[str] = set()
        for event in batch.events:
            if (stops and self._stops) or anyio.current_time() > last_start:
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
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            _log.warning("event %s (%s) failed in attempt %d: %r", event.id, event.topic, event.attempt, error)
            batch.running = None
            return repr(error)[:_LONGEST_ERROR]
        batch.running = None
        batch.delivered.append(event)
        return None

    # Settling

    async def _settle(self, session: AsyncSession, batch: _Batch) -> None:
        """Delete what was delivered, have what failed wait, and give back what nothing was done with.

        Of all that, nothing is done to an event that somebody else has taken since: he will.
        """
        now = datetime.now(UTC)
        if batch.delivered:
            delivered = [event.id for event in batch.delivered]
            await session.execute(delete(self._table).where(self._still_held(batch, delivered)))
        for event, error in batch.failed:
            values: dict[str, Any] = {"attempts": event.attempt, "last_error": error, "available_at": now}
            if event.attempt >= self._options.attempts:
                values["dead_at"] = now
                _log.error("event %s (%s) is given up after %d attempts", event.id, event.topic, event.attempt)
            else:
                values["available_at"] += self._options.wait(event.attempt)
            await session.execute(update(self._table).where(self._still_held(batch, [event.id])).values(**values))
        if batch.untouched:
            held = self._still_held(batch, batch.untouched)
            await session.execute(update(self._table).where(held).values(available_at=now))

    def _still_held(self, batch: _Batch, events: list[UUID]) -> ColumnElement[bool]:
        table = self._table.c
        return and_(table.id.in_(events), table.available_at == batch.until)


def _is_cancelled() -> bool:
    """Whether somebody has cancelled this task, or a scope that it is in; else a CancelledError is an error."""
    task = asyncio.current_task()
    return bool(task and task.cancelling()) or anyio.current_effective_deadline() == -inf


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
    engine, schemas = _place(source, table) if isinstance(source, async_sessionmaker) else (source, None)
    if not isinstance(engine, AsyncEngine):
        raise ArgumentError(f"a relay needs the engine of its outbox, or a sessionmaker that has it; got {source!r}")
    # A snapshot, and with it the locks on gaps of MariaDB, would only stand in the way of those who publish.
    level = "READ COMMITTED" if engine.capabilities.row_locks else None
    maker = async_sessionmaker(engine, schema_translate_map=schemas)
    return _Transactions(maker.retrying(attempts=_ATTEMPTS, isolation_level=level, max_wait=1.0))


def _place(maker: async_sessionmaker[Any], table: Table) -> tuple[object, Any]:
    """Return where sessions of a maker write events: the engine, and what schemas are called there."""
    if maker.class_.get_bind is not AsyncSession.get_bind:
        raise ArgumentError(
            f"{maker.class_.__name__} chooses engines by a get_bind() of its own, so nobody knows where its events "
            f"are; give the relay the engine of the table {table.fullname!r}: outbox.relay(engine, handler)"
        )
    bind, binds = maker.kw.get("bind"), maker.kw.get("binds")
    engine = None if bind is None and not binds else AsyncSession(bind, binds=binds).get_bind(clause=table)
    return engine, maker.kw.get("schema_translate_map")


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
        check_seconds(name, getattr(options, name))
    if not options.lease:
        raise ArgumentError("lease is the time that events are kept for this relay: more than 0 seconds")
    return options


def check_seconds(name: str, value: object) -> None:
    """Raise `ArgumentError` if *value* is not a number of seconds that somebody may wait."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _LONGEST_WAIT:
        raise ArgumentError(f"{name} is a number of seconds from 0 to {_LONGEST_WAIT:g}, not {value!r}")
