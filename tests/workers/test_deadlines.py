"""An enclosing timeout becomes the server's: of each statement in a transaction, and of nothing after it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import insert, text, update

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    StatementTimeoutError,
    TwoPhase,
    create_async_engine,
    deadline,
)
from tests.conftest import MARIADB, TWO_PHASE_DATABASES
from tests.libpq_trace import traced
from tests.session_model import Author, make_tables

LIMIT = {
    "postgresql": "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'",
    "mariadb": "SELECT CAST(@@max_statement_time * 1000 AS SIGNED)",
}
"""What tells the limit of the running statement, in milliseconds; 0 for none."""
USUAL = {"postgresql": "SET statement_timeout = '{}s'", "mariadb": "SET SESSION max_statement_time = {}"}
SLEEP = {"postgresql": "SELECT pg_sleep(60)", "mariadb": "SELECT sleep(60)"}
SERVERS = [pytest.param("postgresql", marks=pytest.mark.postgres), pytest.param("psycopg", marks=pytest.mark.postgres)]


@pytest.fixture(params=[*SERVERS, MARIADB])
def database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database of a server that can limit statements."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def following(database_url: str, engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Open an engine on whose one connection deadlines are followed."""
    following = create_async_engine(database_url, statement_deadlines=True, pool_size=1, max_overflow=0)
    yield following
    await following.dispose()


async def limit(session: AsyncSession, engine: AsyncEngine) -> int:
    return int(await session.scalar(text(LIMIT[engine.name])))


async def test_what_is_left_of_a_timeout_limits_the_statements_of_a_transaction(following: AsyncEngine) -> None:
    with anyio.fail_after(30):
        async with AsyncSession(following) as session, session.begin():
            assert 29_000 < await limit(session, following) <= 30_500


async def test_the_innermost_deadline_counts_and_anyios_is_one_of_them(following: AsyncEngine) -> None:
    with deadline(20), anyio.fail_after(40), deadline(30):
        async with AsyncSession(following) as session, session.begin():
            assert 19_000 < await limit(session, following) <= 20_000


@pytest.mark.parametrize(("usual", "expected"), [(5, 5_000), (60, 20_000)])
async def test_a_limit_that_the_connection_has_anyway_counts_if_it_is_shorter(
    following: AsyncEngine, usual: int, expected: int
) -> None:
    async with following.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.exec_driver_sql(USUAL[following.name].format(usual))

    with deadline(20):
        async with AsyncSession(following) as session, session.begin():
            assert expected - 1_000 < await limit(session, following) <= expected
    async with AsyncSession(following) as session:
        assert await limit(session, following) == usual * 1_000


