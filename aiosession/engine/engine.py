"""Hold what is known of one database, and talk to it on one connection at a time.

`AsyncEngine` is driver, dialect, pool and compiled statements; `AsyncConnection` is a borrowed connection with a
transaction. They refer to each other and therefore share a file.
"""

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast, overload

from sqlalchemy import URL, Dialect, Executable, MetaData, Table
from sqlalchemy.sql.selectable import TypedReturnsRows
from typing_extensions import TypeVarTuple, override

from aiosession import aio, core, errors
from aiosession.drivers.pool import Pool
from aiosession.drivers.protocol import Capabilities, Driver
from aiosession.drivers.shown_url import shown
from aiosession.engine import ddl
from aiosession.engine.execution import AnyResult, Call, Parameters, prepare, send, send_text, stream
from aiosession.engine.explaining import Explanation, Format, Request, ask, check_can_undo
from aiosession.engine.holding import Asked, Holding
from aiosession.engine.options import checked, transaction_options
from aiosession.engine.result import Result, ScalarResult
from aiosession.engine.stack import TransactionStack
from aiosession.engine.status import EngineStatus
from aiosession.engine.streaming import AsyncResult, AsyncScalarResult
from aiosession.engine.transacting import TransactingConnection
from aiosession.engine.wire import EngineConnection, translated
from aiosession.events import StatementHooks
from aiosession.events.hooks import listeners
from aiosession.sql.cache import StatementCache
from aiosession.sql.purity import may_write
from aiosession.sql.schemas import SchemaMap, SchemaNames

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RELEASE_DEADLINE: Final = 10.0
"""Seconds that giving a connection back may take when its holder is cancelled."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine behaves: execution options, handlers of statement events, whether values may be shown."""

    options: Mapping[str, Any] = field(default_factory=dict)
    events: StatementHooks = field(default_factory=StatementHooks)
    hide_parameters: bool = False


class AsyncEngine:
    """One database; made by `create_async_engine`, shared by everything that talks to it on one event loop.

    ``events`` has hooks before and after every statement; ``statements`` holds the compiled ones.
    """

    def __init__(
        self,
        url: URL,
        driver: Driver,
        pool: Pool,
        statements: StatementCache,
        settings: EngineSettings,
    ) -> None:
        self.url: Final = url
        self.driver: Final = driver
        self.pool: Final = pool
        self.statements: Final = statements
        self.settings: Final = settings
        self.events: Final = settings.events
        schemas: SchemaMap | None = settings.options.get("schema_translate_map")
        self.schemas: Final = SchemaNames(schemas, driver.dialect) if schemas else None

    @override
    def __repr__(self) -> str:
        return f"AsyncEngine({shown(self.url)})"

    @property
    def name(self) -> str:
        """The name of the database system: ``postgresql``, ``sqlite``."""
        return self.dialect.name

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for this database and driver."""
        return self.driver.dialect

    @property
    def capabilities(self) -> Capabilities:
        """What the database and its driver can do."""
        return self.driver.capabilities

    @property
    def options(self) -> Mapping[str, Any]:
        """The execution options that hold for everything on this engine."""
        return self.settings.options

    @property
    def isolation_level(self) -> str | None:
        """The isolation level of this engine's transactions; None for the database's default."""
        return cast("str | None", self.options.get("isolation_level"))

    def connect(self) -> "AsyncConnection":
        """Return a connection: ``async with engine.connect() as connection:`` or ``await engine.connect()``."""
        return AsyncConnection(self)

    @asynccontextmanager
    async def begin(self) -> "AsyncIterator[AsyncConnection]":
        """Open a connection with a transaction that is committed at the end of the block."""
        async with AsyncConnection(self) as connection, connection.begin():
            yield connection

    async def acquire(self, note: object = "") -> EngineConnection:
        """Borrow a connection for the layers above; it has to come back through `release`."""
        try:
            connection = await self.pool.acquire(note)
        except Exception as error:
            reason = translated(error, self.driver)
            if reason is error:
                raise
            raise reason from error
        hidden = self.settings.hide_parameters
        told = listeners(self.events)
        return EngineConnection(connection, self.driver, told, hide_parameters=hidden, schemas=self.schemas)

    async def release(self, connection: EngineConnection) -> None:
        """Give back a connection, in whatever state it is."""
        lent = connection.detach()
        if lent is not None:
            await self.pool.release(lent)

    def status(self) -> EngineStatus:
        """Return a snapshot: connections open, idle and waited for, who holds them, since when, and what for.

        ``print(engine.status())`` shows it as a table. Asks nothing of the database, and waits for nothing.
        """
        return EngineStatus(shown(self.url), self.pool.status())

    def execution_options(self, **options: Any) -> "AsyncEngine":
        """Return an engine with other options (``isolation_level``, ``schema_translate_map``) and the same pool."""
        settings = replace(self.settings, options={**self.options, **checked(options)})
        statements = self.statements.for_schemas(settings.options.get("schema_translate_map"))
        return AsyncEngine(self.url, self.driver, self.pool, statements, settings)

    async def dispose(self) -> None:
        """Close the pool's connections; those in use when they come back. The engine can be used again."""
        await self.pool.dispose()
        await self.driver.dispose()


