"""Applications of every kind: mounted ones, several databases, websockets, Starlette alone, plain ASGI, TestClient."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.testclient import TestClient
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from typing_extensions import override

from aiosession import (
    AsyncEngine,
    AsyncSession,
    InvalidRequestError,
    PoolTimeoutError,
    UniqueViolationError,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from aiosession.errors import ArgumentError
from aiosession.ext import fastapi as ext
from aiosession.ext.starlette import (
    AsyncSessionMiddleware,
    add_problem_handlers,
    lifespan,
    request_session,
    stream_session,
)
from tests.web.conftest import client_of
from tests.web.library import Author, Base, create_tables, names


async def add_author(request: Request) -> Response:
    request_session(request).add(Author(name=request.path_params["name"]))
    return JSONResponse("added")


def starlette_app(engine: AsyncEngine, **more: Any) -> Starlette:
    return Starlette(
        routes=[Route("/add/{name}", add_author, methods=["POST"])],
        middleware=[Middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))],
        **more,
    )


async def post(app: Any, path: str) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post(path)


async def test_starlette_alone_has_it_too(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await create_tables(engine)
    app = starlette_app(engine)
    add_problem_handlers(app, retry_after=7)

    assert (await post(app, "/add/Lem")).status_code == 200
    assert (await post(app, "/add/Lem")).json()["title"] == "Conflict"
    assert await names(observer) == ["Lem"]


async def test_without_starlette_around_it_a_failed_commit_is_raised_to_the_server(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await create_tables(engine)

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        request_session(scope).add(Author(name="Lem"))
        await PlainTextResponse("added")(scope, receive, send)

    app = AsyncSessionMiddleware(plain, async_sessionmaker(engine))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://library") as client:
        assert (await client.post("/")).text == "added"
        with pytest.raises(UniqueViolationError):
            await client.post("/")

    assert await names(observer) == ["Lem"]


async def test_a_mounted_application_shares_the_session(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await create_tables(engine)
    sessions = async_sessionmaker(engine)
    found: list[AsyncSession] = []
    inner = FastAPI()
    inner.add_middleware(AsyncSessionMiddleware, sessions=sessions)

    @inner.post("/add/{name}")
    async def add(name: str, session: ext.SessionDep) -> bool:
        session.add(Author(name=name))
        return session is found[-1]

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(request_session(scope))
        await inner(scope, receive, send)

    middleware = [Middleware(AsyncSessionMiddleware, sessions=sessions)]
    outer = Starlette(routes=[Mount("/library", note)], middleware=middleware)

    assert (await post(outer, "/library/add/Lem")).json() is True
    assert await names(observer) == ["Lem"]


async def test_the_handlers_of_a_mounted_application_answer_for_its_commits(engine: AsyncEngine) -> None:
    await create_tables(engine)
    inner = FastAPI()
    add_problem_handlers(inner)

    @inner.post("/add/{name}")
    async def add(name: str, session: ext.SessionDep) -> str:
        session.add(Author(name=name))
        return "added"

    outer = FastAPI()
    outer.mount("/library", inner)
    outer.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))

    statuses = [(await post(outer, "/library/add/Lem")).status_code for _ in range(2)]

    assert statuses == [200, 409]


async def test_every_database_can_have_its_own_session(
    engine: AsyncEngine, observer: AsyncEngine, tmp_path: Path
) -> None:
    archive = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'archive.db'}")
    await create_tables(engine)
    await create_tables(archive)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(archive), name="archive")

    @app.post("/add")
    async def add(session: ext.SessionDep, other: Annotated[AsyncSession, Depends(ext.session_of("archive"))]) -> bool:
        session.add(Author(name="new"))
        other.add(Author(name="old"))
        return session is other

    assert (await post(app, "/add")).json() is False
    assert (await names(observer), await names(archive)) == (["new"], ["old"])
    await archive.dispose()


async def test_other_middlewares_around_and_inside_change_nothing(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await create_tables(engine)

    class Wrapping(BaseHTTPMiddleware):
        @override
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

    app = FastAPI()
    ran: list[str] = []
    for middleware in (Wrapping, GZipMiddleware):
        app.add_middleware(middleware)
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    for middleware in (Wrapping, GZipMiddleware):
        app.add_middleware(middleware)
    add_problem_handlers(app)

    async def cleaning_up(session: ext.SessionDep) -> AsyncIterator[None]:
        try:
            yield
        except Exception:
            ran.append("saw the failure")
            raise

    @app.post("/add/{name}", dependencies=[Depends(cleaning_up)])
    async def add(name: str, session: ext.SessionDep) -> str:
        session.add(Author(name=name))
        return "added"

    statuses = [(await post(app, "/add/Lem")).status_code for _ in range(2)]

    assert statuses == [200, 409]
    assert await names(observer) == ["Lem"]


async def test_a_dependency_that_hides_errors_cannot_hide_a_failed_commit(engine: AsyncEngine) -> None:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    add_problem_handlers(app)

    async def hiding() -> AsyncIterator[None]:
        with suppress(Exception):
            yield

    @app.post("/add/{name}", dependencies=[Depends(hiding)])
    async def add(name: str, session: ext.SessionDep) -> str:
        session.add(Author(name=name))
        return "added"

    statuses = [(await post(app, "/add/Lem")).status_code for _ in range(2)]

    assert statuses == [200, 409]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_requests_without_a_body_in_the_answer_are_like_others(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, "/health")

    assert answer.status_code == {"HEAD": 200, "OPTIONS": 405}[method]
    assert answer.content == b"" or method == "OPTIONS"


# Exceptions that are answered


async def test_what_a_handler_that_raises_has_done_is_rolled_back_whatever_is_answered(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))

    @app.post("/login")
    async def log_in(session: ext.SessionDep) -> None:
        session.add(Author(name="Ann"))
        raise HTTPException(303, headers={"location": "/elsewhere"})

    answer = await post(app, "/login")

    assert answer.status_code == 303
    assert await names(observer) == []


async def test_an_exception_handler_finds_a_clean_session(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))

    @app.post("/twice")
    async def add_twice(session: ext.SessionDep) -> None:
        session.add_all([Author(name="Ann"), Author(name="Ann")])
        await session.flush()

    @app.exception_handler(UniqueViolationError)
    async def show_who_is_there(request: Request, _error: Exception) -> Response:
        found = (await request_session(request).scalars(select(Author.name))).all()
        return JSONResponse(list(found), 303, {"location": "/elsewhere"})

    answer = await post(app, "/twice")

    assert (answer.status_code, answer.json()) == (303, [])
    assert await names(observer) == []


async def test_what_tasks_of_a_handler_have_done_is_rolled_back_when_one_of_them_fails(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    add_problem_handlers(app)

    @app.post("/add")
    async def add(session: ext.SessionDep) -> None:
        async def twice() -> None:
            session.add_all([Author(name="Ann"), Author(name="Ann")])
            await session.flush()

        session.add(Author(name="Lem"))
        await session.flush()
        async with asyncio.TaskGroup() as group:
            group.create_task(twice())

    answer = await post(app, "/add")

    assert (answer.status_code, answer.json()["code"]) == (409, "exists")
    assert await names(observer) == []
    assert not engine.pool.status().holders


async def test_the_dependency_for_a_name_is_the_same_each_time() -> None:
    assert ext.session_of("archive") is ext.session_of("archive")


# Without the middleware, without a request


async def test_without_the_middleware_the_dependency_says_how_to_add_it() -> None:
    app = FastAPI()
    errors: list[Exception] = []

    @app.post("/")
    async def ask(request: Request) -> str:
        try:
            ext.request_session(request)
        except InvalidRequestError as error:
            errors.append(error)
        return "asked"

    await post(app, "/")

    assert "app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))" in str(errors[0])


async def test_a_name_that_no_middleware_has_is_named_with_those_there_are(app: FastAPI) -> None:
    errors: list[Exception] = []

    @app.post("/ask")
    async def ask(request: Request) -> str:
        for call in (request_session, stream_session):
            try:
                call(request, "archive")
            except InvalidRequestError as error:
                errors.append(error)
        return "asked"

    await post(app, "/ask")

    assert [("'archive'" in str(error), "there are 'default'" in str(error)) for error in errors] == [(True, True)] * 2


@pytest.mark.parametrize("connection", [None, {}, "session"])
def test_outside_of_a_request_there_is_no_session(connection: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"outside of a request, open one: `async with sessions\(\)"):
        request_session(connection)


def test_what_makes_no_sessions_is_refused(sqlite_url: str) -> None:
    engine = create_async_engine(sqlite_url)

    with pytest.raises(ArgumentError, match="async_sessionmaker"):
        AsyncSessionMiddleware(FastAPI(), engine)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="commit_on"):
        AsyncSessionMiddleware(FastAPI(), async_sessionmaker(engine), commit_on=200)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match='registry with scope="task" has no session for a request'):
        AsyncSessionMiddleware(FastAPI(), async_scoped_session(async_sessionmaker(engine), scope="task"))


# In another thread: TestClient, and websockets


def chat_app(engine: AsyncEngine, sessions: Any, ended: list[AsyncSession]) -> FastAPI:
    @asynccontextmanager
    async def with_tables(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        async with engine.begin() as connection:
            await connection.create_all(Base.metadata)
        yield {"greeting": "welcome"}

    app = FastAPI(lifespan=lifespan(engine, inner=with_tables))
    app.add_middleware(AsyncSessionMiddleware, sessions=sessions)
    add_problem_handlers(app)

    @app.websocket("/chat")
    async def chat(socket: WebSocket, session: ext.SessionDep) -> None:
        ended.append(session)
        await socket.accept()
        await socket.send_text(socket.state.greeting)
        while (said := await socket.receive_text()) != "bye":
            session.add(Author(name=said))
            if said == "exhaust":
                raise PoolTimeoutError(timeout=1, size=1, holders=[], waiting=0)
            if not said.startswith("draft"):
                await session.commit()
            else:
                await session.flush()
            await socket.send_text(str(len((await session.scalars(select(Author))).all())))
        await socket.close()

    @app.get("/authors")
    async def listed(session: ext.SessionDep) -> list[str]:
        return list(await session.scalars(select(Author.name)))

    return app


@pytest.fixture
def ended() -> list[AsyncSession]:
    return []


@pytest.fixture(params=["maker", "registry"])
def browser(request: pytest.FixtureRequest, sqlite_url: str, ended: list[AsyncSession]) -> Iterator[TestClient]:
    engine = create_async_engine(sqlite_url)
    maker = async_sessionmaker(engine)
    app = chat_app(engine, maker if request.param == "maker" else async_scoped_session(maker), ended)
    with TestClient(app) as client:
        yield client
    assert not engine.pool.status().open


def is_over(session: AsyncSession) -> bool:
    return not session.in_transaction() and session.context.closed


def test_a_websocket_has_a_session_that_its_handler_commits(browser: TestClient, ended: list[AsyncSession]) -> None:
    with browser.websocket_connect("/chat") as socket:
        assert socket.receive_text() == "welcome"
        socket.send_text("Lem")
        assert socket.receive_text() == "1"
        socket.send_text("draft")
        assert socket.receive_text() == "2"
        socket.send_text("bye")
        with pytest.raises(WebSocketDisconnect):
            socket.receive_text()

    assert browser.get("/authors").json() == ["Lem"]
    assert is_over(ended[0])


def test_a_websocket_whose_client_leaves_rolls_back(browser: TestClient, ended: list[AsyncSession]) -> None:
    # what the handler raises when its client has left may reach the test, or come too late for that
    with suppress(WebSocketDisconnect), browser.websocket_connect("/chat") as socket:
        socket.receive_text()
        socket.send_text("draft")
        socket.receive_text()

    assert browser.get("/authors").json() == []
    assert is_over(ended[0])


def test_an_error_of_the_database_closes_a_websocket_with_a_code(
    browser: TestClient, ended: list[AsyncSession]
) -> None:
    with browser.websocket_connect("/chat") as socket:
        socket.receive_text()
        socket.send_text("exhaust")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()

    assert (caught.value.code, caught.value.reason) == (1013, "Service Unavailable")
    assert is_over(ended[0])


def test_an_application_can_be_tested_again_and_again(sqlite_url: str) -> None:
    engine = create_async_engine(sqlite_url)
    app = chat_app(engine, async_sessionmaker(engine), [])
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/authors").json() == []


async def test_tests_can_put_a_session_of_their_own_in_the_place_of_the_requests(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with engine.connect() as connection, AsyncSession(connection) as session:
        await connection.begin()
        app.dependency_overrides[ext.get_session] = lambda: session
        assert (await post(app, "/explicit/Lem")).status_code == 418
        await connection.rollback()

    assert await names(observer) == []