@pytest.mark.without("mariadb", reason="sets it with each statement")
async def test_a_limit_does_not_decide_what_a_transaction_sees(following: AsyncEngine, engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE seen (id integer)")

    with deadline(20):
        async with AsyncSession(following, isolation_level="REPEATABLE READ", read_only=True) as session:
            assert await session.scalar(text("SHOW statement_timeout")) != "0"
            async with engine.begin() as connection:
                await connection.exec_driver_sql("INSERT INTO seen VALUES (1)")
            assert (await session.scalars(text("SELECT id FROM seen"))).all() == [1]


async def test_a_timeout_of_asyncio_can_be_handed_on(following: AsyncEngine) -> None:
    async with asyncio.timeout(20) as until:
        with deadline(until):
            async with AsyncSession(following) as session, session.begin():
                assert 19_000 < await limit(session, following) <= 20_500


async def test_a_timeout_without_an_end_limits_nothing(following: AsyncEngine) -> None:
    async with asyncio.timeout(None) as until:
        with deadline(until):
            async with AsyncSession(following) as session, session.begin():
                assert await limit(session, following) == 0


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_nothing_of_it_is_left_on_the_connection(following: AsyncEngine, ends: str) -> None:
    async with AsyncSession(following) as session:
        with deadline(20):
            assert await limit(session, following) > 0
            await getattr(session, ends)()
        assert await limit(session, following) == 0


async def test_a_connection_of_its_own_follows_deadlines_too(following: AsyncEngine) -> None:
    async with following.connect() as connection:
        with deadline(20):
            async with connection.begin():
                assert int(await connection.scalar(text(LIMIT[following.name]))) > 0
        assert int(await connection.scalar(text(LIMIT[following.name]))) == 0


async def test_an_engine_that_was_not_told_to_follows_none(engine: AsyncEngine) -> None:
    with deadline(20):
        async with AsyncSession(engine) as session, session.begin():
            assert await limit(session, engine) == 0
        async with AsyncSession(engine.execution_options(statement_deadlines=True)) as session, session.begin():
            assert await limit(session, engine) > 0


async def test_the_server_ends_a_statement_that_takes_longer(following: AsyncEngine) -> None:
    async with AsyncSession(following) as session:
        with deadline(0.2), pytest.raises(StatementTimeoutError):
            await session.execute(text(SLEEP[following.name]))
        await session.rollback()
        assert await session.scalar(text("SELECT 1")) == 1


async def test_a_deadline_that_is_over_lets_nothing_run_long(following: AsyncEngine) -> None:
    async with AsyncSession(following) as session:
        with deadline(-1), pytest.raises(StatementTimeoutError):
            await session.execute(text(SLEEP[following.name]))


async def test_the_clients_timeout_comes_first(following: AsyncEngine) -> None:
    async with AsyncSession(following) as session:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await session.execute(text(SLEEP[following.name]))


async def test_writes_of_every_kind_can_be_limited(following: AsyncEngine, engine: AsyncEngine) -> None:
    await make_tables(engine)

    async with AsyncSession(following) as session:
        with deadline(20):
            session.add_all([Author(id=1, name="Ann"), Author(id=2, name="Ben"), Author(id=3, name="Cid")])
            await session.flush()
            (await session.get_one(Author, 1)).name = "Anna"
            (await session.get_one(Author, 2)).name = "Bea"
            await session.delete(await session.get_one(Author, 3))
            await session.flush()
            await session.execute(insert(Author).values(id=4, name="Dan"))
            await session.execute(text("CREATE TABLE other (id int)"))
            await session.execute(update(Author).where(Author.id == 4).values(name="Dora"))
            assert await limit(session, following) > 0
            await session.commit()

    async with AsyncSession(engine) as session:
        assert sorted((await session.scalars(text("SELECT name FROM author"))).all()) == ["Anna", "Bea", "Dora"]


@pytest.mark.parametrize("database_url", [SERVERS[1]], indirect=True)
async def test_a_limit_costs_no_round_trip(following: AsyncEngine, engine: AsyncEngine, tmp_path: Path) -> None:
    await make_tables(engine)

    async def write(key: int) -> int:
        async with following.connect() as connection:
            raw = connection.get_raw_connection()
        with traced(raw, tmp_path) as wire:
            async with AsyncSession(following) as session, session.begin():
                session.add(Author(id=key, name=f"Ann {key}"))
            return wire.round_trips

    for key in range(5):
        await write(key)
    without = await write(5)
    with deadline(20):
        assert await write(6) == without


@pytest.mark.parametrize("database_url", TWO_PHASE_DATABASES, indirect=True)
async def test_a_transaction_that_is_prepared_leaves_no_limit_either(
    following: AsyncEngine, engine: AsyncEngine
) -> None:
    await make_tables(engine)
    with deadline(20):
        async with AsyncSession(following, twophase=TwoPhase("test")) as session:
            session.add(Author(id=1, name="Ann"))
            await session.flush()
            assert await limit(session, following) > 0
            await session.commit()

    async with AsyncSession(following) as session:
        assert await limit(session, following) == 0


@pytest.mark.parametrize("wrong", ["5", None, True, float("nan")])
def test_a_deadline_is_a_number_or_a_timeout(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="a deadline is a number of seconds"), deadline(wrong):
        pass


def test_the_option_is_true_or_false() -> None:
    with pytest.raises(ArgumentError, match="statement_deadlines must be True or False"):
        create_async_engine("sqlite://", statement_deadlines=5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="statement_deadlines is True or False"):
        create_async_engine("sqlite://").execution_options(statement_deadlines="yes")
