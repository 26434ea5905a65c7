"""PostgreSQL through psycopg 3.

psycopg's connection is in its autocommit mode and its cursors are raw ones, which take the server's own placeholders:
BEGIN, COMMIT and savepoints are our own text, and a statement reads the same as through asyncpg. Statements are
prepared by psycopg when they are run for the second time.
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

import psycopg
from psycopg import AsyncRawCursor
from psycopg.pq import TransactionStatus as Reported
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import URL, Dialect

from aiosession.drivers import arguments, postgres, psycopg_errors
from aiosession.drivers.protocol import (
    Answer,
    Capabilities,
    CommitOutcome,
    CommitRefusedError,
    DriverOptions,
    PreparedBranch,
    Reply,
    Request,
    Row,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.drivers.psycopg_calls import Call, Line
from aiosession.drivers.psycopg_options import connect_options
from aiosession.drivers.psycopg_types import PsycopgDialect, adapters
from aiosession.errors import DatabaseError

_NAME: Final = "postgresql+psycopg"
_ASSUMED_VERSION: Final = (14, 0)
_CHANGES_SCHEMA: Final = ("ALTER", "DROP")
_PLACEHOLDER: Final = re.compile(r"\$([0-9]+)")
_STATUS: Final[dict[int, TransactionStatus]] = {
    Reported.IDLE: TransactionStatus.IDLE,
    Reported.ACTIVE: TransactionStatus.ACTIVE,
    Reported.INTRANS: TransactionStatus.IN_TRANSACTION,
    Reported.INERROR: TransactionStatus.FAILED,
    Reported.UNKNOWN: TransactionStatus.CLOSED,
}

_CANCEL_DEADLINE: Final = 5.0

P = ParamSpec("P")
T = TypeVar("T")
_Cursor: TypeAlias = Any
"""A raw cursor of psycopg; by its own type it would take no text but literals of the source code."""


class PsycopgConnection:
    """A connection of psycopg, spoken to in the words of `aiosession.drivers.protocol.DriverConnection`."""

    __slots__ = (
        "__weakref__",
        "_connection",
        "_cursors",
        "_driver",
        "_interrupted",
        "_is_terminated",
        "_loop",
        "_number",
        "_schema_version",
        "_tracks",
    )

    def __init__(self, connection: Line, driver: "PsycopgDriver") -> None:
        self._connection = connection
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._schema_version = driver.schema_version
        self._cursors = count(1)
        self._interrupted: Call[Any] | None = None
        self._is_terminated = False
        self._number: str | None = None
        self._tracks = driver.tracks_commits and _can_track(connection)

    def __del__(self) -> None:
        # the pool warns about the one who forgot it; here the server gets its connection back
        self.terminate()

    @property
    def driver_connection(self) -> Line:
        """The connection of psycopg."""
        return self._connection

    @property
    def server_version(self) -> tuple[int, ...]:
        """The server's version."""
        number = self._connection.pgconn.server_version
        return (number // 10000, number % 10000)

    @property
    def status(self) -> TransactionStatus:
        """What libpq says this connection is doing; an interrupted statement counts as running."""
        if self._interrupted is not None:
            return TransactionStatus.ACTIVE
        lower = self._connection.pgconn
        if self._is_terminated:
            return TransactionStatus.CLOSED
        if lower.transaction_status == Reported.IDLE:
            self._connection.hear()
        return _STATUS[lower.transaction_status]

    # Calls ------------------------------------------------------------------------------------------------------------

    async def _called(self, start: Callable[P, Coroutine[Any, Any, T]], *given: P.args, **options: P.kwargs) -> T:
        """Await a coroutine of psycopg; if its caller is interrupted, it waits to be brought to its end."""
        if self._interrupted is not None:
            await self._end_interrupted()
        call = Call(start(*given, **options))
        try:
            return await call
        except BaseException as error:
            if not call.is_over:
                self._interrupted = call
            elif psycopg_errors.is_disconnect(error):
                self.terminate()
            raise

    async def _end_interrupted(self) -> None:
        """Have the server stop an interrupted statement and hear what it says to that."""
        if self._is_terminated:
            return
        await self._connection.cancel_safe(timeout=_CANCEL_DEADLINE)
        call = self._interrupted
        if call is not None:
            with suppress(psycopg.Error):
                try:
                    await call
                finally:
                    if call.is_over:
                        self._interrupted = None

    async def _sent(self, sql: str, parameters: Sequence[object], *, prepare: bool | None = None) -> _Cursor:
        """Run one statement; return psycopg's cursor with what came of it."""
        if parameters and len(parameters) > _placeholders(sql):
            raise psycopg.ProgrammingError(
                f"the statement has {_placeholders(sql)} placeholders, but {len(parameters)} parameters were given"
            )
        cursor: _Cursor = self._connection.cursor()
        try:
            await self._called(cursor.execute, sql, parameters or None, prepare=prepare)
        except psycopg.errors.FeatureNotSupported as error:
            if not psycopg_errors.is_stale_plan(error) or self.status is not TransactionStatus.IDLE:
                raise
        else:
            return cursor
        # outside a transaction it can be run again, prepared for the schema as it is now
        await self._forget_plans()
        return await self._sent(sql, parameters, prepare=False)

    async def _forget_plans(self) -> None:
        """Have psycopg and the server forget what they have prepared."""
        # psycopg looks at the answer of statements that are new to it only
        await self._sent(f"DEALLOCATE ALL -- {next(self._cursors)}", (), prepare=False)

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        return await self._rows(await self._sent(sql, parameters))

    async def _rows(self, cursor: _Cursor) -> list[Row]:
        """Return the rows that have come; never waits."""
        rows: list[Row] = [] if cursor.rownumber is None else await cursor.fetchall()
        return rows

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return its row count."""
        return self._count(await self._sent(sql, parameters))

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row in one pipeline; psycopg adds the counts up."""
        return self._count(await self._sent_many(sql, rows, returning=False))

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement for each row in one pipeline."""
        if not rows:
            return []
        cursor = await self._sent_many(sql, rows, returning=True)
        replies = [await self._rows(cursor)]
        while cursor.nextset():
            replies.append(await self._rows(cursor))
        return replies

    async def _sent_many(self, sql: str, rows: Sequence[Sequence[object]], *, returning: bool) -> _Cursor:
        cursor: _Cursor = self._connection.cursor()
        await self._called(cursor.executemany, sql, rows, returning=returning)
        return cursor

    async def pipeline(self, requests: Sequence[Request], answers: list[Answer]) -> None:
        """Send *requests* at once, in psycopg's pipeline mode."""
        cursors: list[_Cursor] = []
        try:
            await self._called(self._piped, requests, cursors)
        finally:
            for request, cursor in zip(requests, cursors, strict=False):
                if cursor.pgresult is None:
                    break
                answers.append(await self._rows(cursor) if request.fetches else self._count(cursor))

    async def _piped(self, requests: Sequence[Request], cursors: list[_Cursor]) -> None:
        async with self._connection.pipeline():
            for request in requests:
                cursor: _Cursor = self._connection.cursor()
                cursors.append(cursor)
                await cursor.execute(request.sql, request.parameters or None)

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Stream rows by COPY in its text form."""
        target = Identifier(table) if schema is None else Identifier(schema, table)
        text = SQL("COPY {} ({}) FROM STDIN").format(target, SQL(", ").join(map(Identifier, columns)))
        return await self._called(self._copied, text, rows)

    async def _copied(self, text: Composed, rows: Sequence[Sequence[object]]) -> int:
        cursor = self._connection.cursor()
        async with cursor.copy(text) as copy:
            for row in rows:
                await copy.write_row(row)
        return cursor.rowcount

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement and tell its columns too."""
        cursor = await self._sent(sql, parameters)
        if cursor.description is None:
            return Reply(None, [], self._count(cursor))
        names = tuple(column.name for column in cursor.description)
        return Reply(names, await cursor.fetchall(), cursor.rowcount)

    def _count(self, cursor: _Cursor) -> int:
        """Return how many rows were affected, -1 if the statement is of another kind."""
        count: int = cursor.rowcount
        if count < 0 and (cursor.statusmessage or "").startswith(_CHANGES_SCHEMA):
            self._driver.schema_version += 1
        return count

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement through a cursor of the server; needs an open transaction, and the cursor ends with it."""
        name = f"aiosession_{next(self._cursors)}"
        await self._sent(f"DECLARE {name} NO SCROLL CURSOR FOR {sql}", parameters, prepare=False)
        try:
            while True:
                cursor = await self._sent(f"FETCH {size} FROM {name}", (), prepare=False)
                rows: list[Row] = await cursor.fetchall()
                if rows:
                    yield rows
                if len(rows) < size:
                    break
        finally:
            if self.status is TransactionStatus.IN_TRANSACTION:
                await self._command(f"CLOSE {name}")

    async def _command(self, sql: str) -> str:
        """Run one of our own statements; return its command tag."""
        results = await self._called(self._connection.command, sql)
        return (results[0].command_status or b"").decode()

    async def script(self, sql: str) -> None:
        """Run SQL text as it is; all connections of this driver forget their prepared statements before long."""
        await self._sent(sql, (), prepare=False)
        self._driver.schema_version += 1

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN with its options."""
        if self._schema_version != self._driver.schema_version:
            self._schema_version = self._driver.schema_version
            if self._driver.prepares:
                await self._forget_plans()
        self._number = None
        text = postgres.begin(_NAME, options)
        if not self._tracks or not options.write or options.read_only:
            await self._command(text)
            return
        *_, asked = await self._called(self._connection.command, f"{text}; {postgres.ASK_NUMBER}")
        number = asked.get_value(0, 0)
        self._number = None if number is None else number.decode()

    @property
    def transaction_number(self) -> str | None:
        """The number that the server told at BEGIN."""
        return self._number

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Ask the server; it forgets transactions in time."""
        try:
            rows = await self.fetch(postgres.OUTCOME.format("$1"), (transaction_number,))
        except psycopg.DataError:  # the number is from another server: this one has taken its place
            return CommitOutcome.UNKNOWN
        return postgres.outcome(rows[0][0])

    async def commit(self) -> None:
        """Send COMMIT and require that the server says so."""
        tag = await self._command("COMMIT")
        if tag != "COMMIT":
            raise CommitRefusedError(tag)

    async def rollback(self) -> None:
        """Send ROLLBACK if there is anything to roll back."""
        if self._interrupted is not None:
            await self._end_interrupted()
        if self.status not in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
            await self._command("ROLLBACK")

    async def savepoint(self, name: str) -> None:
        """Send SAVEPOINT."""
        await self._command(f"SAVEPOINT {arguments.savepoint_name(name)}")

    async def release_savepoint(self, name: str) -> None:
        """Send RELEASE SAVEPOINT."""
        await self._command(f"RELEASE SAVEPOINT {arguments.savepoint_name(name)}")

    async def rollback_to_savepoint(self, name: str) -> None:
        """Send ROLLBACK TO SAVEPOINT; a failed transaction is usable again after it."""
        await self._command(f"ROLLBACK TO SAVEPOINT {arguments.savepoint_name(name)}")

    async def can_prepare(self) -> bool:
        """Ask the server for its max_prepared_transactions, once."""
        if self._driver.can_prepare is None:
            self._driver.can_prepare = bool((await self.fetch(postgres.CAN_PREPARE))[0][0])
        return self._driver.can_prepare

    async def prepare(self, branch: str) -> None:
        """Send PREPARE TRANSACTION and require that the server says so."""
        tag = await self._command(postgres.prepare(branch))
        if tag != "PREPARE TRANSACTION":
            raise CommitRefusedError(tag)

    async def commit_prepared(self, branch: str) -> bool:
        """Send COMMIT PREPARED."""
        return await self._finish(postgres.commit_prepared(branch))

    async def rollback_prepared(self, branch: str) -> bool:
        """Send ROLLBACK PREPARED."""
        return await self._finish(postgres.rollback_prepared(branch))

    async def _finish(self, sql: str) -> bool:
        try:
            await self._command(sql)
        except psycopg.errors.UndefinedObject:
            return False
        except psycopg.errors.ObjectNotInPrerequisiteState as error:  # somebody else is just doing it
            raise psycopg.errors.LockNotAvailable(str(error)) from error
        return True

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Ask for the prepared transactions of this database; the server lists those of all."""
        rows = await self.fetch(postgres.PREPARED.format("$1"), (prefix,))
        return [PreparedBranch(*row) for row in rows]  # type: ignore[arg-type]  # text, interval

    async def ping(self) -> None:
        """Ask the server for an answer."""
        await self._command("SELECT 1")

    async def reset(self) -> None:
        """Stop an interrupted statement, and leave the transaction."""
        await self.rollback()

    async def close(self) -> None:
        """Say goodbye to the server and close."""
        await self._connection.close()

    def terminate(self) -> None:
        """Drop the connection at once; a statement in flight hears of it and fails."""
        self._is_terminated = True
        lower = self._connection.pgconn
        if self._connection.lock.locked() and self._interrupted is None:
            # libpq's connection cannot be taken from under the one who waits for it, but its line can be cut
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(lower.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)
            return
        call, self._interrupted = self._interrupted, None
        with suppress(Exception):  # the event loop may be gone
            self._loop.remove_reader(lower.socket)
            self._loop.remove_writer(lower.socket)
        lower.finish()
        if call is not None:
            with suppress(Exception):
                call.abandon()


class PsycopgDriver:
    """PostgreSQL through psycopg 3."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        self.schema_version = 0
        """Counts scripts, that is DDL: connections of an older count drop what they have prepared."""
        self._dialect = PsycopgDialect(options)
        self._dialect.server_version_info = _ASSUMED_VERSION
        self._dialect.default_schema_name = "public"
        self._adapters = adapters(options)
        self.tracks_commits: Final = options.track_commits
        self.can_prepare: bool | None = None
        """Whether transactions can be prepared; None as long as nobody has asked."""
        found = connect_options(_NAME, self._dialect, url, options)
        self._arguments, self._prepare_threshold, self._prepared_max = found
        self._capabilities: Final = replace(_CAPABILITIES, keeps_session=not options.pooled)

    @property
    def prepares(self) -> bool:
        """Whether statements may be prepared on the server."""
        return self._prepare_threshold is not None

    @property
    def name(self) -> str:
        """The name in URLs."""
        return _NAME

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for psycopg; its server version is a guess until the first connection is made."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL can do."""
        return self._capabilities

    async def connect(self) -> PsycopgConnection:
        """Open a connection; costs no query."""
        connection = await Line.connect(
            **self._arguments,
            autocommit=True,
            context=self._adapters,
            cursor_factory=AsyncRawCursor,
            prepare_threshold=self._prepare_threshold,
            row_factory=tuple_row,
        )
        connection.prepared_max = self._prepared_max
        made = PsycopgConnection(connection, self)
        self._dialect.server_version_info = made.server_version
        return made

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for psycopg's *error*."""
        return psycopg_errors.translate(error)

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection is gone."""
        return psycopg_errors.is_disconnect(error)

    async def dispose(self) -> None:
        """Nothing lives beside the connections."""


_CAPABILITIES: Final = Capabilities(
    returning=True,
    arrays=True,
    fetch_each=True,
    two_phase=True,
    server_side_cancel=True,
    row_locks=True,
    single_writer=False,
    concurrent_reads=True,
    counts_many=True,
    copies=True,
    pipelines=True,
    combines_writes=True,
    max_parameters=32767,
)


@lru_cache(maxsize=1024)
def _placeholders(sql: str) -> int:
    """Return the number of the last placeholder in a statement; the server lets parameters go that nobody asks for."""
    return max(map(int, _PLACEHOLDER.findall(sql)), default=0)


def _can_track(connection: Line) -> bool:
    """Whether the server is PostgreSQL 13 or newer, and not one that only speaks its protocol."""
    is_other = connection.info.parameter_status("crdb_version") is not None
    return connection.pgconn.server_version // 10000 >= postgres.FIRST_WITH_NUMBERS and not is_other
