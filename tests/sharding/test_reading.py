"""What a sharded session reads: one shard or several at once, merged as if all rows were in one database."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import bindparam, distinct, func, insert, literal_column, select, text, union_all
from sqlalchemy.dialects.postgresql import distinct_on

from aiosession import (
    AsyncEngine,
    ORMExecuteState,
    ScalarResult,
    contains_eager,
    events,
    inspect,
    joinedload,
    selectinload,
    with_loader_criteria,
)
from aiosession.errors import ArgumentError, UnboundExecutionError
from aiosession.ext.sharding import ShardedExecution, set_shard_id
from aiosession.testing.statements import StatementLog
from tests.sharding.sharded_model import (
    SHARDS,
    Customer,
    Kept,
    Order,
    choose_for_statement,
    fill,
    make_sessions,
)

Shards = dict[str, AsyncEngine]


# One object


async def test_get_looks_where_the_chooser_says(shards: Shards) -> None:
    await fill(shards)
    asked: list[tuple[Any, ...]] = []

    async def chosen(mapper: Any, primary_key: tuple[Any, ...], **said: Any) -> Sequence[str]:
        asked.append((mapper.class_, primary_key, sorted(said)))
        return ["us", "eu"]

    async with make_sessions(shards, identity_chooser=chosen)() as session:
        found = await session.get_one(Customer, 1)

        assert found.name == "us 1"
        assert await session.get(Customer, 1) is found
        assert await session.get(Customer, 77) is None
    said = ["bind_arguments", "execution_options", "lazy_loaded_from"]
    assert asked == [(Customer, (1,), said)] * 2 + [(Customer, (77,), said)]


async def test_get_of_a_named_shard_asks_that_one(shards: Shards) -> None:
    await fill(shards)
    logs = {name: StatementLog(engine) for name, engine in shards.items()}
    async with make_sessions(shards)() as session:
        by_token = await session.get_one(Customer, 1, identity_token="us")
        by_bind = await session.get_one(Customer, 2, bind_arguments={"shard_id": "us"})
        by_option = await session.get_one(Order, 11, options=[set_shard_id("us")])

        assert (by_token.name, by_bind.name, by_option.amount) == ("us 1", "us 2", 101)
        assert {inspect(each).identity_token for each in (by_token, by_bind, by_option)} == {"us"}
    assert not logs["eu"].statements
    assert not logs["asia"].statements


async def test_equal_keys_of_two_shards_are_found_by_their_tokens(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = [await session.get_one(Customer, 1, identity_token=name) for name in SHARDS]

        assert [each.name for each in found] == ["eu 1", "us 1", "asia 1"]


async def test_a_wrong_shard_is_refused_with_the_known_ones(shards: Shards) -> None:
    await fill(shards)
    known = "'mars', which is no shard of this session; it has 'eu', 'us', 'asia'"
    async with make_sessions(shards, identity_chooser=lambda *_, **__: ["mars"])() as session:
        with pytest.raises(ArgumentError, match=known):
            await session.get(Customer, 1)
        with pytest.raises(ArgumentError, match=known):
            await session.get(Customer, 1, identity_token="mars")
        with pytest.raises(ArgumentError, match=known):
            await session.execute(select(Customer).options(set_shard_id("mars")))
        with pytest.raises(ArgumentError, match=known):
            await session.connection(bind_arguments={"shard_id": "mars"})


async def test_handlers_of_statements_see_one_shard_after_the_other(shards: Shards) -> None:
    await fill(shards)
    seen: list[object] = []

    def note(state: ORMExecuteState) -> None:
        seen.append(state.execution_options.get("identity_token"))

    maker = make_sessions(shards, identity_chooser=lambda *_, **__: ["asia", "us", "eu"])
    events.listen(maker, "do_orm_execute", note)
    async with maker() as session:
        found = await session.get_one(Customer, 1)
        assert await session.get(Customer, 77) is None
        assert len((await session.scalars(select(Customer))).all()) == 6

    assert found.name == "asia 1"
    assert seen == ["asia", "asia", "us", "eu", None]


async def test_pending_objects_find_what_their_keys_lead_to_on_their_shard(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards, shard_chooser=lambda *_: "us")() as session:
        order = Order(amount=1, customer_id=2)
        await session.load(order, Order.customer)

        assert order.customer.name == "us 2"


# One shard


async def test_a_statement_with_the_option_asks_one_shard(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        names = await session.scalars(select(Customer.name).order_by(Customer.id).options(set_shard_id("us")))
        by_bind = await session.scalars(select(Customer).order_by(Customer.id), bind_arguments={"shard_id": "asia"})
        by_token = await session.scalar(select(func.count(Customer.id)), execution_options={"identity_token": "eu"})
        by_query = await session.query(Customer).options(set_shard_id("eu")).order_by(Customer.id).all()

        assert names.all() == ["us 1", "us 2"]
        assert [inspect(each).identity_token for each in by_bind] == ["asia", "asia"]
        assert by_token == 2
        assert [each.name for each in by_query] == ["eu 1", "eu 2"]


async def test_the_chooser_of_statements_sees_what_they_are(shards: Shards) -> None:
    seen: list[tuple[Any, ...]] = []

    def chosen(context: ShardedExecution) -> list[str]:
        seen.append((context.is_select, context.entities, context.parameters, dict(context.execution_options)))
        return ["eu"]

    async with make_sessions(shards, execute_chooser=chosen)() as session:
        await session.execute(select(Order).join(Order.customer), {"x": 1}, execution_options={"region": "here"})
        await session.execute(text("SELECT 1"))

    assert seen[0] == (True, (Order, Customer), {"x": 1}, {"region": "here"})
    assert seen[1][:2] == (False, ())


async def test_the_connection_of_a_shard_is_part_of_the_transaction(shards: Shards, observers: Shards) -> None:
    async with make_sessions(shards)() as session:
        connection = await session.connection(bind_arguments={"shard_id": "us"})
        await connection.execute(insert(Customer).values(region="us", name="Bob"))
        assert await session.scalar(select(Customer.name)) == "Bob"
        await session.rollback()

    async with observers["us"].connect() as observer:
        assert (await observer.execute(select(Customer.id))).all() == []


async def test_what_names_no_shard_says_how_to(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        with pytest.raises(UnboundExecutionError, match="bind_arguments"):
            await session.connection()
        with pytest.raises(UnboundExecutionError, match="bulk_insert_mappings"):
            await session.bulk_insert_mappings(Customer, [{"name": "x", "region": "eu"}])
        with pytest.raises(ArgumentError, match="an INSERT statement goes to one shard, which it has to name"):
            await session.execute(insert(Customer).values(name="x", region="eu"))


async def test_an_insert_goes_to_the_shard_that_it_names(shards: Shards, observers: Shards) -> None:
    rows = [{"id": 1, "region": "us", "name": "Bob"}, {"id": 2, "region": "us", "name": "Cyd"}]
    async with make_sessions(shards)() as session:
        made = await session.scalars(insert(Customer).returning(Customer).options(set_shard_id("us")), rows)
        assert [inspect(each).identity_token for each in made] == ["us", "us"]
        await session.execute(insert(Customer).values(id=3, region="us", name="Dan"), bind_arguments={"shard_id": "us"})
        await session.commit()

    async with observers["us"].connect() as observer:
        assert await observer.scalar(select(func.count(Customer.id))) == 3


# Several shards


async def test_rows_of_all_shards_come_in_one_result(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        customers = (await session.scalars(select(Customer))).all()

        assert [inspect(each).identity_token for each in customers] == ["eu", "eu", "us", "us", "asia", "asia"]
        names = (await session.execute(select(Customer.id, Customer.name))).mappings()
        assert [row["name"] for row in names] == [each.name for each in customers]


async def test_order_limit_and_offset_hold_for_all_rows_together(shards: Shards) -> None:
    await fill(shards)
    logs = {name: StatementLog(engine) for name, engine in shards.items()}
    async with make_sessions(shards)() as session:
        found = await session.scalars(select(Customer).order_by(Customer.name.desc()).offset(1).limit(3))

        assert [each.name for each in found] == ["us 1", "eu 2", "eu 1"]
    for log in logs.values():
        (statement,) = log.statements
        assert "(4" in str(statement.parameters)


async def test_rows_are_ordered_by_what_is_not_selected(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        result = await session.execute(select(Customer.name).order_by(-Customer.id, Customer.region).limit(4))

        assert result.keys() == ("name",)
        assert result.all() == [("asia 2",), ("eu 2",), ("us 2",), ("asia 1",)]


async def test_rows_are_ordered_by_labels_and_names_of_columns(shards: Shards) -> None:
    await fill(shards)
    doubled = (Customer.id * 2).label("doubled")
    async with make_sessions(shards)() as session:
        by_label = await session.execute(select(doubled, Customer.name).order_by(doubled.desc(), Customer.name))
        by_name = await session.execute(select(doubled, Customer.name).order_by("name"))

        assert by_label.first() == (4, "asia 2")
        assert by_name.first() == (2, "asia 1")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls", ["as the database does", "first", "last"])
async def test_nulls_sort_as_in_the_database(shards: Shards, descending: bool, nulls: str) -> None:
    await fill(shards)
    term: Any = Customer.score.desc() if descending else Customer.score.asc()
    term = {"first": term.nulls_first, "last": term.nulls_last}.get(nulls, lambda: term)()
    statement = select(Customer.score).order_by(term)
    one = shards["eu"]
    async with make_sessions(shards)() as session:
        together = (await session.scalars(statement)).all()
        await session.execute(
            insert(Customer).options(set_shard_id("eu")),
            [
                {"region": "eu", "name": "x", "id": 10 + number, "score": score}
                for number, score in enumerate((3, 1, None, 4))
            ],
        )
        alone = (await session.scalars(statement.options(set_shard_id("eu")))).all()
        await session.rollback()

    assert one.dialect.name in {"sqlite", "postgresql"}
    assert together == alone


async def test_limits_and_values_can_be_parameters(shards: Shards) -> None:
    await fill(shards)
    statement = select(Customer.name).where(Customer.id == bindparam("key")).order_by(Customer.name.desc())
    async with make_sessions(shards)() as session:
        found = await session.scalars(statement.limit(bindparam("most")), {"key": 1, "most": 2})

        assert found.all() == ["us 1", "eu 1"]


async def test_subqueries_about_a_row_are_answered_by_its_shard(shards: Shards) -> None:
    await fill(shards)
    amount = select(func.sum(Order.amount)).where(Order.customer_id == Customer.id).scalar_subquery()
    async with make_sessions(shards)() as session:
        found = await session.execute(select(Customer.name, amount).order_by(amount.desc(), Customer.name).limit(2))

        assert found.all() == [("asia 2", 403), ("eu 2", 403)]


async def test_criteria_for_every_select_hold_on_all_shards(shards: Shards) -> None:
    await fill(shards)
    option = with_loader_criteria(Order, Order.id > 20)
    async with make_sessions(shards)() as session:
        found = (await session.scalars(select(Customer).options(option).order_by(Customer.name))).all()
        await session.load(found, Customer.orders)

        assert [len(each.orders) for each in found] == [0, 2] * 3


async def test_distinct_rows_are_distinct_over_all_shards(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = await session.scalars(select(Customer.id).distinct().order_by(Customer.id.desc()))

        assert found.all() == [2, 1]


async def test_counts_and_sums_are_of_all_shards(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        statement = select(
            func.count(),
            func.count(Customer.score),
            func.sum(Customer.score),
            func.min(Customer.name),
            func.max(Customer.score).label("highest"),
        ).select_from(Customer)
        result = await session.execute(statement)

        assert result.one() == (6, 4, 13, "asia 1", 5)
        assert await session.query(Customer).filter(Customer.id == 1).count() == 3
        assert await session.scalar(select(func.sum(Customer.score)).where(Customer.id > 5)) is None


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (select(Customer.region, func.count()).group_by(Customer.region), "GROUP BY"),
        (select(func.avg(Customer.score)), r"sum\(\) and count\(\)"),
        (select(func.count(distinct(Customer.name))), r"sum\(\) and count\(\)"),
        (select(Customer.id, func.count().over()), r"sum\(\) and count\(\)"),
        (select(func.home_made(Customer.id)), r"sum\(\) and count\(\)"),
        (select(func.now()), "reads no table"),
        (select(Customer.id).order_by(text("name")), "cannot be ordered by text"),
        (select(select(Customer.id).limit(1).subquery()), "a subquery in FROM that limits"),
        (union_all(select(Customer.id), select(Order.id)), "CompoundSelect"),
        (text("SELECT 1"), "TextClause"),
        (select(literal_column("count(*)")).select_from(Customer), r"sum\(\) and count\(\)"),
        (select(Customer.id).fetch(1), "FETCH"),
        (select(Customer.id).ext(distinct_on(Customer.name)), "DISTINCT ON"),
        (select(Customer.id).limit(func.abs(1)), "LIMIT or OFFSET"),
        (select(Kept.id).order_by(Kept.facts), "JSON"),
        (select(Customer).join(Customer.orders).options(contains_eager(Customer.orders)).limit(1), "selectinload"),
        (select(text("name")).select_from(Customer), "if their columns are known"),
        (select(Customer).from_statement(select(Customer)), "EntitiesFrom"),
    ],
)
async def test_what_cannot_be_merged_is_refused_before_anything_is_sent(
    shards: Shards, statement: Any, why: str
) -> None:
    logs = [StatementLog(engine) for engine in shards.values()]
    async with make_sessions(shards)() as session:
        with pytest.raises(ArgumentError, match=why):
            await session.execute(statement)

    assert not any(log.statements for log in logs)


async def test_an_order_that_is_not_pythons_is_refused(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        for name in ("b", "A", "a", "B"):
            session.add(Customer(region="eu", name=name))
        session.add(Customer(region="us", name="c"))
        await session.commit()
        collation = "NOCASE" if shards["eu"].dialect.name == "sqlite" else "und-x-icu"

        with pytest.raises(ArgumentError, match="in another way than the database"):
            await session.scalars(select(Customer.name).order_by(Customer.name.collate(collation)))


async def test_a_stream_reads_one_shard(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        with pytest.raises(ArgumentError, match="streamed goes to one shard, not to 'eu', 'us', 'asia'"):
            await session.stream(select(Customer))
        stream = await session.stream_scalars(select(Customer).options(set_shard_id("us")).order_by(Customer.id))

        assert [inspect(each).identity_token async for each in stream] == ["us", "us"]


async def test_contains_eager_makes_each_object_once(shards: Shards) -> None:
    await fill(shards)
    statement = select(Customer).join(Customer.orders).options(contains_eager(Customer.orders))
    async with make_sessions(shards)() as session:
        found = (await session.scalars(statement.order_by(Customer.name, Order.id))).all()

        assert [each.name for each in found] == ["asia 1", "asia 2", "eu 1", "eu 2", "us 1", "us 2"]
        assert [[order.id for order in each.orders] for each in found] == [[11, 12], [21, 22]] * 3


async def test_plain_reads_stay_outside_of_a_transaction(shards: Shards) -> None:
    await fill(shards)
    logs = {name: StatementLog(engine) for name, engine in shards.items()}
    async with make_sessions(shards)() as session:
        await session.scalars(select(Customer))

        assert [engine.pool.status().holders for engine in shards.values()] == [()] * 3
        assert [log.kinds for log in logs.values()] == [["SELECT"]] * 3
    async with make_sessions(shards)() as session, session.begin():
        await session.scalars(select(Customer))

        assert [len(engine.pool.status().holders) for engine in shards.values()] == [1] * 3
    assert [log.kinds[1:] for log in logs.values()] == [["BEGIN", "SELECT", "COMMIT"]] * 3


async def test_pending_changes_are_written_before_all_shards_are_asked(shards: Shards) -> None:
    async with make_sessions(shards)() as session:
        session.add_all([Customer(region=region, name=region) for region in SHARDS])

        assert (await session.scalars(select(Customer.name).order_by(Customer.name))).all() == ["asia", "eu", "us"]
        await session.rollback()


# Relations


@pytest.mark.parametrize("load", [selectinload, joinedload])
async def test_relations_come_from_the_shard_of_their_owner(shards: Shards, load: Any) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = (
            (await session.scalars(select(Customer).order_by(Customer.name).options(load(Customer.orders))))
            .unique()
            .all()
        )

        assert [[order.amount for order in each.orders] for each in found] == [[101, 102], [201, 202]] * 3
        assert {(inspect(order).identity_token, each.region) for each in found for order in each.orders} == {
            (name, name) for name in SHARDS
        }


async def test_loading_later_takes_one_statement_for_each_shard(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = (await session.scalars(select(Customer).order_by(Customer.name))).all()
        logs = [StatementLog(engine) for engine in shards.values()]
        await session.load(found, Customer.orders)

        assert [len(log.statements) for log in logs] == [1, 1, 1]
        orders = await found[0].awaitable_attrs.notes
        assert orders == []
        assert [len(log.statements) for log in logs] == [2, 2, 2]
        assert all(order.customer is each for each in found for order in each.orders)


async def test_references_are_loaded_from_the_own_shard(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        orders = (await session.scalars(select(Order).order_by(Order.id))).all()
        await session.load(orders, Order.customer, Customer.notes)

        assert all(inspect(each).identity_token == each.customer.region for each in orders)


async def test_stale_objects_are_read_again_on_their_own_shard(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        found = (await session.scalars(select(Customer).where(Customer.id == 1).order_by(Customer.name))).all()
        async with observers["us"].begin() as observer:
            await observer.execute(Customer.__table__.update().where(Customer.id == 1).values(name="renamed"))
        await session.commit()
        await session.refresh_all()
        assert [each.name for each in found] == ["asia 1", "eu 1", "renamed"]
        await session.refresh(found[2])
        assert found[2].name == "renamed"


async def test_merge_finds_its_row_on_its_shard(shards: Shards, observers: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards)() as session:
        other = await session.get_one(Customer, 1, identity_token="us")
    other.name = "merged"
    async with make_sessions(shards)() as session:
        merged = await session.merge(other)
        assert inspect(merged).key == (Customer, (1,), "us")
        by_key = await session.merge(Customer(id=2, region="eu", name="first shard that has it"))
        assert inspect(by_key).identity_token == "eu"
        await session.commit()

    async with observers["us"].connect() as observer:
        assert await observer.scalar(select(Customer.name).where(Customer.id == 1)) == "merged"


async def test_columns_that_are_no_columns_are_merged(shards: Shards) -> None:
    await fill(shards)
    async with make_sessions(shards, execute_chooser=choose_for_statement)() as session:
        found: ScalarResult[Any] = await session.scalars(select(literal_column("1").label("one")).select_from(Customer))

        assert found.all() == [1] * 6
