"""Ask what became of a transaction whose COMMIT was not answered."""

from typing import Final, Protocol

from aiosession import aio
from aiosession.drivers.protocol import CommitOutcome
from aiosession.engine.wire import EngineConnection

PATIENCE: Final = 5.0
"""Seconds that a server may take to notice that the one who began the transaction is gone."""
_PAUSE: Final = 0.05


class Connections(Protocol):
    """Where connections come from: an engine."""

    async def acquire(self, note: object = "") -> EngineConnection:
        """Borrow a connection."""
        ...

    async def release(self, connection: EngineConnection) -> None:
        """Give it back."""
        ...


class LostCommit:
    """A transaction whose outcome can be asked for; called, it answers True (committed), False or None (unknown)."""

    __slots__ = ("_connections", "_number")

    def __init__(self, connections: Connections, transaction_number: str | None) -> None:
        self._connections: Final = connections
        self._number: Final = transaction_number

    async def __call__(self) -> bool | None:
        """Ask on another connection; waits a little while the transaction is still in progress."""
        number = self._number
        if number is None:
            return None
        for _ in range(int(PATIENCE / _PAUSE)):
            outcome = await self._ask(number)
            if outcome is not CommitOutcome.IN_PROGRESS:
                return _ANSWERS[outcome]
            await aio.pause(_PAUSE)
        return None

    async def _ask(self, number: str) -> CommitOutcome:
        connection = await self._connections.acquire("asking for the outcome of a commit")
        try:
            return await connection.outcome(number)
        finally:
            await self._connections.release(connection)


_ANSWERS: Final[dict[CommitOutcome, bool | None]] = {
    CommitOutcome.COMMITTED: True,
    CommitOutcome.ROLLED_BACK: False,
    CommitOutcome.UNKNOWN: None,
}
