"""Who sits in an open transaction and does nothing? A watch over the connections of a pool that warns, once each.

There is one timer per pool, and only while a connection is lent. When a connection was used last is told by the
engine's events, so that somebody who keeps sending statements is never taken for idle.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aiosession.drivers.pool_status import Holder
from aiosession.drivers.protocol import DriverConnection, TransactionStatus
from aiosession.events import StatementEvent

_LOG: Final = logging.getLogger("aiosession.pool")
_OPEN: Final = frozenset({TransactionStatus.IN_TRANSACTION, TransactionStatus.FAILED})
_LONGEST: Final = 200
_LOOKS: Final = 4
"""How often the watch looks within the limit."""


@dataclass(slots=True)
class _Use:
    """What was last sent on a connection."""

    sql: str = ""
    at: float = 0.0
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class Lent:
    """A connection that somebody holds."""

    connection: DriverConnection
    number: int
    since: float
    holder: Callable[[], Holder]


class IdleWatch:
    """Warns of those who hold a transaction open for longer than *limit* seconds without sending anything."""

    def __init__(
        self,
        limit: float,
        lent: Callable[[], Iterable[Lent]],
        engine: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit: Final = limit
        self._lent: Final = lent
        self._engine: Final = engine
        self._clock: Final = clock
        self._uses: Final[dict[int, _Use]] = {}
        self._told: Final[dict[int, float]] = {}
        """Of which holders it has warned: the connection's number, and since when it is held."""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def sent(self, event: StatementEvent) -> None:
        """Take note that a statement begins."""
        if event.connection is not None:
            self._uses[event.connection] = _Use(event.sql, self._clock(), is_running=True)

    def answered(self, event: StatementEvent) -> None:
        """Take note that a statement has ended."""
        use = None if event.connection is None else self._uses.get(event.connection)
        if use is not None:
            use.at, use.is_running = self._clock(), False

    def wake(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Begin to look, if it does not yet: a connection is lent."""
        if self._loop is not loop:
            self._timer, self._loop = None, loop  # the timer of another event loop went with it
        if self._timer is None and loop is not None:
            self._timer = loop.call_later(self.limit / _LOOKS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.look():
            self.wake(self._loop)

    def look(self) -> bool:
        """Warn of those who have been idle for too long; tell whether there is anybody to be watched."""
        now = self._clock()
        lent = {each.number: each for each in self._lent()}
        for number in self._uses.keys() - lent.keys():
            del self._uses[number]
        for number in self._told.keys() - lent.keys():
            del self._told[number]
        for each in lent.values():
            if self._told.get(each.number) != each.since and self._idle_for(each, now) >= self.limit:
                self._told[each.number] = each.since
                self._warn(each, now)
        return bool(lent)

    def _idle_for(self, each: Lent, now: float) -> float:
        use = self._uses.get(each.number)
        if each.connection.status not in _OPEN or (use is not None and use.is_running):
            return 0.0
        return now - max(each.since, each.since if use is None else use.at)

    def _warn(self, each: Lent, now: float) -> None:
        holder, use = each.holder(), self._uses.get(each.number)
        last = " ".join((holder.last if use is None else use.sql).split())[:_LONGEST]
        idle, state = self._idle_for(each, now), each.connection.status.value
        _LOG.warning(
            "%s has sat idle in an open transaction (%s) for %.1f s on connection %d of %s, held for %.1f s by %s; the "
            "last statement was %s. It keeps its locks, and a connection: commit, roll back or close before waiting "
            "for anything else",
            holder.task,
            state,
            idle,
            each.number,
            self._engine,
            holder.age,
            holder.note or "somebody who said nothing",
            last or "none",
            extra={
                "task": holder.task,
                "note": holder.note,
                "idle_s": round(idle, 3),
                "held_s": round(holder.age, 3),
                "state": state,
                "connection": each.number,
                "engine": self._engine,
                "statement": last,
            },
        )
