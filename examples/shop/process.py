"""The service as a process that is started, killed and started anew, always on the same port."""

import asyncio
import multiprocessing
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

import httpx

from examples.shop.dying import Death
from examples.shop.serve import Life, serve

PATIENCE: Final = 30.0
"""Seconds until the service has to have started, settled what is prepared, or come to its end."""
PAUSE: Final = 0.02
"""Seconds between two looks."""
_SETTLED: Final = re.compile(r"^recovery: \w+ (?P<unit>\w+): (?P<action>committed|rolled back)$", re.MULTILINE)
_PROCESSES: Final = multiprocessing.get_context("forkserver")
# Imports take longer than all else that is done here, so every process is a copy of one that has them.
_PROCESSES.set_forkserver_preload(
    ["examples.shop.serve", "aiosession.drivers.asyncpg", "aiosession.drivers.aiosqlite", "uvicorn.protocols.http.auto"]
)


class ServiceError(Exception):
    """The service did not do what a service has to."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process."""

    process: ForkServerProcess

    async def ready(self, client: httpx.AsyncClient) -> None:
        """Wait until the service answers, or is dead already."""
        async with asyncio.timeout(PATIENCE):
            while self.process.is_alive():
                try:
                    (await client.get("/health")).raise_for_status()
                except httpx.TransportError:
                    await asyncio.sleep(PAUSE)
                else:
                    return

    async def quiet(self, client: httpx.AsyncClient) -> None:
        """Wait until nothing is prepared any more."""
        async with asyncio.timeout(PATIENCE):
            while await self.prepared(client):
                pass

    async def prepared(self, client: httpx.AsyncClient) -> int:
        """Ask how many units of work are prepared, after a pause in which they may be finished."""
        await asyncio.sleep(PAUSE)
        answer = await client.get("/health")
        found: int = answer.raise_for_status().json()["prepared"]
        return found

    async def killed(self, after: float) -> bool:
        """Kill the process after some seconds; return whether it had died by itself, as it was told to, before."""
        died = await self.ended(after)
        self.process.kill()
        await self.ended(PATIENCE)
        if self.process.exitcode != -signal.SIGKILL:
            raise ServiceError(f"the service came to its end with {self.process.exitcode}")
        return died

    async def ended(self, within: float) -> bool:
        """Wait for the end of the process, so many seconds at most."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.process.sentinel, over.set)
        try:
            async with asyncio.timeout(within):
                await over.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self.process.sentinel)
        self.process.join()
        return True


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts processes that lead the same life, but for their deaths."""

    life: Life
    log: Path

    @property
    def address(self) -> str:
        """Where the service answers."""
        return f"http://{self.life.host}:{self.life.port}"

    @asynccontextmanager
    async def started(self, death: Death | None = None) -> AsyncIterator[Service]:
        """Start a process; it is ended politely at the end of the block if it still lives."""
        process = _PROCESSES.Process(target=_live, args=(replace(self.life, death=death), self.log), daemon=True)
        process.start()
        service = Service(process)
        try:
            yield service
        finally:
            if process.is_alive():
                process.terminate()
                if not await service.ended(PATIENCE):
                    process.kill()

    def settled(self) -> dict[str, str]:
        """Return the units of work that the services have found in doubt, with what became of them, as they log it."""
        return {match["unit"]: match["action"] for match in _SETTLED.finditer(self.log.read_text())}


def _live(life: Life, log: Path) -> None:
    """Be the service: what a process does."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    asyncio.run(serve(life))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
