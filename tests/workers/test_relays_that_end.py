"""Several relays at work, and one that ends, dies or sleeps in the middle: nothing is lost, nobody is overruled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from aiosession import (
    AsyncEngine,
    DisconnectError,
    InvalidRequestError,
    async_sessionmaker,
)
from aiosession.ext.outbox import OutboxEvent, OutboxSession
from tests.workers.outbox_model import Base, Maker, Received, make_due, outbox, publish, rows, state


@pytest.fixture
async def maker(engine: AsyncEngine) -> Maker:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    return async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)


# Several relays


async def test_a_batch_is_kept_from_other_relays(maker: Maker, engine: AsyncEngine, observer: AsyncEngine) -> None:
    first, second = Received(), Received()
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(_event: OutboxEvent) -> None:
        entered.set()
        await go.wait()

    first.before = wait
    await publish(maker, "a", "b", key="one")
    await publish(maker, "c")
    task = asyncio.create_task(outbox.relay(engine, first).drain())
    await entered.wait()
    await publish(maker, "d", key="one")
    await publish(maker, "e")

    assert await outbox.relay(observer, second).drain() == 1
    go.set()
    await task
    assert second.payloads == ["e"]
    assert first.payloads == ["a", "b", "c", "d"]


async def test_many_relays_deliver_each_event_once_and_keys_in_order(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received()

    async def give_way(_event: OutboxEvent) -> None:
        await asyncio.sleep(0)

    received.before = give_way
    for number in range(10):
        async with maker.begin() as session:
            for key in "abcdef":
                session.publish(number, topic="counted", key=key)
    relays = [outbox.relay(each, received, batch=4) for each in (engine, observer, engine)]

    while await rows(observer):
        await asyncio.gather(*(relay.drain() for relay in relays))

    for key in "abcdef":
        assert [event.payload for event in received.events if event.key == key] == list(range(10))


# When a relay ends


async def test_a_relay_that_dies_between_handler_and_mark_delivers_again(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Received(), Received()
    dying = outbox.relay(engine, first)
    await publish(maker, "a", "b", key="one")

    async def die(*_args: object) -> None:
        raise SystemExit

    monkeypatch.setattr(dying, "_settle", die)
    with pytest.raises(SystemExit):
        await dying.drain()

    assert first.payloads == ["a", "b"]
    assert await outbox.relay(observer, second).drain() == 0
    await make_due(observer)
    assert await outbox.relay(observer, second).drain() == 2
    assert [event.id for event in second.events] == [event.id for event in first.events]


@pytest.mark.parametrize("outcome", ["delivered", "failed", "given back"])
async def test_a_relay_that_overslept_its_lease_leaves_alone_what_others_have_taken(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, outcome: str
) -> None:
    sleeper, taken = Received(fails=lambda _event: outcome == "failed"), []

    async def oversleep(event: OutboxEvent) -> None:
        if event.payload == "a":
            await make_due(observer)
            async with async_sessionmaker(observer).begin() as session:
                taken.append(await second._take(session))
        if outcome == "given back":
            first.stop()

    sleeper.before = oversleep
    first, second = outbox.relay(engine, sleeper), outbox.relay(observer, Received())
    await publish(maker, "a", "b", key="one")
    await first._deliver()

    async with observer.connect() as connection:
        held = list(await connection.scalars(select(outbox.table.c.available_at)))
    assert await state(observer) == [("a", 0, None, False), ("b", 0, None, False)]
    assert held == [taken[0].until] * 2


async def test_an_event_never_pays_for_another_one_that_had_its_place(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    late = Received()

    async def oversleep(_event: OutboxEvent) -> None:
        await make_due(observer)
        assert await outbox.relay(observer, Received()).drain() == 1
        await publish(maker, "second")

    late.before = oversleep
    await publish(maker, "first")
    await outbox.relay(engine, late)._deliver()

    assert await rows(observer) == ["second"]


@pytest.mark.parametrize("cancel", ["task", "stop"])
async def test_a_relay_that_is_ended_notes_what_it_delivered_and_gives_back_the_rest(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, cancel: str
) -> None:
    received, other = Received(), Received()
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(event: OutboxEvent) -> None:
        if event.payload == "b":
            entered.set()
            await go.wait()

    received.before = wait
    relay = outbox.relay(engine, received)
    await publish(maker, "a", "b", "c")
    task = asyncio.create_task(relay.run())
    await entered.wait()
    if cancel == "task":
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = [("b", 0, None, False), ("c", 0, None, False)]
    else:
        relay.stop()
        go.set()
        await task
        left = [("c", 0, None, False)]

    assert await state(observer) == left
    assert await outbox.relay(observer, other).drain() == len(left)


async def test_a_handler_that_takes_longer_than_the_lease_is_broken_off_and_has_failed(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received()

    async def wait(event: OutboxEvent) -> None:
        if event.payload == "slow":
            await asyncio.Event().wait()

    received.before = wait
    await publish(maker, "slow", "next", key="one")
    await outbox.relay(engine, received, lease=0.4, attempts=1).drain()

    assert received.payloads == ["next"]
    assert await state(observer) == [("slow", 1, "broken off: it took too long for lease=0.4 seconds", True)]


async def test_what_cannot_be_begun_within_the_lease_is_given_back(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    received, other = Received(), Received()
    await publish(maker, "a", "b")

    assert await outbox.relay(engine, received, lease=0.00001).drain() == 0
    assert received.tried == []
    assert "no event was begun within half of lease=1e-05 seconds" in caplog.text
    assert await state(observer) == [("a", 0, None, False), ("b", 0, None, False)]
    assert await outbox.relay(observer, other).drain() == 2


async def test_a_batch_is_no_larger_than_was_said(maker: Maker, engine: AsyncEngine) -> None:
    received = Received()
    for key in "abc":
        await publish(maker, "1", "2", "3", key=key)
    relay = outbox.relay(engine, received, batch=5)

    sizes = [len((await relay._deliver()).events) for _ in range(3)]

    assert sizes == [5, 4, 0]
    assert [[event.payload for event in received.events if event.key == key] for key in "abc"] == [["1", "2", "3"]] * 3


async def test_a_cancellation_that_nobody_meant_for_the_relay_is_a_failure_of_the_event(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received()

    async def wait_for_what_was_cancelled(event: OutboxEvent) -> None:
        if event.payload == "a":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    received.before = wait_for_what_was_cancelled
    await publish(maker, "a", "b")

    assert await outbox.relay(engine, received).drain() == 1
    assert await state(observer) == [("a", 1, "CancelledError()", False)]


async def test_stop_is_for_run_and_not_for_drain(maker: Maker, engine: AsyncEngine) -> None:
    received = Received()
    relay = outbox.relay(engine, received)
    await publish(maker, "a")
    relay.stop()

    assert await relay.drain() == 1


async def test_a_relay_runs_once_at_a_time(maker: Maker, engine: AsyncEngine) -> None:
    received, entered = Received(), asyncio.Event()

    async def enter(_event: OutboxEvent) -> None:
        entered.set()

    received.before = enter
    relay = outbox.relay(engine, received)
    await publish(maker, "a")
    task = asyncio.create_task(relay.run())
    await entered.wait()
    with pytest.raises(InvalidRequestError, match="this relay runs already; make another one"):
        await relay.run()
    relay.stop()
    await task

    relay.stop()
    await relay.run()


@pytest.mark.parametrize("slow", ["until the lease is over", "until it is cancelled"])
async def test_delivered_events_that_cannot_be_noted_are_told_of(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, monkeypatch: pytest.MonkeyPatch, slow: str, caplog: Any
) -> None:
    received, entered = Received(), asyncio.Event()
    monkeypatch.setattr("aiosession.ext.relay._SETTLING", 0.1)
    relay = outbox.relay(engine, received, lease=60 if "cancelled" in slow else 0.4)

    async def never(*_args: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(relay, "_settle", never)
    await publish(maker, "a", "b")
    task = asyncio.create_task(relay._deliver())
    if "cancelled" in slow:
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await task

    assert "2 delivered events could not be noted as such and will be delivered again" in caplog.text
    assert await rows(observer) == ["a", "b"]


async def test_to_note_what_was_delivered_may_take_until_the_lease_is_over(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiosession.ext.relay._SETTLING", 0)
    await publish(maker, "a")

    assert await outbox.relay(engine, Received()).drain() == 1
    assert await rows(observer) == []


async def test_a_running_relay_delivers_what_comes_and_stops_when_told(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received()
    got: asyncio.Queue[object] = asyncio.Queue()

    async def tell(event: OutboxEvent) -> None:
        got.put_nowait(event.payload)

    received.before = tell
    relay = outbox.relay(engine, received, every=0.01)
    task = asyncio.create_task(relay.run())
    for payload in "abc":
        await publish(maker, payload)
        assert await got.get() == payload
    relay.stop()
    await task

    assert await rows(observer) == []


async def test_a_relay_that_is_woken_does_not_wait_for_its_time(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    got: asyncio.Queue[object] = asyncio.Queue()
    relay = outbox.relay(engine, lambda event: got.put_nowait(event.payload), every=3600)
    relay.wake()  # nobody sleeps yet
    task = asyncio.create_task(relay.run())
    for payload in "abc":
        await publish(maker, payload)
        relay.wake()
        assert await got.get() == payload
    relay.stop()
    await task

    assert await rows(observer) == []


async def test_who_wakes_a_relay_while_it_looks_has_it_look_again(
    maker: Maker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received()
    relay = outbox.relay(engine, received, every=3600)
    deliver: Callable[[], Awaitable[Any]] = relay._deliver
    looks = 0

    async def late() -> Any:
        nonlocal looks
        looks += 1
        batch = await deliver()
        if looks == 1:  # it has found nothing
            await publish(maker, "a")
            relay.wake()
        else:
            relay.stop()
        return batch

    monkeypatch.setattr(relay, "_deliver", late)
    await relay.run()

    assert received.payloads == ["a"]


async def test_a_running_relay_outlives_a_database_that_is_away(
    maker: Maker, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Received()
    relay = outbox.relay(engine, received, every=0)
    deliver: Callable[[], Awaitable[Any]] = relay._deliver
    failures = [DisconnectError("SELECT", None, RuntimeError("gone"))]

    async def unreliable() -> Any:
        if failures:
            raise failures.pop()
        return await deliver()

    async def stop(_event: OutboxEvent) -> None:
        relay.stop()

    monkeypatch.setattr(relay, "_deliver", unreliable)
    received.before = stop
    await publish(maker, "a")
    await relay.run()

    assert received.payloads == ["a"]
