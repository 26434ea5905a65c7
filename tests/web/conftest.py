"""The library's service, called in this process."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from aiosession import AsyncEngine, async_sessionmaker
from tests.web.library import Seen, create_tables, make_app


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def app(engine: AsyncEngine, seen: Seen) -> FastAPI:
    await create_tables(engine)
    return make_app(async_sessionmaker(engine), engine, seen)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://library")
