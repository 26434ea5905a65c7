"""The verbs of aiosession's driver protocol, in words of sqlite3."""

import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from aiosession.drivers.protocol import (
    CommitOutcome,
    CommitRefusedError,
    PreparedBranch,
    Reply,
    Row,
    TransactionLostError,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.errors import ArgumentError
from aiosession_sqlite3.worker import Worker

_T = TypeVar("_T")

_LEVELS: Final = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
"""All of them mean the same here: SQLite's transactions are always serializable."""
_SAVEPOINT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class ThreadsConnection:
    """A connection in its thread; see `aiosession.drivers.protocol.DriverConnection`."""

    __slots__ = ("__weakref__", "_cursors", "_has_begun", "_is_read_only", "_worker")

    def __init__(self, worker: Worker) -> None:
        self._worker: Final = worker
        self._has_begun = False
        self._is_read_only = False
        self._cursors: Final[set[sqlite3.Cursor]] = set()
        """Those of streams that are being read."""

    # What the connection says of itself: nothing here may wait

    @property
    def status(self) -> TransactionStatus:
        """What sqlite3 says; a transaction that SQLite has rolled back by itself has failed."""
        if self._worker.is_closed:
            return TransactionStatus.CLOSED
        if self._worker.is_busy or self._cursors:
            return TransactionStatus.ACTIVE
        if self._worker.connection.in_transaction:
            return TransactionStatus.IN_TRANSACTION
        return TransactionStatus.FAILED if self._has_begun else TransactionStatus.IDLE

    @property
    def server_version(self) -> tuple[int, ...]:
        """The version of SQLite."""
        return sqlite3.sqlite_version_info

    @property
    def driver_connection(self) -> sqlite3.Connection:
        """The connection of sqlite3."""
        return self._worker.connection

    @property
    def transaction_number(self) -> str | None:
        """None: transactions have no numbers here."""
        return None

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Nobody can tell."""
        return CommitOutcome.UNKNOWN

    # Statements

    async def _do(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do *work* in the thread, unless the transaction that it would belong to is gone."""
        if self.status is TransactionStatus.FAILED:
            raise TransactionLostError
        return await self._worker.run(partial(work, self._worker.connection))

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement and tell everything about it."""
        return await self._do(lambda raw: _reply(raw, sql, parameters))

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        return (await self.run(sql, parameters)).rows

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of affected rows."""
        return (await self.run(sql, parameters)).count

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row, all of them or none."""

        def work(raw: sqlite3.Connection) -> int:
            cursor = raw.executemany(sql, self._worker.wanted(rows))
            try:
                return cursor.rowcount
            finally:
                cursor.close()

        return await self._do(partial(_all_or_none, work))

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement for each row, all of them or none, and return the rows of each."""

        def work(raw: sqlite3.Connection) -> list[list[Row]]:
            return [_reply(raw, sql, row).rows for row in self._worker.wanted(rows)]

        return await self._do(partial(_all_or_none, work))

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows in chunks, each of which is one hop to the thread."""
        cursor = await self._do(lambda raw: raw.execute(sql, parameters))
        self._cursors.add(cursor)
        try:
            while rows := await self._do(lambda _: cursor.fetchmany(size)):
                yield rows
                if len(rows) < size:
                    break
        finally:
            self._cursors.discard(cursor)
            if not self._worker.is_closed:
                self._worker.post(cursor.close)

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Refuse: see `Capabilities.copies`."""
        raise NotImplementedError("SQLite has no COPY")

    async def script(self, sql: str) -> None:
        """Run several statements; sqlite3's own ``executescript()`` would commit before."""

        def work(raw: sqlite3.Connection) -> None:
            for statement in _statements(sql):
                raw.execute(statement).close()

        await self._do(work)

    # Transactions

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN, which takes the lock at once if a write is going to be first."""
        level = options.isolation_level
        if level is not None and level not in _LEVELS:
            raise ArgumentError(f"sqlite+threads has no isolation level {level!r}; it has {', '.join(_LEVELS)}")
        raw = self._worker.connection

        def work() -> None:
            raw.execute("BEGIN" if options.read_only or not options.write else "BEGIN IMMEDIATE").close()
            if options.read_only:
                raw.execute("PRAGMA query_only = 1").close()

        self._has_begun, self._is_read_only = True, options.read_only
        try:
            await self._worker.run(work)
        except sqlite3.Error:
            self._has_begun = raw.in_transaction
            raise

    async def commit(self) -> None:
        """Send COMMIT; say so if SQLite has rolled everything back before."""
        raw = self._worker.connection
        if not raw.in_transaction:
            await self.rollback()
            raise CommitRefusedError("nothing, since it had rolled the transaction back by itself")
        await self._worker.run(partial(self._end, raw, "COMMIT"))
        self._has_begun = self._is_read_only = False

    async def rollback(self) -> None:
        """Send ROLLBACK if there is something to roll back; streams come to their ends."""
        if self.status in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
            return
        await self._worker.run(partial(self._end, self._worker.connection, "ROLLBACK"))
        self._cursors.clear()
        self._has_begun = self._is_read_only = False

    def _end(self, raw: sqlite3.Connection, how: str) -> None:
        """Leave the transaction, in the thread."""
        for cursor in tuple(self._cursors):
            cursor.close()
        if raw.in_transaction:
            raw.execute(how).close()
        if self._is_read_only:
            raw.execute("PRAGMA query_only = 0").close()

    async def savepoint(self, name: str) -> None:
        """Send SAVEPOINT."""
        await self.execute(f"SAVEPOINT {_checked(name)}")

    async def release_savepoint(self, name: str) -> None:
        """Send RELEASE."""
        await self.execute(f"RELEASE {_checked(name)}")

    async def rollback_to_savepoint(self, name: str) -> None:
        """Send ROLLBACK TO."""
        await self.execute(f"ROLLBACK TO {_checked(name)}")

    # Two phases, of which SQLite knows one: see `Capabilities.two_phase`

    async def can_prepare(self) -> bool:
        """Nothing can be prepared."""
        return False

    async def prepare(self, branch: str) -> None:
        """Refuse."""
        raise NotImplementedError("SQLite has no PREPARE TRANSACTION")

    async def commit_prepared(self, branch: str) -> bool:
        """Nothing is prepared."""
        return False

    async def rollback_prepared(self, branch: str) -> bool:
        """Nothing is prepared."""
        return False

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Nothing is prepared."""
        return []

    # Ending

    async def ping(self) -> None:
        """Ask SQLite for an answer."""
        await self.execute("SELECT 1")

    async def reset(self) -> None:
        """Wait for the end of what was abandoned, and leave the transaction."""
        await self._worker.settle()
        await self.rollback()

    async def close(self) -> None:
        """Close the connection and end its thread."""
        await self._worker.settle()
        await self._worker.close()

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._worker.terminate()


def _reply(raw: sqlite3.Connection, sql: str, parameters: Sequence[object]) -> Reply:
    """Run one statement, in the thread."""
    cursor = raw.execute(sql, parameters)
    try:
        if cursor.description is None:
            return Reply(None, [], cursor.rowcount)
        columns, rows = tuple(column[0] for column in cursor.description), cursor.fetchall()
        return Reply(columns, rows, cursor.rowcount)  # known only when all rows of a RETURNING are read
    finally:
        cursor.close()


def _all_or_none(work: Callable[[sqlite3.Connection], _T], raw: sqlite3.Connection) -> _T:
    """Do *work* in a transaction of its own, unless it is part of one."""
    if raw.in_transaction:
        return work(raw)
    raw.execute("BEGIN IMMEDIATE").close()
    try:
        result = work(raw)
        raw.execute("COMMIT").close()
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK").close()
        raise
    return result


def _statements(sql: str) -> Iterator[str]:
    """Take SQL text to pieces; a semicolon ends a statement unless it is in a text, a comment or a trigger."""
    statement = ""
    for part in sql.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \t\r\n"):
        yield statement


def _checked(name: str) -> str:
    if _SAVEPOINT.fullmatch(name) is None:
        raise ArgumentError(f"{name!r} is no name for a savepoint: use letters, digits and underscores, 63 at most")
    return name
