"""PostgreSQL through asyncpg.

Statements go through asyncpg's own cache of prepared statements; BEGIN, COMMIT and savepoints are plain text, so that
the server's answer can be checked and asyncpg keeps no transaction of its own.
"""

import asyncio
import inspect
import json
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy import URL, Dialect
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from aiosession.drivers import arguments, asyncpg_errors, asyncpg_pooled, postgres
from aiosession.drivers.asyncpg_json import install_codecs
from aiosession.drivers.asyncpg_pooled import DeclaredCursor
from aiosession.drivers.protocol import (
    Capabilities,
    CommitOutcome,
    CommitRefusedError,
    DriverOptions,
    PreparedBranch,
    Reply,
    Row,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.errors import DatabaseError

_NAME: Final = "postgresql+asyncpg"
_KINDS: Final[dict[str, type]] = {
    "port": int,
    "timeout": float,
    "command_timeout": float,
    "statement_cache_size": int,
    "max_cached_statement_lifetime": int,
    "max_cacheable_statement_size": int,
    "direct_tls": bool,
}
# An ORM has more shapes of statements than asyncpg's defaults reckon with, and none of them goes stale with age.
_DEFAULTS: Final[dict[str, object]] = {
    "statement_cache_size": 512,
    "max_cached_statement_lifetime": 0,
    "max_cacheable_statement_size": 128 * 1024,
}
_NOT_OPTIONS: Final = frozenset({"loop", "connection_class", "record_class"})
_OPTIONS: Final = tuple(name for name in inspect.signature(asyncpg.connect).parameters if name not in _NOT_OPTIONS)
_ASSUMED_VERSION: Final = (14, 0)
_ENDS_THE_CONNECTION: Final = ("FATAL", "PANIC")
"""How severe the server calls an error after which it says nothing more."""
_CHANGES_SCHEMA: Final = ("ALTER", "DROP")
_PREPARED: Final = 128
"""Statements of which the columns are remembered, per connection."""


class AsyncpgConnection:
    """A connection of asyncpg, spoken to in the words of `aiosession.drivers.protocol.DriverConnection`."""

    __slots__ = (
        "__weakref__",
        "_busy",
        "_connection",
        "_driver",
        "_failed",
        "_loop",
        "_number",
        "_prepared",
        "_schema_version",
        "_tracks",
    )

    def __init__(self, connection: asyncpg.Connection, driver: "AsyncpgDriver") -> None:
        self._connection = connection
        self._driver = driver
        self._schema_version = driver.schema_version
        self._busy = False
        self._failed = False
        self._prepared: dict[str, PreparedStatement] = {}
        self._loop = asyncio.get_running_loop()
        self._number: str | None = None
        self._tracks = driver.tracks_commits and _can_track(connection)
        if self._tracks:
            connection.add_log_listener(_Listener(self))

    def __del__(self) -> None:
        # the pool warns about the one who forgot it; here the server gets its connection back, from whatever thread
        if not self._connection.is_closed() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._connection.terminate)

    @property
    def driver_connection(self) -> asyncpg.Connection:
        """The connection of asyncpg."""
        return self._connection

    @property
    def server_version(self) -> tuple[int, ...]:
        """The server's version."""
        version = self._connection.get_server_version()
        return (version.major, version.minor, version.micro)

    @property
    def status(self) -> TransactionStatus:
        """What asyncpg says this connection is doing; a cancelled statement counts as running."""
        if self._connection.is_closed():
            return TransactionStatus.CLOSED
        if self._busy:
            return TransactionStatus.ACTIVE
        if not self._connection.is_in_transaction():
            return TransactionStatus.IDLE
        return TransactionStatus.FAILED if self._failed else TransactionStatus.IN_TRANSACTION

    def _settle(self, error: BaseException) -> None:
        """Note what *error* of a statement means for the connection."""
        if asyncpg_errors.is_disconnect(error) or getattr(error, "severity_en", None) in _ENDS_THE_CONNECTION:
            self._connection.terminate()
        if self._connection.is_closed():
            return
        in_transaction = self._connection.is_in_transaction()
        if _is_refusal(error):
            # The server has not heard of the values, but it may have parsed the statement, and outside a transaction
            # it keeps the locks of that until the next statement ends: the connection is not clean.
            self._busy = not in_transaction
            return
        self._failed = in_transaction
        if isinstance(error, asyncpg.PostgresError):
            self._busy = False

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        self._busy = True
        try:
            rows: list[Row] = await self._connection.fetch(sql, *parameters)
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return rows

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the row count of its command tag."""
        self._busy = True
        try:
            tag = await self._connection.execute(sql, *parameters)
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return self._count(tag)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row in one go; asyncpg tells no counts."""
        self._busy = True
        try:
            await self._connection.executemany(sql, rows)
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return -1

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Stream rows by COPY in its binary form."""
        self._busy = True
        try:
            tag = await self._connection.copy_records_to_table(table, schema_name=schema, columns=columns, records=rows)
        except (OverflowError, TypeError, ValueError) as error:  # raised as they are by its encoders
            self._settle(error)
            raise asyncpg.DataError(str(error)) from error
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return int(tag.rpartition(" ")[2])

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement for each row, one round trip each."""
        return [await self.fetch(sql, row) for row in rows]

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement and tell its columns too; the first time this costs a round trip more."""
        self._busy = True
        try:
            reply = await self._run(sql, parameters)
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return reply

    async def _run(self, sql: str, parameters: Sequence[object]) -> Reply:
        statement = self._prepared.get(sql)
        if statement is not None:
            try:
                return self._reply(statement, await statement.fetch(*parameters))
            except asyncpg.InvalidCachedStatementError:
                self._prepared.clear()
                if self._connection.is_in_transaction():
                    raise
        statement = await self._connection.prepare(sql)
        if len(self._prepared) >= _PREPARED:
            self._prepared.clear()
        if not self._driver.is_pooled:
            self._prepared[sql] = statement
        return self._reply(statement, await statement.fetch(*parameters))

    def _reply(self, statement: PreparedStatement, rows: list[Row]) -> Reply:
        attributes = statement.get_attributes()
        count = self._count(statement.get_statusmsg())
        return Reply(tuple(attribute.name for attribute in attributes) or None, rows, count)

    def _count(self, tag: str | None) -> int:
        """Return the row count at the end of a command tag such as ``INSERT 0 3``; -1 if it has none."""
        verb, _, count = tag.rpartition(" ") if tag else ("", "", "")
        if count.isdecimal():
            return int(count)
        if verb.startswith(_CHANGES_SCHEMA):
            self._driver.schema_version += 1
        return -1

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement through a cursor; needs an open transaction, and the cursor ends with it."""
        self._busy = True
        try:
            cursor = await self._cursor(sql, parameters)
            rows: list[Row] = await cursor.fetch(size)
            self._busy = False
            while rows:
                yield rows
                if len(rows) < size:
                    break
                self._busy = True
                rows = await cursor.fetch(size)
                self._busy = False
        except GeneratorExit:
            raise
        except BaseException as error:
            self._settle(error)
            raise

    async def _cursor(self, sql: str, parameters: Sequence[object]) -> Any:
        if self._driver.is_pooled:
            return await DeclaredCursor(self._connection).declare(sql, parameters)
        return await self._connection.cursor(sql, *parameters)

    async def _command(self, sql: str) -> str:
        self._busy = True
        try:
            tag = await self._connection.execute(sql)
        except BaseException as error:
            self._settle(error)
            raise
        self._busy = False
        return str(tag)

    async def script(self, sql: str) -> None:
        """Run SQL text as it is; all connections of this driver forget their prepared statements before long."""
        await self._command(sql)
        self._driver.schema_version += 1

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN with its options."""
        if self._schema_version != self._driver.schema_version:
            self._schema_version = self._driver.schema_version
            self._prepared.clear()
            await self._connection.reload_schema_state()
        self._failed = False
        self._number = None
        text = postgres.begin(_NAME, options)
        if self._tracks and options.write and not options.read_only:
            text += f"; {postgres.TELL_NUMBER}"
        await self._command(text)

    @property
    def transaction_number(self) -> str | None:
        """The number that the server told at BEGIN."""
        return self._number

    def note(self, message: str) -> None:
        """Take the number of the transaction from a notice of the server."""
        self._number = postgres.number_told(message) or self._number

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Ask the server; it forgets transactions in time."""
        try:
            rows = await self.fetch(postgres.OUTCOME.format("$1"), (transaction_number,))
        except asyncpg.DataError:  # the number is from another server: this one has taken its place
            return CommitOutcome.UNKNOWN
        return postgres.outcome(rows[0][0])

    async def commit(self) -> None:
        """Send COMMIT and require that the server says so."""
        tag = await self._command("COMMIT")
        self._failed = False
        if tag != "COMMIT":
            raise CommitRefusedError(tag)

    async def rollback(self) -> None:
        """Send ROLLBACK if there is anything to roll back."""
        if not self._connection.is_closed() and (self._busy or self._connection.is_in_transaction()):
            await self._command("ROLLBACK")
        self._failed = False

    async def savepoint(self, name: str) -> None:
        """Send SAVEPOINT."""
        await self._command(f"SAVEPOINT {arguments.savepoint_name(name)}")

    async def release_savepoint(self, name: str) -> None:
        """Send RELEASE SAVEPOINT."""
        await self._command(f"RELEASE SAVEPOINT {arguments.savepoint_name(name)}")

    async def rollback_to_savepoint(self, name: str) -> None:
        """Send ROLLBACK TO SAVEPOINT; a failed transaction is usable again after it."""
        await self._command(f"ROLLBACK TO SAVEPOINT {arguments.savepoint_name(name)}")
        self._failed = False

    async def can_prepare(self) -> bool:
        """Ask the server for its max_prepared_transactions, once."""
        if self._driver.can_prepare is None:
            self._driver.can_prepare = bool((await self.fetch(postgres.CAN_PREPARE))[0][0])
        return self._driver.can_prepare

    async def prepare(self, branch: str) -> None:
        """Send PREPARE TRANSACTION and require that the server says so."""
        tag = await self._command(postgres.prepare(branch))
        self._failed = False
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
        except asyncpg.UndefinedObjectError:
            return False
        except asyncpg.ObjectNotInPrerequisiteStateError as error:  # somebody else is just doing it
            raise asyncpg.LockNotAvailableError(str(error)) from error
        return True

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Ask for the prepared transactions of this database; the server lists those of all."""
        rows = await self.fetch(postgres.PREPARED.format("$1"), (prefix,))
        return [PreparedBranch(*row) for row in rows]  # type: ignore[arg-type]  # text, interval

    async def ping(self) -> None:
        """Ask the server for an answer."""
        await self._command("SELECT 1")

    async def reset(self) -> None:
        """Wait for a cancelled statement to be over, and leave the transaction."""
        if self._busy and not self._connection.is_closed() and not self._connection.is_in_transaction():
            # asyncpg lets the next statement wait until the cancelled one has ended, and hears what that has left: a
            # cancelled BEGIN may have begun a transaction and failed in it.
            with suppress(asyncpg.InFailedSQLTransactionError):
                await self._command("SELECT 1")
        await self.rollback()

    async def close(self) -> None:
        """Say goodbye to the server and close."""
        await self._connection.close()

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._connection.terminate()


class AsyncpgDriver:
    """PostgreSQL through asyncpg."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        self.schema_version = 0
        """Counts scripts, that is DDL: connections of an older count drop what they have prepared."""
        self._deserialize: Callable[[str], object] = options.json_deserializer or json.loads
        self._dialect = PGDialect_asyncpg(  # type: ignore[no-untyped-call]  # Core's dialects are untyped
            dbapi=PGDialect_asyncpg.import_dbapi(),  # type: ignore[no-untyped-call]  # as above
            json_serializer=options.json_serializer,
            json_deserializer=options.json_deserializer,
        )
        self._dialect.server_version_info = _ASSUMED_VERSION
        self._dialect.default_schema_name = "public"
        self.tracks_commits: Final = options.track_commits
        self.can_prepare: bool | None = None
        """Whether transactions can be prepared; None as long as nobody has asked."""
        given = arguments.connect_arguments(self._dialect, url) | dict(options.connect_args)
        if "prepared_statement_cache_size" in given:
            given["statement_cache_size"] = given.pop("prepared_statement_cache_size")
        given = arguments.checked_options(_NAME, given, _OPTIONS)
        if options.read_only and not options.pooled:
            given["server_settings"] = postgres.read_only(given.get("server_settings"))
        self.is_pooled: Final = options.pooled
        self._capabilities: Final = replace(_CAPABILITIES, keeps_session=not options.pooled)
        defaults = _DEFAULTS | asyncpg_pooled.DEFAULTS if options.pooled else _DEFAULTS
        self._arguments: dict[str, Any] = defaults | arguments.converted(_NAME, given, _KINDS)

    @property
    def name(self) -> str:
        """The name in URLs."""
        return _NAME

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for asyncpg; its server version is a guess until the first connection is made."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """What PostgreSQL can do."""
        return self._capabilities

    async def connect(self) -> AsyncpgConnection:
        """Open a connection and install the JSON codecs; costs no query."""
        try:
            connection = await asyncpg.connect(**self._arguments)
        except TimeoutError as error:
            raise ConnectionError("the server did not answer the attempt to connect in time") from error
        install_codecs(connection, self._deserialize)
        if self.is_pooled:
            asyncpg_pooled.leave_settings_alone(connection)
        made = AsyncpgConnection(connection, self)
        self._dialect.server_version_info = made.server_version
        return made

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for asyncpg's *error*."""
        return asyncpg_errors.translate(error)

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection is gone."""
        return asyncpg_errors.is_disconnect(error)

    async def dispose(self) -> None:
        """Nothing lives beside the connections."""


_CAPABILITIES: Final = Capabilities(
    returning=True,
    arrays=True,
    fetch_each=False,
    two_phase=True,
    server_side_cancel=True,
    row_locks=True,
    single_writer=False,
    concurrent_reads=True,
    counts_many=False,
    copies=True,
    combines_writes=True,
    max_parameters=32767,
)


class _Listener:
    """Passes notices of the server on to a connection, without keeping it alive."""

    def __init__(self, connection: AsyncpgConnection) -> None:
        self._connection = weakref.ref(connection)

    def __call__(self, _connection: object, message: Any) -> None:
        connection = self._connection()
        if connection is not None:
            connection.note(str(message.message))


def _can_track(connection: asyncpg.Connection) -> bool:
    """Whether the server is PostgreSQL 13 or newer, and not one that only speaks its protocol."""
    settings = connection.get_settings()
    return connection.get_server_version().major >= postgres.FIRST_WITH_NUMBERS and not hasattr(
        settings, "crdb_version"
    )


def _is_refusal(error: BaseException) -> bool:
    """Say whether asyncpg itself refused a statement's values; errors of the server have a severity."""
    if isinstance(error, asyncpg.PostgresError):
        return getattr(error, "severity", None) is None
    return isinstance(error, asyncpg.InterfaceError)
