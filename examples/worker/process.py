"""Workers as processes that are started, that die, and that are stopped politely."""

import asyncio
import multiprocessing
from multiprocessing.context import ForkServerProcess
from typing import Final

from examples.worker.worker import Life, work

PATIENCE: Final = 30.0
"""Seconds until a worker that was stopped has to be at its end."""
_PROCESSES: Final = multiprocessing.get_context("forkserver")
# Imports take longer than all else that is done here, so every process is a copy of one that has them.
_PROCESSES.set_forkserver_preload(
    ["examples.worker.worker", "aiosession.drivers.asyncpg", "aiosession.drivers.aiosqlite"]
)


class Process:
    """A worker process."""

    def __init__(self, life: Life) -> None:
        self.life: Final = life
        self._process: Final[ForkServerProcess] = _PROCESSES.Process(target=_live, args=(life,), daemon=True)
        self._process.start()

    @property
    def status(self) -> int | None:
        """The exit status, None while it lives."""
        return self._process.exitcode

    def stop(self) -> None:
        """Ask it to end when it has done what it is doing."""
        self._process.terminate()

    def kill(self) -> None:
        """End it now, if it still lives."""
        self._process.kill()
        self._process.join()

    async def ended(self) -> None:
        """Wait for its end."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, over.set)
        try:
            async with asyncio.timeout(PATIENCE):
                await over.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()


def _live(life: Life) -> None:
    """Be a worker: what a process does."""
    asyncio.run(work(life))
