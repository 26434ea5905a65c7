"""A replica that cannot be reached costs nobody an answer, and is not tried for every read."""

import asyncio
import socket
from pathlib import Path

import pytest
from sqlalchemy import literal_column, select, text

from aiosession import AsyncSession, ReplicatedEngine, create_replicated_engine
from aiosession.errors import DatabaseError, DisconnectError, PoolTimeoutError, ProgrammingError, SerializationError
from tests.replicas.conftest import Pair
from tests.replicas.library import Author, make_copy


async def name(engine: ReplicatedEngine) -> str:
    async with AsyncSession(engine) as session:
        return (await session.get_one(Author, 1)).name


@pytest.fixture
async def urls(tmp_path: Path) -> list[str]:
    found = [f"sqlite:///{tmp_path}/{place}.db" for place in ("primary", "replica", "missing")]
    await make_copy(found[0], "primary")
    await make_copy(found[1], "replica")
    return found


async def test_another_replica_answers_for_one_that_cannot_be_reached(urls: list[str]) -> None:
    primary, replica, missing = urls
    engine = create_replicated_engine(
        primary, replicas=[missing, replica], choose=lambda engines: engines[0], retry_after=60
    )

    assert [await name(engine) for _ in range(3)] == ["replica"] * 3

    lost, alive = engine.status().replicas
    assert (lost.is_up, lost.failures) == (False, 1)
    assert "unable to open" in str(lost.error)
    assert 0 < lost.retry_in <= 60
    assert (alive.is_up, alive.failures, alive.error, alive.retry_in) == (True, 0, None, 0)
    await engine.dispose()


async def test_at_last_the_primary_answers(urls: list[str]) -> None:
    primary, _, missing = urls
    engine = create_replicated_engine(primary, replicas=[missing], retry_after=60)

    assert [await name(engine) for _ in range(3)] == ["primary"] * 3

    assert engine.status().replicas[0].failures == 1
    await engine.dispose()


async def test_a_replica_is_tried_again_when_its_time_has_come_or_when_asked_for(urls: list[str]) -> None:
    primary, _, missing = urls
    engine = create_replicated_engine(primary, replicas=[missing], retry_after=60)
    assert await name(engine) == "primary"
    engine.retry_now()
    assert await name(engine) == "primary"
    assert engine.status().replicas[0].failures == 2

    await make_copy(missing, "late")
    assert await name(engine) == "primary"
    engine.retry_now()

    assert await name(engine) == "late"
    assert engine.status().replicas[0].failures == 0
    await engine.dispose()


async def test_without_back_off_it_is_tried_at_every_read(urls: list[str]) -> None:
    primary, _, missing = urls
    engine = create_replicated_engine(primary, replicas=[missing], retry_after=0)

    for number in range(1, 4):
        assert await name(engine) == "primary"
        assert engine.status().replicas[0].failures == number
    await engine.dispose()


async def test_the_wait_is_longer_after_each_failure_but_not_without_end(urls: list[str]) -> None:
    primary, _, missing = urls
    engine = create_replicated_engine(primary, replicas=[missing], retry_after=10)
    waits = []

    for _ in range(5):
        await name(engine)
        waits.append(round(engine.status().replicas[0].retry_in / 10))
        engine.retry_now()

    assert waits == [1, 2, 4, 6, 6]
    await engine.dispose()


async def test_errors_of_a_statement_are_its_own(engine: ReplicatedEngine) -> None:
    heard: list[str] = []
    engine.events.before.add(lambda event: heard.append(event.sql))

    async with AsyncSession(engine) as session:
        with pytest.raises(ProgrammingError):
            await session.execute(select(literal_column("missing")))

    assert not heard
    assert all(status.is_up for status in engine.status().replicas)


async def test_a_read_that_conflicts_with_the_replication_is_answered_elsewhere(engine: ReplicatedEngine) -> None:
    def conflict(_: object) -> None:
        raise SerializationError("SELECT", (), RuntimeError("canceling statement due to conflict with recovery"))

    engine.replicas[0].events.before.add(conflict)

    assert await name(engine) == "replica 2"
    assert all(status.is_up for status in engine.status().replicas)
    engine.replicas[1].events.before.add(conflict)
    assert await name(engine) == "primary"


