"""What is a driver? The words in which everything above it talks to a database.

A driver is a small object made from a URL: it knows its dialect and its capabilities, opens connections, and translates
the errors of the library it wraps. A connection speaks the verbs of `Wire` plus transactions. Parameters are
positional and already in the driver's own types; rows are positional too. Nothing here waits or knows an event loop.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Protocol, TypeAlias

from sqlalchemy import URL, Dialect

from aiosession.errors import DatabaseError

Row: TypeAlias = Sequence[object]
"""One row as the driver made it: read by position only."""


class TransactionStatus(Enum):
    """What a connection is doing, as reported by the driver itself."""

    IDLE = "idle"
    """Outside a transaction, nothing running: may go back to a pool."""
    ACTIVE = "active"
    """A statement is running, or was interrupted and nobody has waited for its end."""
    IN_TRANSACTION = "in transaction"
    FAILED = "failed transaction"
    """In a transaction that can only be rolled back (to a savepoint)."""
    CLOSED = "closed"


class CommitOutcome(Enum):
    """What became of a transaction, as the database tells others later."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    IN_PROGRESS = "in progress"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a database and its driver can do; asked instead of asking for names and versions."""

    returning: bool
    """INSERT, UPDATE and DELETE take RETURNING."""
    arrays: bool
    """An array is one parameter: ``unnest($1)``, ``= ANY($1)``."""
    fetch_each: bool
    """`Wire.fetch_each` costs one round trip (or thread hop), not one per row."""
    two_phase: bool
    """Transactions can be prepared, unless a server forbids it: see `DriverConnection.can_prepare`."""
    server_side_cancel: bool
    """A cancelled statement stops in the server and the connection stays usable."""
    row_locks: bool
    """SELECT ... FOR UPDATE."""
    single_writer: bool
    """One transaction at a time may write, so that BEGIN should say whether it will."""
    concurrent_reads: bool
    """Others can read while a transaction writes."""
    counts_many: bool
    """`Wire.execute_many` knows the total of affected rows."""
    copies: bool
    """`DriverConnection.copy` streams rows into a table."""
    combines_writes: bool
    """Writes of several tables can be members of one WITH clause, which is carried out as a whole or not at all."""
    max_parameters: int
    """The most parameters that one statement may have."""
    returning_sees_triggers: bool = True
    """RETURNING shows what triggers made of a row."""
    pipelines: bool = False
    """Several statements are one round trip: connections are `PipelinedConnection`."""
    update_returning: bool = True
    """UPDATE takes RETURNING too, where `returning` is true."""
    transactional_ddl: bool = True
    """CREATE, ALTER and DROP are part of a transaction; otherwise they commit the one that is open."""
    names_branches_early: bool = False
    """A transaction that is to be prepared gets its name when it begins: `TransactionOptions.branch`."""
    keeps_session: bool = True
    """A connection is one session of the server for all its life; not so behind a pooler."""


@dataclass(frozen=True, slots=True)
class TransactionOptions:
    """How a transaction begins."""

    isolation_level: str | None = None
    """None leaves the database's default."""
    read_only: bool = False
    deferrable: bool = False
    write: bool = True
    """It begins with a write: a database of one writer takes its lock now rather than fail later."""
    branch: str | None = None
    """The name under which it is going to be prepared; matters where `Capabilities.names_branches_early`."""
    follows_deadlines: bool = False
    """The layers above set `statement_timeout` from the deadline of whoever begins it."""
    statement_timeout: float | None = None
    """Seconds after which the server ends a statement of it; costs no round trip and outlives it nowhere. A driver of a
    database that cannot do that leaves it alone."""


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What an engine hands to a driver besides the URL."""

    connect_args: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    """Passed on to the library that the driver wraps."""
    json_serializer: Callable[[object], str] | None = None
    json_deserializer: Callable[[str], object] | None = None
    track_commits: bool = True
    """Learn the number of each transaction that begins with a write, where that costs no round trip."""
    read_only: bool = False
    """Open connections on which the database refuses whatever would write, outside of transactions too."""
    pooled: bool = False
    """There is a pooler in between, which lends connections of the server for one transaction at a time."""


@dataclass(frozen=True, slots=True)
class PreparedBranch:
    """A prepared transaction that waits for COMMIT PREPARED or ROLLBACK PREPARED."""

    name: str
    age: timedelta | None
    """How long ago it was prepared, by the clock of the database; None where that does not tell."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Everything a database says about one statement; for SQL text of which nothing is known beforehand."""

    columns: tuple[str, ...] | None
    """The names of the columns, also when there are no rows; None for a statement that cannot return any."""
    rows: list[Row]
    count: int
    """The number of affected rows, -1 if unknown."""


@dataclass(frozen=True, slots=True)
class Request:
    """One of several statements that are sent together."""

    sql: str
    parameters: Sequence[object]
    fetches: bool
    """Whether its rows are wanted; else their number."""


Answer: TypeAlias = list[Row] | int
"""What comes of a `Request`: the rows, or the number of affected rows, -1 if unknown."""


