"""FastAPI: the session of a request as a dependency; the rest is what Starlette has."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from aiosession import AsyncSession
from aiosession.ext.pydantic import load_options
from aiosession.ext.starlette import (
    AsyncSessionMiddleware,
    Problem,
    add_problem_handlers,
    health,
    lifespan,
    problem_of,
    request_session,
    stream_session,
)

__all__ = [
    "AsyncSessionMiddleware",
    "Problem",
    "SessionDep",
    "StreamSessionDep",
    "add_problem_handlers",
    "get_session",
    "get_stream_session",
    "health",
    "lifespan",
    "load_options",
    "problem_of",
    "request_session",
    "session_of",
    "stream_session",
]


async def get_session(connection: HTTPConnection) -> AsyncSession:
    """Return the session of the request: ``session: Annotated[AsyncSession, Depends(get_session)]``, or `SessionDep`.

    All dependencies of a request get the same one. The middleware commits it before the response starts; see
    `AsyncSessionMiddleware`. In tests it can be replaced: ``app.dependency_overrides[get_session]``.
    """
    return request_session(connection)


async def get_stream_session(connection: HTTPConnection) -> AsyncSession:
    """Return a session that lives until the response, its stream and its background tasks are done.

    It is rolled back and closed then; see `stream_session`.
    """
    return stream_session(connection)


def session_of(name: str) -> Callable[[HTTPConnection], Awaitable[AsyncSession]]:
    """Return the dependency for the session of the middleware called *name*, where there are several databases.

    ``ArchiveDep = Annotated[AsyncSession, Depends(session_of("archive"))]``
    """

    async def get_named_session(connection: HTTPConnection) -> AsyncSession:
        return request_session(connection, name)

    return get_named_session


SessionDep: TypeAlias = Annotated[AsyncSession, Depends(get_session)]
"""The session of the request, as the type of a parameter."""
StreamSessionDep: TypeAlias = Annotated[AsyncSession, Depends(get_stream_session)]
"""A session that lives as long as the response, as the type of a parameter."""
