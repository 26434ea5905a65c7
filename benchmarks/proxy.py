"""How often does a client wait for the server? A TCP proxy that counts.

A round trip is counted each time the client sends after the server has spoken, that is, each time the direction of
the conversation turns towards the server. What a client sends in one go, in however many packets and messages, is
one round trip.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class RoundTrips:
    """Counts the turns of the conversations that pass through it, and the bytes of both directions."""

    def __init__(self) -> None:
        self.count = 0
        self.sent = 0
        self.received = 0

    def reset(self) -> None:
        """Begin again at nought."""
        self.count = self.sent = self.received = 0


class Conversation:
    """One connection: remembers who spoke last."""

    def __init__(self, totals: RoundTrips) -> None:
        self._totals = totals
        self._server_spoke_last = True

    def client_speaks(self, size: int) -> None:
        """Note that the client has sent *size* bytes."""
        if self._server_spoke_last:
            self._totals.count += 1
        self._server_spoke_last = False
        self._totals.sent += size

    def server_speaks(self, size: int) -> None:
        """Note that the server has sent *size* bytes."""
        self._server_spoke_last = True
        self._totals.received += size


async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, note: Callable[[int], None]) -> None:
    """Copy bytes until one side ends."""
    try:
        while data := await source.read(1 << 16):
            note(len(data))
            target.write(data)
            await target.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        target.close()


@asynccontextmanager
async def counting_proxy(host: str, port: int) -> AsyncIterator[tuple[RoundTrips, int]]:
    """Listen on a free port, pass everything on to *host* and *port*, and count."""
    totals = RoundTrips()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(totals)
        server_reader, server_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            pass_on(reader, server_writer, conversation.client_speaks),
            pass_on(server_reader, writer, conversation.server_speaks),
        )

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield totals, server.sockets[0].getsockname()[1]
    finally:
        server.close()
