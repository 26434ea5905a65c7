"""Websockets over a real connection: what is committed after each message stays, and nothing is left behind."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, WebSocket
from sqlalchemy import select
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from aiosession import AsyncEngine, PoolTimeoutError, async_sessionmaker
from aiosession.ext.fastapi import AsyncSessionMiddleware, SessionDep, add_problem_handlers
from tests.web.library import Author, create_tables, names
from tests.web.serving import Served, nothing_is_left, serving


@pytest.fixture
async def chat(engine: AsyncEngine) -> FastAPI:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    add_problem_handlers(app)

    @app.websocket("/chat")
    async def talk(socket: WebSocket, session: SessionDep) -> None:
        await socket.accept()
        async for said in socket.iter_text():
            if said == "busy":
                raise PoolTimeoutError(timeout=1, size=1, holders=[], waiting=0)
            session.add(Author(name=said))
            await session.flush()
            if not said.startswith("draft"):
                await session.commit()
            await socket.send_text(str(len((await session.scalars(select(Author))).all())))

    return app


@asynccontextmanager
async def talking(app: FastAPI) -> AsyncIterator[tuple[ClientConnection, Served]]:
    async with serving(app) as served, connect(f"ws://127.0.0.1:{served.port}/chat", proxy=None) as socket:
        yield socket, served


async def say(socket: ClientConnection, *words: str) -> list[object]:
    answers: list[object] = []
    for word in words:
        await socket.send(word)
        answers.append(await socket.recv())
    return answers


async def test_each_message_is_committed_when_it_is_answered(chat: FastAPI, observer: AsyncEngine) -> None:
    async with talking(chat) as (socket, _):
        assert await say(socket, "Lem") == ["1"]
        assert await names(observer) == ["Lem"]
        assert await say(socket, "Le Guin") == ["2"]
        assert await names(observer) == ["Le Guin", "Lem"]


@pytest.mark.parametrize("how", ["closes", "vanishes"])
async def test_what_a_client_who_leaves_has_not_seen_committed_is_rolled_back(
    chat: FastAPI, engine: AsyncEngine, observer: AsyncEngine, how: str
) -> None:
    async with talking(chat) as (socket, served):
        await say(socket, "Lem", "draft")
        assert len(engine.pool.status().holders) == 1
        if how == "closes":
            await socket.close()
        else:
            socket.transport.abort()
        await served.quiet()

        await nothing_is_left(engine, observer)
        assert await names(observer) == ["Lem"]


@pytest.mark.parametrize(("words", "code"), [(("busy",), 1013), (("Lem", "busy"), 1013), (("Lem", "Lem"), 1011)])
async def test_an_error_of_the_database_closes_the_websocket_with_a_code(
    chat: FastAPI, engine: AsyncEngine, observer: AsyncEngine, words: tuple[str, ...], code: int
) -> None:
    async with talking(chat) as (socket, served):
        with pytest.raises(ConnectionClosed) as caught:
            await say(socket, *words)
        await served.quiet()

        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code
        await nothing_is_left(engine, observer)
        assert await names(observer) == ["Lem"][: "Lem" in words]
