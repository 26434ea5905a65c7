"""Requests over real HTTP that go wrong: the answer is clear, the data true, and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select, text
from starlette.types import ASGIApp, Receive, Scope, Send

from aiosession import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from aiosession.ext.fastapi import SessionDep, lifespan
from aiosession.testing.postgres import PostgresCluster
from tests.concurrency.proxy import Fault, How, When, proxy_to
from tests.web.library import Author, Seen, create_tables, make_app, names
from tests.web.serving import Served, nothing_is_left, rude_client, serving, until


@asynccontextmanager
async def asking(app: ASGIApp) -> AsyncIterator[tuple[httpx.AsyncClient, Served]]:
    async with serving(app) as served, httpx.AsyncClient(base_url=served.url, timeout=20) as client:
        yield client, served


async def test_answers_and_data_agree(app: FastAPI, engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with asking(app) as (client, served):
        statuses = [
            (await client.post(path)).status_code
            for path in ("/unflushed/Lem", "/unflushed/Lem", "/refuse/Dick", "/raise/Strugatsky", "/unflushed/Le Guin")
        ]
        await served.quiet()

        assert statuses == [200, 409, 418, 500, 200]
        assert await names(observer) == ["Le Guin", "Lem"]
        await nothing_is_left(engine, observer)


class Gate:
    """A place where a handler waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()


@pytest.mark.parametrize("body", ["with body", "without body"])
async def test_a_client_who_is_gone_before_the_response_rolls_back(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine, body: str
) -> None:
    gate = Gate()

    @app.api_route("/slow", methods=["GET" if body == "without body" else "POST"])
    async def slow(session: SessionDep) -> str:
        session.add(Author(name="Lem"))
        await session.flush()
        await gate.wait()
        return "done"

    async with serving(app) as served:
        async with rude_client(served, "GET" if body == "without body" else "POST", "/slow"):
            await gate.reached.wait()
        await served.without_clients()
        gate.opened.set()
        await served.quiet()

        await nothing_is_left(engine, observer)
        assert await names(observer) == []


async def test_what_a_client_who_is_gone_has_asked_for_can_be_done_nevertheless(
    engine: AsyncEngine, observer: AsyncEngine, app: FastAPI
) -> None:
    app = make_app(async_sessionmaker(engine), engine, Seen(), rollback_on_disconnect=False)
    gate = Gate()

    @app.post("/slow")
    async def slow(session: SessionDep) -> str:
        session.add(Author(name="Lem"))
        await gate.wait()
        return "done"

    async with serving(app) as served:
        async with rude_client(served, "POST", "/slow"):
            await gate.reached.wait()
        await served.without_clients()
        gate.opened.set()
        await served.quiet()

    assert await names(observer) == ["Lem"]


async def test_a_body_that_nobody_has_read_is_still_there_for_the_application(
    app: FastAPI, engine: AsyncEngine
) -> None:
    @app.post("/echo")
    async def echo(request: Request, session: SessionDep) -> StreamingResponse:
        await session.execute(select(Author))

        async def back() -> AsyncIterator[bytes]:
            async for chunk in request.stream():
                yield chunk

        return StreamingResponse(back())

    async with asking(make_plain(app)) as (client, _):
        answer = await client.post("/echo", content=b"abc" * 1000)

    assert answer.content == b"abc" * 1000


