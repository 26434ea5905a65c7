"""Let a call into psycopg outlive the cancellation of who awaits it.

psycopg answers a cancellation by cancelling the statement in the server and waiting for that, as long as it takes, and
gives the connection up if it is cancelled once more. Here the caller is free at once, and what was interrupted can be
brought to its end later: by whom, and within which time, is decided above.
"""

import asyncio
import select
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.generators import execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait
from typing_extensions import override

T = TypeVar("T")

_READS: Final = int(Wait.R)
_WRITES: Final = int(Wait.W)


class Line(AsyncConnection[TupleRow]):
    """A connection of psycopg that waits for its socket by futures alone, which do not belong to a task."""

    @override
    def __del__(self, *_: Any) -> None:
        """Say nothing: whoever forgets a connection is told by the pool, with names and places."""

    @override
    async def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:
        """Drive *gen*, which says what it waits for, to its end."""
        try:
            wanted = int(next(gen))
            socket, loop = self.pgconn.socket, asyncio.get_running_loop()
            while True:
                wanted = int(gen.send(await _readiness(loop, socket, wanted)))
        except StopIteration as end:
            result: T = end.value
            return result

    async def command(self, text: str) -> list[PGresult]:
        """Run SQL text of ours as it is; psycopg would forget at every ROLLBACK what it has prepared."""
        async with self.lock:
            self.pgconn.send_query(text.encode())
            results: list[PGresult] = await self.wait(execute(self.pgconn))
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result)
        return results

    def hear(self) -> None:
        """Take in what came while nobody listened: it may be that the server has ended the connection."""
        with suppress(psycopg.Error, OSError):
            while _has_news(self.pgconn.socket):
                self.pgconn.consume_input()


def _has_news(line: int) -> bool:
    """Whether there is something to be read from a socket."""
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([line], [], [], 0)[0])
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(0))


async def _readiness(loop: asyncio.AbstractEventLoop, socket: int, wanted: int) -> Ready:
    """Wait until *socket* can be read or written, whichever is wanted; say which."""
    ready: asyncio.Future[Ready] = loop.create_future()

    def tell(what: Ready) -> None:
        if not ready.done():
            ready.set_result(what)

    if wanted & _READS:
        loop.add_reader(socket, tell, Ready.R)
    if wanted & _WRITES:
        loop.add_writer(socket, tell, Ready.W)
    try:
        return await ready
    finally:
        if wanted & _READS:
            loop.remove_reader(socket)
        if wanted & _WRITES:
            loop.remove_writer(socket)


class Call(Generic[T]):
    """A coroutine on its way; may be awaited again, by anybody, when awaiting it was interrupted."""

    __slots__ = ("_coroutine", "_waits_for", "is_over")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._waits_for: asyncio.Future[object] | None = None
        self.is_over = False
        """Whether the coroutine has come to its end; an error before that was meant for the one who awaited it."""

    def __await__(self) -> Generator[object, object, T]:
        try:
            while True:
                if self._waits_for is not None:
                    yield from _until_done(self._waits_for)
                self._waits_for = self._coroutine.send(None)
                if self._waits_for is None:  # it only lets others go first
                    yield None
        except StopIteration as end:
            self.is_over = True
            result: T = end.value
            return result
        except BaseException:
            self.is_over = self._coroutine.cr_frame is None  # type: ignore[attr-defined]  # a native coroutine
            raise

    def abandon(self) -> None:
        """End the coroutine where it is."""
        self._coroutine.close()


def _until_done(future: "asyncio.Future[object]") -> Generator[object, Any, None]:
    """Wait for *future*; being cancelled does not touch it."""
    if future.done():
        return
    waiter: asyncio.Future[None] = future.get_loop().create_future()

    def release(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    future.add_done_callback(release)
    try:
        yield from waiter
    finally:
        future.remove_done_callback(release)