class AsyncConnection(TransactingConnection):
    """One connection of an engine: statements, a transaction that begins when it is needed, DDL.

    A plain read needs no transaction; the first statement that does begins one, which ``commit()`` or ``rollback()``
    ends. What is open when the connection is closed is rolled back.
    """

    __slots__ = ("_asked", "_options", "engine")

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self._asked = Asked()
        self.engine = engine
        """What it belongs to; with the options of the connection, once it has some of its own."""
        self._options: Mapping[str, Any] = engine.options

    # Life

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for this database and driver."""
        return self.engine.dialect

    async def start(self) -> Self:
        """Borrow the connection from the pool; what ``await engine.connect()`` does."""
        await self._start()
        return self

    async def close(self) -> None:
        """Roll back what is open and give the connection back; does nothing the second time."""
        await self._close()

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.start().__await__()

    async def __aenter__(self) -> Self:
        if self._wire is None:
            await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def get_raw_connection(self) -> object:
        """Return the connection of the wrapped library (asyncpg's, aiosqlite's)."""
        return self.wire().driver_connection

    async def execution_options(self, **options: Any) -> Self:
        """Set options for this connection: ``isolation_level``, ``read_only``, ``schema_translate_map`` ..."""
        with self._guard.enter("execution_options"):
            chosen = {**self._options, **checked(options)}
            self._open_stack().configure(transaction_options(chosen))
            self._options = chosen
            self.engine = self.engine.execution_options(**options)
            self.wire().schemas = self.engine.schemas
        return self

    # Statements

    @overload
    async def execute(
        self,
        statement: TypedReturnsRows[*Ts],
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Result[*Ts]: ...
    @overload
    async def execute(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Result[*tuple[Any, ...]]: ...
    async def execute(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> AnyResult:
        """Run a statement and return its result, all rows in memory; with a list of parameters, once for each."""
        with self._guard.enter("execute"):
            return await self._execute(statement, parameters, execution_options)

    @overload
    async def scalar(
        self,
        statement: TypedReturnsRows[T],
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> T | None: ...
    @overload
    async def scalar(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Any: ...
    async def scalar(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a statement and return the first value of its first row, None if there is no row."""
        with self._guard.enter("scalar"):
            return (await self._execute(statement, parameters, execution_options)).scalar()

    @overload
    async def scalars(
        self,
        statement: TypedReturnsRows[T],
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ScalarResult[T]: ...
    @overload
    async def scalars(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ScalarResult[Any]: ...
    async def scalars(
        self,
        statement: Executable,
        parameters: Parameters | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> ScalarResult[Any]:
        """Run a statement and return the values of its first column."""
        with self._guard.enter("scalars"):
            return (await self._execute(statement, parameters, execution_options)).scalars()

    @overload
    async def stream(
        self,
        statement: TypedReturnsRows[*Ts],
        parameters: Mapping[str, Any] | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> AsyncResult[*Ts]: ...
    @overload
    async def stream(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> AsyncResult[*tuple[Any, ...]]: ...
    async def stream(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> AsyncResult[*tuple[Any, ...]]:
        """Run a query and return its rows while they arrive, ``yield_per`` (an execution option) at a time."""
        with self._guard.enter("stream"):
            return await self._stream(statement, parameters, execution_options)

    async def stream_scalars(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        execution_options: Mapping[str, Any] | None = None,
    ) -> AsyncScalarResult[Any]:
        """Run a query and return the values of its first column while they arrive."""
        with self._guard.enter("stream_scalars"):
            return (await self._stream(statement, parameters, execution_options)).scalars()

    async def exec_driver_sql(self, sql: str, parameters: Sequence[object] = ()) -> AnyResult:
        """Run SQL as the driver takes it, with its own placeholders and positional values; once for each of a list."""
        with self._guard.enter("exec_driver_sql"):
            stack = self._open_stack()
            await stack.ready(self, pure=False)
            self._asked.what = sql
            try:
                return await send_text(self.wire(), sql, parameters)
            except BaseException as error:
                stack.note(error)
                raise

    async def explain(
        self,
        statement: Executable,
        parameters: Mapping[str, Any] | None = None,
        *,
        analyze: bool = False,
        format: Format = "text",  # noqa: A002 - the database's word
        options: Mapping[str, bool] | None = None,
    ) -> Explanation:
        """Return how the database would carry out a statement; with *analyze* it does, a write in a savepoint.

        *format* is ``"text"`` or ``"json"``, *options* are those of PostgreSQL's EXPLAIN: ``{"buffers": True}``.
        """
        with self._guard.enter("explain"):
            stack = self._open_stack()
            request = Request(analyze, format, options or {})
            call = self._prepared(statement, parameters, None)
            if call.rows is not None:
                raise errors.ArgumentError("a statement is explained with one set of parameters, a mapping")
            undone = analyze and not call.compiled.pure
            if undone:
                check_can_undo(stack.options.isolation_level)
            await stack.ready(self, pure=not undone)
            asking = partial(ask, self.wire(), self.dialect.name, request, call.sql, call.values)
            return await (stack.undoing(asking) if undone else asking())

    # Schema

    async def create_all(
        self, metadata: MetaData, tables: Sequence[Table] | None = None, *, checkfirst: bool = True
    ) -> None:
        """Create the tables of *metadata*, or only some, with their indexes, types, sequences and comments.

        Takes the place of ``run_sync(metadata.create_all)``. With *checkfirst*, what exists is left as it is.
        """
        with self._guard.enter("create_all"):
            await self._open_stack().ready(self, pure=False)
            await ddl.create_all(
                self.wire(), self.dialect, metadata, tables, checkfirst=checkfirst, schemas=self._schemas() or {}
            )

    async def drop_all(
        self, metadata: MetaData, tables: Sequence[Table] | None = None, *, checkfirst: bool = True
    ) -> None:
        """Drop the tables of *metadata*, or only some, with their types and sequences."""
        with self._guard.enter("drop_all"):
            await self._open_stack().ready(self, pure=False)
            await ddl.drop_all(
                self.wire(), self.dialect, metadata, tables, checkfirst=checkfirst, schemas=self._schemas() or {}
            )

    # Below the public surface

    async def _start(self) -> None:
        if self._was_closed:
            raise self._not_open()
        if self._wire is not None:
            raise errors.InvalidRequestError("this connection is open already")
        wire = await self.engine.acquire(Holding("a connection, opened at", self._asked))
        self._stack = TransactionStack(wire, transaction_options(self._options), self.engine)
        self._wire = wire

    async def _close(self) -> None:
        wire, self._wire, self._stack = self._wire, None, None
        self._was_closed = True
        if wire is not None:
            await aio.finish(self.engine.release(wire), deadline=RELEASE_DEADLINE)

    async def _execute(
        self, statement: Executable, parameters: Parameters | None, options: Mapping[str, Any] | None
    ) -> AnyResult:
        stack = self._open_stack()
        call = self._prepared(statement, parameters, options)
        self._asked.what = statement
        await stack.ready(self, pure=call.compiled.pure, write=may_write(statement))
        try:
            return await send(self.wire(), call)
        except BaseException as error:
            stack.note(error)
            raise

    async def _stream(
        self, statement: Executable, parameters: Mapping[str, Any] | None, options: Mapping[str, Any] | None
    ) -> AsyncResult[*tuple[Any, ...]]:
        stack = self._open_stack()
        call = self._prepared(statement, parameters, options)
        self._asked.what = statement
        await stack.ready(self, pure=False, write=may_write(statement))
        size = {**self._options, **core.statement_options(statement), **(options or {})}.get("yield_per")
        return await stream(self.wire(), call, size=size)

    def _prepared(
        self, statement: Executable, parameters: Parameters | None, options: Mapping[str, Any] | None
    ) -> Call:
        schemas = self._schemas(core.statement_options(statement), options)
        return prepare(self.engine.statements, statement, parameters, schema_translate_map=schemas)

    def _schemas(self, *more: Mapping[str, Any] | None) -> SchemaMap | None:
        """Return the translation of schema names in force."""
        found: SchemaMap | None = self._options.get("schema_translate_map")
        for options in more:
            if options:
                found = options.get("schema_translate_map", found)
        return found
