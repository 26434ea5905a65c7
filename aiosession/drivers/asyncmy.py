"""MariaDB and MySQL through asyncmy: statements travel as text, several of them in one round trip where rows are many.

Connections are in autocommit mode: a lone statement is a transaction of its own, and START TRANSACTION, COMMIT and
savepoints are ours. DDL commits the open transaction, which is begun again then. What a connection is doing is what the
flags in the server's answers say; an answer that is an error has none, so that the server is asked after one within a
transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

import asyncmy
from asyncmy.constants.SERVER_STATUS import SERVER_STATUS_IN_TRANS
from asyncmy.cursors import Cursor, SSCursor
from sqlalchemy import URL, Dialect

from aiosession.drivers import arguments, asyncmy_batches, asyncmy_errors, mysql, mysql_dialect
from aiosession.drivers.asyncmy_killing import Killer
from aiosession.drivers.asyncmy_opening import opened
from aiosession.drivers.mysql_values import filled
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
from aiosession.errors import DatabaseError

_MARIADB: Final = "mariadb"
_ASSUMED_VERSIONS: Final = {True: (10, 11), False: (8, 0, 36)}
_KINDS: Final[dict[str, type]] = {"port": int, "connect_timeout": float, "read_timeout": float, "local_infile": bool}
_OPTIONS: Final = (
    *("host", "port", "user", "password", "password_creator", "db", "database", "unix_socket", "sock", "charset"),
    *("sql_mode", "init_command", "connect_timeout", "read_timeout", "read_default_file", "read_default_group"),
    *("local_infile", "max_allowed_packet", "auth_plugin_map", "program_name", "server_public_key", "ssl"),
    "client_flag",
)
_HANDOVER: Final = 5.0
"""Seconds to wait for the server to notice that the connection which prepared a transaction is gone."""
_MOMENT: Final = 0.02


class _QuietCursor(Cursor):
    """Asks for no warnings, which would cost a round trip and be logged."""

    async def _show_warnings(self, conn: object) -> None:
        return None


class _QuietStream(SSCursor):
    """The same for rows that are read one by one."""

    async def _show_warnings(self, conn: object) -> None:
        return None


class AsyncmyConnection:
    """A connection of asyncmy, spoken to in the words of `aiosession.drivers.protocol.DriverConnection`."""

    __slots__ = (
        "__weakref__",
        "_beginning",
        "_begun",
        "_branch",
        "_busy",
        "_connection",
        "_driver",
        "_limit",
        "_loop",
        "_prepared",
        "_rest",
        "_server",
        "_stream",
        "_version",
    )

    def __init__(self, connection: Any, driver: "AsyncmyDriver", server: str) -> None:
        self._connection = connection
        self._driver = driver
        self._server = server
        self._version = mysql.version(connection.get_server_info())
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._begun = False
        self._beginning = b""
        self._limit = b""
        self._branch: str | None = None
        self._prepared: str | None = None
        self._stream: SSCursor | None = None
        self._rest: list[Row] = []

    def __del__(self) -> None:
        # the pool warns about the one who forgot it; here the server gets its connection back, from whatever thread
        if self._connection.connected and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._connection.close)

    @property
    def driver_connection(self) -> Any:
        """The connection of asyncmy."""
        return self._connection

    @property
    def server_version(self) -> tuple[int, ...]:
        """The server's version."""
        return self._version

    @property
    def transaction_number(self) -> str | None:
        """Transactions have no numbers that others could ask for."""
        return None

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Nobody can tell."""
        return CommitOutcome.UNKNOWN

    @property
    def status(self) -> TransactionStatus:
        """What the server's last answer says; a transaction that it rolled back by itself counts as failed.

        A connection that has prepared a transaction is in it until it is finished, or the connection closed.
        """
        if not self._connection.connected:
            return TransactionStatus.CLOSED
        if self._busy:
            return TransactionStatus.ACTIVE
        if getattr(self._connection, "_stream_broken", False):  # the server has hung up since the last answer
            return TransactionStatus.CLOSED
        if self._in_transaction:
            return TransactionStatus.IN_TRANSACTION
        if self._begun:
            return TransactionStatus.FAILED
        return TransactionStatus.IDLE if self._stream is None else TransactionStatus.ACTIVE

    @property
    def _in_transaction(self) -> bool:
        return bool(self._connection.server_status & SERVER_STATUS_IN_TRANS)

    # Sending ----------------------------------------------------------------------------------------------------------

    async def _send(self, text: bytes, answers: int = 1) -> list[Any]:
        """Send statements; return a cursor for the answer to each."""
        if self._stream is not None:
            await self._take_rest()
        if self._begun and not self._in_transaction:
            raise TransactionLostError
        try:
            return await self._talk(text, answers)
        finally:
            if self._begun and not self._in_transaction and mysql.commits(text) and self._connection.connected:
                await self._talk(self._beginning, 0)

    async def _talk(self, text: bytes, answers: int = 1) -> list[Any]:
        self._busy = True
        try:
            found = await asyncmy_batches.answers(self._connection.cursor(_QuietCursor), text, answers)
        except BaseException as error:
            await self._settle(error)
            raise
        self._busy = False
        return found

    async def _settle(self, error: BaseException) -> None:
        """Note what *error* of a statement means for the connection."""
        if not isinstance(error, Exception):
            self._abandon()
            return
        if asyncmy_errors.is_disconnect(error) or not asyncmy_errors.number_of(error):
            self._connection.close()
        if self._connection.connected and self._begun:
            try:
                await self._connection.ping(reconnect=False)  # the flags in its answer tell whether all is lost
            except Exception:
                self._connection.close()
            except BaseException:
                self._abandon()
                raise
        self._busy = False

    def _abandon(self) -> None:
        """Close, and have the server end what it is doing: it would not notice before it has an answer to send."""
        thread = self._connection.thread_id()
        self._connection.close()
        if thread and self._busy and not self._loop.is_closed():
            self._driver.killer.kill(thread, self._server)

    def _filled(self, sql: str, parameters: Sequence[object]) -> bytes:
        return self._limited(filled(sql, parameters, self._connection.escape_string))

    def _limited(self, text: bytes) -> bytes:
        """Return a statement with the time that it may take, if there is a limit in this transaction."""
        return self._limit + text if self._limit and self._begun and mysql.can_limit(text) else text

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return its rows."""
        (answer,) = await self._send(self._filled(sql, parameters))
        return list(answer.rows)

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of rows that it met, changed or not."""
        (answer,) = await self._send(self._filled(sql, parameters))
        return int(answer.count)

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement and tell its columns, rows and count."""
        (answer,) = await self._send(self._filled(sql, parameters))
        return Reply(answer.columns, list(answer.rows), answer.count)

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement for each row, or INSERT ... VALUES with many rows, in few round trips; all rows or none."""
        texts = asyncmy_batches.many(sql, rows, self._connection.escape_string)
        return sum([answer.count for answer in await self._send_whole(texts)])

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement for each row, many of them in one round trip; all rows or none."""
        texts = asyncmy_batches.each(sql, rows, self._connection.escape_string)
        return [list(answer.rows) for answer in await self._send_whole(texts)]

    async def _send_whole(self, texts: Sequence[bytes]) -> list[Any]:
        """Send statements in as few round trips as can be, in a transaction of their own if none is open."""
        is_own = len(texts) > 1 and not self._begun
        if is_own:
            await self.begin(TransactionOptions())
        try:
            found = [
                answer
                for batch in asyncmy_batches.batches([self._limited(text) for text in texts])
                for answer in await self._send(b"; ".join(batch), len(batch))
            ]
            if is_own:
                await self.commit()
        except Exception:
            if is_own:
                await self.rollback()
            raise
        return found

    async def script(self, sql: str) -> None:
        """Run SQL text as it is, several statements too; DDL commits an open transaction, and another one begins."""
        await self._send(sql.encode(), 0)

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """LOAD DATA LOCAL needs a file and a permission that servers rarely give."""
        raise NotImplementedError("there is no COPY here")

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows as they arrive.

        The connection is taken until the last row: another statement in between has the rest read into memory first,
        and so has an early end.
        """
        text = self._filled(sql, parameters)
        if self._stream is not None:
            await self._take_rest()
        cursor: Any = self._connection.cursor(_QuietStream)
        await self._guarded(cursor.execute(text))
        rest: list[Row] = []
        self._stream, self._rest = cursor, rest
        try:
            while rows := await self._next_rows(cursor, rest, size):
                yield rows
                if len(rows) < size:
                    break
        finally:
            if self._stream is cursor:
                await self._take_rest()
            rest.clear()

    async def _next_rows(self, cursor: Any, rest: list[Row], size: int) -> list[Row]:
        is_open = self._stream is cursor
        if is_open:
            return list(await self._guarded(cursor.fetchmany(size)))
        rows, rest[:size] = rest[:size], []
        return rows

    async def _take_rest(self) -> None:
        """Read the rows of an open stream into memory."""
        cursor, self._stream = self._stream, None
        if cursor is not None and self._connection.connected:
            self._rest.extend(await self._guarded(cursor.fetchall()))

    async def _guarded(self, reading: Any) -> Any:
        self._busy = True
        try:
            found = await reading
        except BaseException as error:
            self._stream = None
            await self._settle(error)
            raise
        self._busy = False
        return found

    # Transactions -----------------------------------------------------------------------------------------------------

    async def begin(self, options: TransactionOptions) -> None:
        """Send START TRANSACTION, or XA START for a transaction that is going to be prepared."""
        text = mysql.begin(self._driver.name, options)
        branch = None if options.branch is None else mysql.branch(options.branch)
        await self._send(text.encode(), 0)
        self._begun, self._beginning, self._branch = True, text.encode(), branch
        self._limit = mysql.limit(options.statement_timeout, is_mariadb=self._driver.is_mariadb)

    async def commit(self) -> None:
        """Send COMMIT; fails if the server has rolled the transaction back before."""
        if not self._in_transaction:
            await self.rollback()  # a branch of XA is there until it is told to go
            raise CommitRefusedError("nothing: it had rolled the transaction back itself")
        if self._stream is not None:
            await self._take_rest()
        if self._branch is None:
            await self._talk(b"COMMIT")
        else:
            await self._talk(f"XA END {self._branch}; XA COMMIT {self._branch} ONE PHASE".encode(), 2)
        self._begun, self._branch = False, None

    async def rollback(self) -> None:
        """Send ROLLBACK if a transaction is open; a prepared one stays prepared."""
        if not self._connection.connected or self._prepared is not None:
            return
        if self._stream is not None:
            await self._take_rest()
        branch = self._branch
        if branch is not None:
            with suppress(asyncmy.errors.OperationalError):  # it may have ended by a deadlock
                await self._talk(f"XA END {branch}".encode())
            await self._talk(f"XA ROLLBACK {branch}".encode())
        elif self._in_transaction:
            await self._talk(b"ROLLBACK")
        self._begun, self._branch = False, None

    async def savepoint(self, name: str) -> None:
        """Send SAVEPOINT."""
        await self._send(f"SAVEPOINT `{arguments.savepoint_name(name)}`".encode())

    async def release_savepoint(self, name: str) -> None:
        """Send RELEASE SAVEPOINT."""
        await self._send(f"RELEASE SAVEPOINT `{arguments.savepoint_name(name)}`".encode())

    async def rollback_to_savepoint(self, name: str) -> None:
        """Send ROLLBACK TO SAVEPOINT."""
        await self._send(f"ROLLBACK TO SAVEPOINT `{arguments.savepoint_name(name)}`".encode())

    # Two phases -------------------------------------------------------------------------------------------------------

    async def can_prepare(self) -> bool:
        """InnoDB always can."""
        return True

    async def prepare(self, branch: str) -> None:
        """Send XA END and XA PREPARE; needs a transaction that began as this branch."""
        literal = mysql.branch(branch)
        if self._branch != literal:
            raise CommitRefusedError(f"nothing: the transaction did not begin as {branch!r}")
        if self._stream is not None:
            await self._take_rest()
        await self._talk(f"XA END {literal}; XA PREPARE {literal}".encode(), 2)
        self._begun, self._branch, self._prepared = False, None, literal

    async def commit_prepared(self, branch: str) -> bool:
        """Send XA COMMIT."""
        return await self._finish("COMMIT", branch)

    async def rollback_prepared(self, branch: str) -> bool:
        """Send XA ROLLBACK."""
        return await self._finish("ROLLBACK", branch)

    async def _finish(self, verb: str, branch: str) -> bool:
        """Finish a prepared transaction, when the connection that prepared it is known to the server to be gone."""
        literal = mysql.branch(branch)
        text = f"XA {verb} {literal}".encode()
        ends = self._loop.time() + _HANDOVER
        while True:
            try:
                await self._send(text)
            except asyncmy.errors.MySQLError as error:
                if asyncmy_errors.number_of(error) != mysql.XA_UNKNOWN:
                    raise
                if not any(each.name == branch for each in await self.prepared(branch)):
                    return False
                if self._loop.time() > ends:
                    raise asyncmy.errors.OperationalError(
                        mysql.XA_UNKNOWN,
                        f"the transaction {branch!r} is prepared, but the connection that prepared it is still open: "
                        f"finish it there, or close that connection first",
                    ) from error
            else:
                break
            await asyncio.sleep(_MOMENT)
        if self._prepared == literal:
            self._prepared = None
        return True

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Ask for the prepared transactions of this server; it does not tell of which database or user they are."""
        rows = await self.fetch(mysql.PREPARED)
        names = [mysql.branch_of(int(length), data) for _, length, _, data in rows]  # type: ignore[call-overload, arg-type]  # of XA RECOVER
        return [PreparedBranch(name, None) for name in names if name.startswith(prefix)]

    # The connection ---------------------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Ask the server for an answer."""
        await self._guarded(self._connection.ping(reconnect=False))

    async def reset(self) -> None:
        """Leave the transaction; a connection that has prepared one is closed, so that others can finish it."""
        if self._prepared is not None:
            self._connection.close()
        if self._connection.connected:
            await self.rollback()
        else:
            await self._driver.killer.settled()

    async def close(self) -> None:
        """Say goodbye to the server and close."""
        await self._connection.ensure_closed()

    def terminate(self) -> None:
        """Drop the connection at once, and have the server end a statement that is running."""
        if self._connection.connected:
            self._abandon()


