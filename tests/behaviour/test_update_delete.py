"""UPDATE and DELETE by criteria keep the objects in memory in step with the rows."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import and_, bindparam, case, delete, func, or_, select, update

from aiosession import ArgumentError, AsyncEngine, AsyncSession, InvalidRequestError, aliased, inspect
from aiosession.testing.statements import StatementLog
from tests.behaviour.bulk_model import Item, Kind, make_tables, stored


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add_all([Item(name=name, size=size) for name, size in [("a", 1), ("b", 2), ("c", None), ("d", 4)]])
        await session.commit()
        session.expunge_all()
        yield session


@pytest.fixture
async def items(session: AsyncSession, statements: StatementLog) -> list[Item]:
    found = await session.query(Item).order_by(Item.name).all()
    statements.clear()
    return found


HOWS = ["auto", "evaluate", "fetch"]


def how(choice: Any) -> dict[str, Any]:
    return {"synchronize_session": choice}


# UPDATE


@pytest.mark.parametrize("choice", HOWS)
async def test_objects_get_the_new_values(
    session: AsyncSession, items: list[Item], observer: AsyncEngine, choice: str
) -> None:
    statement = update(Item).where(Item.size >= 2).values(size=Item.size * 10, kind=Kind.FANCY)

    result = await session.execute(statement, execution_options=how(choice))

    assert result.rowcount == 2
    assert [item.size for item in items] == [1, 20, None, 40]
    assert [item.kind for item in items] == [Kind.PLAIN, Kind.FANCY, Kind.PLAIN, Kind.FANCY]
    assert not session.dirty
    await session.commit()
    assert await stored(observer, Item.name, Item.size) == [("a", 1), ("b", 20), ("c", None), ("d", 40)]


@pytest.mark.parametrize("choice", HOWS)
async def test_a_rollback_brings_the_old_values_back(session: AsyncSession, items: list[Item], choice: str) -> None:
    await session.execute(update(Item).where(Item.name == "a").values(size=9), execution_options=how(choice))
    assert items[0].size == 9
    async with session.begin_nested() as savepoint:
        await session.execute(update(Item).where(Item.name == "a").values(size=99), execution_options=how(choice))
        assert items[0].size == 99
        await savepoint.rollback()
    assert items[0].size == 9

    await session.rollback()

    assert items[0].size == 1


async def test_what_the_database_computes_is_stale_and_comes_with_the_next_touch(
    session: AsyncSession, items: list[Item]
) -> None:
    await session.execute(update(Item).where(Item.name == "a").values(origin=func.upper(Item.origin)))

    assert inspect(items[0]).expired_attributes == {"origin", "touched"}
    assert inspect(items[1]).expired_attributes == set()
    await session.refresh_all()
    assert (items[0].origin, items[0].touched) == ("DB", 7)


async def test_criteria_that_python_can_test_need_nothing_to_be_returned(
    session: AsyncSession, items: list[Item], statements: StatementLog
) -> None:
    criteria = or_(and_(Item.size > 1, Item.size.between(2, 3)), Item.name.in_(["d"]), Item.size.is_(None))

    await session.execute(update(Item).where(criteria).values(price=Decimal("1.50")))

    assert "RETURNING" not in statements.sql[-1]
    assert [item.price for item in items] == [None, Decimal("1.50"), Decimal("1.50"), Decimal("1.50")]


@pytest.mark.parametrize(
    "criteria",
    [
        lambda: func.lower(Item.name) == "b",
        lambda: Item.name.like("b%"),
        lambda: Item.name > "a",
        lambda: Item.key.in_(select(Item.key).where(Item.name == "b")),
        lambda: case((Item.size == 2, 1), else_=0) == 1,
    ],
)
async def test_the_database_tells_which_rows_where_python_cannot(
    session: AsyncSession, items: list[Item], statements: StatementLog, criteria: Any
) -> None:
    statement = update(Item).where(criteria(), Item.size == 2).values(size=5)

    await session.execute(statement)

    assert "RETURNING" in statements.sql[-1]
    assert items[1].size == 5


async def test_criteria_that_python_cannot_test_are_refused_if_it_has_to(
    session: AsyncSession, items: list[Item], statements: StatementLog
) -> None:
    statement = update(Item).where(func.lower(Item.name) == "b").values(size=5)

    with pytest.raises(InvalidRequestError, match="use synchronize_session='fetch'"):
        await session.execute(statement, execution_options=how("evaluate"))

    assert statements.count == 0


async def test_an_object_that_may_or_may_not_be_met_is_stale(session: AsyncSession, items: list[Item]) -> None:
    # the order of texts is the database's affair
    await session.execute(update(Item).where(Item.name > "b").values(size=5), execution_options=how("evaluate"))

    assert [item.size for item in items] == [1, 2, None, 4]
    await session.refresh_all()
    assert [item.size for item in items] == [1, 2, 5, 5]


async def test_a_stale_object_has_the_database_tell(
    session: AsyncSession, items: list[Item], statements: StatementLog
) -> None:
    session.expire(items[1])

    await session.execute(update(Item).where(Item.size == 2).values(size=5))

    assert "RETURNING" in statements.sql[-1]
    await session.refresh(items[1])
    assert items[1].size == 5


async def test_an_object_that_is_found_by_its_key_may_be_stale(
    session: AsyncSession, items: list[Item], statements: StatementLog
) -> None:
    session.expire_all()

    await session.execute(delete(Item).where(Item.key == items[1].key))

    assert "RETURNING" not in statements.sql[-1]
    assert inspect(items[1]).deleted


async def test_without_synchronization_objects_stay_as_they_are(session: AsyncSession, items: list[Item]) -> None:
    await session.execute(update(Item).values(size=5), execution_options=how(False))
    await session.execute(delete(Item).where(Item.name == "d"), execution_options=how(None))

    assert [item.size for item in items] == [1, 2, None, 4]
    assert inspect(items[3]).persistent


async def test_an_update_of_the_table_makes_its_objects_stale(session: AsyncSession, items: list[Item]) -> None:
    await session.execute(update(Item.__table__).values(size=5))

    assert items[0].size == 1
    await session.refresh_all()
    assert items[0].size == 5


async def test_values_are_given_by_attribute_by_name_or_by_column(session: AsyncSession, items: list[Item]) -> None:
    table = Item.__table__
    await session.execute(update(Item).where(Item.name == "a").values({Item.name: "aa"}))
    await session.execute(update(Item).where(Item.name == "b").values({"name": "bb"}))
    await session.execute(update(Item).where(Item.name == "c").values({table.c.full_name: "cc"}))
    await session.execute(update(Item).where(Item.name == "d"), {"name": "dd"})

    assert [item.name for item in items] == ["aa", "bb", "cc", "dd"]


async def test_criteria_may_have_parameters(session: AsyncSession, items: list[Item]) -> None:
    statement = update(Item).where(Item.name == bindparam("which")).values(size=bindparam("new"))

    await session.execute(statement, {"which": "b", "new": 8})

    assert [item.size for item in items] == [1, 8, None, 4]


async def test_pending_changes_are_written_before(session: AsyncSession, items: list[Item]) -> None:
    items[0].size = 100

    result = await session.execute(update(Item).where(Item.size == 100).values(kind=Kind.FANCY))

    assert result.rowcount == 1
    assert items[0].kind is Kind.FANCY


@pytest.mark.parametrize("choice", HOWS)
async def test_an_update_returns_objects_or_columns(session: AsyncSession, items: list[Item], choice: str) -> None:
    options = how(choice)
    objects = await session.scalars(
        update(Item).where(Item.name == "b").values(size=20).returning(Item), execution_options=options
    )
    columns = await session.execute(
        update(Item).where(Item.name == "a").values(size=10).returning(Item.size, Item.name), execution_options=options
    )

    assert objects.all() == [items[1]]
    assert columns.all() == [(10, "a")]
    assert [item.size for item in items] == [10, 20, None, 4]


# DELETE


@pytest.mark.parametrize("choice", HOWS)
async def test_objects_of_deleted_rows_are_deleted(
    session: AsyncSession, items: list[Item], observer: AsyncEngine, choice: str
) -> None:
    result = await session.execute(delete(Item).where(Item.size < 3), execution_options=how(choice))

    assert result.rowcount == 2
    assert [inspect(item).deleted for item in items] == [True, True, False, False]
    assert items[0] not in session
    await session.commit()
    assert [inspect(item).detached for item in items] == [True, True, False, False]
    assert await stored(observer, Item.name) == [("c",), ("d",)]


@pytest.mark.parametrize("choice", HOWS)
async def test_a_rollback_brings_deleted_objects_back(session: AsyncSession, items: list[Item], choice: str) -> None:
    await session.execute(delete(Item).where(Item.size < 3), execution_options=how(choice))

    await session.rollback()

    assert all(inspect(item).persistent for item in items)
    assert await session.get(Item, items[0].key) is items[0]


async def test_a_delete_returns_objects_that_are_deleted(session: AsyncSession, items: list[Item]) -> None:
    found = await session.scalars(delete(Item).where(Item.name.in_(["a", "b"])).returning(Item))

    assert sorted(item.name for item in found) == ["a", "b"]
    assert [inspect(item).deleted for item in items] == [True, True, False, False]


async def test_nulls_are_neither_equal_nor_different(session: AsyncSession, items: list[Item]) -> None:
    await session.execute(update(Item).where(Item.size != 1).values(kind=Kind.FANCY))

    assert [item.kind for item in items] == [Kind.PLAIN, Kind.FANCY, Kind.PLAIN, Kind.FANCY]


# Wrong uses


@pytest.mark.parametrize(
    ("statement", "options", "message"),
    [
        (update(Item).values(size=1), how("fetc"), "did you mean 'fetch'"),
        (update(Item).values(size=1), how(True), "'auto', 'evaluate', 'fetch' or False"),
        (update(Item).values(siz=1), {}, "did you mean 'size'"),
        (delete(aliased(Item)), {}, "alias"),
    ],
)
async def test_wrong_uses_are_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, statement: Any, options: dict[str, Any], message: str
) -> None:
    statements.clear()

    with pytest.raises(ArgumentError, match=message):
        await session.execute(statement, execution_options=options)

    assert statements.count == 0
