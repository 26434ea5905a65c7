"""How does a statement go out that needs no transaction? On a connection borrowed for it alone.

`BorrowedWire` is for reads; `LoneWire` for a write that is a whole transaction by itself.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

from aiosession import aio
from aiosession.drivers.protocol import Reply, Row
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.wire import EngineConnection
from aiosession.errors import CommitOutcomeUnknownError, DisconnectError

_T = TypeVar("_T")

COMMIT_DEADLINE: Final = 30.0
"""Seconds that a COMMIT, shielded from cancellation, may take before its outcome counts as unknown."""


class BorrowedWire:
    """Runs every statement on a pooled connection of its own, which goes back at once."""

    __slots__ = ("_engine",)

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine: Final = engine

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        connection = await self._engine.acquire()
        try:
            return await connection.fetch(sql, parameters)
        finally:
            await self._engine.release(connection)

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of affected rows."""
        connection = await self._engine.acquire()
        try:
            return await connection.execute(sql, parameters)
        finally:
            await self._engine.release(connection)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement once for each row of parameters."""
        connection = await self._engine.acquire()
        try:
            return await connection.execute_many(sql, rows)
        finally:
            await self._engine.release(connection)

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement once for each row of parameters and return the rows of each."""
        connection = await self._engine.acquire()
        try:
            return await connection.fetch_each(sql, rows)
        finally:
            await self._engine.release(connection)

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement of which nothing is known."""
        connection = await self._engine.acquire()
        try:
            return await connection.run(sql, parameters)
        finally:
            await self._engine.release(connection)


class LoneWire:
    """Runs one write without BEGIN: the statement commits itself, so it is shielded as a COMMIT is."""

    __slots__ = ("_engine",)

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine: Final = engine

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        connection = await self._engine.acquire()
        return await self._shielded(connection, connection.fetch(sql, parameters))

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of affected rows."""
        connection = await self._engine.acquire()
        return await self._shielded(connection, connection.execute(sql, parameters))

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement once for each row of parameters."""
        connection = await self._engine.acquire()
        return await self._shielded(connection, connection.execute_many(sql, rows))

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement once for each row of parameters and return the rows of each."""
        connection = await self._engine.acquire()
        return await self._shielded(connection, connection.fetch_each(sql, rows))

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement of which nothing is known."""
        connection = await self._engine.acquire()
        return await self._shielded(connection, connection.run(sql, parameters))

    async def _shielded(self, connection: EngineConnection, statement: Coroutine[Any, Any, _T]) -> _T:
        try:
            return await aio.finish(statement, deadline=COMMIT_DEADLINE)
        except (TimeoutError, DisconnectError) as error:
            raise CommitOutcomeUnknownError(error, _nobody_knows) from error
        finally:
            await self._engine.release(connection)


async def _nobody_knows() -> bool | None:
    """Answer for a write that left no trace to ask for."""
    return None
