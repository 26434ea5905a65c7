"""How does a blocking library serve an event loop? In a thread of its own, where every call can be abandoned.

A call that is cancelled before its turn never runs. One that runs already cannot be taken back: SQLite is told to stop
it, and what comes next on the connection waits in line for its end.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_INSTRUCTIONS: Final = 10_000
"""Of SQLite's virtual machine, between two looks at whether a statement is still wanted: well below a millisecond."""


class ClosedError(sqlite3.ProgrammingError):
    """The connection was closed."""

    def __init__(self) -> None:
        super().__init__("this connection is closed")


class Worker:
    """A connection of sqlite3 and the thread in which all is done that it does."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect: Final = connect
        self._thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._call: Future[Any] | None = None
        self._is_stopped = False
        self.is_closed = False

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of sqlite3, as long as it is open."""
        if self._connection is None or self.is_closed:
            raise ClosedError
        return self._connection

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way, or was abandoned and not settled."""
        return self._call is not None

    async def open(self) -> None:
        """Make the connection; leave nothing behind if that fails or is cancelled."""
        try:
            await self.run(self._open)
        except BaseException:
            self.terminate()
            raise

    def _open(self) -> None:
        self._connection = self._connect()
        self._connection.set_progress_handler(lambda: self._is_stopped, _INSTRUCTIONS)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Do *work* in the thread and return what it returns."""
        call = self._thread.submit(work)
        self._call = call
        try:
            return await asyncio.wrap_future(call)
        finally:
            if call.done():
                self._call = None
            elif not self.is_closed:
                self._is_stopped = True
                self.post(self._go_on)

    def _go_on(self) -> None:
        self._is_stopped = False

    def post(self, work: Callable[[], object]) -> None:
        """Do *work* in the thread before all that comes later; nobody waits for it."""
        self._thread.submit(work)

    def wanted(self, rows: Iterable[_T]) -> Iterator[_T]:
        """Yield *rows* as long as somebody wants what is made of them."""
        for row in rows:
            if self._is_stopped:
                raise sqlite3.OperationalError("interrupted")
            yield row

    async def settle(self) -> None:
        """Wait for the end of a call that was abandoned."""
        if self._call is not None and not self.is_closed:
            await self._done(_nothing)
            self._call = None

    async def close(self) -> None:
        """Close the connection and end the thread."""
        if not self.is_closed:
            self.is_closed = True
            await self._done(self._close)
            self._thread.shutdown(wait=False)

    def terminate(self) -> None:
        """Have the connection closed and the thread ended as soon as may be, and do not wait."""
        if not self.is_closed:
            self.is_closed = self._is_stopped = True
            self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _done(self, work: Callable[[], None]) -> None:
        """Wait for *work*, which is done also if nobody waits any more."""
        await asyncio.wait([asyncio.wrap_future(self._thread.submit(work))])


def _nothing() -> None:
    """Do nothing: only the place in the queue matters."""
