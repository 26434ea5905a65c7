"""A sqlite3 connection in a thread of its own: run a function there, and stop it when nobody wants its answer.

The thread and its queue are aiosqlite's. What is added: one function per hop whatever it does, calls that can be marked
dead before they start and interrupted while they run (and only then: an interrupt hits whatever the connection is
doing), and an end that needs no event loop.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

import aiosqlite

_T = TypeVar("_T")

_INTERRUPT_AGAIN: Final = 0.02
"""Seconds between interrupts: one that comes between two steps of a statement is lost."""


class Call(Generic[_T]):
    """A function on its way to the thread, with a word on whether its answer is still wanted.

    The thread remembers its last call until the next one, so a call lets go of everything when it is over. The answer
    to somebody whose event loop is gone is dropped.
    """

    __slots__ = ("_answer", "_lock", "_running", "_work", "is_stopped")

    def __init__(self, work: Callable[[], _T], answer: "asyncio.Future[_T]", lock: threading.Lock) -> None:
        self._work: Callable[[], _T] | None = work
        self._answer: asyncio.Future[_T] | None = answer
        self._lock = lock
        self._running = False
        self.is_stopped = False

    def __call__(self) -> None:
        """Do the work, in the thread, and send the answer to the event loop."""
        work, answer = self._work, self._answer
        self._work = self._answer = None
        with self._lock:
            if self.is_stopped or work is None or answer is None:
                return
            self._running = True
        deliver: Callable[[], None]
        try:
            deliver = partial(_deliver, answer, work())
        except BaseException as error:
            deliver = partial(_fail, answer, error)
        finally:
            with self._lock:
                self._running = False
        with suppress(RuntimeError):
            answer.get_loop().call_soon_threadsafe(deliver)

    def stop(self, connection: sqlite3.Connection) -> None:
        """Make sure that the work does not start, or ends soon."""
        with self._lock:
            self.is_stopped = True
            if self._running:
                connection.interrupt()


class SqliteThread(aiosqlite.Connection):
    """A sqlite3 connection and the thread that it lives in."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=1)
        self._thread.daemon = True
        self._lock = threading.Lock()
        self._current: Call[Any] | None = None
        self._opened: list[sqlite3.Connection] = []

    def __del__(self) -> None:  # type: ignore[explicit-override]  # typing.override is younger than Python 3.11
        # the pool warns about the one who forgot it; here the file is closed
        self.terminate()

    @property
    def raw(self) -> sqlite3.Connection | None:
        """The connection of sqlite3 while it is open."""
        return self._connection if self._running else None

    @property
    def is_busy(self) -> bool:
        """A call is running, or was abandoned and may still be."""
        return self._current is not None

    async def open(self) -> None:
        """Start the thread and make the connection; leave nothing behind if that is cancelled."""
        connector, opened = self._connector, self._opened
        self._thread.start()
        try:
            await self._send(lambda: opened.append(connector()))[1]
        except BaseException:
            self.terminate()
            raise
        self._connection = opened[0]

    def _send(self, work: Callable[[], _T]) -> "tuple[Call[_T], asyncio.Future[_T]]":
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        call = Call(work, answer, self._lock)
        self.post(call)
        return call, answer

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do *work* in the thread and return what it returns; a cancelled call is stopped, not waited for."""
        if self.raw is None:
            raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
        call, answer = self._send(work)
        self._current = call
        try:
            result = await answer
        except BaseException:
            if answer.cancelled() or not answer.done():
                call.stop(self._conn)
            else:
                self._current = None
            raise
        self._current = None
        return result

    def post(self, function: Callable[[], object]) -> None:
        """Run *function* in the thread, before any later call; nobody waits for it."""
        self._tx.put_nowait((None, function))

    def live(self, rows: Iterable[_T]) -> Iterator[_T]:
        """Yield *rows* until the call that consumes them is stopped."""
        call = self._current
        for row in rows:
            if call is not None and call.is_stopped:
                raise sqlite3.OperationalError("interrupted")
            yield row

    async def settle(self) -> None:
        """Wait until an abandoned call is over, interrupting it as often as it takes."""
        if self._current is None or self.raw is None:
            return
        _, over = self._send(_nothing)  # the queue is in order: this is answered after the call
        while not over.done():
            self._current.stop(self._conn)
            await asyncio.wait([over], timeout=_INTERRUPT_AGAIN)
        self._current = None

    async def end(self) -> None:
        """Close the connection and end the thread, after what is in the queue."""
        if self._running:
            self._running = False
            _, closed = self._send(self._close)
            self.post(self._leave)
            await closed

    def terminate(self) -> None:
        """Stop what runs, close the connection and end the thread; nobody waits, and no event loop is needed."""
        if self._running:
            self._running = False
            if self._current is not None and self._connection is not None:
                self._current.stop(self._connection)
            self.post(self._close)
            self.post(self._leave)

    def _close(self) -> None:
        for connection in self._opened:
            connection.close()

    def _leave(self) -> None:
        self._connection = None
        self.stop()  # in this thread there is no event loop that the answer could come too late for


def _deliver(answer: "asyncio.Future[_T]", result: _T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[_T]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _nothing() -> None:
    """Do nothing: only the answer matters."""
