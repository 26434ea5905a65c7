"""How does the atlas say no? Always with a problem document (RFC 9457), whoever it is that refuses."""

from http import HTTPStatus
from typing import Any, Final, Never

from fastapi import FastAPI, HTTPException, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request

from aiosession.ext.fastapi import add_problem_handlers
from examples.atlas.schemas import Problem

MEDIA_TYPE: Final = "application/problem+json"
_CODES: Final = {404: "not_found", 422: "value", 500: "internal"}
"""Where a refusal of the database has a code for a status, the others use the same one."""


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe refusals in the API's description."""
    schema = Problem.model_json_schema()
    return {each: {"content": {MEDIA_TYPE: {"schema": schema}}} for each in statuses}


def add_refusals(app: FastAPI) -> None:
    """Have everything that refuses a request answer with a problem document."""
    add_problem_handlers(app)
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_input)
    app.add_exception_handler(Exception, _fail)


def not_found(kind: str, code: str) -> Never:
    """Answer 404."""
    raise HTTPException(status.HTTP_404_NOT_FOUND, f"no {kind} {code}")


def unprocessable(reason: str) -> Never:
    """Answer 422 to a body that is well-formed and refers to what is not there."""
    raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, reason)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    answer = _answer(request, error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _refuse_input(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return _answer(request, 422, "The request does not fit the description of the API.", errors)


async def _fail(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, 500, "Something went wrong here, and it is not the fault of the request.")


def _answer(request: Request, status: int, detail: str, errors: list[str] | None = None) -> JSONResponse:
    known = HTTPStatus(status)
    problem = Problem(
        title=known.phrase,
        status=status,
        detail=detail,
        code=_CODES.get(status, known.name.lower()),
        instance=request.url.path,
        errors=errors,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), status, media_type=MEDIA_TYPE)
