"""What a request has written is there when its response says so, and only then."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.exc import IntegrityError
from starlette.types import Message, Receive, Scope, Send

from aiosession import AsyncEngine, AsyncSession, ConcurrentUseError, async_scoped_session, async_sessionmaker
from aiosession.events import listen
from aiosession.ext.fastapi import SessionDep
from aiosession.testing.statements import StatementLog
from tests.web.conftest import client_of
from tests.web.library import Author, Seen, make_app, names
from tests.web.serving import until


async def test_work_is_committed_before_the_response_starts(client: httpx.AsyncClient, observer: AsyncEngine) -> None:
    answer = await client.post("/authors", json={"name": "Lem"})

    assert (answer.status_code, answer.json()["name"]) == (201, "Lem")
    assert await names(observer) == ["Lem"]


async def test_changes_that_were_never_flushed_are_committed_too(
    client: httpx.AsyncClient, observer: AsyncEngine, seen: Seen
) -> None:
    answer = await client.post("/unflushed/Lem")

    assert answer.status_code == 200
    assert await names(observer) == ["Lem"]
    assert seen.ran == ["Lem"]


async def test_a_response_that_says_failure_rolls_back(client: httpx.AsyncClient, observer: AsyncEngine) -> None:
    answer = await client.post("/refuse/Lem")

    assert (answer.status_code, answer.json()) == (418, {"detail": "a teapot"})
    assert await names(observer) == []


async def test_a_handler_that_raises_rolls_back(client: httpx.AsyncClient, observer: AsyncEngine) -> None:
    answer = await client.post("/raise/Lem")

    assert answer.status_code == 500
    assert await names(observer) == []


async def test_what_a_handler_commits_itself_stays(client: httpx.AsyncClient, observer: AsyncEngine) -> None:
    await client.post("/explicit/Lem")

    assert await names(observer) == ["Lem"]


async def test_a_failed_commit_becomes_the_error_response(
    client: httpx.AsyncClient, observer: AsyncEngine, seen: Seen
) -> None:
    await client.post("/unflushed/Lem")

    answer = await client.post("/unflushed/Lem")

    assert (answer.status_code, answer.json()["code"]) == (409, "exists")
    assert answer.headers["content-type"] == "application/problem+json"
    assert await names(observer) == ["Lem"]
    assert seen.ran == ["Lem"], "the background task of the response that was replaced has run"


@pytest.mark.without("mariadb", reason="it has no deferred constraints")
async def test_a_deferred_constraint_that_fails_in_commit_becomes_the_error_response(
    client: httpx.AsyncClient, seen: Seen
) -> None:
    answer = await client.post("/books/12345")

    assert (answer.status_code, answer.json()["code"]) == (409, "reference")
    assert seen.ran == []


async def test_without_handlers_a_failed_commit_is_an_internal_error(engine: AsyncEngine, app: FastAPI) -> None:
    app = make_app(async_sessionmaker(engine), engine, Seen(), problems=False)
    async with client_of(app) as client:
        await client.post("/unflushed/Lem")
        answer = await client.post("/unflushed/Lem")

    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_a_handler_of_the_application_answers_for_a_failed_commit(engine: AsyncEngine, app: FastAPI) -> None:
    def answer_for(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse(f"{request.url.path}: taken", 400)

    app = make_app(async_sessionmaker(engine), engine, Seen(), problems=False)
    app.add_exception_handler(IntegrityError, answer_for)
    async with client_of(app) as client:
        await client.post("/unflushed/Lem")
        answer = await client.post("/unflushed/Lem")

    assert (answer.status_code, answer.text) == (400, "/unflushed/Lem: taken")


async def test_other_responses_can_commit(engine: AsyncEngine, observer: AsyncEngine, app: FastAPI) -> None:
    app = make_app(async_sessionmaker(engine), engine, Seen(), commit_on=lambda status: status == 418)

    @app.post("/noted/{name}")
    async def note(name: str, session: SessionDep) -> Response:
        session.add(Author(name=name))
        return Response(status_code=418)

    async with client_of(app) as client:
        await client.post("/noted/Lem")
        await client.post("/authors", json={"name": "Le Guin"})

    assert await names(observer) == ["Lem"]


async def test_a_request_that_asks_for_no_session_makes_none(
    engine: AsyncEngine, app: FastAPI, statements: StatementLog
) -> None:
    made = []
    sessions = async_sessionmaker(engine)

    def counted() -> AsyncSession:
        made.append(1)
        return sessions()

    statements.clear()
    async with client_of(make_app(counted, engine, Seen())) as client:
        assert (await client.get("/nothing")).status_code == 200
        assert not made
        await client.get("/authors")

    assert made == [1]


async def test_reading_costs_one_round_trip_and_no_transaction(
    client: httpx.AsyncClient, statements: StatementLog
) -> None:
    created = (await client.post("/authors", json={"name": "Lem"})).json()
    statements.clear()

    await client.get(f"/authors/{created['id']}")

    assert statements.count == 1


async def test_sub_dependencies_share_the_session(client: httpx.AsyncClient) -> None:
    assert (await client.get("/same")).json() is True


async def test_a_session_is_closed_and_gives_its_connection_back_before_the_body_is_sent(
    engine: AsyncEngine, app: FastAPI, seen: Seen
) -> None:
    held: list[int] = []

    async def watching(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            held.append(len(engine.pool.status().holders))
            await send(message)

        await app(scope, receive, watch)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(watching), base_url="http://library") as client:
        await client.post("/authors", json={"name": "Lem"})

    assert held
    assert set(held) == {0}


async def test_with_a_registry_the_current_session_is_the_one_of_the_request(
    engine: AsyncEngine, observer: AsyncEngine, app: FastAPI
) -> None:
    Session = async_scoped_session(async_sessionmaker(engine))
    app = make_app(Session, engine, Seen())

    @app.post("/current")
    async def current() -> bool:
        Session.add(Author(name="Lem"))
        await Session.flush()
        return True

    @app.post("/both")
    async def both(session: SessionDep) -> bool:
        return session is Session()

    async with client_of(app) as client:
        assert (await client.post("/current")).status_code == 200
        assert (await client.post("/both")).json() is True

    assert await names(observer) == ["Lem"]
    assert not Session.has()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_commit_that_another_task_is_in_the_way_of_says_what_such_a_task_uses_instead(
    engine: AsyncEngine, app: FastAPI
) -> None:
    begun, opened = asyncio.Event(), asyncio.Event()
    left: list[asyncio.Task[None]] = []
    errors: list[Exception] = []
    sessions = async_sessionmaker(engine)
    app = make_app(sessions, engine, Seen())

    async def wait(*_: object) -> None:
        begun.set()
        await opened.wait()

    @app.post("/leave-behind")
    async def leave_behind(session: SessionDep) -> None:
        listen(session, "before_flush", wait)
        session.add(Author(name="Lem"))
        left.append(asyncio.create_task(session.flush()))
        await begun.wait()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except ConcurrentUseError as error:
            errors.append(error)
            raise

    async with client_of(noting) as client:
        assert (await client.post("/leave-behind")).status_code == 500
    opened.set()
    await left[0]
    await until(lambda: not engine.pool.status().holders)

    assert "stream_session(request), in FastAPI a StreamSessionDep" in errors[0].__notes__[0]
