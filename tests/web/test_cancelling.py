"""With ``cancel_on_disconnect=True`` a handler stops when its client leaves, and nothing else changes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import select, text
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response
from starlette.routing import Route

from aiosession import ArgumentError, AsyncEngine, AsyncSession, async_sessionmaker
from aiosession.events import listen
from aiosession.ext.fastapi import AsyncSessionMiddleware, SessionDep, StreamSessionDep, request_session
from tests.web.conftest import client_of
from tests.web.library import Author, create_tables, names
from tests.web.serving import nothing_is_left, rude_client, serving

on_postgresql = pytest.mark.parametrize(
    "database_url",
    [pytest.param(name, marks=pytest.mark.postgres) for name in ("postgresql", "psycopg")],
    indirect=True,
)
on_one = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


async def application(engine: AsyncEngine, *, surrounded: bool = False, sessions: Any = None) -> FastAPI:
    await create_tables(engine)
    app = FastAPI()
    if surrounded:
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    sessions = sessions or async_sessionmaker(engine)
    app.add_middleware(AsyncSessionMiddleware, sessions=sessions, cancel_on_disconnect=True)
    if surrounded:
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return app


async def is_asleep(observer: AsyncEngine) -> bool:
    async with observer.connect() as connection:
        found = await connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'PgSleep'"
        )
        return bool(found.scalar())


@on_postgresql
@pytest.mark.parametrize("surrounded", [False, True])
async def test_the_statement_of_a_client_who_leaves_is_cancelled_in_the_database(
    engine: AsyncEngine, observer: AsyncEngine, surrounded: bool
) -> None:
    app = await application(engine, surrounded=surrounded)

    @app.post("/sleep")
    async def sleep(session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.flush()
        await session.execute(text("SELECT pg_sleep(50)"))

    async with serving(app) as served:
        async with rude_client(served, "POST", "/sleep"), asyncio.timeout(10):
            while not await is_asleep(observer):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await served.quiet()

        assert not await is_asleep(observer)
        await nothing_is_left(engine, observer)
        assert await names(observer) == []


@on_one
@pytest.mark.parametrize("surrounded", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_whatever_a_handler_waits_for_it_is_cancelled(
    engine: AsyncEngine, observer: AsyncEngine, surrounded: bool, method: str
) -> None:
    app = await application(engine, surrounded=surrounded)
    reached = asyncio.Event()
    ended: list[type[BaseException]] = []

    @app.api_route("/wait", methods=["GET", "POST"])
    async def wait(session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.flush()
        reached.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ended.append(type(error))
            raise

    async with serving(app) as served:
        async with rude_client(served, method, "/wait"):
            await reached.wait()
        async with asyncio.timeout(10):
            await served.quiet()

    assert ended == [asyncio.CancelledError]
    assert await names(observer) == []
    assert not engine.pool.status().holders


@on_one
async def test_a_commit_that_has_begun_is_not_cancelled(engine: AsyncEngine, observer: AsyncEngine) -> None:
    sessions = async_sessionmaker(engine)
    app = await application(engine, sessions=sessions)
    reached, opened = asyncio.Event(), asyncio.Event()

    async def wait(session: AsyncSession) -> None:
        reached.set()
        await opened.wait()

    listen(sessions, "before_commit", wait)

    @app.post("/add")
    async def add(session: SessionDep) -> None:
        session.add(Author(name="Lem"))

    async with serving(app) as served:
        async with rude_client(served, "POST", "/add"):
            await reached.wait()
        await served.without_clients()
        opened.set()
        await served.quiet()

    assert await names(observer) == ["Lem"]


@on_one
async def test_background_tasks_are_not_cancelled(engine: AsyncEngine) -> None:
    app = await application(engine)
    opened = asyncio.Event()
    done: list[str] = []

    @app.post("/start")
    async def start(background: BackgroundTasks) -> str:
        async def work() -> None:
            await opened.wait()
            done.append("work")

        background.add_task(work)
        return "started"

    async with serving(app) as served:
        async with rude_client(served, "POST", "/start") as reader:
            await reader.readuntil(b"started")
        await served.without_clients()
        opened.set()
        await served.quiet()

    assert done == ["work"]


@on_one
async def test_a_stream_whose_client_leaves_ends_as_without(engine: AsyncEngine, observer: AsyncEngine) -> None:
    app = await application(engine)
    async with AsyncSession(engine) as session:
        session.add_all(Author(name=f"{number:06}" * 6) for number in range(3000))
        await session.commit()

    @app.get("/stream")
    async def stream(session: StreamSessionDep) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async for name in await session.stream_scalars(select(Author.name), execution_options={"yield_per": 1}):
                yield f"{name}\n"

        return StreamingResponse(lines())

    async with serving(app) as served:
        async with rude_client(served, "GET", "/stream") as reader:
            await reader.readuntil(b"000000")
        await served.without_clients()
        await served.quiet()

    await nothing_is_left(engine, observer)


@on_one
@pytest.mark.parametrize("surrounded", [False, True])
async def test_bodies_are_complete_and_clients_who_stay_are_answered(
    engine: AsyncEngine, observer: AsyncEngine, surrounded: bool
) -> None:
    app = await application(engine, surrounded=surrounded)

    @app.post("/echo")
    async def echo(request: Request, session: SessionDep) -> StreamingResponse:
        session.add(Author(name="Lem"))
        await session.flush()
        parts = [part async for part in request.stream()]
        assert not await request.is_disconnected()

        async def back() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        return StreamingResponse(back())

    async def body() -> AsyncIterator[bytes]:
        for number in range(20):
            yield bytes([65 + number]) * 1000

    async with client_of(app) as client:
        answer = await client.post("/echo", content=body())

    assert answer.content == b"".join([part async for part in body()])
    assert await names(observer) == ["Lem"]


@on_one
async def test_a_client_who_leaves_while_sending_its_body_is_noticed(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    app = await application(engine)
    reached = asyncio.Event()

    @app.post("/upload")
    async def upload(request: Request, session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.flush()
        async for _ in request.stream():
            reached.set()

    async with serving(app) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /upload HTTP/1.1\r\nhost: library\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        await reached.wait()
        writer.transport.abort()
        await served.quiet()

    assert await names(observer) == []
    assert not engine.pool.status().holders


@on_one
async def test_work_cannot_be_both_stopped_and_done_nevertheless(engine: AsyncEngine) -> None:
    maker = async_sessionmaker(engine)

    with pytest.raises(ArgumentError, match="only one of them can be meant"):
        AsyncSessionMiddleware(FastAPI(), maker, rollback_on_disconnect=False, cancel_on_disconnect=True)


@on_one
@pytest.mark.parametrize("writes", [False, True])
async def test_a_handler_that_heeds_no_cancellation_is_answered_once_and_rolled_back(
    engine: AsyncEngine, observer: AsyncEngine, writes: bool
) -> None:
    """As one in a thread does."""
    await create_tables(engine)
    told = asyncio.Event()
    done: list[str] = []
    sent: list[Any] = []

    async def handler(request: Request) -> Response:
        session = request_session(request)
        if writes:
            session.add(Author(name="Lem"))
        with anyio.CancelScope(shield=True):
            await told.wait()
        return Response("done", background=BackgroundTask(done.append, "work"))

    async def receive() -> Any:
        if not told.is_set():
            asyncio.get_running_loop().call_later(0, told.set)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)  # where a pending cancellation would strike
        sent.append(message)

    app = AsyncSessionMiddleware(
        Starlette(routes=[Route("/", handler)]), async_sessionmaker(engine), cancel_on_disconnect=True
    )
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)

    assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [499]
    assert done == []
    assert await names(observer) == []
    assert not engine.pool.status().holders
