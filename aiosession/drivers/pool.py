"""Who may use which connection? A pool that is fair, loses no slot, and knows who holds what.

A slot is the right to one connection; it is always in exactly one place: idle, lent, or in the hands of the operation
that opens, cleans or closes its connection. It changes hands in one step that does not wait, so that no cancellation
can lose it. With an idle connection at hand, `Pool.acquire` and `Pool.release` neither wait nor make a task or future.
"""

import asyncio
import logging
import time
import warnings
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiosession.aio import current_task, finish
from aiosession.drivers.idle_watch import IdleWatch, Lent
from aiosession.drivers.numbers import number_of
from aiosession.drivers.pool_status import Holder, Noted, PoolStatus
from aiosession.drivers.pool_telling import PoolListener
from aiosession.drivers.protocol import DriverConnection, TransactionStatus
from aiosession.errors import ArgumentError, PoolTimeoutError, WrongEventLoopError

RESET_DEADLINE: Final = 5.0
"""Seconds that cleaning a connection may take before it is dropped instead."""
CLOSE_DEADLINE: Final = 2.0
"""Seconds that closing connections politely may take, all together, before they are dropped instead."""

_LOG: Final = logging.getLogger("aiosession.pool")
_IDLE: Final = TransactionStatus.IDLE


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How many connections, for how long, and how they are chosen."""

    size: int = 5
    """Connections that are kept open; 0 means no limit."""
    overflow: int = 10
    """Connections beyond *size* that are closed when they come back; -1 means no limit."""
    timeout: float = 30.0
    """Seconds to wait for a connection."""
    recycle: float = -1.0
    """Connections older than these seconds are replaced; -1 means never."""
    pre_ping: bool = False
    """Ask the database for a sign of life before a connection is handed out."""
    lifo: bool = True
    """Hand out the connection used last, so that the others can grow old; otherwise the one used longest ago."""

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ArgumentError(f"pool_size must be 0 (no limit) or more, not {self.size}")
        if self.overflow < -1:
            raise ArgumentError(f"max_overflow must be -1 (no limit) or more, not {self.overflow}")
        if self.timeout < 0:
            raise ArgumentError(f"pool_timeout must be 0 or more seconds, not {self.timeout}")

    @property
    def capacity(self) -> float:
        """The most connections that can be open at a time."""
        return float("inf") if self.size == 0 or self.overflow == -1 else self.size + self.overflow


class _Slot:
    """The right to one connection; strong on it only while nobody holds it, to notice when a holder forgets it."""

    __slots__ = ("born", "connection", "generation", "note", "reference", "since", "task")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.connection: DriverConnection | None = None
        self.reference: weakref.ref[DriverConnection] | None = None
        self.born = 0.0
        self.task: asyncio.Task[Any] | None = None
        self.note: object = ""
        self.since = 0.0

    def holder(self) -> Holder:
        """Tell who holds the connection."""
        connection = None if self.reference is None else self.reference()
        return Holder(
            task="no task" if self.task is None else f"task {self.task.get_name()!r}",
            note=str(self.note),
            age=time.monotonic() - self.since,
            state="" if connection is None else connection.status.value,
            last=self.note.last if isinstance(self.note, Noted) else "",
            connection=0 if connection is None else number_of(connection),
        )


class Pool:
    """The connections of one engine, on one event loop."""

    def __init__(self, connect: Callable[[], Awaitable[DriverConnection]], options: PoolOptions) -> None:
        self._connect = connect
        self._options = options
        self._capacity = options.capacity
        self._keeps = float("inf") if options.size == 0 else options.size
        self._must_check = options.pre_ping or options.recycle >= 0
        self._idle: deque[_Slot] = deque()
        self._held: dict[int, _Slot] = {}
        self._waiters: deque[asyncio.Future[_Slot]] = deque()
        self._open = 0
        self._generation = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_since: dict[asyncio.Future[_Slot], float] = {}
        self.listener: PoolListener | None = None
        """Is told how long things take; None costs nothing."""
        self._watch: IdleWatch | None = None

    def warn_of_idlers(self, limit: float, engine: str) -> IdleWatch:
        """Warn of those who sit in an open transaction for *limit* seconds; the watch has to be told of statements."""
        self._watch = IdleWatch(limit, self._lent, engine)
        return self._watch

    def _lent(self) -> Iterator[Lent]:
        for slot in list(self._held.values()):
            connection = None if slot.reference is None else slot.reference()
            if connection is not None:
                yield Lent(connection, number_of(connection), slot.since, slot.holder)

    @property
    def options(self) -> PoolOptions:
        """How many connections, for how long, and how they are chosen."""
        return self._options

    def status(self) -> PoolStatus:
        """Return a snapshot: numbers, and who holds connections."""
        return PoolStatus(
            size=self._options.size,
            open=self._open,
            idle=len(self._idle),
            waiting=len(self._waiters),
            holders=tuple(slot.holder() for slot in list(self._held.values())),
            capacity=None if self._capacity == float("inf") else int(self._capacity),
            longest_wait=time.monotonic() - min(self._waiting_since.values()) if self._waiting_since else 0.0,
        )

    def numbers(self) -> tuple[int, int, int]:
        """Return how many connections are held and idle, and how many tasks wait; costs next to nothing."""
        return len(self._held), len(self._idle), len(self._waiters)

    async def acquire(self, note: object = "") -> DriverConnection:
        """Return a connection that is idle and nobody else's; it must come back through `release`.

        *note* is what the timeout error of others says about the holder (its ``str()``, taken only then).
        """
        started = 0.0 if self.listener is None else time.monotonic()
        self._bind()
        slot = self._take()
        if slot is None:
            slot = await self._wait()
        connection = slot.connection
        if connection is None or self._must_check or connection.status is not _IDLE:
            connection = await self._made_ready(slot)
        slot.connection = None
        slot.note = note
        slot.task = current_task()
        slot.since = time.monotonic()
        self._held[id(connection)] = slot
        if self.listener is not None and started:  # else it came while we waited
            self.listener.waited(slot.since - started)
        if self._watch is not None:
            self._watch.wake(self._loop)
        return connection

    def _bind(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self._loop:
            if self._open:
                raise WrongEventLoopError
            self._loop = loop

    def _take(self) -> _Slot | None:
        """Return an idle slot, or a new one if there may be more."""
        if self._idle:
            return self._idle.pop() if self._options.lifo else self._idle.popleft()
        if self._open < self._capacity:
            self._open += 1
            return _Slot(self._generation)
        return None

    async def _wait(self) -> _Slot:
        """Wait in line for a slot."""
        loop = self._loop
        if loop is None or self._options.timeout == 0:
            raise self._timeout_error()
        waiter: asyncio.Future[_Slot] = loop.create_future()
        self._waiters.append(waiter)
        self._waiting_since[waiter] = time.monotonic()
        timer = loop.call_later(self._options.timeout, self._expire, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give(waiter.result())  # it came together with the cancellation: the next in line gets it
            else:
                with suppress(ValueError):
                    self._waiters.remove(waiter)
            raise
        finally:
            timer.cancel()
            del self._waiting_since[waiter]

    def _expire(self, waiter: "asyncio.Future[_Slot]") -> None:
        if not waiter.done():
            self._waiters.remove(waiter)
            waiter.set_exception(self._timeout_error())

    def _timeout_error(self) -> PoolTimeoutError:
        if self.listener is not None:
            self.listener.timed_out()
        holders = sorted((slot.holder() for slot in self._held.values()), key=lambda holder: -holder.age)
        return PoolTimeoutError(
            timeout=self._options.timeout,
            size=self._open,
            holders=[str(holder) for holder in holders],
            waiting=len(self._waiters),
        )

    async def _made_ready(self, slot: _Slot) -> DriverConnection:
        """Return a connection for *slot* that is fit for use; the slot goes to others if that fails."""
        try:
            connection = slot.connection
            if connection is not None and not await self._is_fit(slot, connection):
                slot.connection = slot.reference = None
                await self._close(connection)
            if slot.connection is None:
                slot.connection = await self._connected()
                slot.reference = weakref.ref(slot.connection, lambda _: self._forgotten(slot))
                slot.born = time.monotonic()
                slot.generation = self._generation
        except BaseException:
            self._drop(slot)
            raise
        return slot.connection

    async def _connected(self) -> DriverConnection:
        if self.listener is None:
            return await self._connect()
        started = time.monotonic()
        connection = await self._connect()
        self.listener.created(time.monotonic() - started)
        return connection

    async def _is_fit(self, slot: _Slot, connection: DriverConnection) -> bool:
        if connection.status is not _IDLE:
            return False
        if 0 <= self._options.recycle < time.monotonic() - slot.born:
            return False
        if self._options.pre_ping:
            try:
                await connection.ping()
            except Exception as error:
                _LOG.info("replacing a connection that does not answer: %s", error)
                return False
        return True

    async def release(self, connection: DriverConnection) -> None:
        """Take back a connection; one that is not idle is cleaned first, or dropped if that is not possible in time."""
        slot = self._held.pop(id(connection), None)
        if slot is None:
            return
        slot.task, slot.note = None, ""
        slot.connection = connection
        if self.listener is not None:
            self.listener.used(time.monotonic() - slot.since)
        if connection.status is not _IDLE:
            await self._clean(slot, connection)
        elif self._is_surplus(slot):
            await self._retire(slot, connection)
        else:
            self._give(slot)

    def _is_surplus(self, slot: _Slot) -> bool:
        if slot.generation != self._generation:
            return True
        return not self._waiters and len(self._idle) >= self._keeps

    async def _clean(self, slot: _Slot, connection: DriverConnection) -> None:
        try:
            if connection.status is not TransactionStatus.CLOSED:
                await finish(connection.reset(), deadline=RESET_DEADLINE)
        except Exception as error:
            _LOG.warning("dropping a connection that could not be cleaned: %s: %s", type(error).__name__, error)
        finally:
            if connection.status is _IDLE and not self._is_surplus(slot):
                self._give(slot)
            else:
                self._drop(slot)

    async def _retire(self, slot: _Slot, connection: DriverConnection) -> None:
        try:
            await self._close(connection)
        finally:
            self._drop(slot)

    async def _close(self, connection: DriverConnection) -> None:
        """Close politely if that works in time."""
        try:
            await finish(connection.close(), deadline=CLOSE_DEADLINE)
        except Exception as error:
            _LOG.info("a connection did not close properly: %s: %s", type(error).__name__, error)
        finally:
            connection.terminate()

    def _give(self, slot: _Slot) -> None:
        """Hand *slot* to the first in line, or let it rest."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(slot)
                return
        if slot.connection is None:
            self._open -= 1
        else:
            self._idle.append(slot)

    def _drop(self, slot: _Slot) -> None:
        """End the slot's connection; the right to have one goes to the next in line."""
        connection, slot.connection, slot.reference = slot.connection, None, None
        if connection is not None:
            with suppress(Exception):  # the event loop that it lived on may be gone
                connection.terminate()
        self._give(slot)

    def _forgotten(self, slot: _Slot) -> None:
        """Take note that a holder let its connection be garbage collected, perhaps in another thread."""
        holder = slot.holder()
        last = f"; the last statement was {holder.last}" if holder.last else ""
        message = f"a connection was never given back to its pool; it was handed to {holder}{last}"
        if self._loop is None or self._loop.is_closed():
            self._reclaim(slot)
        else:
            self._loop.call_soon_threadsafe(self._reclaim, slot)
        warnings.warn(f"{message}. Use `async with`, or close the session", ResourceWarning, stacklevel=2)

    def _reclaim(self, slot: _Slot) -> None:
        for key, held in list(self._held.items()):
            if held is slot:
                del self._held[key]
        self._drop(slot)

    async def dispose(self) -> None:
        """Close the idle connections now and the others when they come back; the pool can be used again."""
        self._generation += 1
        slots = list(self._idle)
        self._idle.clear()
        try:
            await finish(self._close_politely(slots), deadline=CLOSE_DEADLINE)
        except TimeoutError:
            _LOG.info("connections did not close in time and were dropped")
        finally:
            for slot in slots:
                self._drop(slot)

    async def _close_politely(self, slots: list[_Slot]) -> None:
        for slot in slots:
            if slot.connection is not None:
                with suppress(Exception):
                    await slot.connection.close()
