"""Which sessions does a request have? One that ends before the response starts, and those that live as long as it."""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from contextlib import AsyncExitStack
from typing import Any, Final

from starlette.requests import HTTPConnection

from aiosession import (
    ArgumentError,
    AsyncSession,
    ConcurrentUseError,
    InvalidRequestError,
    ResourceClosedError,
    async_scoped_session,
)

SCOPE_KEY: Final = "aiosession"
"""Where an ASGI scope has the `RequestSessions`, by the names of their middlewares; copies of the scope share it."""
DEFAULT: Final = "default"

_PAUSE: Final = 0.1
"""Seconds until it is tried again to close a session that is in use."""
_closing: Final[set[asyncio.Task[None]]] = set()
"""The event loop itself holds its tasks weakly only."""

_LOG: Final = logging.getLogger("aiosession.web")


class RequestSessions:
    """The sessions of one request or websocket connection; none is made before it is asked for.

    With a registry, ``Session()`` is the request's session wherever it is called within the request.
    """

    __slots__ = (
        "_extra",
        "_has_committed",
        "_make",
        "_opened",
        "_session",
        "is_answered",
        "is_over",
        "sessions",
        "what",
    )

    def __init__(self, sessions: Callable[[], AsyncSession], what: str, *, has_committed: bool = False) -> None:
        self.sessions: Final = sessions
        self.what: Final = what
        """The request, for messages."""
        self._session: AsyncSession | None = None
        self._extra: list[AsyncSession] = []
        self.is_answered = False
        """Whether the response has started: the session is closed and not to be had any more."""
        self.is_over = False
        """Whether all has been done that belongs to the request: there are no sessions for it any more."""
        self._has_committed = has_committed
        """Whether a session that is closed had."""
        self._make: Callable[[], AsyncSession] = sessions
        self._opened: Any = None
        if isinstance(sessions, async_scoped_session):
            self._opened = sessions.registry.open(what)
            self._make = sessions.session_factory

    @property
    def current(self) -> AsyncSession | None:
        """The request's session, None if nobody has asked for it."""
        if self._opened is None:
            return self._session
        session: AsyncSession | None = self._opened[0].session
        return session

    @property
    def has_committed(self) -> bool:
        """Whether a session of the request has committed something that it wrote, or may have."""
        sessions = (self.current, *self._extra)
        had = self._has_committed or (self._opened is not None and self._opened[0].has_committed)
        return had or any(each is not None and each.context.has_committed for each in sessions)

    def session(self) -> AsyncSession:
        """Return the request's session."""
        self._check_lasting()
        if self.is_answered:
            raise ResourceClosedError(
                f"{self.what} is answered: its work is committed or rolled back and its session is closed. A "
                f"background task opens a session of its own, `async with sessions() as session:`; what streams a "
                f"response asks for stream_session(request), in FastAPI for a StreamSessionDep"
            )
        if self._opened is not None:
            session: AsyncSession = self.sessions.registry.session_of(self._opened[0], {})  # type: ignore[attr-defined]
            return session
        if self._session is None:
            self._session = _checked(self._make())
        return self._session

    def extra(self) -> AsyncSession:
        """Return another session, which is closed when the response and its background tasks are done."""
        self._check_lasting()
        session = _checked(self._make())
        self._extra.append(session)
        return session

    def _check_lasting(self) -> None:
        if self.is_over:
            raise ResourceClosedError(
                f"{self.what} is over, and so are its sessions. A task that outlives it opens a session of its own: "
                f"`async with sessions() as session:`"
            )

    async def end(self) -> None:
        """Roll back what the request's session has not committed, and close it; it is not to be had any more."""
        session = self.current
        self.is_answered = True
        if self._opened is not None:
            self.sessions.registry.end(self._opened[0])  # type: ignore[attr-defined]
        self._session = None
        if session is not None:
            await self._close(session)

    async def close(self) -> None:
        """Close all sessions of the request; one that a task left behind still uses is closed as soon as it is free."""
        self.is_over = True
        try:
            await self.end()
        finally:
            if self._opened is not None:
                self.sessions.registry.close(*self._opened)  # type: ignore[attr-defined]
            extra, self._extra = self._extra, []
            async with AsyncExitStack() as stack:
                for session in extra:
                    stack.push_async_callback(self._close, session)

    async def _close(self, session: AsyncSession) -> None:
        self._has_committed = self._has_committed or session.context.has_committed
        try:
            await session.close()
        except ConcurrentUseError as error:
            _LOG.warning("a session of %s is closed later: %s", self.what, error)
            task = asyncio.create_task(self._close_later(session))
            _closing.add(task)
            task.add_done_callback(_closing.discard)
        except Exception:
            _LOG.exception("a session of %s could not be closed", self.what)

    async def _close_later(self, session: AsyncSession) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                return await session.close()
            except ConcurrentUseError:
                continue


