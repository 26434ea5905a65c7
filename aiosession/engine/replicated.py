"""One database in several copies: an engine on the primary that knows replicas, and where a session reads.

`ReplicatedEngine` is its primary for everything but the reads of sessions. A `Reader` is an engine too: what one
session borrows connections of for reading, from a replica that can be reached and knows enough, or else the primary.
"""

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, Unpack

from sqlalchemy import URL
from typing_extensions import override

from aiosession import aio
from aiosession.drivers.protocol import DriverConnection, Reply, Row, TransactionOptions
from aiosession.engine.create import EngineOptions, create_async_engine
from aiosession.engine.engine import AsyncEngine, EngineSettings
from aiosession.engine.options import checked
from aiosession.engine.replica import NEVER, NOWHERE, Replica, is_unreachable, position_of_primary
from aiosession.engine.status import EngineStatus
from aiosession.engine.wire import EngineConnection
from aiosession.errors import ArgumentError, DisconnectError, SerializationError

T = TypeVar("T")
Choose = Callable[[Sequence[AsyncEngine]], AsyncEngine]

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
_ASK_AGAIN: Final = 0.25
"""Seconds after which a replica that was not far enough is asked again by those that do not wait for it any more."""


@dataclass(frozen=True, slots=True)
class Replication:
    """The copies of a database, shared by all engines on it that differ in their options only."""

    name: str
    """By which the database is known in tokens of freshness."""
    replicas: tuple[Replica, ...]
    choose: Choose
    max_wait: float


@dataclass(slots=True)
class Need:
    """How far a replica has to be for one session to read from it."""

    position: float = NOWHERE
    has_written: bool = False
    """Whether the session has written since the position was asked for: it has to see that, wherever it reads."""
    deadline: float | None = None
    """Until when replicas are waited for; None before the first read."""

    def require(self, position: float) -> None:
        """Let replicas be as far as *position*, at least."""
        if position > self.position:
            self.position = position
            self.deadline = None


class ReplicatedEngine(AsyncEngine):
    """A primary with read replicas, made by `create_replicated_engine`.

    Sessions on it send plain reads to a replica as long as they have written nothing in their transaction. For
    everybody else it is an engine on the primary; ``replicas`` are engines too, on which nothing can be written.
    """

    def __init__(self, primary: AsyncEngine, replication: Replication, settings: EngineSettings | None = None) -> None:
        chosen = primary.settings if settings is None else settings
        statements = primary.statements.for_schemas(chosen.options.get("schema_translate_map"))
        super().__init__(primary.url, primary.driver, primary.pool, statements, chosen)
        self.replication: Final = replication

    @property
    def replicas(self) -> tuple[AsyncEngine, ...]:
        """The engines on the replicas."""
        return tuple(replica.engine for replica in self.replication.replicas)

    @override
    def status(self) -> EngineStatus:
        return replace(super().status(), replicas=tuple(each.status() for each in self.replication.replicas))

    def retry_now(self) -> None:
        """Let replicas that could not be reached be tried again by the next reads."""
        for replica in self.replication.replicas:
            replica.retry_now()

    @override
    def execution_options(self, **options: Any) -> "ReplicatedEngine":
        settings = replace(self.settings, options={**self.options, **checked(options)})
        return ReplicatedEngine(self, self.replication, settings)

    @override
    async def dispose(self) -> None:
        await super().dispose()
        for replica in self.replication.replicas:
            await replica.engine.dispose()

    async def update(self, need: Need) -> None:
        """Have the writes that a session has committed become part of what it needs to see."""
        if need.has_written:
            need.require(await position_of_primary(self))
            need.has_written = False


