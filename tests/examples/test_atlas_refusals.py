"""The atlas refuses in one format, whoever it is that refuses, and its description says so."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from aiosession import AsyncEngine, AsyncSession
from examples.atlas.database import rebuild
from examples.atlas.loader import load, read_source
from examples.atlas.schemas import Problem
from examples.atlas.service import create_app

AIRPORT = {
    "icao": "ZZ99",
    "name": "Surtsey",
    "latitude": 63.303,
    "longitude": -20.605,
    "country": "IS",
    "time_zone": "Atlantic/Reykjavik",
}


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """Name one database only: nothing here depends on what it is."""
    return sqlite_url


@pytest.fixture
async def app(engine: AsyncEngine) -> FastAPI:
    await rebuild(engine)
    async with AsyncSession(engine) as session:
        await load(session, read_source(("IS",)))
    app = create_app(engine)

    @app.get("/mistake")
    async def fail() -> None:
        raise ZeroDivisionError

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://atlas") as client:
        yield client


REFUSED = {
    "by a handler": ("GET", "/airports/QQQQ", None, 404, "not_found"),
    "because nothing is there": ("GET", "/nowhere", None, 404, "not_found"),
    "because of the method": ("PUT", "/airports", None, 405, "method_not_allowed"),
    "because of the body": ("POST", "/airports", AIRPORT | {"latitude": 91}, 422, "value"),
    "because of what the body refers to": ("POST", "/airports", AIRPORT | {"country": "QQ"}, 422, "value"),
    "by the database": ("POST", "/airports", AIRPORT | {"icao": "BIKF"}, 409, "exists"),
    "because of a mistake": ("GET", "/mistake", None, 500, "internal"),
}


@pytest.mark.parametrize("refused", REFUSED)
async def test_every_refusal_is_a_problem_document(client: httpx.AsyncClient, refused: str) -> None:
    method, path, body, status, code = REFUSED[refused]

    answer = await client.request(method, path, json=body)

    problem = Problem.model_validate_json(answer.content)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem.status, problem.code, problem.instance) == (status, code, path)
    assert ("allow" in answer.headers) is (status == 405)


async def test_a_body_that_makes_no_sense_is_told_what_is_wrong_with_it(client: httpx.AsyncClient) -> None:
    answer = await client.post("/airports", json=AIRPORT | {"latitude": 91, "colour": "red"})

    assert sorted(error.split(":")[0] for error in answer.json()["errors"]) == ["body.colour", "body.latitude"]


def test_the_description_says_so(app: FastAPI) -> None:
    refusals = [
        answer
        for path, operations in app.openapi()["paths"].items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status >= "400" and path != "/mistake"
    ]

    assert len(refusals) > 20
    for answer in refusals:
        (media_type,) = answer["content"]
        assert media_type == "application/problem+json"
        assert set(answer["content"][media_type]["schema"]["required"]) >= {"title", "status", "detail", "code"}
