"""A real server in this process, and clients that go away at the wrong moment."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from aiosession import AsyncEngine


class Served:
    """A running application; notes when each of its requests is really over."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.server: uvicorn.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._running += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def quiet(self) -> None:
        """Wait until no request is being worked on."""
        await self._idle.wait()

    async def without_clients(self) -> None:
        """Wait until the server has noticed that all clients are gone."""
        assert self.server is not None
        await until(lambda: not self.server.server_state.connections)  # type: ignore[union-attr]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[Served]:
    """Serve *app* over HTTP on a free port."""
    served = Served(app)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        served.port = listener.getsockname()[1]
        served.server = server = uvicorn.Server(
            uvicorn.Config(served, log_level="critical", lifespan="on", ws="websockets-sansio")
        )
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started or running.done())
        try:
            yield served
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def rude_client(served: Served, method: str, path: str) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request, and go away at the end of the block without a word, whatever has come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nhost: library\r\ncontent-length: 0\r\n\r\n".encode())
    await writer.drain()
    try:
        yield reader
    finally:
        writer.transport.abort()


async def nothing_is_left(engine: AsyncEngine, observer: AsyncEngine) -> None:
    """Check that no connection is held, and that none was left in a transaction."""
    assert not engine.pool.status().holders
    if engine.name != "postgresql":
        return
    async with observer.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT state, query FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = "
            "'client backend' AND state <> 'idle'"
        )
        assert not found.all()