def make_plain(app: FastAPI) -> ASGIApp:
    """Leave out that Starlette itself waits for the client to leave, for which it reads, and throws away, the body."""

    async def with_newer_protocol(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["asgi"] = {**scope["asgi"], "spec_version": "2.4"}
        await app(scope, receive, send)

    return with_newer_protocol


async def test_a_client_who_leaves_in_the_middle_of_a_stream_leaves_nothing_behind(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine, seen: Seen
) -> None:
    async with AsyncSession(engine) as session:
        session.add_all(Author(name=f"{number:06}" * 6) for number in range(3000))
        await session.commit()
    async with serving(app) as served:
        async with rude_client(served, "GET", "/stream") as reader:
            await reader.readuntil(b"000000")
        await served.without_clients()
        await served.quiet()

        await nothing_is_left(engine, observer)
        (session,) = seen.sessions
        assert not session.in_transaction()


async def test_an_exhausted_pool_is_answered_at_once_with_a_time_to_come_back(
    database_url: str, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await create_tables(engine)
    small = create_async_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    app = make_app(async_sessionmaker(small), small, Seen())
    async with asking(app) as (client, _):
        async with small.connect():
            refused = await client.get("/authors")
            sick = await client.get("/health")
        answered = await client.get("/authors")
        healthy = await client.get("/health")
        await nothing_is_left(small, observer)
    await small.dispose()

    assert (refused.status_code, refused.headers["retry-after"], refused.json()["code"]) == (503, "1", "busy")
    assert (sick.status_code, sick.json()["databases"]["default"]["pool"]["in_use"]) == (503, 1)
    assert (answered.status_code, healthy.status_code) == (200, 200)


@pytest.mark.postgres
async def test_a_database_that_is_down_at_the_start_is_used_as_soon_as_it_is_back() -> None:
    cluster = await asyncio.to_thread(PostgresCluster, {"synchronous_commit": "on"})
    try:
        engine = create_async_engine(cluster.url())
        await create_tables(engine)
        await engine.dispose()
        await asyncio.to_thread(cluster.kill)
        app = make_app(async_sessionmaker(engine), engine, Seen())
        app.router.lifespan_context = lifespan(engine)
        async with asking(app) as (client, _):
            away = [await client.get("/authors"), await client.post("/unflushed/Lem"), await client.get("/health")]
            await asyncio.to_thread(cluster.start)
            back = [await client.post("/unflushed/Lem"), await client.get("/authors"), await client.get("/health")]
            await asyncio.to_thread(cluster.kill)
            await asyncio.to_thread(cluster.start)
            health = await client.get("/health")
            again = await client.get("/authors")
            assert not engine.pool.status().holders
        assert not engine.pool.status().open
    finally:
        await asyncio.to_thread(cluster.stop)

    assert [answer.status_code for answer in away] == [503, 503, 503]
    assert [answer.headers.get("retry-after") for answer in away[:2]] == ["1", "1"]
    assert away[0].json()["code"] == "unavailable"
    assert [answer.status_code for answer in back] == [200, 200, 200]
    assert [answer.status_code for answer in (health, again)] == [200, 200], "dead idle connections were not replaced"


class Impatient:
    """Cancels a request when it is told to, as a server does that shuts down, or a time limit."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.scope: anyio.CancelScope | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with anyio.CancelScope() as self.scope:
            await self._app(scope, receive, send)
        if self.scope.cancelled_caught:
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b"too late"})


@asynccontextmanager
async def taken(observer: AsyncEngine, name: str) -> AsyncIterator[None]:
    """Have another transaction insert *name* and not commit, so that whoever inserts it too has to wait."""
    async with observer.connect() as connection:
        await connection.execute(text(f"INSERT INTO author (id, name) VALUES (77, '{name}')"))
        yield
        await connection.rollback()


async def is_waiting(observer: AsyncEngine) -> bool:
    async with observer.connect() as connection:
        found = await connection.exec_driver_sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return bool(found.scalar())


async def until_it_waits(observer: AsyncEngine) -> None:
    async with asyncio.timeout(10):
        while not await is_waiting(observer):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.without("sqlite", reason="a writer keeps all others out")
@pytest.mark.without("mariadb", reason="it does not tell who waits for what")
async def test_a_request_that_is_cancelled_in_its_flush_leaves_nothing_behind(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    impatient = Impatient(app)
    async with asking(impatient) as (client, served):
        async with taken(observer, "Lem"):
            asked = asyncio.create_task(client.post("/authors", json={"name": "Lem"}))
            await until_it_waits(observer)
            assert impatient.scope is not None
            impatient.scope.cancel()
            answer = await asked
            await served.quiet()
            assert not engine.pool.status().holders
            assert not await is_waiting(observer)

        await nothing_is_left(engine, observer)
        assert (answer.status_code, await names(observer)) == (504, [])
        assert (await client.post("/authors", json={"name": "Lem"})).status_code == 201


@pytest.mark.without("sqlite", reason="a writer keeps all others out")
@pytest.mark.without("mariadb", reason="it does not tell who waits for what")
async def test_a_client_who_leaves_during_a_flush_rolls_back(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with serving(app) as served:
        async with taken(observer, "Lem"):
            async with rude_client(served, "POST", "/unflushed/Lem"):
                await until_it_waits(observer)
            await served.without_clients()
        await served.quiet()

        await nothing_is_left(engine, observer)


@pytest.mark.without("sqlite", reason="a writer keeps all others out")
@pytest.mark.without("mariadb", reason="it does not tell who waits for what")
async def test_a_task_left_behind_that_uses_the_session_is_an_error_and_leaves_nothing_either(
    app: FastAPI, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    left: list[asyncio.Task[None]] = []

    @app.post("/leave-behind")
    async def leave_behind(session: SessionDep) -> str:
        session.add(Author(name="Lem"))
        left.append(asyncio.create_task(session.flush()))
        await until_it_waits(observer)
        return "done"

    async with asking(app) as (client, served):
        async with taken(observer, "Lem"):
            answer = await client.post("/leave-behind")
        await left[0]
        await served.quiet()
        await until(lambda: not engine.pool.status().holders)

        await nothing_is_left(engine, observer)
        assert (answer.status_code, await names(observer)) == (500, [])


@pytest.mark.without("sqlite", reason="transactions that write come one after the other")
@pytest.mark.without("mariadb", reason="it waits for locks instead")
async def test_a_commit_that_cannot_be_serialized_asks_to_come_back(
    engine: AsyncEngine, observer: AsyncEngine, app: FastAPI
) -> None:
    sessions = async_sessionmaker(engine, isolation_level="SERIALIZABLE")
    app = make_app(sessions, engine, Seen())
    both = asyncio.Barrier(2)

    @app.post("/skew/{name}")
    async def skew(name: str, session: SessionDep) -> str:
        count = await session.scalar(select(func.count()).select_from(Author))
        session.add(Author(name=f"{name} after {count}"))
        await session.flush()
        await both.wait()
        return "done"

    async with asking(app) as (client, served):
        answers = await asyncio.gather(client.post("/skew/a"), client.post("/skew/b"))
        await served.quiet()
        await nothing_is_left(engine, observer)

    refused, accepted = sorted(answers, key=lambda answer: -answer.status_code)
    assert (accepted.status_code, refused.status_code, refused.headers["retry-after"]) == (200, 503, "1")
    assert len(await names(observer)) == 1


@pytest.mark.postgres
async def test_a_commit_whose_reply_is_lost_does_not_invite_to_repeat(
    postgres: PostgresCluster, postgresql_url: str
) -> None:
    async def kill() -> None:
        raise AssertionError

    async with proxy_to(postgres.port, kill) as proxy:
        engine = create_async_engine(postgresql_url.replace(f":{postgres.port}", f":{proxy.port}"))
        await create_tables(engine)
        async with asking(make_app(async_sessionmaker(engine), engine, Seen())) as (client, _):
            proxy.arm(Fault(b"COMMIT", When.AFTER, How.CUT))
            answer = await client.post("/authors", json={"name": "Lem"})
            stored = await client.get("/authors")
            assert not engine.pool.status().holders
        await engine.dispose()

    assert (answer.status_code, answer.json()["code"]) == (500, "outcome_unknown")
    assert "retry-after" not in answer.headers
    assert "look first" in answer.json()["detail"]
    assert stored.json()[0]["name"] == "Lem"


async def test_nothing_of_sql_or_values_reaches_the_client(app: FastAPI) -> None:
    async with asking(app) as (client, _):
        await client.post("/unflushed/Lem")
        answer = await client.post("/unflushed/Lem")

    shown = answer.text.casefold()
    assert not [
        word
        for word in ("insert", "lem'", "author.", "sql", "constraint")
        if word in shown.replace("/unflushed/lem", "")
    ]


async def test_a_stream_can_be_cancelled_and_the_next_request_gets_the_connection(
    database_url: str, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await create_tables(engine)
    one = create_async_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=5)
    async with AsyncSession(one) as session:
        session.add_all(Author(name=f"{number:06}" * 6) for number in range(2000))
        await session.commit()
    async with asking(make_app(async_sessionmaker(one), one, Seen())) as (client, served):
        async with rude_client(served, "GET", "/stream") as reader:
            await reader.readuntil(b"000000")
        answer = await client.post("/unflushed/Lem")
        await served.quiet()
        await until(lambda: not one.pool.status().holders)
    await one.dispose()

    assert answer.status_code == 200
