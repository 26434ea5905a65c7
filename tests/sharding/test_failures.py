"""What is left when a shard fails or a query of several is cancelled: nothing that runs, and no connection held."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text, update

from aiosession import AsyncEngine, PartialCommitError
from aiosession.errors import InternalError, PendingRollbackError
from aiosession.ext.sharding import ShardedSession
from aiosession.testing.scripted import DriverCall, ScriptedDriver
from tests.sharding.sharded_model import Customer, Order, fill, make_sessions
from tests.without_loop import scripted, to_the_end

Shards = dict[str, AsyncEngine]
ROW = (1, "eu", "Ada", None)


def two_shards() -> tuple[Shards, list[ScriptedDriver]]:
    made = {name: scripted("postgresql") for name in ("eu", "us")}
    return {name: engine for name, (engine, _) in made.items()}, [driver for _, driver in made.values()]


def over(shards: Shards, **options: Any) -> ShardedSession:
    return make_sessions(
        shards, execute_chooser=lambda _: ["eu", "us"], identity_chooser=lambda *_, **__: ["eu", "us"], **options
    )()


async def scripted_shards() -> tuple[Shards, list[ScriptedDriver]]:
    return await asyncio.to_thread(two_shards)


def holders(shards: Shards) -> list[object]:
    return [holder for engine in shards.values() for holder in engine.pool.status().holders]


def test_no_event_loop_is_needed() -> None:
    shards, (eu, us) = two_shards()
    eu.answer([(*ROW, "Ada")], [])
    us.answer([(1, "us", "Bob", 3, "Bob")], [])
    session = over(shards)

    found = to_the_end(session.scalars(select(Customer).order_by(Customer.name))).all()
    to_the_end(session.load(found, Customer.orders))

    assert [each.name for each in found] == ["Ada", "Bob"]
    assert eu.verbs.count("fetch") == us.verbs.count("fetch") == 2


async def test_shards_are_asked_at_the_same_time() -> None:
    shards, drivers = await scripted_shards()
    arrived = asyncio.Barrier(2)
    for driver in drivers:
        record = driver.record

        async def note(call: DriverCall, record: Any = record) -> None:
            if call.verb == "fetch":
                await arrived.wait()
            await record(call)

        driver.record = note  # type: ignore[method-assign]
        driver.answer([ROW], [], [ROW])
    async with over(shards) as session, asyncio.timeout(5):
        found = (await session.scalars(select(Customer))).all()
        await session.load(found, Customer.orders)
        await session.refresh_all()
        await session.commit()
        await session.refresh_all()


async def test_one_failing_shard_is_named_and_the_others_come_to_their_end() -> None:
    shards, (eu, us) = await scripted_shards()
    us.answer(InternalError("SELECT", None, ValueError("broken")))
    eu.answer([ROW])
    async with over(shards) as session:
        with pytest.raises(InternalError, match="broken") as failure:
            await session.scalars(select(Customer))

        assert failure.value.__notes__ == ["on shard 'us'"]
        assert eu.verbs.count("fetch") == 1
        assert not holders(shards)
        # nothing had begun: the session can go on
        us.answer([])
        eu.answer([])
        assert (await session.scalars(select(Customer))).all() == []


async def test_a_failure_in_a_transaction_leaves_the_session_to_be_rolled_back(shards: Shards) -> None:
    await fill(shards)
    async with shards["us"].begin() as connection:
        await connection.execute(text("DROP TABLE order_tag"))
        await connection.execute(text('DROP TABLE "order"'))
    async with make_sessions(shards)() as session:
        await session.execute(update(Customer).values(name="changed"))
        with pytest.raises(Exception, match="order") as failure:
            await session.scalars(select(Order))
        assert failure.value.__notes__ == ["on shard 'us'"]
        if shards["us"].dialect.name == "postgresql":
            with pytest.raises(PendingRollbackError):
                await session.commit()
        await session.rollback()
        assert "changed" not in (await session.scalars(select(Customer.name))).all()


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_cancelled_fan_out_leaves_nothing_behind(in_transaction: bool) -> None:
    shards, (eu, us) = await scripted_shards()
    waits = asyncio.Event()
    record = us.record

    async def hang(call: DriverCall) -> None:
        await record(call)
        if call.verb == "fetch":
            waits.set()
            await asyncio.Event().wait()

    us.record = hang  # type: ignore[method-assign]
    eu.answer([ROW])
    tasks = set(asyncio.all_tasks())
    async with over(shards) as session:
        if in_transaction:
            await session.begin()
        running = asyncio.create_task(session.scalars(select(Customer)))
        await waits.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert set(asyncio.all_tasks()) == tasks
        if in_transaction:
            with pytest.raises(PendingRollbackError):
                await session.commit()
            await session.rollback()
    assert not holders(shards)


async def test_cancelled_reads_of_real_databases_cost_no_connection(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        for _ in range(5):
            running = asyncio.create_task(session.execute(select(Customer).order_by(Customer.id)))
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert not holders(shards)
        assert len((await session.scalars(select(Customer))).all()) == 6


async def test_a_shard_that_refuses_to_commit_is_told_with_those_that_have_committed() -> None:
    shards, (_, us) = await scripted_shards()
    async with over(shards) as session:
        for name in ("eu", "us"):
            await session.connection(bind_arguments={"shard_id": name})
        us.fail_at(len(us.calls) + 1, InternalError("COMMIT", None, ValueError("full")))
        with pytest.raises(PartialCommitError):
            await session.commit()
        await session.rollback()
    assert not holders(shards)
