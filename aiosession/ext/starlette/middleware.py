"""When does the work of a request commit? Before its response starts, so that a failed commit becomes the response."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import anyio
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from aiosession import ArgumentError, AsyncSession, async_scoped_session, async_sessionmaker
from aiosession.ext.starlette.exchange import Exchange
from aiosession.ext.starlette.requests import DEFAULT, SCOPE_KEY, RequestSessions

_OF_THE_SERVER: Final = frozenset({500, Exception})
"""Keys of handlers that answer for what nobody else does; Starlette calls them outside of all middlewares."""


_CLIENT_IS_GONE: Final = 499
"""What nginx notes for it; middlewares want a response, whoever may get it."""
_MOST_LAYERS: Final = 50
"""Middlewares that are looked through for one of the same name."""


def succeeded(status: int) -> bool:
    """Whether a response says that all went well: what commits, unless something else is said."""
    return status < 400


class AsyncSessionMiddleware:
    """Gives each request a session and commits it before the response starts: ``app.add_middleware(...)``.

    The session is made when it is first asked for. At the start of a response that says success it is committed, at any
    other, and if the handler raises, rolled back; then it is closed, before the first byte is sent. An error of the
    commit takes the place of the response: the application's own handler for it answers, else it is raised, for the
    server to answer 500. Background tasks of a response that was replaced do not run. If the client is known to be
    gone, nothing is committed. The session of a websocket is closed at its end; committing is up to its handler.

    Args:
        app: The application.
        sessions: An `async_sessionmaker`; or an `async_scoped_session`, whose ``Session()`` is then the session of the
            request wherever it is called within it.
        name: What to call the session, where there are several databases with a middleware each.
        commit_on: Told the status of the response, says whether to commit; by default if it is below 400.
        rollback_on_disconnect: Whether to roll back if the client is gone before the response starts.
        cancel_on_disconnect: Whether to cancel the application, and roll back, as soon as the client of a request
            leaves before the response starts; what it waits for, such as a statement, is cancelled too. From when the
            body of the request has been read.

    Raises:
        ArgumentError: An argument is not what it has to be; or *app* contains another middleware of the same name (in
            a mounted application that shows at the first request only).

    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: async_sessionmaker[Any] | async_scoped_session[Any] | Callable[[], AsyncSession],
        *,
        name: str = DEFAULT,
        commit_on: Callable[[int], bool] = succeeded,
        rollback_on_disconnect: bool = True,
        cancel_on_disconnect: bool = False,
    ) -> None:
        if not callable(sessions):
            raise ArgumentError(
                f"sessions makes the session of a request when called: async_sessionmaker(engine), or "
                f"async_scoped_session(maker); {sessions!r} cannot be called"
            )
        if isinstance(sessions, async_scoped_session) and sessions.registry.is_of_task:
            raise ArgumentError(
                f'a registry with scope="task" has no session for a request, which other middlewares may run in '
                f"several tasks: use async_scoped_session(maker) without it; got {sessions!r}"
            )
        if not callable(commit_on):
            raise ArgumentError(f"commit_on is called with the status of a response; {commit_on!r} cannot be called")
        if cancel_on_disconnect and not rollback_on_disconnect:
            raise ArgumentError(
                "rollback_on_disconnect=False has the work of a request done although its client is gone, "
                "cancel_on_disconnect=True stops it: only one of them can be meant"
            )
        self.app: Final = app
        self.sessions: Final = sessions
        self.name: Final = name
        for inner in _layers(app):
            if isinstance(inner, AsyncSessionMiddleware) and inner.name == name:
                self._check_same(inner.sessions)
        self._commit_on: Final = commit_on
        self._rolls_back_for_nobody: Final = rollback_on_disconnect
        self._cancels: Final = cancel_on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application with a session."""
        unit = self._begun(scope) if scope["type"] in {"http", "websocket"} else None
        if unit is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(unit, scope, receive, send)
        else:
            await self._serve(unit, scope, receive, send)

    def _begun(self, scope: Scope) -> RequestSessions | None:
        """Return what is new for the request; None if the same middleware does it, in an application around this."""
        units: dict[str, RequestSessions] = scope.setdefault(SCOPE_KEY, {})
        before = units.get(self.name)
        if before is None:
            units[self.name] = RequestSessions(self.sessions, _description(scope))
        elif before.is_over:
            has_committed = before.has_committed
            units[self.name] = RequestSessions(self.sessions, _description(scope), has_committed=has_committed)
        else:
            self._check_same(before.sessions)
            return None
        return units[self.name]

    def _check_same(self, sessions: object) -> None:
        """Refuse to stand within another middleware of the same name: one of them would be hidden."""
        if sessions != self.sessions:
            raise ArgumentError(
                f"two middlewares, one within the other, are called {self.name!r} and make different sessions: "
                f"{sessions!r} and {self.sessions!r}. Give both the same maker if they stand for one database, else "
                f"one of them a name: app.add_middleware(AsyncSessionMiddleware, sessions=..., name='archive')"
            )

    async def _serve(self, unit: RequestSessions, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            await unit.close()

    async def _answer(self, unit: RequestSessions, scope: Scope, receive: Receive, send: Send) -> None:
        app = scope.get("app")
        exchange = Exchange(unit, receive, send, self._commit_on, notices_leaving=self._rolls_back_for_nobody)
        try:
            try:
                await self._run(exchange, scope)
            except Exception:
                if exchange.replaced is None:
                    raise
            if exchange.replaced is not None:
                apps = scope.get("app"), app
                await _answer_instead(exchange.replaced.error, apps, scope, exchange.receive, send)
        finally:
            try:
                await exchange.end()
            finally:
                await unit.close()

    async def _run(self, exchange: Exchange, scope: Scope) -> None:
        if not self._cancels:
            await self.app(scope, exchange.receive, exchange.send)
            return
        with anyio.CancelScope() as work:
            exchange.cancel_for_nobody(work, scope)
            await self.app(scope, exchange.receive, exchange.send)
        if work.cancelled_caught:
            exchange.replace()


async def _answer_instead(
    error: Exception | None, apps: tuple[Any, ...], scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer for an error of the commit; a client that is gone gets what only middlewares and logs will see."""
    if error is None:
        await Response(status_code=_CLIENT_IS_GONE)(scope, receive, send)
    else:
        await _answer_error(error, apps, scope, receive, send)


async def _answer_error(error: Exception, apps: tuple[Any, ...], scope: Scope, receive: Receive, send: Send) -> None:
    """Have the handlers of the applications answer for an error, the innermost first; raise it if there is none."""

    async def fail(*_: object) -> None:
        raise error

    answering: ASGIApp = fail
    for app in dict.fromkeys(apps):
        handlers = getattr(app, "exception_handlers", None) or {}
        own = {key: handler for key, handler in handlers.items() if key not in _OF_THE_SERVER}
        answering = ExceptionMiddleware(answering, own)
    await answering(scope, receive, send)


def _layers(app: Any) -> Iterator[Any]:
    """Yield the middlewares that an application consists of, outermost first, as far as they show."""
    for _ in range(_MOST_LAYERS):
        if app is None:
            return
        yield app
        app = getattr(app, "app", None)


def _description(scope: Scope) -> str:
    """Return what messages call a request."""
    if scope["type"] == "websocket":
        return f"the websocket {scope['path']}"
    return f"the request {scope['method']} {scope['path']}"
