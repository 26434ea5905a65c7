"""Several databases have a middleware each, with a name: two of one name must not hide one another."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from aiosession import ArgumentError, AsyncEngine, AsyncSession, async_sessionmaker
from aiosession.ext.fastapi import AsyncSessionMiddleware, SessionDep, session_of, stream_session_of
from tests.web.conftest import client_of
from tests.web.library import Author, create_tables

ArchiveDep = Annotated[AsyncSession, Depends(session_of("archive"))]
ArchiveStreamDep = Annotated[AsyncSession, Depends(stream_session_of("archive"))]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Name one database only: nothing here depends on what it is."""
    return sqlite_url


def with_middlewares(*of: tuple[Any, str]) -> FastAPI:
    app = FastAPI()
    for sessions, name in of:
        app.add_middleware(AsyncSessionMiddleware, sessions=sessions, name=name)
    return app


async def test_two_makers_under_one_name_are_refused(engine: AsyncEngine) -> None:
    first, second = async_sessionmaker(engine), async_sessionmaker(engine)

    with pytest.raises(ArgumentError, match=r"are called 'default' and make different sessions.*name="):
        with_middlewares((first, "default"), (second, "default")).build_middleware_stack()


async def test_one_maker_twice_is_fine_and_so_are_two_names(engine: AsyncEngine) -> None:
    first, second = async_sessionmaker(engine), async_sessionmaker(engine)

    for name, maker in (("default", first), ("archive", second)):
        with_middlewares((first, "default"), (maker, name)).build_middleware_stack()


async def test_a_bound_method_is_the_same_maker_each_time(engine: AsyncEngine) -> None:
    class Container:
        def session(self) -> AsyncSession:
            return AsyncSession(engine)

    container = Container()

    with_middlewares((container.session, "default"), (container.session, "default")).build_middleware_stack()


async def test_another_maker_in_a_mounted_application_is_refused_at_its_first_request(engine: AsyncEngine) -> None:
    inner = with_middlewares((async_sessionmaker(engine), "default"))
    middleware = [Middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))]
    outer = Starlette(routes=[Mount("/inner", inner)], middleware=middleware)
    errors: list[Exception] = []

    @inner.get("/")
    async def never(session: SessionDep) -> None:
        raise AssertionError

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        try:
            await outer(scope, receive, send)
        except ArgumentError as error:
            errors.append(error)
            raise

    async with client_of(noting) as client:
        assert (await client.get("/inner/")).status_code == 500

    assert "name='archive'" in str(errors[0])


async def test_a_named_database_can_be_streamed_from(engine: AsyncEngine) -> None:
    await create_tables(engine)
    app = with_middlewares((async_sessionmaker(engine), "archive"))

    @app.post("/authors/{name}")
    async def add(name: str, session: ArchiveDep) -> str:
        session.add(Author(name=name))
        return "added"

    @app.get("/export")
    async def export(session: ArchiveStreamDep) -> StreamingResponse:
        async def lines() -> AsyncIterator[str]:
            async for name in await session.stream_scalars(select(Author.name)):
                yield f"{name}\n"

        return StreamingResponse(lines())

    async with client_of(app) as client:
        await client.post("/authors/Lem")
        assert (await client.get("/export")).text == "Lem\n"

    assert stream_session_of("archive") is stream_session_of("archive")
    assert not engine.pool.status().holders
