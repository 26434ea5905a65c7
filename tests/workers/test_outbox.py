"""Events that are published with the work that they tell of, or not at all."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import MetaData

from aiosession import ArgumentError, AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker
from aiosession.ext.outbox import Outbox, OutboxSession
from aiosession.testing.statements import StatementLog
from tests.workers.outbox_model import Base, Maker, Order, Received, outbox, rows


@pytest.fixture
async def maker(engine: AsyncEngine) -> Maker:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    return async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)


@dataclass
class Placed:
    order: int
    amount: int


class Paid(BaseModel):
    order: int
    at: datetime


async def test_an_event_is_there_when_its_work_is(maker: Maker, observer: AsyncEngine) -> None:
    async with maker.begin() as session:
        session.add(Order(id=1, amount=5))
        session.publish({"order": 1}, topic="placed")
        await session.flush()
        if maker.kw["bind"].capabilities.concurrent_reads:
            assert await rows(observer) == []

    assert await rows(observer) == [{"order": 1}]


async def test_a_rollback_takes_it_back(maker: Maker, observer: AsyncEngine) -> None:
    async with maker() as session:
        session.publish(Placed(1, 5))
        await session.flush()
        await session.rollback()
        session.publish(Placed(2, 5))
        await session.commit()

    assert await rows(observer) == [{"order": 2, "amount": 5}]


async def test_many_events_are_one_insert_and_keep_their_order(maker: Maker, engine: AsyncEngine) -> None:
    async with maker() as session:
        with StatementLog(engine) as log:
            for number in range(50):
                session.publish({"number": number}, topic="counted")
            await session.flush()
            inserts = log.of_kind("INSERT")
        await session.commit()

    assert len(inserts) == 1
    assert await rows(engine) == [{"number": number} for number in range(50)]


async def test_events_are_dicts_dataclasses_models_or_plain_values(maker: Maker, engine: AsyncEngine) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    received = Received()
    async with maker.begin() as session:
        session.publish(Placed(1, 5), key="order 1", headers={"trace": "a1"})
        session.publish(Paid(order=1, at=at))
        session.publish(["a", 1, None, 2.5, True], topic="list")
        given = session.publish("text", topic="text")
    await outbox.relay(engine, received).drain()

    assert [(event.topic, event.key, event.payload, event.headers) for event in received.events] == [
        ("Placed", "order 1", {"order": 1, "amount": 5}, {"trace": "a1"}),
        ("Paid", None, {"order": 1, "at": "2026-01-02T03:04:05Z"}, {}),
        ("list", None, ["a", 1, None, 2.5, True], {}),
        ("text", None, "text", {}),
    ]
    last = received.events[-1]
    assert (last.id, last.attempt, last.created_at.tzinfo) == (given, 1, UTC)
    assert datetime.now(UTC) - last.created_at < timedelta(minutes=1)


async def test_any_session_can_publish_through_the_outbox(maker: Maker, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        outbox.publish(session, {"a": 1}, topic="b")
        await session.commit()

    assert await rows(engine) == [{"a": 1}]


async def test_a_fork_publishes_to_the_same_outbox(maker: Maker, engine: AsyncEngine) -> None:
    async with maker() as session, session.fork() as other:
        other.publish({"a": 1}, topic="b")
        await other.commit()

    assert await rows(engine) == [{"a": 1}]


async def test_a_retried_unit_of_work_publishes_once(maker: Maker, engine: AsyncEngine) -> None:
    async for attempt in maker.retrying(wait=0, on=LookupError):
        async with attempt as session:
            session.publish({"attempt": attempt.number}, topic="tried")
            await session.flush()
            if attempt.number < 3:
                raise LookupError

    assert await rows(engine) == [{"attempt": 3}]


async def test_a_serializer_of_ones_own(engine: AsyncEngine) -> None:
    metadata = MetaData()
    own = Outbox(metadata, table="events", serializer=lambda event: {"is": str(event)})
    async with engine.begin() as connection:
        await connection.create_all(metadata)
    received = Received()

    async with async_sessionmaker(engine, class_=OutboxSession, outbox=own).begin() as session:
        session.publish(datetime(2026, 1, 1))
    await own.relay(engine, received).drain()

    assert received.payloads == [{"is": "2026-01-01 00:00:00"}]


@pytest.mark.parametrize(
    ("event", "options", "message"),
    [
        ({"a": 1}, {}, "a dict does not say what it tells of: publish\\(event, topic=...\\)"),
        ({"a": datetime(2026, 1, 1)}, {"topic": "t"}, "cannot be stored as JSON .*; publish a dict, a dataclass"),
        (float("nan"), {"topic": "t"}, "cannot be stored as JSON"),
        (object(), {"topic": "t"}, "cannot be stored as JSON"),
        ({}, {"topic": ""}, "a topic is a text that is not empty"),
        ({}, {"topic": "x" * 256}, "topic is a text of at most 255 characters"),
        ({}, {"topic": "t", "key": 7}, "key is a text of at most 255 characters, not 7"),
        ({}, {"topic": "t", "headers": {"a": 1}}, "headers are texts by name; got 'a': 1"),
        ({}, {"topic": "t", "headers": ["a"]}, "headers are texts by name, a dict for one; got \\['a'\\]"),
        ({}, {"topic": "t", "delay": "5"}, "delay is a number of seconds from 0 to 1e\\+09, not '5'"),
        ({}, {"topic": "t", "delay": float("nan")}, "delay is a number of seconds from 0 to 1e\\+09, not nan"),
        ({}, {"topic": "t", "delay": -1}, "delay is a number of seconds"),
    ],
)
async def test_what_cannot_be_published_is_refused_at_once(
    sqlite_url: str, event: object, options: dict[str, Any], message: str
) -> None:
    async with async_sessionmaker(class_=OutboxSession, outbox=outbox)() as session:
        with pytest.raises(ArgumentError, match=message):
            session.publish(event, **options)
        assert not session.new


async def test_what_makes_sessions_publishes_nothing_but_the_current_one_of_a_scope_does(
    maker: Maker, engine: AsyncEngine
) -> None:
    with pytest.raises(
        ArgumentError, match="publish\\(\\) takes the session whose work the event tells of, not async_"
    ):
        outbox.publish(maker, {"a": 1}, topic="b")  # type: ignore[arg-type]
    current = async_scoped_session(maker, scopefunc=lambda: 1)
    outbox.publish(current, {"a": 1}, topic="b")
    await current.commit()
    await current.remove()

    assert await rows(engine) == [{"a": 1}]


def test_a_session_has_to_be_told_its_outbox() -> None:
    with pytest.raises(ArgumentError, match="outbox=Outbox\\(metadata\\)"):
        OutboxSession()


def test_an_outbox_needs_a_name_of_its_own() -> None:
    metadata = MetaData()
    Outbox(metadata)

    with pytest.raises(ArgumentError, match="there is a table 'outbox' already"):
        Outbox(metadata)
    with pytest.raises(ArgumentError, match="serializer makes JSON"):
        Outbox(metadata, table="other", serializer=5)  # type: ignore[arg-type]
