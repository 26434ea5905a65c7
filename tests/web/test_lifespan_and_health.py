"""Engines begin and end with the application; whether they answer can be asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route

from aiosession import ArgumentError, AsyncEngine, DisconnectError, EngineRegistry, create_async_engine
from aiosession.ext.starlette import health, lifespan
from tests.web.conftest import client_of

NOWHERE = "postgresql+asyncpg://user:secret@127.0.0.1:1/nothing"


async def test_engines_are_disposed_of_when_the_application_stops(engine: AsyncEngine) -> None:
    async with lifespan(engine)(FastAPI()):
        assert engine.pool.status().open == 1

    assert engine.pool.status().open == 0


async def test_a_lifespan_of_the_users_own_runs_while_the_engines_are_open(engine: AsyncEngine) -> None:
    told: list[object] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        told.append(app)
        yield {"color": "red"}
        told.append(engine.pool.status().open)

    app = FastAPI()
    async with lifespan(engine, inner=own)(app) as state:
        assert state == {"color": "red"}

    assert told == [app, 1]


async def test_engines_are_disposed_of_if_the_users_own_lifespan_fails(engine: AsyncEngine) -> None:
    @asynccontextmanager
    async def failing(app: FastAPI) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        async with lifespan(engine, inner=failing)(FastAPI()):
            pass

    assert engine.pool.status().open == 0


async def test_an_application_that_needs_its_database_does_not_start_without() -> None:
    engine = create_async_engine(NOWHERE)

    with pytest.raises(DisconnectError) as caught:
        async with lifespan(engine, check=True)(FastAPI()):
            pass

    (note,) = caught.value.__notes__
    assert "check=False" in note
    assert "secret" not in note


async def test_an_application_that_can_wait_starts_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with lifespan(create_async_engine(NOWHERE))(FastAPI()):
        pass

    assert "does not answer: DisconnectError" in caplog.text
    assert "secret" not in caplog.text


async def test_registries_of_engines_are_disposed_of_too(sqlite_url: str) -> None:
    engines: EngineRegistry[str] = EngineRegistry(lambda name: create_async_engine(sqlite_url))
    async with lifespan(engines)(FastAPI()), (await engines.get("one")).connect():
        pass

    assert len(engines) == 0


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ArgumentError, match="lifespan of your own is given as inner="):
        lifespan(FastAPI())  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="takes an engine"):
        health("sqlite://")  # type: ignore[arg-type]


async def test_health_shows_each_database_and_its_pool(engine: AsyncEngine) -> None:
    nowhere = create_async_engine(NOWHERE)
    app = Starlette(routes=[Route("/up", health(engine)), Route("/both", health({"main": engine, "archive": nowhere}))])
    async with client_of(app) as client:
        up = await client.get("/up")
        both = await client.get("/both")

    pool = {"size": 5, "open": 1, "idle": 1, "in_use": 0, "waiting": 0}
    assert (up.status_code, up.json()["status"]) == (200, "up")
    assert up.json()["databases"]["default"]["pool"] == pool
    assert up.headers["cache-control"] == "no-store"
    assert (both.status_code, both.json()["status"]) == (503, "down")
    assert both.json()["databases"]["main"]["status"] == "up"
    assert both.json()["databases"]["archive"]["error"] == "DisconnectError"
    assert "secret" not in both.text
    assert "127.0.0.1" not in both.text


async def test_health_does_not_wait_for_ever_for_a_free_connection(database_url: str, engine: AsyncEngine) -> None:
    small = create_async_engine(database_url, pool_size=1, max_overflow=0)
    app = FastAPI()
    app.get("/health")(health(small, timeout=0.05))
    async with client_of(app) as client, small.connect():
        answer = await client.get("/health")
    await small.dispose()

    assert answer.status_code == 503
    assert answer.json()["databases"]["default"]["pool"]["in_use"] == 1
    assert answer.json()["databases"]["default"]["pool"]["waiting"] == 0


@pytest.mark.parametrize(("engines", "timeout"), [({}, 1.0), (None, 0), (None, float("nan"))])
def test_a_health_check_needs_a_database_and_some_time(engines: Any, timeout: float) -> None:
    engines = create_async_engine("sqlite://") if engines is None else engines
    with pytest.raises(ArgumentError, match=r"health\(\) needs a database to ask and some seconds for it"):
        health(engines, timeout=timeout)


class Meeting:
    """Where as many as are expected have to be at once; each is let go when all are there."""

    def __init__(self, expected: int) -> None:
        self._barrier = asyncio.Barrier(expected)

    async def come(self, *_: object) -> None:
        async with asyncio.timeout(5):
            await self._barrier.wait()


async def test_several_databases_are_asked_and_disposed_of_side_by_side(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = [create_async_engine(sqlite_url) for _ in range(3)]
    asked, ended = Meeting(3), Meeting(3)
    monkeypatch.setitem(lifespan.__globals__, "probe", asked.come)
    for engine in engines:
        monkeypatch.setattr(engine, "dispose", ended.come)

    async with lifespan(*engines)(FastAPI()):
        pass


async def test_all_databases_that_are_needed_and_do_not_answer_are_named() -> None:
    engines = [create_async_engine(NOWHERE), create_async_engine(NOWHERE.replace("nothing", "archive"))]

    with pytest.raises(DisconnectError) as caught:
        async with lifespan(*engines, check=True)(FastAPI()):
            pass

    (note,) = caught.value.__notes__
    assert "/nothing" in note
    assert "/archive" in note


async def test_an_engine_that_cannot_be_disposed_of_keeps_no_other_open(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, last = (create_async_engine(sqlite_url) for _ in range(3))

    async def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(first, "dispose", fail)
    monkeypatch.setattr(second, "dispose", fail)

    with pytest.raises(ZeroDivisionError):
        async with lifespan(first, second, last)(FastAPI()):
            assert last.pool.status().open == 1

    assert last.pool.status().open == 0
    assert "could not dispose of" in caplog.text
    monkeypatch.undo()
    for engine in (first, second):
        await engine.dispose()
