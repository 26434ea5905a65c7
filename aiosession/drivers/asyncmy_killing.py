"""End statements in the server whose connections were given up: it would run them to their end, locks held."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from aiosession.drivers import mysql

DEADLINE: Final = 2.0
"""Seconds that a statement in the server may take to be ended, or nobody waits any longer."""


class Killer:
    """Sends KILL for the connections of one driver, each from a connection that is opened for it."""

    def __init__(self, connect: Callable[[], Awaitable[Any]]) -> None:
        self._connect = connect
        self._tasks: set[asyncio.Task[None]] = set()

    def kill(self, thread: int, server: str) -> None:
        """Have connection *thread* of *server* ended before long; never waits, never raises."""
        task = asyncio.get_running_loop().create_task(self._kill(thread, server), name=f"aiosession KILL {thread}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self) -> None:
        """Wait until what was to be killed is, within a bound."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _kill(self, thread: int, server: str) -> None:
        # An error leaves nothing to be done: the connection may have ended by itself, or the server with it.
        with suppress(Exception):
            async with asyncio.timeout(DEADLINE):
                await self._send(thread, server)

    async def _send(self, thread: int, server: str) -> None:
        connection = await self._connect()
        try:
            cursor = connection.cursor()
            await cursor.execute(mysql.IDENTITY)
            # behind a proxy, this may be another server
            if await cursor.fetchone() == (server,):
                await cursor.execute(f"KILL CONNECTION {thread}")
        finally:
            connection.close()