class Reader(AsyncEngine):
    """Where one session reads: lends connections of a replica that has what the session needs, or of the primary."""

    def __init__(self, engine: ReplicatedEngine, need: Need) -> None:
        super().__init__(engine.url, engine.driver, engine.pool, engine.statements, engine.settings)
        self._engine: Final = engine
        self._replication: Final = engine.replication
        self._need: Final = need

    @override
    async def acquire(self, note: object = "") -> EngineConnection:
        await self._engine.update(self._need)
        lent = ReadingConnection(self, note)
        await lent.find()
        return lent

    @override
    async def release(self, connection: EngineConnection) -> None:
        if isinstance(connection, ReadingConnection):
            await connection.give_back()
        else:
            await super().release(connection)

    async def lend(self, note: object, tried: set[Replica]) -> tuple[Replica | None, EngineConnection]:
        """Return a connection of a replica not yet *tried*, and whose it is; None stands for the primary."""
        while (replica := await self._pick(tried)) is not None:
            tried.add(replica)
            replica.claim()
            try:
                connection = await self._borrow(replica, note)
            except Exception as error:
                if not is_unreachable(error):
                    raise
                replica.failed(error)
            else:
                if connection is not None:
                    return replica, connection
        return None, await super().acquire(note)

    async def _borrow(self, replica: Replica, note: object) -> EngineConnection | None:
        """Return a connection of *replica*; None if it turns out that it is not far enough."""
        connection = await replica.engine.acquire(note)
        needed = self._need.position
        if needed == NOWHERE or replica.knows(connection):
            return connection
        # The server may have been restarted since it said how far it was, and not be there again.
        is_enough = False
        try:
            await replica.ask_on(connection)
            is_enough = replica.position >= needed
        finally:
            if not is_enough:
                await replica.engine.release(connection)
        return connection if is_enough else None

    async def _pick(self, tried: set[Replica]) -> Replica | None:
        need = self._need
        candidates = [each for each in self._replication.replicas if each not in tried and each.is_up]
        if not candidates or need.position == NEVER:
            return None
        if need.position == NOWHERE:
            return self._chosen(candidates)
        if need.deadline is None:
            need.deadline = time.monotonic() + self._replication.max_wait
        return await self._far_enough(candidates, need.position, need.deadline)

    async def _far_enough(self, candidates: list[Replica], position: float, deadline: float) -> Replica | None:
        """Return a replica that has reached *position*; None if none has when the time is over."""
        pause = _FIRST_PAUSE
        while candidates:
            known = [each for each in candidates if each.position >= position]
            if known:
                return self._chosen(known)
            now = time.monotonic()
            for each in candidates:
                if now < deadline or now - each.asked_at > _ASK_AGAIN:
                    await each.ask()
            if any(each.position >= position for each in candidates):
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            await aio.pause(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
            candidates = [each for each in candidates if each.is_up]
        return None

    def _chosen(self, candidates: Sequence[Replica]) -> Replica:
        engines = [each.engine for each in candidates]
        chosen = self._replication.choose(engines)
        for each in candidates:
            if each.engine is chosen:
                return each
        raise ArgumentError(f"choose has to return one of the replicas that it is given, {engines!r}; got {chosen!r}")


class ReadingConnection(EngineConnection):
    """A connection for reading; if it turns out to be dead when first used, another one takes its place."""

    __slots__ = ("_is_proven", "_note", "_reader", "_replica", "_tried")

    def __init__(self, reader: Reader, note: object) -> None:
        hidden = reader.settings.hide_parameters
        super().__init__(None, reader.driver, reader.events, hide_parameters=hidden, schemas=reader.schemas)
        self._reader: Final = reader
        self._note: Final = note
        self._tried: Final[set[Replica]] = set()
        self._replica: Replica | None = None
        self._is_proven = False

    async def find(self) -> None:
        """Take a connection where there is one."""
        replica, lent = await self._reader.lend(self._note, self._tried)
        self._replica = replica
        self.take_over(lent)

    async def give_back(self) -> None:
        """Give the connection back to the pool that it is from."""
        pool = self._reader.pool if self._replica is None else self._replica.engine.pool
        lent: DriverConnection | None = self.detach()
        if lent is not None:
            await pool.release(lent)

    async def _surviving(self, send: Callable[[], Awaitable[T]]) -> T:
        """Send the first thing on this connection: on another one if it is dead, at last on the primary's."""
        while not self._is_proven:
            try:
                result = await send()
            except (DisconnectError, SerializationError) as error:
                # What is sent first is a BEGIN, or a read of its own, which conflicts with nothing but the standby's
                # keeping up with its primary.
                replica = self._replica
                if replica is None:
                    raise
                if isinstance(error, DisconnectError):
                    replica.failed(error)
                await self.give_back()
                await self.find()
            else:
                self._is_proven = True
                if self._replica is not None:
                    self._replica.succeeded()
                return result
        return await send()

    @override
    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        return await self._surviving(lambda: EngineConnection.fetch(self, sql, parameters))

    @override
    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return await self._surviving(lambda: EngineConnection.execute(self, sql, parameters))

    @override
    async def fetch_each(self, sql: str, rows: Sequence[Sequence[object]]) -> list[list[Row]]:
        return await self._surviving(lambda: EngineConnection.fetch_each(self, sql, rows))

    @override
    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        return await self._surviving(lambda: EngineConnection.run(self, sql, parameters))

    @override
    async def begin(self, options: TransactionOptions) -> None:
        await self._surviving(lambda: EngineConnection.begin(self, options))


def create_replicated_engine(
    url: str | URL,
    *,
    replicas: Sequence[str | URL],
    choose: Choose = random.choice,
    max_wait: float = 0.1,
    retry_after: float = 1.0,
    name: str | None = None,
    **options: Unpack[EngineOptions],
) -> ReplicatedEngine:
    """Return an engine for the primary at *url*, whose sessions read from the *replicas* at these URLs.

    The other options are those of `create_async_engine`, for the primary and for each replica. Connections to replicas
    are opened read-only, so that nothing can be written there even if a replica is none.

    Args:
        url: Of the primary.
        replicas: URLs of its copies; there may be none.
        choose: Picks one of the replicas' engines that can be used, for each read or read-only transaction.
        max_wait: Seconds that a session waits for a replica to have what it needs to see, before it reads from the
            primary.
        retry_after: Seconds for which a replica that could not be reached is left alone; twice as long each time.
        name: Of the database in tokens of freshness; host, port and name of the primary unless given. Processes that
            reach one primary by different names and hand each other tokens say here what it is called.
        **options: See `create_async_engine`.

    """
    _check(choose, name, max_wait=max_wait, retry_after=retry_after)
    if isinstance(replicas, str | URL) or not isinstance(replicas, Sequence):
        raise ArgumentError(f"replicas is a list of URLs, not {type(replicas).__name__}")
    primary = create_async_engine(url, **options)
    copies = [_replica(primary, each, options, retry_after) for each in replicas]
    at = primary.url
    default = f"{at.host}:{at.port or ''}/{at.database}" if at.host else f"{at.database}"
    return ReplicatedEngine(primary, Replication(name or default, tuple(copies), choose, max_wait))


def _replica(primary: AsyncEngine, url: object, options: EngineOptions, retry_after: float) -> Replica:
    if not isinstance(url, str | URL):
        raise ArgumentError(f"replicas are given by their URLs, not as {type(url).__name__}")
    chosen = options.copy()
    chosen["read_only"] = True
    engine = create_async_engine(url, **chosen)
    if engine.driver.name != primary.driver.name:
        raise ArgumentError(
            f"a replica is a copy of its primary: both have the same driver, not {primary.driver.name} and "
            f"{engine.driver.name}"
        )
    return Replica(engine, retry_after)


def _check(choose: object, name: object, **seconds: object) -> None:
    if not callable(choose):
        raise ArgumentError(f"choose is a function from engines to one of them, not {choose!r}")
    for option, value in seconds.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise ArgumentError(f"{option} is a number of seconds, 0 or more, not {value!r}")
    if name is not None and (not isinstance(name, str) or not name):
        raise ArgumentError(f"name is a word for the database, not {name!r}")
