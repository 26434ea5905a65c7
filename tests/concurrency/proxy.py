"""A TCP proxy in front of a server that lets a connection down at a chosen moment."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

_READY: Final = b"Z\x00\x00\x00\x05"
"""How the last message of an answer of PostgreSQL begins."""
_OK, _ERROR, _MORE_RESULTS = 0x00, 0xFF, 0x08
Ends = Callable[[bytes], bool]
"""Says whether a server's bytes end an answer."""


def ends_answer_of_postgres(data: bytes) -> bool:
    """Look for ReadyForQuery."""
    return _READY in data


def ends_answer_of_mariadb(data: bytes) -> bool:
    """Look for an OK packet after which no more results follow, or an error; rows are not looked at."""
    while len(data) >= 4:
        length = int.from_bytes(data[:3], "little")
        packet, data = data[4 : 4 + length], data[4 + length :]
        if packet[:1] == bytes([_ERROR]):
            return True
        if packet[:1] == bytes([_OK]) and not int.from_bytes(packet[3:5], "little") & _MORE_RESULTS:
            return True
    return False


class When(Enum):
    """Whether the server gets what the client has sent."""

    BEFORE = "before the server hears of it"
    AFTER = "after the server has done it, before the client hears of that"


class How(Enum):
    """What becomes of the line."""

    CUT = "both ends are told that the line is dead"
    HOLE = "nobody is told anything; nothing passes any more, and new lines are no better"
    KILL = "the line is sound, but the server process is terminated"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, at the first message of a client that contains *trigger*."""

    trigger: bytes
    when: When
    how: How


class Proxy:
    """Passes everything on until its fault strikes."""

    def __init__(self, kill: Callable[[], Awaitable[None]], ends: Ends) -> None:
        self.port = 0
        self.ends: Final = ends
        self.ports: set[int] = set()
        """Those from which the lines to the server come."""
        self.fault: Fault | None = None
        self.has_struck = False
        self.on_strike: Callable[[], object] | None = None
        self._kill: Final = kill
        self._is_hole = False
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def arm(self, fault: Fault) -> None:
        """Have *fault* strike once."""
        self.fault = fault
        self.has_struck = False

    def heal(self) -> None:
        """Cut the lines on which nothing passes; let new ones through."""
        self.fault = None
        if self._is_hole:
            self._is_hole = False
            self._cut()

    def _cut(self) -> None:
        for writer in self._lines:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        """Stand between one client and the server."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        line = _Line(self, server_writer, writer)
        self.ports.add(server_writer.get_extra_info("sockname")[1])
        self._lines |= {writer, server_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, server_writer, line.asked))
                group.create_task(_pass_on(server_reader, writer, line.answered))
        finally:
            self._lines -= {writer, server_writer}
            self._tasks.discard(task)

    async def strike(self, how: How) -> None:
        """Let the line down."""
        self.has_struck = True
        self.fault = None
        if how is How.CUT:
            self._cut()
        elif how is How.HOLE:
            self._is_hole = True
        else:
            await self._kill()
        if self.on_strike is not None:
            self.on_strike()

    @property
    def passes(self) -> bool:
        """Whether bytes get through."""
        return not self._is_hole

    async def end(self) -> None:
        """Cut everything and wait for that."""
        self._cut()
        for task in list(self._tasks):
            with suppress(BaseException):
                await task


class _Line:
    """One client's line."""

    def __init__(self, proxy: Proxy, server: asyncio.StreamWriter, client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._server = server
        self._client = client
        self._strikes_with_answer: How | None = None

    async def asked(self, data: bytes) -> None:
        """Pass on what the client says."""
        proxy, fault = self._proxy, self._proxy.fault
        if fault is not None and fault.trigger in data:
            if fault.when is When.AFTER:
                proxy.fault = None
                self._strikes_with_answer = fault.how
            else:
                await proxy.strike(fault.how)
        if proxy.passes:
            self._server.write(data)

    async def answered(self, data: bytes) -> None:
        """Pass on what the server says."""
        how = self._strikes_with_answer
        if how is not None and self._proxy.ends(data):
            self._strikes_with_answer = None
            await self._proxy.strike(how)
        if self._proxy.passes and not (self._proxy.has_struck and how is How.CUT):
            self._client.write(data)


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, say: Callable[[bytes], Awaitable[None]]
) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            await say(data)
    writer.close()


@asynccontextmanager
async def proxy_to(
    port: int, kill: Callable[[], Awaitable[None]], ends: Ends = ends_answer_of_postgres
) -> AsyncIterator[Proxy]:
    """Listen on a port of our own for as long as the block lasts."""
    proxy = Proxy(kill, ends)
    server = await asyncio.start_server(lambda reader, writer: proxy.serve(reader, writer, port), "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
