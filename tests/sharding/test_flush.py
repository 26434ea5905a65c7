"""What a sharded session writes: new objects where shard_chooser says, everything else where it is."""

from typing import Any

import pytest
from sqlalchemy import insert, select

from aiosession import AsyncConnection, AsyncEngine, FlushError, Mapper, events, inspect
from aiosession.errors import ArgumentError, PendingRollbackError, UniqueViolationError
from tests.sharding.sharded_model import (
    SHARDS,
    Customer,
    Note,
    Order,
    Tag,
    choose_shard,
    fill,
    make_sessions,
    names_in,
    order_tag,
)

Shards = dict[str, AsyncEngine]


async def test_new_objects_go_where_the_chooser_says(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add_all([Customer(region="eu", name="Ada"), Customer(region="us", name="Bob")])
        session.add(Customer(region="us", name="Cyd"))
        await session.commit()

    assert await names_in(observers["eu"]) == ["Ada"]
    assert await names_in(observers["us"]) == ["Bob", "Cyd"]
    assert await names_in(observers["asia"]) == []


async def test_equal_primary_keys_of_two_shards_are_two_objects(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        ada, bob = Customer(id=1, region="eu", name="Ada"), Customer(id=1, region="us", name="Bob")
        session.add_all([ada, bob])
        await session.commit()

        assert inspect(ada).key == (Customer, (1,), "eu")
        assert inspect(bob).identity_token == "us"
        assert session.identity_map[Customer, (1,), "us"] is bob


async def test_the_chooser_knows_the_shard_of_a_new_parent(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        order = Order(amount=3)
        session.add(order)
        order.customer = Customer(region="us", name="Bob")
        await session.commit()

    async with observers["us"].connect() as connection:
        assert await connection.scalar(select(Order.amount)) == 3


async def test_an_async_chooser_is_awaited(shards: Shards, observers: Shards) -> None:
    async def chosen(mapper: Mapper[Any], instance: Any, clause: object = None) -> str:
        return choose_shard(mapper, instance)

    async with make_sessions(shards, shard_chooser=chosen)() as session:
        session.add(Customer(region="us", name="Bob"))
        await session.commit()

    assert await names_in(observers["us"]) == ["Bob"]


async def test_updates_and_deletes_go_to_the_shard_of_the_object(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        first = await session.get_one(Customer, 1, identity_token="us")
        second = await session.get_one(Customer, 2, identity_token="us")
        first.name = "changed"
        await session.delete(second)
        await session.commit()

    assert await names_in(observers["us"]) == ["changed"]
    assert await names_in(observers["eu"]) == ["eu 1", "eu 2"]


async def test_rows_that_connect_go_to_the_shard_of_their_owner(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        customer = Customer(region="us", name="Bob")
        customer.orders = [Order(amount=1, tags=[Tag(region="us", name="new")])]
        session.add(customer)
        await session.commit()
        customer.orders[0].tags.clear()
        await session.commit()
        customer.orders[0].tags = [Tag(region="us", name="other")]
        await session.commit()

    async with observers["us"].connect() as connection:
        assert len((await connection.execute(select(order_tag))).all()) == 1


async def test_a_relation_cannot_lead_to_another_shard(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add(Customer(region="us", name="Bob", notes=[Note(text="x")]))

        with pytest.raises(FlushError, match=r"Customer\.notes leads from .* on shard 'us' to .* on shard 'asia'"):
            await session.flush()
        await session.rollback()

    assert await names_in(observers["us"]) == []


async def test_a_wrong_shard_is_refused_before_anything_is_sent(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add(Customer(region="mars", name="Marvin"))

        with pytest.raises(ArgumentError, match="'mars', which is no shard of this session; it has 'eu', 'us', 'asia'"):
            await session.flush()
        assert session.get_transaction() is not None
        await session.rollback()


async def test_a_rollback_takes_the_rows_of_all_shards_back(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add_all([Customer(region=region, name=region) for region in SHARDS])
        await session.flush()
        await session.rollback()

        assert not session.identity_map

    assert [await names_in(observers[name]) for name in SHARDS] == [[], [], []]


async def test_an_object_that_replaces_a_deleted_one_is_of_the_same_shard(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        gone = await session.get_one(Customer, 1, identity_token="us")
        await session.delete(gone)
        session.add(Customer(id=3, region="eu", name="new"))
        await session.commit()

    assert await names_in(observers["us"]) == ["us 2"]
    assert await names_in(observers["eu"]) == ["eu 1", "eu 2", "new"]


async def test_an_error_of_a_flush_names_the_shard(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add_all([Customer(id=1, region="eu", name="Ada"), Customer(id=1, region="us", name="Bob")])
        await session.commit()
    async with make_sessions(shards)() as session:
        session.add(Customer(id=1, region="us", name="again"))
        with pytest.raises(UniqueViolationError) as failure:
            await session.flush()
        assert failure.value.__notes__ == ["on shard 'us'"]
        with pytest.raises(PendingRollbackError):
            await session.commit()
        await session.rollback()


async def test_handlers_get_the_connection_of_the_shard(shards: Shards, observers: Shards) -> None:
    async def note(mapper: object, connection: AsyncConnection, target: Customer) -> None:
        await connection.execute(insert(Tag).values(name=f"{target.name} on {inspect(target).identity_token}"))

    events.listen(Customer, "before_insert", note)
    try:
        async with make_sessions(shards)() as session:
            session.add_all([Customer(region="eu", name="Ada"), Customer(region="us", name="Bob")])
            await session.commit()
    finally:
        events.remove(Customer, "before_insert", note)

    for name, expected in (("eu", ["Ada on eu"]), ("us", ["Bob on us"])):
        async with observers[name].connect() as observer:
            assert (await observer.scalars(select(Tag.name))).all() == expected


async def test_savepoints_are_of_all_shards(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add(Customer(region="eu", name="kept"))
        savepoint = await session.begin_nested()
        session.add_all([Customer(region="eu", name="lost"), Customer(region="us", name="lost")])
        await session.flush()
        await savepoint.rollback()
        await session.commit()

    assert [await names_in(observers[name]) for name in SHARDS] == [["kept"], [], []]


async def test_the_plan_shows_each_shard(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add_all([Customer(region="eu", name="Ada"), Customer(region="us", name="Bob")])

        plan = await session.plan()

        assert [batch.token for batch in plan] == ["eu", "us"]
        assert len(plan.by_bind) == 2
