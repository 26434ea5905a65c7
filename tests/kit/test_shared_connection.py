"""A connection belongs to one event loop and one task at a time; whoever forgets that is told what to do instead."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from aiosession import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from aiosession.errors import ConcurrentUseError, WrongEventLoopError
from aiosession.testing.isolation import rolled_back
from tests.session_model import Author, make_tables, put_author

INSTEAD = r"within rolled_back\(\).*TestClient.*use httpx.AsyncClient\(transport=httpx.ASGITransport\(app\)"


@pytest.fixture
async def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    await make_tables(engine)
    await put_author(engine, "Ann")
    return async_sessionmaker(engine)


@pytest.fixture
async def quick() -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Make sessions on a database that is made quickly, for what is the same on all of them."""
    engine = create_async_engine("sqlite://")
    await make_tables(engine)
    yield async_sessionmaker(engine)
    await engine.dispose()


def app_of(sessions: async_sessionmaker[AsyncSession]) -> Starlette:
    async def add(request: Request) -> Response:
        async with sessions.begin() as session:
            session.add(Author(name="Bob"))
        return JSONResponse("added")

    return Starlette(routes=[Route("/", add, methods=["POST"])])


def elsewhere(act: Callable[[], Awaitable[Any]]) -> None:
    """Do something on an event loop of its own, as TestClient does."""

    async def main() -> None:
        await act()

    asyncio.run(main())


async def names(session: AsyncSession) -> list[str]:
    return list((await session.scalars(select(Author.name).order_by(Author.name))).all())


async def test_a_test_client_is_told_of_the_client_that_stays_on_the_loop_of_the_test(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    async with rolled_back(sessions):
        with TestClient(app_of(sessions)) as client, pytest.raises(WrongEventLoopError, match=INSTEAD):
            await asyncio.to_thread(client.post, "/")

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(sessions)), base_url="http://test") as client:
            assert (await client.post("/")).json() == "added"
        async with sessions() as session:
            assert await names(session) == ["Ann", "Bob"]


async def test_a_session_of_the_test_that_an_application_uses_elsewhere_goes_on_in_the_test(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    async with rolled_back(sessions), sessions() as session:
        session.add(Author(name="Bob"))
        await session.flush()

        with pytest.raises(WrongEventLoopError, match=INSTEAD):
            await asyncio.to_thread(elsewhere, lambda: names(session))

        assert await names(session) == ["Ann", "Bob"]


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
async def test_a_session_that_is_ended_elsewhere_leaves_the_connection_to_the_test(
    quick: async_sessionmaker[AsyncSession], end: str
) -> None:
    async with rolled_back(quick):
        async with quick() as session:
            session.add(Author(name="Bob"))
            await session.flush()
            with pytest.raises(WrongEventLoopError, match=INSTEAD):
                await asyncio.to_thread(elsewhere, getattr(session, end))
            await session.rollback()
        async with quick() as session:
            assert await session.scalar(text("SELECT 1")) == 1


async def test_a_connection_that_is_used_on_another_loop_says_so_and_stays_as_it_is(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with engine.connect() as connection:
        await connection.execute(text("INSERT INTO author (id, name) VALUES (1, 'Ann')"))

        for act in (lambda: connection.scalar(text("SELECT 1")), connection.commit, connection.rollback):
            with pytest.raises(WrongEventLoopError, match="this connection belongs to another event loop"):
                await asyncio.to_thread(elsewhere, act)

        assert (await connection.scalars(text("SELECT name FROM author"))).all() == ["Ann"]


async def test_an_engine_that_is_used_on_another_loop_names_the_client_as_well(
    quick: async_sessionmaker[AsyncSession],
) -> None:
    with TestClient(app_of(quick)) as client, pytest.raises(WrongEventLoopError, match=r"httpx.AsyncClient"):
        await asyncio.to_thread(client.post, "/")


async def test_tasks_that_share_the_transaction_of_a_test_are_told_to_take_turns(
    quick: async_sessionmaker[AsyncSession],
) -> None:
    async def work(name: str) -> None:
        async with quick.begin() as session:
            session.add(Author(name=name))

    instead = (
        r"same connection .* within rolled_back\(\) all sessions share one .* one after the other.*aiosession_engine"
    )
    async with rolled_back(quick):
        answers = await asyncio.gather(work("Ann"), work("Bob"), return_exceptions=True)

    with pytest.raises(ConcurrentUseError, match=instead):
        raise next(error for error in answers if error is not None)


async def test_tasks_that_share_a_connection_are_told_to_take_one_each(
    quick: async_sessionmaker[AsyncSession],
) -> None:
    async with quick.kw["bind"].connect() as connection:
        asking = (connection.scalar(text("SELECT 1")) for _ in range(2))

        with pytest.raises(ConcurrentUseError, match=r"same connection .* give each task a connection of its own"):
            await asyncio.gather(*asking)