class AsyncmyDriver:
    """MariaDB or MySQL through asyncmy."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        self.is_mariadb: Final = url.get_backend_name() == _MARIADB
        self._name = f"{url.get_backend_name()}+asyncmy"
        self._dialect = mysql_dialect.make_dialect(options, is_mariadb=self.is_mariadb)
        self._dialect.default_schema_name = url.database
        self._adapt(_ASSUMED_VERSIONS[self.is_mariadb])
        given = arguments.connect_arguments(self._dialect, url) | dict(options.connect_args)
        given = arguments.checked_options(self._name, given, _OPTIONS)
        given = arguments.converted(self._name, given, _KINDS)
        self._sql_mode = str(given.pop("sql_mode", mysql.SQL_MODES[self.is_mariadb]))
        self._arguments: dict[str, Any] = {"charset": "utf8mb4", **given, "autocommit": None}
        self._refusal: Final = [mysql.READ_ONLY] if options.read_only else []
        self.killer: Final = Killer(self._open)
        """Ends what abandoned connections have left running in the server."""

    @property
    def name(self) -> str:
        """The name in URLs."""
        return self._name

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for asyncmy; its server version is a guess until the first connection is made."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """What MariaDB or MySQL can do; only MariaDB has RETURNING, and not for UPDATE."""
        return mysql.CAPABILITIES[self.is_mariadb]

    def _adapt(self, version: tuple[int, ...]) -> None:
        mysql_dialect.adapt(self._dialect, version, is_mariadb=self.is_mariadb)

    async def connect(self) -> AsyncmyConnection:
        """Open a connection and tell it how it has to be, in one round trip."""
        connection = await self._open()
        try:
            mysql.check_server(connection.get_server_info())
            cursor = connection.cursor(_QuietCursor)
            mode = connection.escape_string(self._sql_mode)
            settings = [f"{mysql.SETTINGS}, sql_mode = '{mode}'", *self._refusal, mysql.IDENTITY]
            *_, identity = await asyncmy_batches.answers(cursor, "; ".join(settings).encode(), len(settings))
        except BaseException:
            connection.close()
            raise
        made = AsyncmyConnection(connection, self, str(identity.rows[0][0]))
        self._adapt(made.server_version)
        return made

    async def _open(self) -> Any:
        return await opened(self._arguments)

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for asyncmy's *error*."""
        return asyncmy_errors.translate(error)

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection is gone."""
        return asyncmy_errors.is_disconnect(error)

    async def dispose(self) -> None:
        """Wait for the end of what has been killed."""
        await self.killer.settled()
