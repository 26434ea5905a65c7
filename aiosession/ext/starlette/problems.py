"""What does a client learn of an error of the database? A status and a problem document (RFC 9457), and no SQL."""

import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketState

from aiosession import (
    ArgumentError,
    CheckViolationError,
    CommitOutcomeUnknownError,
    DataError,
    DeadlockError,
    DisconnectError,
    ForeignKeyViolationError,
    IntegrityError,
    LockNotAvailableError,
    NoResultFound,
    NotNullViolationError,
    PartialCommitError,
    PoolTimeoutError,
    SerializationError,
    StaleDataError,
    StatementTimeoutError,
    UniqueViolationError,
)
from aiosession.ext.starlette.requests import has_committed

_LOG: Final = logging.getLogger("aiosession.web")
_INTERNAL_ERROR: Final = 1011
_TRY_AGAIN_LATER: Final = 1013


@dataclass(frozen=True, slots=True)
class Problem:
    """What is answered for an error; it says nothing of statements, tables and values."""

    status: int
    code: str
    """A word for programs."""
    detail: str
    """A sentence for people."""
    may_be_repeated: bool = False
    """Whether a client who reads this is likely to send the same request again."""
    is_passing: bool = False
    """Whether the same request may well succeed a little later; the work that failed has changed nothing."""

    def response(self, *, instance: str | None = None, retry_after: int = 1) -> JSONResponse:
        """Return the response: ``application/problem+json``, with ``Retry-After`` (in seconds) if that may help.

        Args:
            instance: What the problem is about, such as the path of the request.
            retry_after: A whole number of seconds.

        Raises:
            ArgumentError: *retry_after* is no whole number of seconds.

        """
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        body["code"] = self.code
        if instance is not None:
            body["instance"] = instance
        headers = {"retry-after": str(_seconds(retry_after))} if self.is_passing else None
        return JSONResponse(body, self.status, headers, media_type="application/problem+json")

    @property
    def title(self) -> str:
        """The name of the status."""
        return HTTPStatus(self.status).phrase


_BUSY: Final = "The service is busy. Try again a little later."
_OUTCOME: Final = (
    "The service cannot tell whether the request was carried out. Do not simply repeat it: look first at what is there."
)
_PARTLY: Final = Problem(
    500,
    "outcome_partial",
    "The request was carried out in part. Do not simply repeat it: look first at what is there.",
)
_PROBLEMS: Final[Mapping[type[Exception], Problem]] = MappingProxyType(
    {
        NoResultFound: Problem(404, "not_found", "What the request is about does not exist."),
        UniqueViolationError: Problem(409, "exists", "There is one with these values already."),
        ForeignKeyViolationError: Problem(
            409, "reference", "It refers to something that does not exist, or something else still refers to it."
        ),
        NotNullViolationError: Problem(409, "missing", "A value that is needed is missing."),
        CheckViolationError: Problem(409, "rule", "A value, or several together, are against a rule of the data."),
        IntegrityError: Problem(409, "conflict", "The change does not fit the data that is there."),
        DataError: Problem(422, "value", "A value is of the wrong kind, too long or out of range."),
        StaleDataError: Problem(
            409,
            "changed",
            "Somebody else has changed or deleted it in the meantime. Read it again, then repeat.",
            may_be_repeated=True,
        ),
        SerializationError: Problem(503, "busy", _BUSY, is_passing=True),
        DeadlockError: Problem(503, "busy", _BUSY, is_passing=True),
        LockNotAvailableError: Problem(503, "busy", _BUSY, is_passing=True),
        PoolTimeoutError: Problem(503, "busy", _BUSY, is_passing=True),
        DisconnectError: Problem(
            503, "unavailable", "The database cannot be reached. Try again later.", is_passing=True
        ),
        StatementTimeoutError: Problem(504, "timeout", "The database took too long.", may_be_repeated=True),
        CommitOutcomeUnknownError: Problem(500, "outcome_unknown", _OUTCOME),
        PartialCommitError: _PARTLY,
    }
)


