"""Middlewares that stand around ours and wrap what is received lose nothing, and hide nothing, when a request ends."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from aiosession import AsyncEngine, async_sessionmaker
from aiosession.ext.starlette import AsyncSessionMiddleware, request_session
from tests.session_model import Author, make_tables, names_seen_by

BODY = [bytes([65 + number]) * 10 for number in range(5)]


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def echo(request: Request) -> Response:
    """Answer before the body is read."""
    request_session(request).add(Author(name="Ann"))

    async def parts() -> Any:
        async for part in request.stream():
            yield part

    return StreamingResponse(parts())


def application(engine: AsyncEngine, *, surrounded: bool) -> Starlette:
    around = [Middleware(BaseHTTPMiddleware, dispatch=pass_on)] if surrounded else []
    ours = Middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine))
    return Starlette(routes=[Route("/", echo, methods=["POST"])], middleware=[*around, ours])


async def answered(app: Starlette, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send one message after the other to *app*; return what it answers."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
    }

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("surrounded", [False, True])
async def test_a_body_that_is_read_after_the_commit_is_complete(
    engine: AsyncEngine, observer: AsyncEngine, surrounded: bool
) -> None:
    await make_tables(engine)
    messages = [{"type": "http.request", "body": part, "more_body": part is not BODY[-1]} for part in BODY]

    sent = await answered(application(engine, surrounded=surrounded), messages)

    assert b"".join(message.get("body", b"") for message in sent) == b"".join(BODY)
    assert await names_seen_by(observer) == ["Ann"]


@pytest.mark.parametrize("surrounded", [False, True])
async def test_a_client_that_is_gone_is_noticed(engine: AsyncEngine, observer: AsyncEngine, surrounded: bool) -> None:
    await make_tables(engine)

    await answered(application(engine, surrounded=surrounded), [])

    assert await names_seen_by(observer) == []
