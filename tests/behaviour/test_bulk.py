"""Many rows at once, without objects: INSERT of a list, UPDATE by primary key, and the bulk methods."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, insert, text, update
from sqlalchemy.dialects import postgresql, sqlite

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    DataError,
    InvalidRequestError,
    NotNullViolationError,
    StaleDataError,
    UniqueViolationError,
    inspect,
)
from aiosession.testing.statements import StatementLog
from tests.behaviour.bulk_model import Document, Item, Kind, Place, make_tables, stored


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


def upsert(engine: AsyncEngine) -> Any:
    return postgresql.insert if engine.name == "postgresql" else sqlite.insert


# INSERT


async def test_a_list_of_rows_is_inserted(session: AsyncSession, observer: AsyncEngine) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "size": 1, "price": Decimal("1.25"), "kind": Kind.FANCY, "facts": {"x": [1]}},
        {"name": "b"},
        {"name": "c", "origin": "me", "facts": None},
    ]

    result = await session.execute(insert(Item), rows)

    assert result.rowcount == 3
    assert not list(session)
    await session.commit()
    assert await stored(observer, Item.name, Item.size, Item.price, Item.kind, Item.facts, Item.origin) == [
        ("a", 1, Decimal("1.25"), Kind.FANCY, {"x": [1]}, "db"),
        ("b", None, None, Kind.PLAIN, None, "db"),
        ("c", None, None, Kind.PLAIN, None, "me"),
    ]


async def test_a_thousand_rows_are_one_statement(
    engine: AsyncEngine, session: AsyncSession, statements: StatementLog
) -> None:
    rows = [{"name": f"n{number}", "size": number} for number in range(1000)]

    found = await session.scalars(insert(Item).returning(Item), rows)

    assert [item.size for item in found] == list(range(1000))
    if engine.name == "postgresql":
        assert statements.count == 1


@pytest.mark.parametrize("keys", [None, [5, 3, 4]])
async def test_returned_rows_come_in_the_order_of_the_parameters(session: AsyncSession, keys: list[int] | None) -> None:
    rows: list[dict[str, Any]] = [{"name": name} for name in "cab"]
    if keys is not None:
        rows = [{**row, "key": key} for row, key in zip(rows, keys, strict=True)]

    result = await session.execute(insert(Item).returning(Item.name, Item.key, sort_by_parameter_order=True), rows)

    found = result.all()
    assert [name for name, _ in found] == ["c", "a", "b"]
    assert [key for _, key in found] == (keys or sorted(key for _, key in found))


async def test_returned_objects_are_those_of_the_session(session: AsyncSession) -> None:
    found = (await session.scalars(insert(Item).returning(Item), [{"name": "a"}, {"name": "b"}])).all()

    assert all(inspect(item).persistent for item in found)
    assert await session.get(Item, found[0].key) is found[0]
    assert (found[0].origin, found[0].kind, found[0].touched) == ("db", Kind.PLAIN, 0)


async def test_values_may_be_expressions(session: AsyncSession) -> None:
    await session.execute(insert(Item), [{"name": func.upper("a")}, {"name": "b", "size": text("1 + 1")}])

    assert await session.query(Item.name, Item.size).order_by(Item.name).all() == [("A", None), ("b", 2)]


async def test_one_row_and_values_take_the_names_of_attributes(session: AsyncSession) -> None:
    await session.execute(insert(Item), {"name": "a"})
    await session.execute(insert(Item).values(name="b", size=2))
    await session.execute(insert(Item).values([{"name": "c"}, {"name": "d"}]))
    await session.execute(insert(Item).values({Item.name: "e"}))

    assert [name for (name,) in await session.query(Item.name).order_by(Item.name).all()] == list("abcde")


async def test_composite_keys_are_given(session: AsyncSession) -> None:
    rows = [{"row": 2, "column": "x", "label": "later"}, {"row": 1, "column": "y"}]

    found = (await session.scalars(insert(Place).returning(Place), rows)).all()

    assert [(place.row, place.column, place.label) for place in found] == [(2, "x", "later"), (1, "y", None)]


async def test_rows_that_are_there_are_updated_instead(session: AsyncSession, engine: AsyncEngine) -> None:
    old = Item(name="a", size=1)
    session.add(old)
    await session.commit()
    statement = upsert(engine)(Item).values([{"name": "a", "size": 5}, {"name": "b", "size": 6}])
    statement = statement.on_conflict_do_update(index_elements=["full_name"], set_={"size": statement.excluded.size})

    found = (await session.scalars(statement.returning(Item), execution_options={"populate_existing": True})).all()

    assert sorted((item.name, item.size) for item in found) == [("a", 5), ("b", 6)]
    assert old in found
    assert old.size == 5


async def test_rows_that_are_there_can_be_left_alone(session: AsyncSession, engine: AsyncEngine) -> None:
    await session.execute(insert(Item), [{"name": "a", "size": 1}])

    statement = upsert(engine)(Item).on_conflict_do_nothing().returning(Item.name)
    found = await session.execute(statement, [{"name": "a"}, {"name": "b"}])

    assert found.all() == [("b",)]


# UPDATE by primary key


async def filled(session: AsyncSession) -> list[Item]:
    items = [Item(name=name, size=1) for name in "abc"]
    session.add_all(items)
    await session.commit()
    await session.refresh_all()
    return items


async def test_rows_are_updated_by_their_keys_and_objects_with_them(
    session: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    items = await filled(session)
    statements.clear()

    result = await session.execute(
        update(Item), [{"key": items[0].key, "size": 10}, {"key": items[1].key, "size": 20, "name": "bb"}]
    )

    assert result.rowcount == 2
    assert len(statements.of_kind("UPDATE")) == 2  # one for each set of names
    assert [(item.name, item.size) for item in items] == [("a", 10), ("bb", 20), ("c", 1)]
    await session.commit()
    assert await stored(observer, Item.name, Item.size, Item.touched) == [("a", 10, 7), ("bb", 20, 7), ("c", 1, 0)]


async def test_a_rollback_undoes_it_in_memory_too(session: AsyncSession) -> None:
    items = await filled(session)
    await session.execute(update(Item), [{"key": items[0].key, "size": 10}])

    await session.rollback()

    assert items[0].size == 1


async def test_a_row_that_is_not_there_is_an_error(session: AsyncSession, observer: AsyncEngine) -> None:
    items = await filled(session)

    with pytest.raises(StaleDataError, match="expected to match 2"):
        await session.execute(update(Item), [{"key": items[0].key, "size": 10}, {"key": -1, "size": 20}])

    await session.rollback()
    assert items[0].size == 1
    assert await stored(observer, Item.name, Item.size) == [("a", 1), ("b", 1), ("c", 1)]


async def test_versions_are_compared_and_counted_up(session: AsyncSession, observer: AsyncEngine) -> None:
    document = Document(text="a")
    session.add(document)
    await session.commit()
    row = {"key": document.key, "version": 1, "text": "b"}

    await session.bulk_update_mappings(Document, [row])
    with pytest.raises(StaleDataError):
        await session.bulk_update_mappings(Document, [row])

    await session.rollback()
    await session.bulk_update_mappings(Document, [row])
    await session.commit()
    assert await stored(observer, Document.text, Document.version) == [("b", 2)]


# The bulk methods


async def test_mappings_get_what_was_made_for_them_if_asked(session: AsyncSession, statements: StatementLog) -> None:
    rows: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "origin": "me"}]

    await session.bulk_insert_mappings(Item, rows, return_defaults=True)

    assert [(row["name"], row["origin"], row["kind"]) for row in rows] == [
        ("a", "db", Kind.PLAIN),
        ("b", "me", Kind.PLAIN),
    ]
    assert [await session.get(Item, row["key"]) for row in rows] == await session.query(Item).order_by(Item.name).all()


async def test_none_is_left_to_the_database_unless_it_is_to_be_null(session: AsyncSession) -> None:
    await session.bulk_insert_mappings(Item, [{"name": "a", "origin": None}])
    with pytest.raises(NotNullViolationError):
        await session.bulk_insert_mappings(Item, [{"name": "b", "origin": None}], render_nulls=True)


async def test_objects_are_saved_without_becoming_part_of_the_session(
    session: AsyncSession, observer: AsyncEngine
) -> None:
    stored_item = (await filled(session))[0]
    new = Item(name="new")
    stored_item.size = 50

    await session.bulk_save_objects([new, stored_item], return_defaults=True)

    assert new.key is not None
    assert new not in session
    session.expire(stored_item)
    await session.commit()
    assert await stored(observer, Item.name, Item.size) == [("a", 50), ("b", 1), ("c", 1), ("new", None)]


async def test_all_columns_are_written_if_asked(session: AsyncSession, statements: StatementLog) -> None:
    items = await filled(session)
    statements.clear()

    await session.bulk_save_objects(items[:1])
    assert statements.count == 0
    await session.bulk_save_objects(items[:1], update_changed_only=False)

    assert "full_name" in statements.sql[0]


async def test_classes_are_written_together_if_the_order_does_not_matter(
    session: AsyncSession, statements: StatementLog
) -> None:
    objects = [Item(name="a"), Document(text="x"), Item(name="b"), Document(text="y")]

    await session.bulk_save_objects(objects)
    assert len(statements.of_kind("INSERT")) == 4
    statements.clear()
    await session.bulk_save_objects(
        [Item(name="c"), Document(text="x"), Item(name="d"), Document(text="y")], preserve_order=False
    )

    assert statements.tables("INSERT") == ["document", "item"]


async def test_nothing_is_nothing(session: AsyncSession, statements: StatementLog) -> None:
    await session.bulk_insert_mappings(Item, [])
    await session.bulk_update_mappings(Item, [])
    await session.bulk_save_objects([])

    assert statements.count == 0


# Wrong uses


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"nam": "a"}], ArgumentError, "did you mean 'name'"),
        ([{"name": 5}], DataError, r"Item\.name is a column of type String and cannot hold 5"),
        ([{"name": "a"}, 5], ArgumentError, "number 1 is 5"),
        ({"name": "a"}, ArgumentError, "several mappings, in a list"),
    ],
)
async def test_wrong_rows_are_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, rows: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await session.bulk_insert_mappings(Item, rows)

    assert statements.count == 0


async def test_an_update_by_key_needs_the_key_and_nothing_else_of_a_statement(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match=r"needs 'row' and 'column' in every mapping; number 0 lacks 'column'"):
        await session.execute(update(Place), [{"row": 1, "label": "x"}])
    with pytest.raises(ArgumentError, match="needs 'key' and 'version'"):
        await session.execute(update(Document), [{"key": 1, "text": "x"}])
    with pytest.raises(ArgumentError, match="takes its values from the list"):
        await session.execute(update(Item).values(size=1), [{"key": 1}, {"key": 2}])


async def test_a_relation_is_no_value_of_a_row(session: AsyncSession) -> None:
    from tests.session_model import Book  # noqa: PLC0415 - another model

    with pytest.raises(InvalidRequestError, match=r"Book\.author is a relation"):
        await session.bulk_insert_mappings(Book, [{"title": "x", "author": None}])


async def test_a_refused_row_leaves_nothing(session: AsyncSession, observer: AsyncEngine) -> None:
    with pytest.raises(UniqueViolationError):
        await session.execute(insert(Item), [{"name": "a"}, {"name": "a"}])

    await session.rollback()
    assert await stored(observer, Item.name) == []
