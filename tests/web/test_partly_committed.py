"""Part of a request is committed when the rest of it fails: nobody is invited to repeat what has been done."""

from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse

from aiosession import (
    AsyncEngine,
    AsyncSession,
    SerializationError,
    StaleDataError,
    StatementTimeoutError,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from aiosession.events import listen
from aiosession.ext.fastapi import (
    AsyncSessionMiddleware,
    SessionDep,
    StreamSessionDep,
    add_problem_handlers,
    problem_of,
    session_of,
)
from tests.web.conftest import client_of
from tests.web.library import Author, create_tables, names


def busy() -> SerializationError:
    return SerializationError("SELECT 1", (), ValueError())


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Name one database only: nothing here depends on what it is."""
    return sqlite_url


@pytest.fixture
async def plain(engine: AsyncEngine) -> FastAPI:
    await create_tables(engine)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    add_problem_handlers(app)
    return app


async def asked(app: FastAPI) -> httpx.Response:
    async with client_of(app) as client:
        return await client.post("/")


def invites(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"], answer.headers.get("retry-after")) == (503, "busy", "1")


def warns(answer: httpx.Response) -> bool:
    shown = answer.status_code, answer.json()["code"], answer.headers.get("retry-after")
    return shown == (500, "outcome_partial", None) and "look first" in answer.json()["detail"]


async def test_a_failure_after_a_commit_of_the_handlers_own_warns(plain: FastAPI, observer: AsyncEngine) -> None:
    @plain.post("/")
    async def twice(session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.commit()
        raise busy()

    assert warns(await asked(plain))
    assert await names(observer) == ["Lem"]


async def test_a_failure_of_the_only_work_invites_to_come_back(plain: FastAPI, observer: AsyncEngine) -> None:
    @plain.post("/")
    async def once(session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.flush()
        raise busy()

    assert invites(await asked(plain))
    assert await names(observer) == []


async def test_a_commit_of_what_was_only_read_is_nothing_to_warn_of(plain: FastAPI) -> None:
    @plain.post("/")
    async def read(session: SessionDep) -> None:
        await session.scalars(select(Author))
        await session.commit()
        raise busy()

    assert invites(await asked(plain))


async def test_what_the_session_of_a_stream_has_committed_counts_too(plain: FastAPI) -> None:
    @plain.post("/")
    async def beside(session: SessionDep, stream: StreamSessionDep) -> None:
        stream.add(Author(name="Lem"))
        await stream.commit()
        raise busy()

    assert warns(await asked(plain))


async def test_the_next_request_knows_nothing_of_it(plain: FastAPI) -> None:
    @plain.post("/")
    async def fail_once(session: SessionDep) -> None:
        if not (await session.scalars(select(Author))).all():
            session.add(Author(name="Lem"))
            await session.commit()
        raise busy()

    assert warns(await asked(plain))
    assert invites(await asked(plain))


@pytest.mark.parametrize("is_written", [True, False])
async def test_what_another_database_has_committed_counts_too(
    engine: AsyncEngine, tmp_path: Path, is_written: bool
) -> None:
    archive = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'archive.db'}")
    await create_tables(engine)
    await create_tables(archive)
    failing = async_sessionmaker(archive)

    async def fail(session: object) -> None:
        raise busy()

    listen(failing, "before_commit", fail)
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    app.add_middleware(AsyncSessionMiddleware, sessions=failing, name="archive")
    add_problem_handlers(app)

    @app.post("/")
    async def add(session: SessionDep, other: Annotated[AsyncSession, Depends(session_of("archive"))]) -> None:
        if is_written:
            session.add(Author(name="new"))
        other.add(Author(name="old"))

    answer = await asked(app)

    assert warns(answer) if is_written else invites(answer)
    assert (await names(engine), await names(archive)) == (["new"] if is_written else [], [])
    await archive.dispose()


async def test_handlers_of_the_applications_own_can_ask(plain: FastAPI) -> None:
    @plain.post("/")
    async def twice(session: SessionDep, background: BackgroundTasks) -> None:
        session.add(Author(name="Lem"))
        await session.commit()
        raise busy()

    @plain.exception_handler(SerializationError)
    async def own(request: Request, error: Exception) -> JSONResponse:
        problem, without = problem_of(error, request), problem_of(error)
        assert problem is not None
        assert without is not None
        return JSONResponse([problem.code, without.code])

    assert (await asked(plain)).json() == ["outcome_partial", "busy"]


async def test_an_application_that_is_called_again_for_a_request_remembers(plain: FastAPI) -> None:
    @plain.post("/")
    async def twice(session: SessionDep) -> None:
        if not (await session.scalars(select(Author))).all():
            session.add(Author(name="Lem"))
            await session.commit()
        raise busy()

    async def repeating(scope: dict[str, object], receive: object, send: object) -> None:
        async def ignore(message: object) -> None:
            pass

        await plain(scope, receive, ignore)  # type: ignore[arg-type]
        await plain(scope, receive, send)  # type: ignore[arg-type]

    assert warns(await asked(repeating))  # type: ignore[arg-type]


async def test_what_was_committed_is_not_forgotten_with_the_session_of_a_registry(engine: AsyncEngine) -> None:
    await create_tables(engine)
    registry = async_scoped_session(async_sessionmaker(engine))
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=registry)
    add_problem_handlers(app)

    @app.post("/")
    async def begin_anew() -> None:
        registry.add(Author(name="Lem"))
        await registry.commit()
        await registry.remove()
        raise busy()

    assert warns(await asked(app))


@pytest.mark.parametrize(
    "error",
    [
        StaleDataError(table="author", operation="UPDATE", expected=1, matched=0),
        StatementTimeoutError("SELECT 1", (), ValueError()),
    ],
    ids=["stale", "timeout"],
)
async def test_whatever_clients_repeat_warns(plain: FastAPI, error: Exception) -> None:
    @plain.post("/")
    async def twice(session: SessionDep) -> None:
        session.add(Author(name="Lem"))
        await session.commit()
        raise error

    assert warns(await asked(plain))
