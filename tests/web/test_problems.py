"""Errors of the database become answers that say what a client can do, and nothing else."""

import json
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from aiosession import ArgumentError, errors
from aiosession.ext.starlette import Problem, add_problem_handlers, problem_of
from tests.web.conftest import client_of

SECRET = "INSERT INTO author VALUES ('secret')"


def of_database(kind: type[errors.DatabaseError]) -> errors.DatabaseError:
    return kind(SECRET, ("secret",), ValueError(SECRET))


async def resolve() -> None:
    return None


ERRORS: list[tuple[Exception, int, bool]] = [
    (errors.NoResultFound(SECRET), 404, False),
    (errors.ObjectNotFoundError(int, SECRET), 404, False),
    (of_database(errors.UniqueViolationError), 409, False),
    (of_database(errors.ForeignKeyViolationError), 409, False),
    (of_database(errors.IntegrityError), 409, False),
    (of_database(errors.NotNullViolationError), 409, False),
    (of_database(errors.CheckViolationError), 409, False),
    (of_database(errors.DataError), 422, False),
    (errors.StaleDataError(table="secret", operation="UPDATE", expected=1, matched=0), 409, False),
    (errors.StaleVersionError("secret", table="secret", version=1, current=2), 409, False),
    (of_database(errors.SerializationError), 503, True),
    (of_database(errors.DeadlockError), 503, True),
    (of_database(errors.LockNotAvailableError), 503, True),
    (errors.PoolTimeoutError(timeout=1, size=1, holders=["secret"], waiting=0), 503, True),
    (of_database(errors.DisconnectError), 503, True),
    (of_database(errors.StatementTimeoutError), 504, False),
    (errors.CommitOutcomeUnknownError(ValueError(SECRET), resolve), 500, False),
    (errors.InDoubtError(ValueError(SECRET), resolve, "secret"), 500, False),
    (errors.PartialCommitError(ValueError(SECRET), ["secret"], ["secret"]), 500, False),
]


def app_that_raises(error: Exception) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def fail() -> None:
        raise error

    return app


@pytest.mark.parametrize(("error", "status", "helps"), ERRORS, ids=lambda value: type(value).__name__)
async def test_every_error_has_its_answer(error: Exception, status: int, helps: bool) -> None:
    app = app_that_raises(error)
    add_problem_handlers(app, retry_after=3)
    async with client_of(app) as client:
        answer = await client.get("/")

    body = answer.json()
    assert (answer.status_code, body["status"], body["instance"]) == (status, status, "/")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("retry-after") == ("3" if helps else None)
    assert set(body) == {"type", "title", "status", "detail", "code", "instance"}
    assert "secret" not in answer.text.casefold()


@pytest.mark.parametrize(
    "error", [of_database(errors.ProgrammingError), errors.MultipleResultsFound(), errors.InvalidRequestError()]
)
async def test_mistakes_of_the_application_stay_its_own_500(error: Exception) -> None:
    app = app_that_raises(error)
    add_problem_handlers(app)
    async with client_of(app) as client:
        answer = await client.get("/")

    assert problem_of(error) is None
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


async def test_handlers_of_the_applications_own_win() -> None:
    async def own(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 400)

    before, after = (
        app_that_raises(of_database(errors.UniqueViolationError)),
        app_that_raises(of_database(errors.UniqueViolationError)),
    )
    before.add_exception_handler(errors.UniqueViolationError, own)
    add_problem_handlers(before)
    add_problem_handlers(after)
    after.add_exception_handler(errors.UniqueViolationError, own)

    for app in (before, after):
        async with client_of(app) as client:
            assert (await client.get("/")).text == "mine"


async def test_errors_of_the_servers_side_are_logged_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    for error in (of_database(errors.DisconnectError), of_database(errors.UniqueViolationError)):
        app = app_that_raises(error)
        add_problem_handlers(app)
        async with client_of(app) as client:
            await client.get("/")

    (record,) = [record for record in caplog.records if record.name == "aiosession.web"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], errors.DisconnectError)


def test_a_problem_can_be_answered_by_hand() -> None:
    response = Problem(429, "slow_down", "Not so fast.", is_passing=True).response(retry_after=60)

    assert (response.status_code, response.headers["retry-after"]) == (429, "60")
    assert json.loads(bytes(response.body))["title"] == "Too Many Requests"


UNIQUE, FOREIGN = of_database(errors.UniqueViolationError), of_database(errors.ForeignKeyViolationError)
BUSY, LATE = of_database(errors.DeadlockError), of_database(errors.StatementTimeoutError)
UNKNOWN = errors.CommitOutcomeUnknownError(ValueError(SECRET), resolve)


@pytest.mark.parametrize(
    ("group", "status"),
    [
        ([UNIQUE], 409),
        ([UNIQUE, FOREIGN], 409),
        ([UNIQUE, ExceptionGroup("inner", [BUSY])], 503),
        ([BUSY, LATE, UNIQUE], 504),
        ([BUSY, UNKNOWN, LATE], 500),
    ],
    ids=["one", "of one status", "nested", "late", "unknown"],
)
async def test_a_group_of_errors_is_answered_as_the_gravest_of_them(group: list[Exception], status: int) -> None:
    app = app_that_raises(ExceptionGroup("tasks", group))
    add_problem_handlers(app)
    async with client_of(app) as client:
        answer = await client.get("/")

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert ("retry-after" in answer.headers) is (status == 503)


async def test_a_group_with_a_mistake_of_the_application_in_it_stays_a_500() -> None:
    app = app_that_raises(ExceptionGroup("tasks", [UNIQUE, ZeroDivisionError()]))
    add_problem_handlers(app)
    async with client_of(app) as client:
        assert (await client.get("/")).text == "Internal Server Error"


@pytest.mark.parametrize("wrong", [APIRouter(), "app", None])
def test_what_has_no_handlers_of_exceptions_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match=r"takes the application, FastAPI\(\) or Starlette\(\)"):
        add_problem_handlers(wrong)


@pytest.mark.parametrize("seconds", [0.5, -1, "1", True, None])
def test_clients_are_told_to_wait_for_whole_seconds(seconds: Any) -> None:
    with pytest.raises(ArgumentError, match="whole number of seconds"):
        add_problem_handlers(FastAPI(), retry_after=seconds)
    with pytest.raises(ArgumentError, match="whole number of seconds"):
        Problem(503, "busy", "Wait.", is_passing=True).response(retry_after=seconds)
