"""How does a statement go out that needs no transaction? On a connection borrowed for it alone.

`BorrowedWire` is for reads; `LoneWire` for a write that is a whole transaction by itself.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from aiosession import aio
from aiosession.drivers.protocol import Reply, Row
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.stack import COMMIT_DEADLINE, has_no_answer, nobody_knows
from aiosession.engine.wire import EngineConnection
from aiosession.errors import CommitOutcomeUnknownError

_T = TypeVar("_T")


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
    """Runs one write without BEGIN: the statement commits itself, so it is shielded as a COMMIT is.

    A cancellation of the caller while the write succeeds goes to *postpone*, to be raised when the objects know of it.
    """

    __slots__ = ("_engine", "_postpone")

    def __init__(self, engine: AsyncEngine, postpone: Callable[[BaseException], None]) -> None:
        self._engine: Final = engine
        self._postpone: Final = postpone

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
        results: list[_T] = []
        try:
            try:
                results.append(await aio.finish(statement, deadline=COMMIT_DEADLINE, keep=results))
            finally:
                await self._engine.release(connection)
        except BaseException as error:
            if results:
                self._postpone(error)
            elif has_no_answer(error):
                raise CommitOutcomeUnknownError(error, nobody_knows) from error
            else:
                raise
        return results[0]
