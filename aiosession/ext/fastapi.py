"""FastAPI: the session of a request as a dependency; the rest is what Starlette has."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Annotated, TypeAlias

from fastapi import Depends
from starlette.requests import HTTPConnection

from aiosession import AsyncSession, ConcurrentUseError
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
from aiosession.ext.starlette.requests import DEFAULT, sessions_of

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
    "stream_session_of",
]


async def get_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
    """Give out the session of the request: ``session: Annotated[AsyncSession, Depends(get_session)]``, or `SessionDep`.

    All dependencies of a request get the same one. What it has not committed is rolled back at once if the handler
    raises, whatever is answered for that; else the middleware commits it before the response starts, see
    `AsyncSessionMiddleware`. In tests it can be replaced: ``app.dependency_overrides[get_session]``.
    """
    async with _undone_by_errors(connection, DEFAULT) as session:
        yield session


@asynccontextmanager
async def _undone_by_errors(connection: HTTPConnection, name: str) -> AsyncIterator[AsyncSession]:
    sessions = sessions_of(connection, name)
    session = sessions.session()
    try:
        yield session
    except Exception:
        if not sessions.is_answered:
            # In use by a task that was left behind, it is told of when it is closed.
            with suppress(ConcurrentUseError):
                await session.rollback()
        raise


async def get_stream_session(connection: HTTPConnection) -> AsyncSession:
    """Return a session that lives until the response, its stream and its background tasks are done.

    It is rolled back and closed then; see `stream_session`.
    """
    return stream_session(connection)


@cache
def stream_session_of(name: str) -> Callable[[HTTPConnection], Awaitable[AsyncSession]]:
    """Return the dependency for a session that lives as long as the response, made by the middleware called *name*.

    ``ArchiveStreamDep = Annotated[AsyncSession, Depends(stream_session_of("archive"))]``; the same one each time.
    """

    async def get_named_stream_session(connection: HTTPConnection) -> AsyncSession:
        return stream_session(connection, name)

    return get_named_stream_session


@cache
def session_of(name: str) -> Callable[[HTTPConnection], AsyncIterator[AsyncSession]]:
    """Return the dependency for the session of the middleware called *name*, where there are several databases.

    ``ArchiveDep = Annotated[AsyncSession, Depends(session_of("archive"))]``. It is the same one each time, so that
    ``app.dependency_overrides[session_of("archive")]`` replaces it in tests.
    """

    async def get_named_session(connection: HTTPConnection) -> AsyncIterator[AsyncSession]:
        async with _undone_by_errors(connection, name) as session:
            yield session

    return get_named_session


SessionDep: TypeAlias = Annotated[AsyncSession, Depends(get_session)]
"""The session of the request, as the type of a parameter."""
StreamSessionDep: TypeAlias = Annotated[AsyncSession, Depends(get_stream_session)]
"""A session that lives as long as the response, as the type of a parameter."""
