"""Events are delivered at least once, those of a key in order; what fails waits, and what never works is put aside."""

from typing import Any

import pytest
from sqlalchemy import MetaData, update
from typing_extensions import override

from aiosession import (
    ArgumentError,
    AsyncEngine,
    async_sessionmaker,
    create_async_engine,
)
from aiosession.ext.outbox import Outbox, OutboxEvent, OutboxSession
from tests.workers.outbox_model import Base, Maker, Received, make_due, outbox, publish, rows, state


@pytest.fixture
async def maker(engine: AsyncEngine) -> Maker:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    return async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)


async def test_what_is_delivered_is_gone(maker: Maker, engine: AsyncEngine, observer: AsyncEngine) -> None:
    received = Received()
    await publish(maker, "a", "b", "c")

    assert await outbox.relay(engine, received, batch=2).drain() == 3
    assert received.payloads == ["a", "b", "c"]
    assert await rows(observer) == []


async def test_a_failed_event_waits_and_says_why(maker: Maker, engine: AsyncEngine, observer: AsyncEngine) -> None:
    received = Received(fails=lambda event: event.payload == "b" and event.attempt < 3)
    relay = outbox.relay(engine, received, backoff=3600, max_backoff=3600)
    await publish(maker, "a", "b", "c")

    assert await relay.drain() == 2
    assert await state(observer) == [("b", 1, "ConnectionError('no one takes b')", False)]
    assert await relay.drain() == 0
    await make_due(observer)
    assert await relay.drain() == 0
    await make_due(observer)
    assert await relay.drain() == 1
    assert received.payloads == ["a", "c", "b"]
    assert [event.attempt for event in received.tried if event.payload == "b"] == [1, 2, 3]
    assert len({event.id for event in received.tried}) == 3


async def test_a_failed_event_holds_back_what_follows_it_under_the_same_key(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received(fails=lambda event: event.payload == "1b" and event.attempt == 1)
    relay = outbox.relay(engine, received, backoff=3600, max_backoff=3600)
    await publish(maker, "1a", "1b", "1c", key="one")
    await publish(maker, "2a", "2b", key="two")
    await publish(maker, "1d", key="one")

    await relay.drain()
    assert received.payloads == ["1a", "2a", "2b"]
    await publish(maker, "1e", key="one")
    await relay.drain()
    assert await rows(observer) == ["1b", "1c", "1d", "1e"]
    await make_due(observer)
    await relay.drain()
    assert received.payloads == ["1a", "2a", "2b", "1b", "1c", "1d", "1e"]


async def test_what_never_works_is_put_aside_and_holds_nothing_back_any_more(
    maker: Maker, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    received = Received(fails=lambda event: event.payload == "bad")
    relay = outbox.relay(engine, received, attempts=3, backoff=0)
    await publish(maker, "bad", "good", key="one")

    assert await relay.drain() == 1
    assert received.payloads == ["good"]
    assert await state(observer) == [("bad", 3, "ConnectionError('no one takes bad')", True)]
    assert await relay.drain() == 0
    assert len(received.tried) == 4


async def test_a_dead_letter_can_be_revived_by_sql(maker: Maker, engine: AsyncEngine) -> None:
    received = Received(fails=lambda event: event.attempt == 1 and len(received.tried) == 1)
    relay = outbox.relay(engine, received, attempts=1)
    await publish(maker, "a")
    await relay.drain()

    async with engine.begin() as connection:
        await connection.execute(update(outbox.table).values(dead_at=None, attempts=0))

    assert await relay.drain() == 1


async def test_a_delayed_event_waits_and_so_does_its_key(maker: Maker, engine: AsyncEngine) -> None:
    received = Received()
    relay = outbox.relay(engine, received)
    async with maker.begin() as session:
        session.publish("first", topic="letters", key="one")
        session.publish("later", topic="letters", key="one", delay=3600)
        session.publish("last", topic="letters", key="one")
        session.publish("other", topic="letters", delay=3600)

    await relay.drain()
    assert received.payloads == ["first"]
    await make_due(engine)
    await relay.drain()
    assert sorted(map(str, received.payloads)) == ["first", "last", "later", "other"]
    assert received.payloads.index("later") < received.payloads.index("last")


async def test_a_handler_may_be_a_plain_function(maker: Maker, engine: AsyncEngine) -> None:
    received: list[OutboxEvent] = []
    await publish(maker, "a")

    assert await outbox.relay(engine, received.append).drain() == 1
    assert [event.payload for event in received] == ["a"]


async def test_a_relay_can_be_given_what_makes_sessions(maker: Maker, engine: AsyncEngine) -> None:
    received = Received()
    await publish(maker, "a")

    assert await outbox.relay(maker, received).drain() == 1


async def test_a_relay_looks_in_the_schema_that_its_sessions_publish_to(engine: AsyncEngine) -> None:
    metadata, received = MetaData(), Received()
    placed = Outbox(metadata, schema="somewhere")
    schemas = {"somewhere": None}
    async with engine.execution_options(schema_translate_map=schemas).begin() as connection:
        await connection.create_all(metadata)
    options: dict[str, Any] = {"class_": OutboxSession, "outbox": placed, "schema_translate_map": schemas}
    translated: Maker = async_sessionmaker(engine, **options)
    await publish(translated, "a")

    assert await placed.relay(translated, received).drain() == 1


async def test_a_relay_looks_where_binds_send_the_outbox(maker: Maker, engine: AsyncEngine) -> None:
    received, elsewhere = Received(), create_async_engine("sqlite://")
    maker.configure(bind=elsewhere, binds={outbox.table: engine})
    await publish(maker, "a")

    assert await outbox.relay(maker, received).drain() == 1
    await elsewhere.dispose()


def test_sessions_that_choose_engines_themselves_do_not_tell_a_relay_where_to_look() -> None:
    class Choosing(OutboxSession):
        @override
        def get_bind(self, *_args: Any, **_hints: Any) -> AsyncEngine:
            raise NotImplementedError

    chosen = async_sessionmaker(create_async_engine("sqlite://"), class_=Choosing, outbox=outbox)
    with pytest.raises(ArgumentError, match="give the relay the engine of the table 'outbox'"):
        outbox.relay(chosen, Received())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is a whole number from 1"),
        ({"attempts": "3"}, "attempts is a whole number from 1"),
        ({"every": -1}, "every is a number of seconds"),
        ({"every": float("nan")}, "every is a number of seconds from 0 to 1e\\+09, not nan"),
        ({"lease": float("nan")}, "lease is a number of seconds"),
        ({"lease": float("inf")}, "lease is a number of seconds"),
        ({"lease": 0}, "lease is the time that events are kept for this relay: more than 0 seconds"),
        ({"lease": -1}, "lease is a number of seconds"),
        ({"backoff": float("nan")}, "backoff is a number of seconds"),
        ({"max_backoff": float("inf")}, "max_backoff is a number of seconds"),
        ({"interval": 1}, "a relay has the options batch, every, .* but not interval"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        outbox.relay(create_async_engine("sqlite://"), Received(), **options)


def test_a_relay_needs_an_engine_and_a_handler() -> None:
    with pytest.raises(ArgumentError, match="a relay needs the engine of its outbox"):
        outbox.relay(async_sessionmaker(), Received())
    with pytest.raises(ArgumentError, match="handler is a function that takes an event"):
        outbox.relay(create_async_engine("sqlite://"), 5)  # type: ignore[arg-type]
