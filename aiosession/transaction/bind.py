"""What happens on one bind? Its share of a session's transaction.

A `BindTransaction` sends BEGIN when the first statement that needs it comes, holds the connection from then on, keeps
the savepoints in step with the session's levels and remembers what failed. Statements that need no transaction do not
come here (`aiosession.transaction.loose`); which of them a statement gets is decided in `aiosession.transaction.unit`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Final, TypeAlias

from aiosession import aio
from aiosession.drivers.protocol import Answer, Reply, Request, Row, TransactionOptions, TransactionStatus
from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.engine.holding import Asked, Holding
from aiosession.engine.options import AUTOCOMMIT
from aiosession.engine.outcome import LostCommit
from aiosession.engine.stack import has_no_answer
from aiosession.engine.transaction import AsyncTransaction
from aiosession.engine.wire import EngineConnection
from aiosession.errors import (
    CommitOutcomeUnknownError,
    DatabaseError,
    InvalidRequestError,
    PendingRollbackError,
    ResourceClosedError,
)
from aiosession.transaction.joining import JoinMode, join

_guests: Final = count(1)
"""Numbers those whose connection may have savepoints of others."""
_UNANSWERED: Final = frozenset({TransactionStatus.ACTIVE, TransactionStatus.CLOSED})
Bind: TypeAlias = AsyncEngine | AsyncConnection
Enlist: TypeAlias = Callable[["BindTransaction", EngineConnection], Awaitable[str | None]]
"""Takes a database into a commit in two phases; returns the name under which its transaction has to begin, if any."""
Chunks: TypeAlias = AsyncGenerator[list[Row], None]


class BindTransaction:
    """One bind's share of a session's transaction; offers the verbs of a wire inside of it."""

    __slots__ = (
        "_connection",
        "_join_mode",
        "_number",
        "_savepoints",
        "_streams",
        "_suffix",
        "_transaction",
        "around",
        "asked",
        "bind",
        "branch",
        "cause",
        "engine",
        "enlist",
        "is_announced",
        "is_changed",
        "is_joined",
        "options",
    )

    def __init__(
        self, bind: Bind, options: TransactionOptions, join_mode: JoinMode = JoinMode.CONDITIONAL_SAVEPOINT
    ) -> None:
        self.bind: Final = bind
        self.engine: Final = bind if isinstance(bind, AsyncEngine) else bind.engine
        self.options: Final = options
        self._join_mode: Final = join_mode
        self.is_joined = False
        """There is nothing to commit: the owner of the connection does that, or every statement does."""
        self.asked = Asked()
        """What the session has asked last."""
        self.cause: BaseException | None = None
        """What failed in here and has not been rolled back yet."""
        self.is_announced = False
        """Handlers of ``after_begin`` know of it."""
        self.is_changed = False
        """Something was sent that may have written."""
        self.enlist: Enlist | None = None
        """Called before BEGIN where several databases commit as one."""
        self.branch: str | None = None
        """The name under which the transaction is prepared."""
        self._connection: EngineConnection | None = None
        self._transaction: AsyncTransaction | None = None
        """The transaction, or savepoint, on a connection of the application's that this one stands for."""
        self.around: AsyncTransaction | None = None
        """What was in progress on a connection of the application's when this one joined."""
        self._savepoints: list[str] = []
        self._suffix: Final = f"_{next(_guests)}" if isinstance(bind, AsyncConnection) else ""
        """What tells savepoints of this session from those of others on the same connection."""
        self._streams: list[Chunks] = []
        self._number: str | None = None
        """By which the database knows the transaction that is being committed."""

    @property
    def connection(self) -> EngineConnection | None:
        """The connection that is held; None before BEGIN and after the end."""
        return self._connection

    # Beginning

    async def open(self, savepoints: Sequence[str], *, write: bool) -> "BindTransaction":
        """Send BEGIN and the named savepoints as far as they are not open yet; return the wire inside of them."""
        if self.cause is not None:
            raise PendingRollbackError(self.cause)
        if self._connection is None:
            await self._begin(write=write)
        for name in savepoints[len(self._savepoints) :]:
            await self.savepoint(name)
        return self

    async def _begin(self, *, write: bool) -> None:
        bind = self.bind
        if isinstance(bind, AsyncConnection):
            await self._join(bind, write=write)
            return
        options = self._options(write=write)
        self._connection = await bind.acquire(Holding("the transaction of a session, begun at", self.asked))
        if options.isolation_level == AUTOCOMMIT:
            self.is_joined = True
            return
        try:
            if self.enlist is not None and not options.read_only:
                options = replace(options, branch=await self.enlist(self, self._connection))
            await self._connection.begin(options)
        except BaseException:
            await self.leave()
            raise

    async def _join(self, bind: AsyncConnection, *, write: bool) -> None:
        """Take part in what goes on on a connection of the application's; begin there if nothing does."""
        bind.wire().check_loop()
        asked, usual = self.options, bind.transaction_options
        differs = (asked.read_only and not usual.read_only) or (asked.deferrable and not usual.deferrable)
        if differs or asked.isolation_level not in {None, usual.isolation_level}:
            raise InvalidRequestError(
                "this session works on a connection of yours, whose transaction is yours to configure: set the "
                "isolation level, read_only and deferrable with `connection.execution_options(...)` before it begins"
            )
        if self.enlist is not None and (bind.get_transaction() is None or self._join_mode is JoinMode.CONTROL_FULLY):
            raise InvalidRequestError(
                "a session that commits in two phases begins and ends its transactions itself: bind it to engines. On "
                "a connection it can only take part in a transaction that somebody else has begun and is going to end"
            )
        self.around = bind.get_nested_transaction() or bind.get_transaction()
        self._transaction, is_ours = await join(bind, self._join_mode)
        self.is_joined = not is_ours
        try:
            await bind.open_transaction(write=write)
        except BaseException:
            transaction, self._transaction = self._transaction, None
            if is_ours and transaction is not None:
                with suppress(Exception):
                    await transaction.rollback()
            self.is_joined = False
            raise
        self._connection = bind.wire()

    def _options(self, *, write: bool) -> TransactionOptions:
        """Return how to begin: as the session says, else as the engine does."""
        asked, usual = self.options, self.engine.options
        return TransactionOptions(
            isolation_level=asked.isolation_level or usual.get("isolation_level"),
            read_only=asked.read_only or bool(usual.get("read_only")),
            deferrable=asked.deferrable or bool(usual.get("deferrable")),
            write=write,
            statement_timeout=aio.time_left() if usual.get("statement_deadlines") else None,
        )

    # Ending

    async def commit(self) -> None:
        """Send COMMIT and give the connection back; `CommitOutcomeUnknownError` if its reply does not come."""
        connection = self.held()
        self._number = connection.transaction_number
        transaction = connection if self._transaction is None else self._transaction
        await self._close_streams()
        if not self.is_joined:
            try:
                await transaction.commit()
            except DatabaseError as error:
                if has_no_answer(error) or connection.status in _UNANSWERED:
                    raise CommitOutcomeUnknownError(error, self.resolve) from error
                raise
        await self.leave()

    async def prepare(self, branch: str) -> None:
        """Send PREPARE TRANSACTION; the connection is kept for what follows."""
        connection = self.held()
        await self._close_streams()
        await connection.prepare(branch)
        self.branch = branch

    async def commit_prepared(self) -> None:
        """Commit what is prepared and give the connection back; it is dropped if that fails."""
        connection, branch = self.held(), str(self.branch)
        self.branch = None  # decided: never to be rolled back any more
        try:
            await connection.commit_prepared(branch)
        except BaseException:
            connection.terminate()
            raise
        finally:
            await self.leave()

    def check_loop(self) -> None:
        """Raise `WrongEventLoopError` if a connection of the application's is not of the running event loop."""
        if self._connection is not None and isinstance(self.bind, AsyncConnection):
            self._connection.check_loop()

    async def roll_back(self) -> None:
        """End the transaction without its changes and give the connection back; always succeeds.

        A connection of the application's that belongs to another event loop is left as it is, which is an error. One on
        which ROLLBACK fails is dropped, which makes the database roll back; what is prepared stays so.
        """
        connection = self._connection
        if connection is None:
            return
        self.check_loop()
        transaction = connection if self._transaction is None else self._transaction
        try:
            await self._close_streams()
            if self.branch is None:
                await transaction.rollback()
            else:
                await connection.rollback_prepared(self.branch)
        except Exception:
            connection.terminate()
        finally:
            self.cause = self.branch = None
            await self.leave()

    async def close(self) -> None:
        """End the transaction without its changes; somebody else's goes on, without our savepoints."""
        if not (self.is_joined and self._transaction is not None):
            await self.roll_back()
            return
        if self._savepoints:
            await self.roll_back_to(self._savepoints[0])
        await self._close_streams()
        await self.leave()

    async def leave(self) -> None:
        """Give the connection back, in whatever state it is."""
        connection, self._connection = self._connection, None
        self._transaction = None
        self._streams.clear()
        self._savepoints.clear()
        if connection is not None and isinstance(self.bind, AsyncEngine):
            await self.bind.release(connection)

    async def drop(self) -> None:
        """Give up the connection without waiting for the database: for when waiting has been tried."""
        if self._connection is not None:
            self.branch = None
            self._connection.terminate()
            await self.leave()

    async def resolve(self) -> bool | None:
        """Find out whether a COMMIT whose reply was lost took place; None if nobody can tell."""
        return await LostCommit(self.engine, self._number)()

    # Savepoints

    async def savepoint(self, name: str) -> None:
        """Open a savepoint."""
        connection = self.held()
        try:
            await connection.savepoint(name + self._suffix)
        except BaseException as error:
            self.cause = error
            raise
        self._savepoints.append(name)

    async def release_savepoint(self, name: str) -> None:
        """Merge a savepoint, if there is one of this name here, into what surrounds it."""
        if name not in self._savepoints:
            return
        try:
            await self.held().release_savepoint(name + self._suffix)
        except BaseException as error:
            self.cause = error
            raise
        del self._savepoints[self._savepoints.index(name) :]

    async def roll_back_to(self, name: str) -> None:
        """Undo everything since a savepoint, if there is one of this name here, and forget the savepoint.

        If the database refuses, the transaction around the savepoint has failed: `cause` says why.
        """
        if self._connection is None or name not in self._savepoints:
            return
        try:
            await self._connection.rollback_to_savepoint(name + self._suffix)
            await self._connection.release_savepoint(name + self._suffix)
        except BaseException as error:
            self.cause = error
            if not isinstance(error, Exception):
                raise
        else:
            self.cause = None
            del self._savepoints[self._savepoints.index(name) :]

    # Statements

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        connection = self.held()
        try:
            return await connection.fetch(sql, parameters)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of affected rows."""
        connection = self.held()
        try:
            return await connection.execute(sql, parameters)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement once for each row of parameters."""
        connection = self.held()
        try:
            return await connection.execute_many(sql, rows)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement once for each row of parameters and return the rows of each."""
        connection = self.held()
        try:
            return await connection.fetch_each(sql, rows)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def pipeline(self, requests: Sequence[Request], answers: list[Answer]) -> None:
        """Send *requests* at once and add what comes of each to *answers*."""
        connection = self.held()
        try:
            await connection.pipeline(requests, answers)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Insert *rows* by the database's way for very many, and return their number."""
        connection = self.held()
        try:
            return await connection.copy(table, schema, columns, rows)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement of which nothing is known."""
        connection = self.held()
        try:
            return await connection.run(sql, parameters)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows in chunks of at most *size*, as long as the transaction lasts."""
        chunks = self.held().stream(sql, parameters, size=size)
        self._streams.append(chunks)
        try:
            while chunk := await self._next_chunk(chunks):
                yield chunk
        finally:
            if chunks in self._streams:
                self._streams.remove(chunks)
                await chunks.aclose()

    async def _next_chunk(self, chunks: Chunks) -> list[Row] | None:
        if chunks not in self._streams:
            raise ResourceClosedError("the transaction that this stream was part of has ended; its rows are gone")
        try:
            return await anext(chunks, None)
        except BaseException as error:
            self.note_failure(error)
            raise

    async def _close_streams(self) -> None:
        """Let nobody read on from a connection that is about to be somebody else's."""
        while self._streams:
            chunks = self._streams.pop()
            with suppress(Exception):
                await chunks.aclose()

    def note_failure(self, error: BaseException) -> None:
        """Remember a failure after which the transaction can only be rolled back.

        A database that undoes just the failed statement lets the transaction go on. After a cancellation nobody knows
        whether the statement took place, so nothing of it may be committed.
        """
        connection = self._connection
        is_sound = connection is not None and connection.status is TransactionStatus.IN_TRANSACTION
        if not (is_sound and isinstance(error, Exception)):
            self.cause = error

    def held(self) -> EngineConnection:
        """Return the connection that is held, if statements can be sent on it."""
        if self.cause is not None:
            raise PendingRollbackError(self.cause)
        if self._connection is None:
            raise RuntimeError("no transaction is open on this bind")
        return self._connection
