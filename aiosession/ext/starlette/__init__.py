"""Starlette, and any other ASGI application: a session for each request, which commits before the response starts."""

from aiosession.ext.starlette.health import health
from aiosession.ext.starlette.lifespan import lifespan
from aiosession.ext.starlette.middleware import AsyncSessionMiddleware
from aiosession.ext.starlette.problems import Problem, add_problem_handlers, problem_of
from aiosession.ext.starlette.requests import request_session, stream_session

__all__ = [
    "AsyncSessionMiddleware",
    "Problem",
    "add_problem_handlers",
    "health",
    "lifespan",
    "problem_of",
    "request_session",
    "stream_session",
]
