"""What a sharded session is made of, and what it refuses to be made of."""

from typing import Any

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, async_sessionmaker, create_async_engine
from aiosession.errors import ArgumentError
from aiosession.ext.sharding import ShardedSession, set_shard_id
from aiosession.testing.statements import StatementLog
from tests.sharding.sharded_model import (
    SHARDS,
    Customer,
    Order,
    choose_for_key,
    choose_for_statement,
    choose_shard,
    fill,
    make_sessions,
    make_tables,
    names_in,
)
from tests.without_loop import scripted, to_the_end

Shards = dict[str, AsyncEngine]
USUAL: dict[str, Any] = {
    "shard_chooser": choose_shard,
    "identity_chooser": choose_for_key,
    "execute_chooser": choose_for_statement,
}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shards": None}, "shards is a mapping"),
        ({"shards": {}}, "shards is a mapping"),
        ({"shards": {"eu": "sqlite://"}}, "what create_async_engine"),
        ({"shard_chooser": None}, "needs shard_chooser"),
        ({"identity_chooser": "eu"}, "needs identity_chooser"),
        ({"execute_chooser": None}, "needs execute_chooser"),
        ({"binds": {Customer: "x"}}, "has no binds"),
        ({"expire_on_comit": True}, "expire_on_commit"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    engine, _ = scripted("sqlite")

    with pytest.raises(ArgumentError, match=message):
        ShardedSession(**{"shards": {"eu": engine}, **USUAL, **wrong})


def test_an_engine_of_its_own_is_not_all_shards() -> None:
    engine, _ = scripted("sqlite")
    other, _ = scripted("postgresql")

    with pytest.raises(ArgumentError, match="each shard is another engine"):
        ShardedSession(shards={"eu": engine, "us": engine}, **USUAL)
    with pytest.raises(ArgumentError, match="of one kind, not of postgresql, sqlite"):
        ShardedSession(shards={"eu": engine, "us": other}, **USUAL)
    with pytest.raises(ArgumentError, match="not None"):
        set_shard_id(None)


def test_a_maker_refuses_options_that_nobody_knows() -> None:
    with pytest.raises(ArgumentError, match="shard_chooser"):
        async_sessionmaker(class_=ShardedSession, shard_choser=choose_shard)


@pytest.mark.parametrize("answer", ["eu", None, [], 7])
def test_choosers_return_lists_of_shards(answer: Any) -> None:
    engine, driver = scripted("sqlite")
    session = ShardedSession(shards={"eu": engine}, **{**USUAL, "execute_chooser": lambda _: answer})

    with pytest.raises(ArgumentError, match="execute_chooser"):
        to_the_end(session.execute(select(Customer)))

    assert not driver.calls


async def test_a_bind_that_is_no_shard_is_refused(shards: Shards) -> None:
    stranger = create_async_engine("sqlite+aiosqlite://")
    async with make_sessions(shards)() as session:
        with pytest.raises(ArgumentError, match="no shard of this session"):
            await session.execute(select(Customer), bind_arguments={"bind": stranger})
        assert (await session.scalars(select(Customer), bind_arguments={"bind": shards["eu"]})).all() == []
    await stranger.dispose()


async def test_a_shard_can_be_added_to_a_session(shards: Shards, observers: Shards) -> None:
    few = {name: engine for name, engine in shards.items() if name != "us"}
    async with make_sessions(few)() as session:
        session.bind_shard("us", shards["us"])
        session.add(Customer(region="us", name="Bob"))
        await session.commit()
        with pytest.raises(ArgumentError, match="each shard is another engine"):
            session.bind_shard("mars", shards["us"])

        assert session.shards == shards
    assert await names_in(observers["us"]) == ["Bob"]


async def test_a_fork_has_the_same_shards(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session, session.fork() as other:
        assert len((await other.scalars(select(Customer))).all()) == 6
        assert len((await session.scalars(select(Customer))).all()) == 6


async def test_connections_can_be_shards(shards: Shards, observers: Shards) -> None:
    connections = {name: await engine.connect() for name, engine in shards.items()}
    try:
        async with make_sessions(connections)() as session:
            session.add_all([Customer(region=name, name=name) for name in SHARDS])
            await session.commit()
            assert len((await session.scalars(select(Customer))).all()) == 3
            with pytest.raises(ArgumentError, match="two sessions cannot use"):
                session.fork()
    finally:
        for connection in connections.values():
            await connection.close()
    assert await names_in(observers["us"]) in ([], ["us"])


async def test_a_session_without_shards_labels_objects_by_their_token(engine: AsyncEngine) -> None:
    from_one = {"identity_token": "one"}
    await fill_one(engine)
    maker = async_sessionmaker(engine)
    log = StatementLog(engine)
    async with maker() as session:
        plain = await session.get_one(Customer, 1)
        labelled = await session.get_one(Customer, 1, identity_token="one")
        again = (await session.scalars(select(Customer), execution_options=from_one)).one()
        await session.load([labelled], Customer.orders)

        assert labelled is again is not plain
        assert [order.customer for order in labelled.orders] == [labelled, labelled]
        labelled.name = "changed"
        await session.commit()
        await session.refresh(plain)
        assert plain.name == "changed"
    assert len(log.of_kind("UPDATE")) == 1


async def fill_one(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with async_sessionmaker(engine)() as session:
        orders = [Order(id=1, amount=1), Order(id=2, amount=2)]
        session.add(Customer(id=1, region="eu", name="Ada", orders=orders))
        await session.commit()
