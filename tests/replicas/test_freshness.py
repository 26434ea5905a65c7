"""A session sees what it has committed, and what a token says that somebody else has, also on replicas that lag."""

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text

from aiosession import (
    AsyncSession,
    Freshness,
    ReplicatedEngine,
    async_sessionmaker,
    create_async_engine,
    create_replicated_engine,
)
from aiosession.errors import ArgumentError, InternalError, InvalidRequestError
from aiosession.testing.postgres import find_binaries, postgres_cluster
from aiosession.testing.replica import HOW_TO_GET_REPLICAS, can_replicate, postgres_replica
from aiosession.testing.statements import StatementLog
from tests.replicas.conftest import Pair
from tests.replicas.library import Author, Base


@pytest.fixture
async def patient(pair: Pair) -> AsyncIterator[ReplicatedEngine]:
    """Open an engine that waits long for its replica."""
    engine = pair.engine(max_wait=30)
    yield engine
    await engine.dispose()


@pytest.fixture
async def hasty(pair: Pair) -> AsyncIterator[ReplicatedEngine]:
    """Open an engine that does not wait for its replica."""
    engine = pair.engine(max_wait=0)
    yield engine
    await engine.dispose()


async def names(session: AsyncSession) -> list[str]:
    return list((await session.scalars(select(Author.name).order_by(Author.id))).all())


async def add(engine: ReplicatedEngine, name: str) -> Freshness:
    async with AsyncSession(engine) as session:
        session.add(Author(name=name))
        await session.commit()
        return await session.freshness()


async def test_a_replica_answers_with_what_it_has(pair: Pair, hasty: ReplicatedEngine) -> None:
    await pair.replica.hold()
    await add(hasty, "Bea")

    async with AsyncSession(hasty) as session:
        assert await names(session) == ["Ann"]


async def test_a_session_sees_its_own_commit_on_the_primary_if_the_replica_lags(
    pair: Pair, hasty: ReplicatedEngine
) -> None:
    await pair.replica.hold()
    async with AsyncSession(hasty) as session:
        assert await names(session) == ["Ann"]
        session.add(Author(name="Bea"))
        await session.commit()

        assert await names(session) == ["Ann", "Bea"]
        await session.execute(insert(Author).values(name="Cy"))
        await session.commit()
        assert await names(session) == ["Ann", "Bea", "Cy"]


async def test_a_session_sees_its_own_commit_on_the_replica_once_that_has_it(
    pair: Pair, patient: ReplicatedEngine
) -> None:
    primary = StatementLog(patient)
    async with AsyncSession(patient) as session:
        session.add(Author(name="Bea"))
        await session.commit()
        await pair.replica.catch_up()
        primary.clear()

        assert await names(session) == ["Ann", "Bea"]
        assert await names(session) == ["Ann", "Bea"]

    assert [each for each in primary.sql if "author" in each] == []
    assert len(primary.sql) == 1  # the position of the commit, asked for once


async def test_a_commit_costs_no_round_trip_more(patient: ReplicatedEngine) -> None:
    log = StatementLog(patient)

    async with AsyncSession(patient) as session:
        session.add(Author(name="Bea"))
        await session.commit()

    assert len(log.sql) == 1


async def test_a_token_makes_another_session_wait_for_the_replica(pair: Pair, patient: ReplicatedEngine) -> None:
    await pair.replica.hold()
    token = await add(patient, "Bea")
    primary = StatementLog(patient)

    async with AsyncSession(patient, fresh_as_of=token) as session:
        reading = asyncio.create_task(names(session))
        while not patient.replicas[0].pool.status().open:
            await asyncio.wait([reading], timeout=0.001)
        assert not reading.done()
        await pair.replica.go_on()

        assert await reading == ["Ann", "Bea"]
    assert primary.sql == []


async def test_a_token_makes_another_session_read_the_primary_when_waiting_was_no_use(
    pair: Pair, hasty: ReplicatedEngine
) -> None:
    await pair.replica.hold()
    token = await add(hasty, "Bea")

    async with AsyncSession(hasty, fresh_as_of=str(token)) as session:
        assert await names(session) == ["Ann", "Bea"]
    async with AsyncSession(hasty) as session:
        assert await names(session) == ["Ann"]
        session.require(token)
        assert await names(session) == ["Ann", "Bea"]


