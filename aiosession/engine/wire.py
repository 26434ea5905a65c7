"""Say statements on one borrowed connection: errors translated, statements announced to handlers, nothing else."""

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final, NoReturn, TypeVar, cast

from aiosession import aio, errors
from aiosession.drivers.numbers import number_of
from aiosession.drivers.protocol import (
    Answer,
    CommitOutcome,
    CommitRefusedError,
    Driver,
    DriverConnection,
    PipelinedConnection,
    PreparedBranch,
    Reply,
    Request,
    Row,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.events import StatementEvent
from aiosession.events.hooks import Listening
from aiosession.sql.schemas import SchemaNames

_log: Final = logging.getLogger("aiosession.engine")
T = TypeVar("T")
P = TypeVar("P", bound=Sequence[object])
E = TypeVar("E", bound=BaseException)

Parameters = Sequence[object]
Chunks = AsyncGenerator[list[Row], None]

_VERB: Final = re.compile(r"(?:[\s(;]|--[^\n]*|#[^\n]*|/\*(?!M?!).*?\*/|/\*M?!\d*)*+([A-Za-z]+)", re.DOTALL)
"""The first word of a statement, after blanks, parentheses and comments; those of MariaDB that begin with ``/*!`` are
carried out."""


OTHER_LOOP: Final = (
    "take one from an engine of the loop that it is used on. Starlette's TestClient has a loop of its own: in a test "
    "use httpx.AsyncClient with ASGITransport in its place"
)


class EngineConnection:
    """A pooled connection while somebody holds it; offers the verbs of `Wire` and transactions."""

    __slots__ = ("_connection", "_driver", "_hides_parameters", "_hooks", "_loop", "other_loop", "schemas")

    def __init__(
        self,
        connection: DriverConnection | None,
        driver: Driver,
        hooks: Listening,
        *,
        hide_parameters: bool,
        schemas: SchemaNames | None = None,
    ) -> None:
        self._connection = connection
        self._driver = driver
        self._hooks = hooks
        self._hides_parameters = hide_parameters
        self.schemas = schemas
        """What puts the names of schemas into statements; None if nothing is to be put in."""
        self._loop = aio.running_loop()
        self.other_loop = OTHER_LOOP
        """What to do if it is used on another event loop."""

    @property
    def status(self) -> TransactionStatus:
        """What the driver says this connection is doing; never waits."""
        return TransactionStatus.CLOSED if self._connection is None else self._connection.status

    @property
    def is_held(self) -> bool:
        """Whether it has not been given back."""
        return self._connection is not None

    @property
    def lent(self) -> DriverConnection:
        """The driver's connection, while it is held."""
        return self._held()

    @property
    def server_version(self) -> tuple[int, ...]:
        """The version of the database."""
        return self._held().server_version

    @property
    def transaction_number(self) -> str | None:
        """The number of the transaction in progress, if it is known."""
        return None if self._connection is None else self._connection.transaction_number

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Ask what became of another connection's transaction."""
        return await self._open().outcome(transaction_number)

    @property
    def driver_connection(self) -> object:
        """The connection of the wrapped library, for what only it can do."""
        return self._held().driver_connection

    async def fetch(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        connection = self._open()
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        if self._hooks:
            return await self._observed(connection.fetch, sql, parameters)
        try:
            return await connection.fetch(sql, parameters)
        except Exception as error:
            self._fail(error, sql, parameters)

    async def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement and return the number of affected rows, -1 if unknown."""
        connection = self._open()
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        if self._hooks:
            return await self._observed(connection.execute, sql, parameters)
        try:
            return await connection.execute(sql, parameters)
        except Exception as error:
            self._fail(error, sql, parameters)

    async def execute_many(self, sql: str, rows: Sequence[Parameters]) -> int:
        """Run a statement once for each row of parameters; return the total of affected rows, -1 if unknown."""
        connection = self._open()
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        if self._hooks:
            return await self._observed(connection.execute_many, sql, rows, many=True)
        try:
            return await connection.execute_many(sql, rows)
        except Exception as error:
            self._fail(error, sql, rows)

    async def fetch_each(self, sql: str, rows: Sequence[Parameters]) -> list[list[Row]]:
        """Run a statement once for each row of parameters; return the rows of each, in the order of *rows*."""
        connection = self._open()
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        if self._hooks:
            trips = 1 if self._driver.capabilities.fetch_each else len(rows)
            return await self._observed(connection.fetch_each, sql, rows, many=True, trips=trips)
        try:
            return await connection.fetch_each(sql, rows)
        except Exception as error:
            self._fail(error, sql, rows)

    async def pipeline(self, requests: Sequence[Request], answers: list[Answer]) -> None:
        """Send *requests* at once and add what comes of each to *answers*; needs `Capabilities.pipelines`."""
        connection = cast("PipelinedConnection", self._open())
        events = [self._event(each.sql, each.parameters) for each in requests if self._hooks]
        for event in events[1:]:
            event.round_trips = 0
        for event in events:
            await self._hooks.tell_before(event)
        started = perf_counter()
        failure: BaseException | None = None
        try:
            await connection.pipeline(requests, answers)
        except GeneratorExit:
            raise
        except BaseException as error:  # a cancellation is told of too
            failure = error
        seconds = perf_counter() - started
        place = len(requests) if failure is None else min(len(answers), len(requests) - 1)
        for event, answer in zip(events[:place], answers, strict=False):
            event.row_count, event.returns_rows = _count(answer), _is_rows(answer)
            await self._report(event, seconds * event.round_trips, None)
        if failure is not None:
            await self._fail_in_pipeline(failure, requests[place], events[place : place + 1], seconds)

    async def _fail_in_pipeline(
        self, failure: BaseException, failed: Request, events: Sequence[StatementEvent], seconds: float
    ) -> NoReturn:
        """Tell of the statement that a pipeline broke off at, and raise why."""
        for event in events:
            told = self._translated(failure, failed.sql, failed.parameters)
            await self._report(event, seconds * event.round_trips, told)
        if not isinstance(failure, Exception):
            raise failure
        self._fail(failure, failed.sql, failed.parameters)

    async def run(self, sql: str, parameters: Parameters = ()) -> Reply:
        """Run one statement of which nothing is known: its column names, its rows and its count."""
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        return await self._observed(self._open().run, sql, parameters)

    async def stream(self, sql: str, parameters: Parameters = (), *, size: int) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows in chunks of at most *size*."""
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        chunks = self._open().stream(sql, parameters, size=size)
        watched = await self._watched(chunks, sql, parameters) if self._hooks else chunks
        try:
            async for chunk in watched:
                yield chunk
        except Exception as error:
            self._fail(error, sql, parameters)
        finally:
            await watched.aclose()

    async def _watched(self, chunks: Chunks, sql: str, parameters: Parameters) -> Chunks:
        """Announce a stream, and return its chunks; handlers hear of its end, wherever it is."""
        event = self._event(sql, parameters)
        event.round_trips = event.row_count = 0
        await self._hooks.tell_before(event)
        return self._told_at_the_end(chunks, event)

    async def _told_at_the_end(self, chunks: Chunks, event: StatementEvent) -> Chunks:
        waited, rows, trips = 0.0, 0, 0
        failure: BaseException | None = None
        try:
            while True:
                started = perf_counter()
                try:
                    chunk = await anext(chunks, None)
                finally:
                    waited += perf_counter() - started
                    trips += 1
                if chunk is None:
                    break
                rows += len(chunk)
                yield chunk
        except GeneratorExit:  # nobody wants the rest
            raise
        except BaseException as error:
            failure = self._translated(error, event.sql, cast("Parameters", event.parameters))
            raise
        finally:
            await chunks.aclose()
            event.row_count, event.round_trips, event.returns_rows = rows, trips, True
            await self._report(event, waited, failure)

    async def script(self, sql: str) -> None:
        """Run SQL text without parameters as it is."""
        connection = self._open()
        if self.schemas is not None:
            sql = self.schemas.put_into(sql)
        await self._observed(lambda text, _parameters: connection.script(text), sql, ())

    async def copy(self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Parameters]) -> int:
        """Insert *rows* by the database's way for very many, and return their number."""
        connection = self._open()

        def send(_sql: str, given: Sequence[Parameters]) -> Awaitable[int]:
            return connection.copy(table, schema, columns, given)

        name = table if schema is None else f"{schema}.{table}"
        return await self._observed(send, f"COPY {name} ({', '.join(columns)}) FROM STDIN", rows, many=True)

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN."""
        connection = self._open()
        await self._observed(lambda _sql, _parameters: connection.begin(options), "BEGIN", ())

    async def commit(self) -> None:
        """Send COMMIT; a database that rolls back instead is an error."""
        connection = self._open()
        await self._observed(lambda _sql, _parameters: connection.commit(), "COMMIT", ())

    async def rollback(self) -> None:
        """Leave the transaction, failed or not; nothing is sent where none is open."""
        connection = self._open()
        await self._observed(lambda _sql, _parameters: connection.rollback(), "ROLLBACK", ())

    async def savepoint(self, name: str) -> None:
        """Open a savepoint."""
        connection = self._open()
        await self._observed(lambda _sql, _parameters: connection.savepoint(name), f"SAVEPOINT {name}", ())

    async def release_savepoint(self, name: str) -> None:
        """Merge a savepoint into what surrounds it."""
        send = self._open().release_savepoint
        await self._observed(lambda _sql, _parameters: send(name), f"RELEASE SAVEPOINT {name}", ())

    async def rollback_to_savepoint(self, name: str) -> None:
        """Undo what happened since a savepoint, which stays open."""
        send = self._open().rollback_to_savepoint
        await self._observed(lambda _sql, _parameters: send(name), f"ROLLBACK TO SAVEPOINT {name}", ())

    async def can_prepare(self) -> bool:
        """Tell whether the server lets transactions be prepared."""
        try:
            return await self._open().can_prepare()
        except Exception as error:
            self._fail(error, "", ())

    async def prepare(self, branch: str) -> None:
        """End the first phase: keep the transaction in progress under the name *branch*, whatever happens."""
        connection = self._open()
        text = f"PREPARE TRANSACTION '{branch}'"
        await self._observed(lambda _sql, _parameters: connection.prepare(branch), text, ())

    async def commit_prepared(self, branch: str) -> bool:
        """Commit a prepared transaction; False if there is none of this name."""
        connection = self._open()
        text = f"COMMIT PREPARED '{branch}'"
        return await self._observed(lambda _sql, _parameters: connection.commit_prepared(branch), text, ())

    async def rollback_prepared(self, branch: str) -> bool:
        """Roll a prepared transaction back; False if there is none of this name."""
        connection = self._open()
        text = f"ROLLBACK PREPARED '{branch}'"
        return await self._observed(lambda _sql, _parameters: connection.rollback_prepared(branch), text, ())

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Return the prepared transactions of this database, of all users, whose names begin with *prefix*."""
        try:
            return await self._open().prepared(prefix)
        except Exception as error:
            self._fail(error, "", ())

    def terminate(self) -> None:
        """Drop the connection at once; never waits, never raises."""
        if self._connection is not None:
            self._connection.terminate()

    def detach(self) -> DriverConnection | None:
        """Return the driver's connection and forget it: from now on every use is refused."""
        connection, self._connection = self._connection, None
        return connection

    def take_over(self, other: "EngineConnection") -> None:
        """Go on with the connection that *other* has, which is left without one."""
        self._driver, self._hooks = other._driver, other._hooks  # noqa: SLF001 - one of us
        self._hides_parameters = other._hides_parameters  # noqa: SLF001 - as above
        self._loop, self.other_loop = other._loop, other.other_loop  # noqa: SLF001 - as above
        self._connection = other.detach()

    def check_loop(self) -> None:
        """Raise `WrongEventLoopError` if it is used on another event loop than the one it was taken on."""
        if aio.running_loop() is not self._loop:
            raise errors.WrongEventLoopError("this connection belongs", self.other_loop)

    def _open(self) -> DriverConnection:
        """Return the driver's connection, to send something on it."""
        self.check_loop()
        return self._held()

    def _held(self) -> DriverConnection:
        if self._connection is None:
            raise errors.ResourceClosedError("this connection was given back to its pool; acquire one again")
        return self._connection

    async def _observed(
        self,
        send: Callable[[str, P], Awaitable[T]],
        sql: str,
        parameters: P,
        *,
        many: bool = False,
        trips: int = 1,
    ) -> T:
        """Run one verb; handlers, if there are any, hear of it before and after."""
        if not self._hooks:
            try:
                return await send(sql, parameters)
            except Exception as error:
                self._fail(error, sql, parameters)
        event = self._event(sql, parameters, many=many)
        event.round_trips = trips
        await self._hooks.tell_before(event)
        started = perf_counter()
        try:
            result = await send(sql, parameters)
        except Exception as error:
            await self._report(event, perf_counter() - started, self._translated(error, sql, parameters))
            self._fail(error, sql, parameters)
        except GeneratorExit:
            raise
        except BaseException as error:  # a cancellation
            await self._report(event, perf_counter() - started, error)
            raise
        event.row_count, event.returns_rows = _count(result), _is_rows(result)
        await self._report(event, perf_counter() - started, None)
        return result

    def _event(self, sql: str, parameters: object, *, many: bool = False) -> StatementEvent:
        return StatementEvent(sql, parameters, verb(sql), many, connection=number_of(self._held()))

    async def _report(self, event: StatementEvent, seconds: float, error: BaseException | None) -> None:
        if self._hooks:
            event.duration = seconds
            event.error = error
            try:
                await self._hooks.tell_after(event)
            except Exception:
                # What was done stays done: a COMMIT or a failure must not be reported as something else.
                _log.exception("a handler failed after the statement %s", event.sql)

    def _fail(self, error: Exception, sql: str, parameters: Sequence[object]) -> NoReturn:
        """Raise our class for a driver's *error*; errors of other origin as they are."""
        translated = self._translated(error, sql, parameters)
        if translated is error:
            raise error
        raise translated from error

    def _translated(self, error: E, sql: str, parameters: Sequence[object]) -> E | Exception:
        return (
            error
            if not isinstance(error, Exception)
            else translated(error, self._driver, sql, parameters, hide_parameters=self._hides_parameters)
        )


def translated(
    error: Exception,
    driver: Driver,
    sql: str | None = None,
    parameters: Sequence[object] | None = None,
    *,
    hide_parameters: bool = False,
) -> Exception:
    """Return our error for one that *driver* raised; errors of other origin as they are."""
    if isinstance(error, errors.AioSessionError):
        return error
    kind = errors.InternalError if isinstance(error, CommitRefusedError) else driver.translate(error)
    return error if kind is None else kind(sql, parameters, error, hide_parameters=hide_parameters)


def verb(sql: str) -> str:
    """Return the verb of a statement in capitals; empty if there is none."""
    found = _VERB.match(sql)
    return found[1].upper() if found else ""


def _count(result: object) -> int | None:
    """Return how many rows the result of a verb stands for."""
    if isinstance(result, int) and not isinstance(result, bool):
        return result if result >= 0 else None
    if isinstance(result, Reply):
        return len(result.rows) if result.columns is not None else result.count
    if not isinstance(result, list):
        return None
    return len(result)


def _is_rows(result: object) -> bool:
    """Say whether the result of a verb is made of rows."""
    return isinstance(result, list) or (isinstance(result, Reply) and result.columns is not None)