def _checked(made: object) -> AsyncSession:
    """Return what `sessions` made, if it is a session of ours."""
    if isinstance(made, AsyncSession):
        return made
    kind = type(made)
    raise ArgumentError(
        f"sessions= of the middleware makes sessions of aiosession when called, as "
        f"aiosession.async_sessionmaker(engine) does; it made {kind.__module__}.{kind.__qualname__}"
    )


def _all_of(connection: HTTPConnection | MutableMapping[str, Any]) -> dict[str, RequestSessions]:
    scope: Any = connection.scope if isinstance(connection, HTTPConnection) else connection
    found: dict[str, RequestSessions] = scope.get(SCOPE_KEY, {}) if isinstance(scope, MutableMapping) else {}
    return found


def has_committed(connection: HTTPConnection | MutableMapping[str, Any]) -> bool:
    """Whether a session of a request, of whatever middleware, has committed something that it wrote, or may have."""
    return any(sessions.has_committed for sessions in _all_of(connection).values())


def sessions_of(connection: HTTPConnection | MutableMapping[str, Any], name: str = DEFAULT) -> RequestSessions:
    """Return what the middleware called *name* keeps for a request."""
    found = _all_of(connection)
    if name in found:
        kept: RequestSessions = found[name]
        return kept
    named = "" if name == DEFAULT else f", name={name!r}"
    there = f"; there are {', '.join(map(repr, found))}" if found else ""
    raise InvalidRequestError(
        f"there is no session {name!r} here{there}. A session comes with a request through the middleware: "
        f"app.add_middleware(AsyncSessionMiddleware, sessions=async_sessionmaker(engine){named}); outside of a "
        f"request, open one: `async with sessions() as session:`"
    )


def request_session(connection: HTTPConnection | MutableMapping[str, Any], name: str = DEFAULT) -> AsyncSession:
    """Return the session of a request or websocket connection; it is made when it is first asked for.

    The middleware commits it before the response starts, or rolls it back; after that it cannot be had any more. That
    of a websocket is yours to commit, and is closed with the connection.

    Args:
        connection: Starlette's ``Request``, ``WebSocket`` or ``HTTPConnection``, or an ASGI scope.
        name: The name that the middleware was given.

    Raises:
        InvalidRequestError: There is no such middleware around this.
        ResourceClosedError: The response has started already.

    """
    return sessions_of(connection, name).session()


def stream_session(connection: HTTPConnection | MutableMapping[str, Any], name: str = DEFAULT) -> AsyncSession:
    """Return a new session that lives until the response, its stream and its background tasks are done.

    For bodies that are read from the database while they are sent, and for background tasks. It is rolled back and
    closed at the end, also if the client goes away; what it is to write it has to commit itself.

    Args:
        connection: Starlette's ``Request``, ``WebSocket`` or ``HTTPConnection``, or an ASGI scope.
        name: The name that the middleware was given.

    Raises:
        InvalidRequestError: There is no such middleware around this.
        ResourceClosedError: The request is over.

    """
    return sessions_of(connection, name).extra()
