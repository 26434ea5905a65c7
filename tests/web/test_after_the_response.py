"""Once the response has started the request's session is gone: what comes later gets its own, or is told so."""

from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from sqlalchemy import select

from aiosession import AsyncEngine, ResourceClosedError, async_scoped_session, async_sessionmaker
from aiosession.ext.fastapi import SessionDep, StreamSessionDep, request_session, stream_session
from tests.web.conftest import client_of
from tests.web.library import Author, Seen, make_app, names


async def fill(client: httpx.AsyncClient, *authors: str) -> None:
    for name in authors:
        assert (await client.post("/authors", json={"name": name})).status_code == 201


async def test_a_background_task_that_uses_the_requests_session_is_told_to_open_its_own(
    client: httpx.AsyncClient, seen: Seen
) -> None:
    await client.post("/task-with-session")

    (error,) = seen.errors
    assert isinstance(error, ResourceClosedError)
    assert "async with sessions() as session" in str(error)


async def test_asking_for_the_session_after_the_response_says_what_to_do_instead(
    client: httpx.AsyncClient, seen: Seen
) -> None:
    await client.post("/task-asks-late")

    (error,) = seen.errors
    assert isinstance(error, ResourceClosedError)
    assert "the request POST /task-asks-late is answered" in str(error)
    assert "stream_session(request)" in str(error)


async def test_the_registry_says_after_the_response_that_a_scope_is_needed(
    engine: AsyncEngine, app: FastAPI, seen: Seen
) -> None:
    Session = async_scoped_session(async_sessionmaker(engine))
    app = make_app(Session, engine, seen)

    @app.post("/task")
    async def start(background: BackgroundTasks) -> str:
        async def work() -> None:
            try:
                await Session.scalars(select(Author))
            except ResourceClosedError as error:
                seen.errors.append(error)
            async with Session.scope() as own:
                own.add(Author(name="Lem"))
                await Session.commit()

        background.add_task(work)
        return "started"

    async with client_of(app) as client:
        await client.post("/task")
        (error,) = seen.errors
        assert "the request POST /task has ended" in str(error)
        assert "async with Session.scope()" in str(error)
        assert (await client.get("/authors")).json()[0]["name"] == "Lem"


async def test_a_background_task_can_have_a_session_of_its_own(
    client: httpx.AsyncClient, observer: AsyncEngine
) -> None:
    await client.post("/task-of-its-own/Lem")

    assert await names(observer) == ["Lem"]


async def test_a_response_can_be_streamed_out_of_the_database(
    client: httpx.AsyncClient, engine: AsyncEngine, seen: Seen
) -> None:
    await fill(client, "Lem", "Dick", "Le Guin")

    answer = await client.get("/stream")

    assert answer.text.split() == ["Dick", "Le", "Guin", "Lem"]
    assert not engine.pool.status().holders
    (session,) = seen.sessions
    assert not session.in_transaction()


async def test_a_stream_of_the_requests_session_ends_with_an_error_that_says_why(
    client: httpx.AsyncClient, engine: AsyncEngine, seen: Seen
) -> None:
    await fill(client, "Lem", "Dick", "Le Guin")

    await client.get("/stream-of-the-request")

    (error,) = seen.errors
    assert isinstance(error, ResourceClosedError), repr(error)
    assert not engine.pool.status().holders


async def test_background_tasks_can_use_a_session_that_lives_as_long_as_they_do(
    engine: AsyncEngine, observer: AsyncEngine, app: FastAPI
) -> None:
    @app.post("/late/{name}")
    async def late(name: str, session: StreamSessionDep, background: BackgroundTasks) -> str:
        async def work() -> None:
            session.add(Author(name=name))
            await session.commit()
            session.add(Author(name="not committed"))
            await session.flush()

        background.add_task(work)
        return "started"

    async with client_of(app) as client:
        await client.post("/late/Lem")

    assert await names(observer) == ["Lem"]
    assert not engine.pool.status().holders


async def test_objects_stay_readable_after_the_response_has_started(engine: AsyncEngine, app: FastAPI) -> None:
    read: list[Any] = []

    @app.post("/read-late")
    async def read_late(session: SessionDep, background: BackgroundTasks) -> str:
        author = Author(name="Lem")
        session.add(author)
        background.add_task(lambda: read.append((author.id, author.name)))
        return "started"

    async with client_of(app) as client:
        await client.post("/read-late")

    assert read[0][1] == "Lem"
    assert isinstance(read[0][0], int)


async def test_once_the_request_is_over_no_session_is_to_be_had_for_it(app: FastAPI, seen: Seen) -> None:
    requests: list[Request] = []

    @app.post("/keep")
    async def keep(request: Request) -> str:
        requests.append(request)
        return "kept"

    async with client_of(app) as client:
        await client.post("/keep")

    for call in (request_session, stream_session):
        with pytest.raises(ResourceClosedError, match=r"the request POST /keep is over.* opens a session of its own"):
            call(requests[0])
