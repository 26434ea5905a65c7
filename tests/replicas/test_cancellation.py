"""Cancelling a session while it looks for a place to read leaves all pools whole, and the session usable."""

from functools import partial

import pytest
from sqlalchemy import select

from aiosession import AsyncSession, Freshness, ReplicatedEngine, create_replicated_engine
from tests.concurrency.sweep import Moment, Run, cancelled_at, sweep
from tests.replicas.conftest import Pair
from tests.replicas.library import Author


async def commit_and_read(session: AsyncSession) -> None:
    session.add(Author(name="Bea"))
    await session.commit()
    assert (await session.scalars(select(Author.name))).all()
    await session.freshness()


async def read_only_transaction(session: AsyncSession) -> None:
    async with session.begin(read_only=True):
        assert (await session.get_one(Author, 1)).name


async def attempt(engine: ReplicatedEngine, token: Freshness | None, work: str, moment: Moment, step: int) -> Run:
    operation = {"commit": commit_and_read, "read-only": read_only_transaction}[work]
    for each in (engine, *engine.replicas):
        await each.dispose()  # connecting is part of it
    engine.retry_now()
    async with AsyncSession(engine, fresh_as_of=token) as session:
        run = await cancelled_at(lambda: operation(session), step, moment)
        assert run.was_reached or run.error is None, step
        await session.rollback()
        assert (await session.get_one(Author, 1)).name
    for each in (engine, *engine.replicas):
        status = each.pool.status()
        assert not status.holders, step
        assert status.open == status.idle, step
    return run


@pytest.mark.slow
@pytest.mark.parametrize("work", ["commit", "read-only"])
@pytest.mark.parametrize("moment", [Moment.START, Moment.DONE, Moment.EVERY])
async def test_while_a_standby_is_asked(pair: Pair, moment: Moment, work: str) -> None:
    engine = pair.engine()
    async with AsyncSession(engine) as session:
        session.add(Author(name="Cy"))
        await session.commit()
        token = await session.freshness()

    assert await sweep(partial(attempt, engine, token, work, moment), most=200) >= 1
    await engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("work", ["commit", "read-only"])
@pytest.mark.parametrize("moment", [Moment.START, Moment.DONE, Moment.EVERY])
async def test_while_a_dead_replica_is_replaced(engine: ReplicatedEngine, moment: Moment, work: str) -> None:
    missing = f"{engine.url.render_as_string()}.missing"
    other = create_replicated_engine(
        engine.url, replicas=[missing, str(engine.replicas[0].url)], choose=lambda engines: engines[0], retry_after=0
    )

    assert await sweep(partial(attempt, other, None, work, moment), most=200) >= 1
    await other.dispose()
