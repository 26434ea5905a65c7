"""SQLite through aiosqlite: every statement is one hop to the connection's thread and back.

sqlite3 runs without transactions of its own (``isolation_level=None``): BEGIN and COMMIT are ours. Values reach it in
types that SQLite stores; dates and times are text made by Core's types, never by sqlite3's adapters. All isolation
levels are accepted, because SQLite gives the strictest of them always.
"""

import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, TypeVar

from sqlalchemy import URL, Dialect
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite

from aiosession.drivers import arguments, sqlite_errors
from aiosession.drivers.protocol import (
    Capabilities,
    CommitOutcome,
    CommitRefusedError,
    DriverOptions,
    PreparedBranch,
    Reply,
    Row,
    TransactionLostError,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.drivers.sqlite_location import NAME, Location, location
from aiosession.drivers.sqlite_thread import SqliteThread
from aiosession.errors import DatabaseError

_T = TypeVar("_T")

_ISOLATION_LEVELS: Final = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


class AiosqliteConnection:
    """A connection of sqlite3 in its thread, in the words of `aiosession.drivers.protocol.DriverConnection`."""

    __slots__ = ("__weakref__", "_begun", "_cursors", "_query_only", "_streams", "_thread")

    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread
        self._begun = False
        self._query_only = False
        self._streams = 0
        self._cursors: set[sqlite3.Cursor] = set()

    @property
    def driver_connection(self) -> SqliteThread:
        """The connection of aiosqlite."""
        return self._thread

    @property
    def transaction_number(self) -> str | None:
        """Transactions have no numbers here."""
        return None

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Nobody can tell."""
        return CommitOutcome.UNKNOWN

    @property
    def server_version(self) -> tuple[int, ...]:
        """The version of SQLite."""
        return sqlite3.sqlite_version_info

    @property
    def _raw(self) -> sqlite3.Connection:
        raw = self._thread.raw
        if raw is None:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        return raw

    @property
    def status(self) -> TransactionStatus:
        """What sqlite3 says this connection is doing; a transaction that SQLite itself rolled back counts as failed."""
        raw = self._thread.raw
        if raw is None:
            return TransactionStatus.CLOSED
        if self._thread.is_busy or self._streams:
            return TransactionStatus.ACTIVE
        if raw.in_transaction:
            return TransactionStatus.IN_TRANSACTION
        return TransactionStatus.FAILED if self._begun else TransactionStatus.IDLE

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Run *work* in the thread, unless the transaction that it belongs to is gone."""
        if self._begun and not self._raw.in_transaction and not self._thread.is_busy:
            raise TransactionLostError
        return await self._thread.run(work)

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        raw = self._raw

        def work() -> list[Row]:
            cursor = raw.execute(sql, parameters)
            try:
                return cursor.fetchall()
            finally:
                cursor.close()

        return await self._run(work)

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return its row count."""
        raw = self._raw

        def work() -> int:
            cursor = raw.execute(sql, parameters)
            try:
                if cursor.description is not None:
                    cursor.fetchall()  # a statement with RETURNING counts its rows as they are read
                return cursor.rowcount
            finally:
                cursor.close()

        return await self._run(work)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row in one hop; all rows or none."""
        raw, live = self._raw, self._thread.live

        def work() -> int:
            cursor = raw.executemany(sql, live(rows))
            try:
                return cursor.rowcount
            finally:
                cursor.close()

        return await self._run(lambda: _whole(raw, work))

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement for each row in one hop; all rows or none."""
        raw, live = self._raw, self._thread.live

        def work() -> list[list[Row]]:
            cursor = raw.cursor()
            try:
                execute, fetchall = cursor.execute, cursor.fetchall
                results: list[list[Row]] = []
                for row in live(rows):
                    execute(sql, row)
                    results.append(fetchall())
                return results
            finally:
                cursor.close()

        return await self._run(lambda: _whole(raw, work))

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement and tell its columns, rows and count."""
        raw = self._raw

        def work() -> Reply:
            cursor = raw.execute(sql, parameters)
            try:
                if cursor.description is None:
                    return Reply(None, [], cursor.rowcount)
                names = tuple(column[0] for column in cursor.description)
                return Reply(names, cursor.fetchall(), cursor.rowcount)
            finally:
                cursor.close()

        return await self._run(work)

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows in chunks, one hop each; the file stays read-locked until the end."""
        raw = self._raw

        def open_cursor() -> sqlite3.Cursor:
            cursor = raw.execute(sql, parameters)
            self._cursors.add(cursor)
            return cursor

        cursor = await self._run(open_cursor)
        self._streams += 1
        try:
            while rows := await self._run(lambda: cursor.fetchmany(size)):
                yield rows
                if len(rows) < size:
                    break
        finally:
            self._streams -= 1
            self._thread.post(lambda: self._close_cursor(cursor))

    def _close_cursor(self, cursor: sqlite3.Cursor) -> None:
        self._cursors.discard(cursor)
        cursor.close()

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """SQLite has nothing like it."""
        raise NotImplementedError("SQLite has no COPY")

    async def script(self, sql: str) -> None:
        """Run SQL text as it is, several statements too; joins an open transaction."""
        raw = self._raw

        def work() -> None:
            statement = ""
            for part in sql.split(";"):
                statement += part + ";"
                if sqlite3.complete_statement(statement):
                    raw.execute(statement).close()
                    statement = ""
            if statement.strip("; \t\r\n"):
                raw.execute(statement).close()

        await self._run(work)

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN, or BEGIN IMMEDIATE where the first statement is going to write."""
        if options.isolation_level is not None:
            arguments.isolation_level(NAME, options.isolation_level, _ISOLATION_LEVELS)
        raw = self._raw
        text = "BEGIN IMMEDIATE" if options.write and not options.read_only else "BEGIN"
        query_only = options.read_only

        def work() -> None:
            raw.execute(text).close()
            if query_only:
                raw.execute("PRAGMA query_only=1").close()

        self._begun, self._query_only = True, query_only
        try:
            await self._thread.run(work)
        except sqlite3.Error:
            self._begun = self._query_only = raw.in_transaction
            raise

    async def commit(self) -> None:
        """Send COMMIT; fails if SQLite has rolled the transaction back before."""
        raw, query_only = self._raw, self._query_only

        def work() -> None:
            if not raw.in_transaction:
                raise CommitRefusedError("nothing: it had rolled the transaction back itself")
            raw.execute("COMMIT").close()
            _allow_writes(raw, query_only=query_only)

        try:
            await self._thread.run(work)
        except CommitRefusedError:
            self._begun = self._query_only = False
            raise
        self._begun = self._query_only = False

    async def rollback(self) -> None:
        """Send ROLLBACK if a transaction is open."""
        if self._thread.raw is None:
            return
        raw, query_only = self._raw, self._query_only

        def work() -> None:
            for cursor in list(self._cursors):
                self._close_cursor(cursor)
            if raw.in_transaction:
                raw.execute("ROLLBACK").close()
            _allow_writes(raw, query_only=query_only)

        if raw.in_transaction or query_only or self._thread.is_busy or self._cursors:
            await self._thread.run(work)
        self._begun = self._query_only = False

    async def savepoint(self, name: str) -> None:
        """Send SAVEPOINT."""
        await self.execute(f"SAVEPOINT {arguments.savepoint_name(name)}")

    async def release_savepoint(self, name: str) -> None:
        """Send RELEASE."""
        await self.execute(f"RELEASE {arguments.savepoint_name(name)}")

    async def rollback_to_savepoint(self, name: str) -> None:
        """Send ROLLBACK TO."""
        await self.execute(f"ROLLBACK TO {arguments.savepoint_name(name)}")

    async def can_prepare(self) -> bool:
        """SQLite prepares nothing."""
        return False

    async def prepare(self, branch: str) -> None:
        """SQLite has nothing like it."""
        raise NotImplementedError("SQLite has no PREPARE TRANSACTION")

    async def commit_prepared(self, branch: str) -> bool:
        """Nothing is prepared here."""
        return False

    async def rollback_prepared(self, branch: str) -> bool:
        """Nothing is prepared here."""
        return False

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Nothing is prepared here."""
        return []

    async def ping(self) -> None:
        """Ask SQLite for an answer."""
        await self.execute("SELECT 1")

    async def reset(self) -> None:
        """Stop a cancelled statement, wait for its end, close cursors and leave the transaction."""
        await self._thread.settle()
        await self.rollback()

    async def close(self) -> None:
        """Close the connection and end its thread."""
        if self._thread.raw is None:
            return
        await self._thread.settle()
        await self._thread.end()

    def terminate(self) -> None:
        """Interrupt what runs and let the thread close the connection when it is free."""
        self._thread.terminate()


class AiosqliteDriver:
    """SQLite through aiosqlite."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        self._location: Location = location(url, options.connect_args, read_only=options.read_only)
        self._dialect = SQLiteDialect_aiosqlite(
            dbapi=SQLiteDialect_aiosqlite.import_dbapi(),
            json_serializer=options.json_serializer,
            json_deserializer=options.json_deserializer,
        )
        self._dialect.server_version_info = sqlite3.sqlite_version_info
        self._dialect.default_schema_name = "main"
        self._capabilities = _capabilities(self._location)
        self._anchor: sqlite3.Connection | None = None
        self._anchoring = threading.Lock()

    @property
    def name(self) -> str:
        """The name in URLs."""
        return NAME

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for SQLite."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """What this SQLite can do; in memory, readers wait for a transaction that writes."""
        return self._capabilities

    async def connect(self) -> AiosqliteConnection:
        """Open a connection in a thread of its own."""
        thread = SqliteThread(self._open)
        await thread.open()
        return AiosqliteConnection(thread)

    def _open(self) -> sqlite3.Connection:
        """Open a connection, in its thread; a database in memory lives as long as the first one, kept here."""
        with self._anchoring:
            if self._location.is_memory and self._anchor is None:
                self._anchor = self._location.open()
        return self._location.open()

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for sqlite3's *error*."""
        return sqlite_errors.translate(error)

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection has been closed."""
        return sqlite_errors.is_disconnect(error)

    async def dispose(self) -> None:
        """Let a database in memory go."""
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None


def _capabilities(place: Location) -> Capabilities:
    return Capabilities(
        returning=sqlite3.sqlite_version_info >= (3, 35, 0),
        arrays=False,
        fetch_each=True,
        two_phase=False,
        server_side_cancel=True,
        row_locks=False,
        single_writer=True,
        concurrent_reads=place.pragmas.get("journal_mode", "").upper() == "WAL",
        counts_many=True,
        copies=False,
        combines_writes=False,
        max_parameters=32766 if sqlite3.sqlite_version_info >= (3, 32, 0) else 999,
        returning_sees_triggers=False,
    )


def _whole(raw: sqlite3.Connection, work: Callable[[], _T]) -> _T:
    """Do *work* in a transaction of its own if none is open."""
    if raw.in_transaction:
        return work()
    raw.execute("BEGIN").close()
    try:
        result = work()
        raw.execute("COMMIT").close()
    except BaseException:
        if raw.in_transaction:
            raw.execute("ROLLBACK").close()
        raise
    return result


def _allow_writes(raw: sqlite3.Connection, *, query_only: bool) -> None:
    if query_only:
        raw.execute("PRAGMA query_only=0").close()