async def test_a_session_waits_once_not_at_every_read(pair: Pair) -> None:
    engine = pair.engine(max_wait=0.05)
    await pair.replica.hold()
    token = await add(engine, "Bea")
    replica = StatementLog(engine.replicas[0])

    async with AsyncSession(engine, fresh_as_of=token) as session:
        await names(session)
        asked = len(replica.sql)
        for _ in range(20):
            assert await names(session) == ["Ann", "Bea"]

    assert len(replica.sql) - asked < 15
    await engine.dispose()


async def test_a_read_only_transaction_sees_what_a_token_says(pair: Pair, hasty: ReplicatedEngine) -> None:
    await pair.replica.hold()
    token = await add(hasty, "Bea")

    async with AsyncSession(hasty, fresh_as_of=token) as session, session.begin(read_only=True):
        assert await names(session) == ["Ann", "Bea"]


async def test_makers_and_forks_pass_on_what_has_to_be_seen(pair: Pair, hasty: ReplicatedEngine) -> None:
    await pair.replica.hold()
    token = await add(hasty, "Bea")
    maker = async_sessionmaker(hasty)

    async with maker(fresh_as_of=token) as session, session.fork() as other:
        assert await names(other) == ["Ann", "Bea"]
    async with maker() as session:
        session.add(Author(name="Cy"))
        await session.commit()
        async with session.fork() as other:
            assert await names(other) == ["Ann", "Bea", "Cy"]
            assert await other.freshness() == await session.freshness()


async def test_cancelling_who_waits_leaves_nothing_behind(pair: Pair, patient: ReplicatedEngine) -> None:
    await pair.replica.hold()
    token = await add(patient, "Bea")

    async with AsyncSession(patient, fresh_as_of=token) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await names(session)
        await pair.replica.go_on()
        assert await names(session) == ["Ann", "Bea"]
    assert not patient.replicas[0].pool.status().holders


async def test_a_new_connection_is_asked_how_far_its_server_is(pair: Pair, patient: ReplicatedEngine) -> None:
    token = await add(patient, "Bea")
    log = StatementLog(patient.replicas[0])

    async def read() -> list[bool]:
        log.clear()
        async with AsyncSession(patient, fresh_as_of=token) as session:
            assert await names(session) == ["Ann", "Bea"]
        return ["pg_last_wal_replay_lsn" in sql for sql in log.sql]

    first, second = await read(), await read()
    await patient.replicas[0].dispose()
    third, fourth = await read(), await read()

    # the server might have been restarted, and be behind what it was
    assert (first[-2:], second, third, fourth) == ([True, False], [False], [True, False], [False])


async def test_a_server_that_follows_nobody_is_never_fresh(pair: Pair) -> None:
    engine = create_replicated_engine(pair.primary.url(), replicas=[pair.primary.url()], max_wait=0, name="shop")
    token = await add(engine, "Bea")
    primary, wrong = StatementLog(engine), StatementLog(engine.replicas[0])

    async with AsyncSession(engine, fresh_as_of=token) as session:
        assert await names(session) == ["Ann", "Bea"]

    assert len(primary.sql) == 1
    assert all("author" not in sql for sql in wrong.sql)
    await engine.dispose()


async def test_nothing_is_written_where_a_replica_is_none(pair: Pair) -> None:
    setup = create_async_engine(pair.primary.url())
    async with setup.begin() as connection:
        # by its name the function is one that only computes
        await connection.execute(
            text(
                "CREATE FUNCTION pi(name text) RETURNS int LANGUAGE sql AS "
                "$$INSERT INTO author (name) VALUES (name) RETURNING id$$"
            )
        )
    engine = create_replicated_engine(pair.primary.url(), replicas=[pair.primary.url()])

    async with AsyncSession(engine) as session:
        with pytest.raises(InternalError, match="read-only transaction"):
            await session.scalar(select(func.pi("Bea")))
    async with AsyncSession(setup) as session:
        assert await names(session) == ["Ann"]
        await session.execute(text("DROP FUNCTION pi(text)"))
        await session.commit()
    await engine.dispose()
    await setup.dispose()


