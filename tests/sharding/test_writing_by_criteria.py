"""UPDATE and DELETE by criteria go to every shard that execute_chooser names."""

import pytest
from sqlalchemy import delete, select, update

from aiosession import AsyncEngine, NotNullViolationError, inspect
from aiosession.errors import ArgumentError
from aiosession.ext.sharding import set_shard_id
from tests.sharding.sharded_model import SHARDS, Customer, Note, Order, fill, make_sessions, names_in

Shards = dict[str, AsyncEngine]


@pytest.mark.parametrize("how", ["auto", "evaluate", "fetch"])
async def test_an_update_changes_the_rows_and_objects_of_all_shards(
    shards: Shards, observers: Shards, how: str
) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = (await session.scalars(select(Customer).order_by(Customer.region, Customer.id))).all()
        statement = update(Customer).where(Customer.id == 1).values(name="changed")
        result = await session.execute(statement, execution_options={"synchronize_session": how})

        assert result.rowcount == 3
        assert [each.name for each in found] == ["changed", "asia 2", "changed", "eu 2", "changed", "us 2"]
        await session.commit()

    assert [await names_in(observers[name]) for name in SHARDS] == [sorted(["changed", f"{name} 2"]) for name in SHARDS]


@pytest.mark.parametrize("how", ["evaluate", "fetch"])
async def test_an_update_of_one_shard_leaves_the_objects_of_others_alone(shards: Shards, how: str) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = (await session.scalars(select(Customer).where(Customer.id == 1).order_by(Customer.region))).all()
        statement = update(Customer).where(Customer.id == 1).values(name="changed").options(set_shard_id("eu"))
        result = await session.execute(statement, execution_options={"synchronize_session": how})

        assert result.rowcount == 1
        assert [each.name for each in found] == ["asia 1", "changed", "us 1"]
        await session.rollback()


async def test_a_delete_removes_rows_and_objects_of_all_shards(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        orders = (await session.scalars(select(Order))).all()
        result = await session.execute(delete(Order).where(Order.id > 20))

        assert result.rowcount == 6
        assert sum(order in session for order in orders) == 6
        await session.commit()

    for name in SHARDS:
        async with observers[name].connect() as observer:
            assert (await observer.scalars(select(Order.id))).all() == [11, 12]


async def test_what_is_returned_comes_from_all_shards(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        statement = update(Customer).where(Customer.id == 1).values(name="changed").returning(Customer)
        changed = (await session.scalars(statement)).all()

        assert [(each.name, inspect(each).identity_token) for each in changed] == [("changed", name) for name in SHARDS]
        await session.rollback()


async def test_statements_about_tables_go_to_all_shards(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        table = Customer.__table__
        result = await session.execute(table.update().values(name="same"))

        assert result.rowcount == 6
        await session.commit()

    assert [await names_in(observers[name]) for name in SHARDS] == [["same", "same"]] * 3


async def test_an_update_by_primary_keys_names_its_shard(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    rows = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    async with make_sessions(shards)() as session:
        ada = await session.get_one(Customer, 1, identity_token="us")
        with pytest.raises(ArgumentError, match="goes to one shard, not to 'eu', 'us', 'asia'"):
            await session.execute(update(Customer), rows)
        await session.execute(update(Customer), rows, bind_arguments={"shard_id": "us"})
        assert ada.name == "one"
        await session.commit()

    assert await names_in(observers["us"]) == ["one", "two"]
    assert await names_in(observers["eu"]) == ["eu 1", "eu 2"]


async def test_a_failure_on_one_shard_undoes_the_work_on_all(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with shards["us"].begin() as connection:
        await connection.execute(delete(Order))
        await connection.execute(delete(Note))
    async with make_sessions(shards)() as session:
        with pytest.raises(NotNullViolationError) as failure:
            await session.execute(update(Order).values(customer_id=None))
        assert "on shard 'eu'" in failure.value.__notes__
        await session.rollback()
        assert (await session.scalars(select(Customer.name).order_by(Customer.name))).all() == [
            "asia 1",
            "asia 2",
            "eu 1",
            "eu 2",
            "us 1",
            "us 2",
        ]
    async with observers["eu"].connect() as observer:
        assert len((await observer.execute(select(Order.id))).all()) == 4
