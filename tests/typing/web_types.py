"""What a user's editor infers about sessions in web applications; checked by mypy and pyright, never run."""

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request

from aiosession import AsyncEngine, AsyncSession, Load, async_scoped_session, async_sessionmaker
from aiosession.ext.fastapi import (
    AsyncSessionMiddleware,
    Problem,
    SessionDep,
    StreamSessionDep,
    add_problem_handlers,
    get_session,
    health,
    lifespan,
    load_options,
    problem_of,
    request_session,
    session_of,
    stream_session,
    stream_session_of,
)


class Own(AsyncSession):
    pass


class Out(BaseModel):
    name: str


ArchiveDep = Annotated[AsyncSession, Depends(session_of("archive"))]
ArchiveStreamDep = Annotated[AsyncSession, Depends(stream_session_of("archive"))]
OwnDep = Annotated[Own, Depends(get_session)]


async def handler(session: SessionDep, stream: StreamSessionDep, archive: ArchiveDep, own: OwnDep) -> None:
    assert_type(session, AsyncSession)
    assert_type(stream, AsyncSession)
    assert_type(archive, AsyncSession)
    assert_type(own, Own)


def build(engine: AsyncEngine) -> None:
    maker = async_sessionmaker(engine)
    app = FastAPI(lifespan=lifespan(engine, check=True))
    app.add_middleware(AsyncSessionMiddleware, sessions=maker)
    app.add_middleware(AsyncSessionMiddleware, sessions=async_scoped_session(maker), name="archive")
    app.add_route("/health", health(engine))
    app.get("/healthy")(health({"main": engine}))
    add_problem_handlers(app)
    add_problem_handlers(Starlette(lifespan=lifespan(engine)))


async def export(archive: ArchiveStreamDep) -> None:
    assert_type(archive, AsyncSession)


async def endpoint(request: Request) -> None:
    assert_type(problem_of(ValueError(), request), Problem | None)
    assert_type(request_session(request), AsyncSession)
    assert_type(stream_session(request.scope), AsyncSession)
    assert_type(load_options(list[Out], object, depth=2), list[Load])
    assert_type(problem_of(ValueError()), Problem | None)
