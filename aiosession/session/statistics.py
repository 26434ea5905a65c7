"""What has a session cost? Statements, round trips, rows, flushes, and the time that they took; counted on request."""

import logging
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from typing_extensions import override

from aiosession.aio import Guard
from aiosession.events import StatementEvent
from aiosession.events.hooks import statements_heard_by
from aiosession.events.operations import OperationEvent

_LOG: Final = logging.getLogger("aiosession.statistics")
_LONGEST: Final = 300


@dataclass(slots=True)
class SessionStatistics:
    """What a session has done since it was made, or since `reset`.

    Counted for sessions made with ``statistics=True``. Times are in seconds. A round trip is a wait for the database's
    answer: statements that go out together are one, a stream is one for each chunk. What a driver does by itself is not
    counted, such as preparing a statement that is new to a connection, or opening connections.
    """

    statements: Counter[str] = field(default_factory=Counter)
    """By verb: SELECT, INSERT, BEGIN, COMMIT ..."""
    operations: Counter[str] = field(default_factory=Counter)
    """Calls of the session's methods that may wait, by name."""
    round_trips: int = 0
    rows: int = 0
    """Rows that came back, or were written, as far as databases tell."""
    failures: int = 0
    """Statements that failed, or were cancelled."""
    flushes: int = 0
    """Flushes that had something to write."""
    flush_time: float = 0.0
    commits: int = 0
    commit_time: float = 0.0
    """In commits, with the flushes that are part of them."""
    database_time: float = 0.0
    """Waiting for answers."""
    slowest: str | None = None
    """The statement that took longest."""
    slowest_time: float = 0.0
    found_in_memory: int = 0
    """Calls of ``get()`` that the identity map answered, or that needed no statement for another reason."""

    def reset(self) -> None:
        """Begin to count anew."""
        fresh = SessionStatistics()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def heard_statement(self, event: StatementEvent) -> None:
        """Count a statement; called by the engine."""
        seconds = event.duration or 0.0
        self.statements[event.kind] += 1
        self.round_trips += event.round_trips
        self.rows += event.row_count or 0
        self.failures += event.error is not None
        self.database_time += seconds
        if seconds >= self.slowest_time:
            self.slowest_time, self.slowest = seconds, event.sql

    def heard_operation(self, event: OperationEvent) -> None:
        """Count a flush or commit; called by the session."""
        seconds = event.duration or 0.0
        if event.name == "flush":
            self.flushes += 1
            self.flush_time += seconds
        elif event.name == "commit":
            self.commits += 1
            self.commit_time += seconds

    @override
    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.statements.most_common())
        parts = [
            f"{self.statements.total()} statements ({kinds})" if kinds else "no statements",
            f"{self.round_trips} round trips, {_ms(self.database_time)}",
            f"{self.rows} rows",
            f"{self.flushes} flushes, {_ms(self.flush_time)}",
            f"{self.commits} commits, {_ms(self.commit_time)}",
        ]
        if self.failures:
            parts.append(f"{self.failures} failures")
        if self.found_in_memory:
            parts.append(f"{self.found_in_memory} found in memory")
        if self.slowest is not None:
            parts.append(f"slowest: {' '.join(self.slowest.split())[:_LONGEST]}, {_ms(self.slowest_time)}")
        return "; ".join(parts)


class CountingGuard(Guard):
    """A session's guard that has the statements of each operation counted."""

    __slots__ = ("_before", "_known", "statistics")

    def __init__(self) -> None:
        super().__init__()
        self.statistics: Final = SessionStatistics()
        self._known = 0
        self._before = statements_heard_by.get()

    @override
    def __enter__(self) -> None:
        counted = self.statistics
        counted.operations[self.running or ""] += 1
        self._known = counted.statements.total()
        self._before = statements_heard_by.get()
        statements_heard_by.set(counted.heard_statement)

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        statements_heard_by.set(self._before)
        self._before = None
        counted, operation = self.statistics, self.running
        if operation in {"get", "get_one"} and error is None and counted.statements.total() == self._known:
            counted.found_in_memory += 1
        super().__exit__(kind, error, trace)
        if operation == "close" and counted.operations.total() > 1:
            _LOG.info("%s", counted, extra={"statistics": counted})


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