def problem_of(
    error: BaseException, connection: HTTPConnection | MutableMapping[str, Any] | None = None
) -> Problem | None:
    """Return what is answered for an error; None for what is a mistake in the application, which is its 500.

    | error | status | Retry-After |
    |---|---|---|
    | `NoResultFound`, `ObjectNotFoundError` | 404 | |
    | `IntegrityError`: unique, foreign key, not null, check | 409 | |
    | `StaleDataError`, `StaleVersionError` | 409 | |
    | `DataError` | 422 | |
    | `SerializationError`, `DeadlockError`, `LockNotAvailableError` | 503 | yes |
    | `PoolTimeoutError`, `DisconnectError` | 503 | yes |
    | `StatementTimeoutError` | 504 | |
    | `CommitOutcomeUnknownError`, `InDoubtError`, `PartialCommitError` | 500 | never |

    An exception group, such as a task group raises, is answered if all errors in it are: 500 comes before 504, that
    before 503, and that before what is the client's.

    Args:
        error: What was raised.
        connection: The request, or its ASGI scope. With it, what clients repeat (503, 504, a stale object's 409) is 500
            if a session of the request has committed something before: to repeat the request would do that twice.

    """
    problem = _known(error)
    if problem is None or connection is None or not (problem.is_passing or problem.may_be_repeated):
        return problem
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    # A message over a websocket is a request of its own, and nobody repeats those that were answered.
    return _PARTLY if scope["type"] == "http" and has_committed(scope) else problem


def _known(error: BaseException) -> Problem | None:
    if not isinstance(error, BaseExceptionGroup):
        return next((_PROBLEMS[each] for each in type(error).__mro__ if each in _PROBLEMS), None)
    problems = [problem for each in error.exceptions if (problem := _known(each)) is not None]
    return max(problems, key=_gravity) if len(problems) == len(error.exceptions) else None


def _gravity(problem: Problem) -> tuple[bool, bool, int]:
    """Return what is the greater the less a client may hope for."""
    return problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR, not problem.is_passing, -problem.status


def add_problem_handlers(app: Starlette, *, retry_after: int = 1) -> None:
    """Have an application (Starlette's, FastAPI's) answer errors of the database as `problem_of` says.

    Handlers that the application has already stay; those for single classes that come later win. Errors of the
    server's side (500 and above) are logged with their traceback, as ``aiosession.web``. A websocket is closed, with
    code 1013 if trying again may help and 1011 otherwise.

    Args:
        app: The application.
        retry_after: Seconds that a client is told to wait where trying again may help, a whole number.

    Raises:
        ArgumentError: What was given is no application; or *retry_after* is no whole number of seconds.

    """
    handlers: Any = getattr(app, "exception_handlers", None)
    if not isinstance(handlers, MutableMapping):
        raise ArgumentError(
            f"add_problem_handlers() takes the application, FastAPI() or Starlette(), which is what has handlers of "
            f"exceptions; {app!r} has none"
        )
    handler: Any = partial(_answer, retry_after=_seconds(retry_after))
    for error in (*_PROBLEMS, ExceptionGroup):
        handlers.setdefault(error, handler)


def _seconds(retry_after: object) -> int:
    """Return what ``Retry-After`` may say (RFC 9110)."""
    if isinstance(retry_after, int) and not isinstance(retry_after, bool) and retry_after >= 0:
        return retry_after
    raise ArgumentError(f"retry_after is a whole number of seconds, 0 or more, not {retry_after!r}")


async def _answer(connection: HTTPConnection, error: Exception, *, retry_after: int) -> JSONResponse | None:
    problem = problem_of(error, connection)
    if problem is None:
        raise error
    path = connection.scope["path"]
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _LOG.error("%s is answered for %s", problem.status, path, exc_info=error)
    if not isinstance(connection, WebSocket):
        return problem.response(instance=path, retry_after=retry_after)
    if WebSocketState.DISCONNECTED not in {connection.application_state, connection.client_state}:
        await connection.close(_TRY_AGAIN_LATER if problem.is_passing else _INTERNAL_ERROR, problem.title)
    return None
