"""What is known of one copy of a database: whether it can be reached, and how much of the original it has.

How far a database is, is told by a position in its log of changes: a number that only grows.
"""

import logging
import time
from typing import Final
from weakref import WeakSet

from aiosession.drivers.protocol import DriverConnection
from aiosession.drivers.shown_url import shown
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.status import ReplicaStatus
from aiosession.engine.wire import EngineConnection
from aiosession.errors import AioSessionError, PoolTimeoutError, WrongEventLoopError

NOWHERE: Final = -1
"""The position of a replica that was not asked, or that does not follow anybody."""
NEVER: Final = float("inf")
"""The position that no replica reaches: the database does not tell positions."""
LONGEST_BACK_OFF: Final = 60.0

_LOG: Final = logging.getLogger("aiosession.replicas")

_MOST_DOUBLINGS: Final = 16

# At the begin of a page (24 bytes) or of a segment (40 bytes) the next record will come behind a header: what a standby
# has replayed then ends before the header.
_OF_PRIMARY: Final = {
    "postgresql": """
        SELECT (at - CASE WHEN at % segment = 40 THEN 40 WHEN at % page = 24 THEN 24 ELSE 0 END)::text FROM (
            SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS at,
                pg_size_bytes(current_setting('wal_segment_size')) AS segment,
                current_setting('wal_block_size')::int AS page
        ) AS position
    """
}
# A server that is no standby (any more) goes its own way: what it says is no place in the primary's log.
_OF_REPLICA: Final = {
    "postgresql": "SELECT CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::text END"
}


class Replica:
    """A copy of a database that answers reads."""

    __slots__ = ("_error", "_retry_after", "_retry_at", "_seen", "asked_at", "engine", "failures", "position")

    def __init__(self, engine: AsyncEngine, retry_after: float) -> None:
        self.engine: Final = engine
        self.failures = 0
        self.position: float = NOWHERE
        """How far it was when it was asked last."""
        self.asked_at = float("-inf")
        self._retry_after: Final = retry_after
        self._retry_at = float("-inf")
        self._error: str | None = None
        self._seen: Final[WeakSet[DriverConnection]] = WeakSet()

    @property
    def is_up(self) -> bool:
        """Whether it may be tried."""
        return not self.failures or time.monotonic() >= self._retry_at

    def status(self) -> ReplicaStatus:
        """Return a snapshot."""
        retry_in = max(0.0, self._retry_at - time.monotonic()) if self.failures else 0.0
        url, pool = shown(self.engine.url), self.engine.pool.status()
        return ReplicaStatus(url, self.is_up, self.failures, retry_in, self._error, pool)

    def succeeded(self) -> None:
        """Note that it has answered."""
        self.failures = 0
        self._error = None

    def failed(self, error: BaseException) -> None:
        """Note that it could not be reached: it is left alone for a while, longer each time."""
        self.failures += 1
        self._error = f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
        self._retry_at = time.monotonic() + self._back_off
        _LOG.warning("%r cannot be reached, not asked for %.1f s: %s", self.engine, self._back_off, self._error)
        self.position = NOWHERE  # what comes back may be an older copy

    @property
    def _back_off(self) -> float:
        return min(self._retry_after * 2.0 ** min(self.failures - 1, _MOST_DOUBLINGS), LONGEST_BACK_OFF)

    def claim(self) -> None:
        """Begin to try it: if it could not be reached the last time, others leave it alone until that is known."""
        if self.failures:
            self._retry_at = time.monotonic() + self._back_off

    def retry_now(self) -> None:
        """Let it be tried again at once."""
        self._retry_at = float("-inf")

    def knows(self, connection: EngineConnection) -> bool:
        """Whether a connection was open when the replica was asked last, so that no restart can have come between."""
        return self.engine.capabilities.keeps_session and connection.lent in self._seen

    async def ask(self) -> None:
        """Ask how far it is; a failure to reach it is noted."""
        self.asked_at = time.monotonic()
        self.claim()
        try:
            connection = await self.engine.acquire("its position")
            try:
                await self.ask_on(connection)
            finally:
                await self.engine.release(connection)
        except Exception as error:
            if not is_unreachable(error):
                raise
            self.failed(error)

    async def ask_on(self, connection: EngineConnection) -> None:
        """Ask on a connection how far it is."""
        ((answer,),) = await connection.fetch(_OF_REPLICA[self.engine.name])
        self.position = NOWHERE if answer is None else int(str(answer))
        self._seen.add(connection.lent)
        self.succeeded()


async def position_of_primary(engine: AsyncEngine) -> float:
    """Ask a primary how far it is; `NEVER` if such databases do not tell."""
    if engine.name not in _OF_PRIMARY:
        return NEVER
    connection = await engine.acquire("its position")
    try:
        ((answer,),) = await connection.fetch(_OF_PRIMARY[engine.name])
    finally:
        await engine.release(connection)
    return int(str(answer))


def is_unreachable(error: BaseException) -> bool:
    """Say whether *error*, raised where a connection was asked for, means that there is none to be had there.

    A pool whose connections are all in use, or that belongs to another event loop, is another matter.
    """
    if isinstance(error, PoolTimeoutError | WrongEventLoopError):
        return False
    return isinstance(error, AioSessionError | OSError)
