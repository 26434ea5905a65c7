"""A driver without a database: it records every call, answers what it is told to, and fails when it is told to.

Its coroutines never suspend (unless a call is told to hang), so that everything above it can be driven without an event
loop. URLs: ``postgresql+scripted://`` and ``sqlite+scripted://``, which differ in their dialects.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import URL, Dialect

from aiosession.drivers.aiosqlite import AiosqliteDriver
from aiosession.drivers.asyncmy import AsyncmyDriver
from aiosession.drivers.asyncpg import AsyncpgDriver
from aiosession.drivers.protocol import (
    Capabilities,
    CommitOutcome,
    CommitRefusedError,
    DriverFactory,
    DriverOptions,
    PreparedBranch,
    Reply,
    Row,
    TransactionLostError,
    TransactionOptions,
    TransactionStatus,
)
from aiosession.errors import ArgumentError, DatabaseError, DisconnectError, InternalError

_LIKE: Final[dict[str, tuple[DriverFactory, str]]] = {
    "postgresql": (AsyncpgDriver, "postgresql+asyncpg"),
    "mariadb": (AsyncmyDriver, "mariadb+asyncmy"),
    "mysql": (AsyncmyDriver, "mysql+asyncmy"),
    "sqlite": (AiosqliteDriver, "sqlite+aiosqlite"),
}


@dataclass(frozen=True, slots=True)
class DriverCall:
    """A call that reached the driver."""

    connection: int
    """Which connection: 1 is the first that was opened."""
    verb: str
    """The method: connect, fetch, execute, execute_many, fetch_each, run, stream, script, begin, commit, ..."""
    sql: str = ""
    parameters: Sequence[object] = ()


Answer: TypeAlias = Sequence[Row] | Sequence[Sequence[Row]] | int | Reply | BaseException | None
"""What a call gets: rows, rows for each row of parameters, a count, a reply, an error; None for nothing special."""
Plan: TypeAlias = Callable[[DriverCall], Answer]


class ScriptedDriver:
    """A driver whose database is a script."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        backend = url.get_backend_name()
        if backend not in _LIKE:
            raise ArgumentError(f"the scripted driver has the dialects {', '.join(_LIKE)}, not {backend!r}")
        factory, name = _LIKE[backend]
        like = factory(
            URL.create(name),
            DriverOptions(json_serializer=options.json_serializer, json_deserializer=options.json_deserializer),
        )
        self._name = f"{backend}+scripted"
        self._dialect = like.dialect
        self._capabilities = like.capabilities
        self._answers: deque[Answer] = deque()
        self._troubles: dict[int, BaseException | None] = {}
        self._connections = 0
        self.branches: dict[str, PreparedBranch] = {}
        """What is prepared, by name."""
        self.plan: Plan | None = None
        """Asked for an answer when no scripted one is left."""
        self.calls: list[DriverCall] = []
        """Every call, in order."""

    @property
    def name(self) -> str:
        """The name in URLs."""
        return self._name

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database that this one stands in for."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the database that this one stands in for."""
        return self._capabilities

    @property
    def verbs(self) -> list[str]:
        """The methods that were called, in order."""
        return [call.verb for call in self.calls]

    def answer(self, *answers: Answer) -> None:
        """Answer the next statements with these, one each; transaction control takes none."""
        self._answers.extend(answers)

    def fail_at(self, number: int, error: BaseException) -> None:
        """Raise *error* in call *number*, counted from 1 and from the first call ever."""
        self._troubles[number] = error

    def drop_at(self, number: int) -> None:
        """Lose the connection in call *number*."""
        self._troubles[number] = ConnectionResetError("the script dropped the line")

    def hang_at(self, number: int) -> None:
        """Never answer call *number*; needs an event loop to wait in."""
        self._troubles[number] = None

    async def connect(self) -> "ScriptedConnection":
        """Open a connection."""
        self._connections += 1
        connection = ScriptedConnection(self, self._connections)
        await self.record(DriverCall(self._connections, "connect"))
        return connection

    async def record(self, call: DriverCall) -> None:
        """Note a call; be the trouble that the script wants at this place."""
        self.calls.append(call)
        number = len(self.calls)
        if number not in self._troubles:
            return
        trouble = self._troubles[number]
        if trouble is None:
            await asyncio.get_running_loop().create_future()
        else:
            raise trouble

    def next_answer(self, call: DriverCall) -> Answer:
        """Return what the script has for *call*; raise it if it is an error."""
        answer: Answer = None
        if self._answers:
            answer = self._answers.popleft()
        elif self.plan is not None:
            answer = self.plan(call)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class for the errors that come from here; the script can raise ours directly."""
        if isinstance(error, CommitRefusedError | TransactionLostError):
            return InternalError
        return DisconnectError if self.is_disconnect(error) else None

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* is a lost connection."""
        return isinstance(error, ConnectionError)

    async def dispose(self) -> None:
        """Nothing lives beside the connections."""