class Wire(Protocol):
    """The verbs: whatever can run a statement offers these."""

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run one statement and return the number of affected rows, -1 if unknown."""
        ...

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Run a statement once for each row of parameters; return the total of affected rows, -1 if unknown."""
        ...

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Run a statement once for each row of parameters; return the rows of each, in the order of *rows*."""
        ...

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement of which nothing is known: its column names, its rows and its count."""
        ...


class DriverConnection(Wire, Protocol):
    """One connection to a database; used by one task at a time."""

    @property
    def status(self) -> TransactionStatus:
        """What the driver says this connection is doing; never waits."""
        ...

    @property
    def server_version(self) -> tuple[int, ...]:
        """The version of the database, known since the connection was made."""
        ...

    @property
    def driver_connection(self) -> object:
        """The connection of the wrapped library."""
        ...

    @property
    def transaction_number(self) -> str | None:
        """The number of the transaction in progress, by which others can ask for its `outcome`; None if unknown."""
        ...

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Ask what became of another connection's transaction."""
        ...

    def stream(self, sql: str, parameters: Sequence[object] = (), *, size: int) -> AsyncGenerator[list[Row], None]:
        """Run a statement and yield its rows in chunks of at most *size*; close the generator when done early.

        Needs an open transaction where the database's cursors do.
        """
        ...

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Insert *rows* by the database's way for very many, and return their number; see `Capabilities.copies`."""
        ...

    async def script(self, sql: str) -> None:
        """Run SQL text without parameters as it is: DDL, or several statements at once."""
        ...

    async def begin(self, options: TransactionOptions) -> None:
        """Send BEGIN."""
        ...

    async def commit(self) -> None:
        """Send COMMIT; a database that rolls back instead is an error."""
        ...

    async def rollback(self) -> None:
        """Leave the transaction, failed or not; nothing is sent where none is open."""
        ...

    async def savepoint(self, name: str) -> None:
        """Open a savepoint; *name* is an identifier, never a user's text."""
        ...

    async def release_savepoint(self, name: str) -> None:
        """Merge a savepoint into what surrounds it."""
        ...

    async def rollback_to_savepoint(self, name: str) -> None:
        """Undo what happened since a savepoint, which stays open."""
        ...

    async def can_prepare(self) -> bool:
        """Tell whether the server lets transactions be prepared; costs a query at most once per driver."""
        ...

    async def prepare(self, branch: str) -> None:
        """End the first phase: keep the transaction in progress under the name *branch*, whatever happens.

        The connection is done with it afterwards. A database that rolls back instead is an error.
        """
        ...

    async def commit_prepared(self, branch: str) -> bool:
        """Commit a prepared transaction, from this or another connection; False if there is none of this name."""
        ...

    async def rollback_prepared(self, branch: str) -> bool:
        """Roll a prepared transaction back, from this or another connection; False if there is none of this name."""
        ...

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Return the prepared transactions of this database, of all users, whose names begin with *prefix*."""
        ...

    async def ping(self) -> None:
        """Ask the database for a sign of life; raise if there is none."""
        ...

    async def reset(self) -> None:
        """Bring a connection that is not clean back to idle: wait for a cancelled statement, roll back."""
        ...

    async def close(self) -> None:
        """Say goodbye and close; may wait for the database."""
        ...

    def terminate(self) -> None:
        """Drop the connection at once; never waits, never raises."""
        ...


class PipelinedConnection(DriverConnection, Protocol):
    """A connection that does not wait for the answer to one statement before it sends the next one."""

    async def pipeline(self, requests: Sequence[Request], answers: list[Answer]) -> None:
        """Send *requests* at once and add what comes of each to *answers*, in their order.

        The first failure is raised; *answers* then has what came before it, and nothing after it was done.
        """
        ...


class Driver(Protocol):
    """A way to reach one database."""

    @property
    def name(self) -> str:
        """The name in URLs, ``postgresql+asyncpg`` for one."""
        ...

    @property
    def dialect(self) -> Dialect:
        """Core's dialect, ready to compile without a connection."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this database can do."""
        ...

    async def connect(self) -> DriverConnection:
        """Open a connection."""
        ...

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for the wrapped library's *error*; None for errors of other origin."""
        ...

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection is gone."""
        ...

    async def dispose(self) -> None:
        """Let go of what lives beside the connections; the driver can be used again."""
        ...


class DriverFactory(Protocol):
    """The class of a driver, as entry points name it."""

    def __call__(self, url: URL, options: DriverOptions) -> Driver:
        """Make a driver; checks its arguments and does no I/O."""
        ...


class CommitRefusedError(Exception):
    """COMMIT was answered by a rollback: the transaction had failed, or was gone, before."""

    def __init__(self, answer: str) -> None:
        super().__init__(
            f"the database answered COMMIT with {answer}: a statement of this transaction had failed before, and "
            f"everything in it was rolled back"
        )
        self.answer = answer


class TransactionLostError(Exception):
    """The database has rolled a transaction back by itself; nothing may run on as if it were still open."""

    def __init__(self) -> None:
        super().__init__(
            "the database rolled this transaction back after an earlier failure; roll back before going on"
        )