async def test_a_pool_whose_connections_are_all_in_use_is_no_dead_replica(urls: list[str]) -> None:
    engine = create_replicated_engine(urls[0], replicas=[urls[1]], pool_size=1, max_overflow=0, pool_timeout=0.01)

    async with engine.replicas[0].connect():
        with pytest.raises(PoolTimeoutError):
            await name(engine)

    assert engine.status().replicas[0].is_up
    await engine.dispose()


async def test_a_port_where_nobody_listens_is_a_dead_replica(pair: Pair) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = create_replicated_engine(
        pair.primary.url(), replicas=[f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"], retry_after=60
    )

    assert await name(engine) == "Ann"
    assert not engine.status().replicas[0].is_up
    await engine.dispose()


async def test_only_one_tries_again_while_the_others_read_elsewhere(pair: Pair) -> None:
    attempts: list[asyncio.StreamWriter] = []
    again = asyncio.Event()

    async def never_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempts.append(writer)
        if len(attempts) == 1:
            writer.close()
        again.set()

    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    engine = create_replicated_engine(
        pair.primary.url(), replicas=[f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"], retry_after=60
    )
    assert await name(engine) == "Ann"
    engine.retry_now()
    again.clear()

    trying = asyncio.create_task(name(engine))
    await again.wait()
    assert [await name(engine) for _ in range(3)] == ["Ann"] * 3

    assert len(attempts) == 2
    assert not trying.done()
    attempts[1].close()
    assert await trying == "Ann"
    assert engine.status().replicas[0].failures == 2
    silent.close()
    await silent.wait_closed()
    await engine.dispose()


async def test_a_replica_that_dies_between_two_reads_costs_no_answer(pair: Pair) -> None:
    engine = pair.engine()
    assert await name(engine) == "Ann"
    assert engine.replicas[0].pool.status().open == 1

    await asyncio.to_thread(pair.replica.kill)
    try:
        assert [await name(engine) for _ in range(2)] == ["Ann", "Ann"]
        assert engine.status().replicas[0].failures == 1
        async with AsyncSession(engine) as session, session.begin(read_only=True):
            assert (await session.get_one(Author, 1)).name == "Ann"
    finally:
        await asyncio.to_thread(pair.replica.start)

    engine.retry_now()
    assert await name(engine) == "Ann"
    assert engine.status().replicas[0].is_up
    assert engine.replicas[0].pool.status().open == 1
    await engine.dispose()


async def test_a_connection_that_turns_out_to_be_dead_is_replaced_when_it_is_first_used(pair: Pair) -> None:
    engine = pair.engine(retry_after=0)
    assert await name(engine) == "Ann"
    await end_backends(pair)

    async with AsyncSession(engine) as session, session.begin(read_only=True):
        assert (await session.get_one(Author, 1)).name == "Ann"

    await end_backends(pair)
    assert await name(engine) == "Ann"
    assert not engine.replicas[0].pool.status().holders
    await engine.dispose()


async def test_a_read_only_transaction_that_has_begun_is_not_moved(pair: Pair) -> None:
    engine = pair.engine()
    async with AsyncSession(engine) as session:
        await session.begin(read_only=True)
        assert (await session.get_one(Author, 1)).name == "Ann"
        await end_backends(pair)

        with pytest.raises(DisconnectError):
            await session.scalars(select(Author))
        await session.rollback()
        assert (await session.get_one(Author, 1)).name == "Ann"
    await engine.dispose()


async def test_if_the_primary_is_dead_too_the_error_is_its_own(urls: list[str]) -> None:
    engine = create_replicated_engine(f"{urls[2]}?mode=ro", replicas=[urls[2]], retry_after=60)

    with pytest.raises(DatabaseError, match="unable to open"):
        await name(engine)
    await engine.dispose()


async def end_backends(pair: Pair) -> None:
    """End all connections of others to the replica."""
    other = create_replicated_engine(pair.replica.url(), replicas=[])
    async with other.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )
    await other.dispose()