class ScriptedConnection:
    """A connection to nowhere; keeps its transaction status as a database would."""

    def __init__(self, driver: ScriptedDriver, number: int) -> None:
        self._driver = driver
        self._number = number
        self._status = TransactionStatus.IDLE

    @property
    def status(self) -> TransactionStatus:
        """What the calls so far have led to."""
        return self._status

    @property
    def transaction_number(self) -> str | None:
        """Transactions have no numbers here."""
        return None

    async def outcome(self, transaction_number: str) -> CommitOutcome:
        """Nobody can tell."""
        return CommitOutcome.UNKNOWN

    @property
    def server_version(self) -> tuple[int, ...]:
        """The version that the dialect reckons with."""
        return tuple(int(part) for part in self._driver.dialect.server_version_info or ())

    @property
    def driver_connection(self) -> object:
        """There is no other connection below."""
        return self

    async def _call(self, verb: str, sql: str = "", parameters: Sequence[object] = ()) -> DriverCall:
        call = DriverCall(self._number, verb, sql, parameters)
        before, self._status = self._status, TransactionStatus.ACTIVE
        try:
            await self._driver.record(call)
        except Exception as error:
            self._status = _after(error, before)
            raise
        self._status = before
        return call

    async def _answer(self, verb: str, sql: str, parameters: Sequence[object]) -> Answer:
        call = await self._call(verb, sql, parameters)
        try:
            return self._driver.next_answer(call)
        except Exception as error:
            self._status = _after(error, self._status)
            raise

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Answer with the script's rows; none by default."""
        return _rows(await self._answer("fetch", sql, parameters))

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Answer with the script's count; 1 by default."""
        answer = await self._answer("execute", sql, parameters)
        return answer if isinstance(answer, int) else 1

    async def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> int:
        """Answer with the script's count; by default as many as there are *rows*."""
        answer = await self._answer("execute_many", sql, rows)
        return answer if isinstance(answer, int) else len(rows)

    async def copy(
        self, table: str, schema: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> int:
        """Answer with the script's count; by default as many as there are *rows*."""
        answer = await self._answer("copy", table, rows)
        return answer if isinstance(answer, int) else len(rows)

    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        """Answer with the script's rows for each of *rows*; none by default."""
        answer = await self._answer("fetch_each", sql, rows)
        return [list(each) for each in answer] if isinstance(answer, Sequence) else [[] for _ in rows]  # type: ignore[arg-type]  # an answer fits its call or the test is wrong

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Answer with the script's reply; one without columns by default."""
        answer = await self._answer("run", sql, parameters)
        return answer if isinstance(answer, Reply) else Reply(None, [], 1)

    async def stream(
        self, sql: str, parameters: Sequence[object] = (), *, size: int
    ) -> AsyncGenerator[list[Row], None]:
        """Answer with the script's rows, in chunks."""
        rows = _rows(await self._answer("stream", sql, parameters))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    async def script(self, sql: str) -> None:
        """Note the text."""
        await self._call("script", sql)

    async def begin(self, options: TransactionOptions) -> None:
        """Be in a transaction."""
        await self._call("begin", "", (options,))
        self._status = TransactionStatus.IN_TRANSACTION

    async def commit(self) -> None:
        """Leave the transaction; a failed one is refused as a database would."""
        failed = self._status is not TransactionStatus.IN_TRANSACTION
        await self._call("commit")
        self._status = TransactionStatus.IDLE
        if failed:
            raise CommitRefusedError("ROLLBACK")

    async def rollback(self) -> None:
        """Leave the transaction, if there is one."""
        if self._status is not TransactionStatus.IDLE:
            await self._call("rollback")
        self._status = TransactionStatus.IDLE

    async def savepoint(self, name: str) -> None:
        """Note a savepoint."""
        await self._call("savepoint", name)

    async def release_savepoint(self, name: str) -> None:
        """Note the end of a savepoint."""
        await self._call("release_savepoint", name)

    async def rollback_to_savepoint(self, name: str) -> None:
        """Be in a working transaction again."""
        await self._call("rollback_to_savepoint", name)
        self._status = TransactionStatus.IN_TRANSACTION

    async def can_prepare(self) -> bool:
        """Prepare transactions if the database that is stood in for does."""
        return self._driver.capabilities.two_phase

    async def prepare(self, branch: str) -> None:
        """Leave the transaction, which goes on under a name; a failed one is refused as a database would."""
        failed = self._status is not TransactionStatus.IN_TRANSACTION
        await self._call("prepare", branch)
        self._status = TransactionStatus.IDLE
        if failed:
            raise CommitRefusedError("ROLLBACK")
        self._driver.branches[branch] = PreparedBranch(branch, None)

    async def commit_prepared(self, branch: str) -> bool:
        """Forget a prepared transaction."""
        await self._call("commit_prepared", branch)
        return self._driver.branches.pop(branch, None) is not None

    async def rollback_prepared(self, branch: str) -> bool:
        """Forget a prepared transaction."""
        await self._call("rollback_prepared", branch)
        return self._driver.branches.pop(branch, None) is not None

    async def prepared(self, prefix: str) -> list[PreparedBranch]:
        """Return what is prepared."""
        await self._call("prepared", prefix)
        return [branch for name, branch in self._driver.branches.items() if name.startswith(prefix)]

    async def ping(self) -> None:
        """Note that somebody asked."""
        await self._call("ping")

    async def reset(self) -> None:
        """Be idle again."""
        await self._call("reset")
        self._status = TransactionStatus.IDLE

    async def close(self) -> None:
        """Be closed."""
        await self._call("close")
        self._status = TransactionStatus.CLOSED

    def terminate(self) -> None:
        """Be closed at once."""
        self._status = TransactionStatus.CLOSED


def _rows(answer: Answer) -> list[Row]:
    return list(answer) if isinstance(answer, Sequence) else []


def _after(error: Exception, before: TransactionStatus) -> TransactionStatus:
    """Return the status of a connection after *error*."""
    if isinstance(error, ConnectionError):
        return TransactionStatus.CLOSED
    return before if before is TransactionStatus.IDLE else TransactionStatus.FAILED