@pytest.fixture
def other_servers() -> Iterator[Pair]:
    """Start servers for one test, that may do with them what it likes."""
    if find_binaries() is None or not can_replicate():
        pytest.skip(HOW_TO_GET_REPLICAS)
    with postgres_cluster({"synchronous_commit": "local"}) as primary, postgres_replica(primary) as replica:
        yield Pair(primary, replica)


async def test_a_promoted_replica_is_none_any_more(other_servers: Pair) -> None:
    engine = other_servers.engine(max_wait=0)
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    await other_servers.replica.catch_up()
    await other_servers.replica.promote()
    token = await add(engine, "Bea")

    async with AsyncSession(engine, fresh_as_of=token) as session:
        assert await names(session) == ["Bea"]
    async with AsyncSession(engine) as session:
        assert await names(session) == []
    await engine.dispose()


# Tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_survives_text_pickle_and_json(patient: ReplicatedEngine) -> None:
    token = await add(patient, "Bea")

    assert Freshness.parse(str(token)) == token
    assert pickle.loads(pickle.dumps(token)) == token
    assert Freshness.parse(json.loads(json.dumps(str(token)))) == token
    assert str(token).startswith("shop=")
    assert len({token, Freshness.parse(str(token))}) == 1


async def test_later_commits_have_later_tokens(patient: ReplicatedEngine) -> None:
    first, second = await add(patient, "Bea"), await add(patient, "Cy")

    assert first.of("shop") < second.of("shop")
    assert first | second == second | first == second


async def test_tokens_of_several_databases_can_be_joined() -> None:
    one, other = Freshness({"a&b=c": 1}), Freshness({"d": 0xFF, "e": float("inf")})

    assert str(one | other) == "a%26b%3Dc=1&d=FF&e=*"
    assert Freshness.parse(str(one | other)) == one | other


async def test_who_has_written_nothing_has_an_empty_token(patient: ReplicatedEngine) -> None:
    async with AsyncSession(patient) as session:
        await names(session)

        assert str(await session.freshness()) == ""
        assert Freshness.parse("") == await session.freshness()


async def test_a_token_is_handed_on(patient: ReplicatedEngine) -> None:
    token = await add(patient, "Bea")

    async with AsyncSession(patient, fresh_as_of=token) as session:
        assert await session.freshness() == token


async def test_there_is_no_token_before_the_commit(patient: ReplicatedEngine) -> None:
    async with AsyncSession(patient) as session:
        session.add(Author(name="Bea"))
        await session.flush()

        with pytest.raises(InvalidRequestError, match="not committed yet"):
            await session.freshness()


@pytest.mark.parametrize("text", ["shop", "=1", "shop=", "shop=xyz", "shop=-1", "shop=1&", "a=1&&b=2", "s=" + "F" * 17])
async def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="is no token of freshness"):
        AsyncSession(fresh_as_of=text)


@pytest.mark.parametrize("token", [7, b"shop=1", {"shop": 1}])
async def test_a_token_is_one_or_its_text(token: Any) -> None:
    async with AsyncSession() as session:
        with pytest.raises(ArgumentError, match="a token of freshness is a Freshness or its text"):
            session.require(token)


async def test_a_made_up_token_does_no_harm(hasty: ReplicatedEngine) -> None:
    async with AsyncSession(hasty, fresh_as_of="shop=FFFFFFFFFFFFFFFF&elsewhere=1") as session:
        assert await names(session) == ["Ann"]


async def test_where_positions_are_not_told_a_token_stands_for_the_primary(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=2, name="new"))
        await session.commit()
        token = await session.freshness()

    assert str(token).endswith("=*")
    async with AsyncSession(engine, fresh_as_of=str(token)) as session:
        assert await names(session) == ["primary", "new"]
