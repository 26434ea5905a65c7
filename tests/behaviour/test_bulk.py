"""Many rows are written without objects: defaults, versions and checks are a flush's, relations have no part in it."""

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, select, update

from aiosession import AsyncEngine, AsyncSession, events, inspect
from aiosession.errors import (
    ArgumentError,
    DataError,
    InvalidRequestError,
    PendingRollbackError,
    StaleDataError,
    UniqueViolationError,
)
from aiosession.testing.statements import StatementLog
from tests.behaviour.writes_model import Draft, Letter, Mood, Seat, User, fill, make_tables, seen, upsert


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


@pytest.fixture
async def filled(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


async def by_name(session: AsyncSession, name: str) -> User:
    return (await session.scalars(select(User).where(User.name == name))).one()


# INSERT ---------------------------------------------------------------------------------------------------------------


async def test_rows_with_different_names_get_their_defaults_and_keep_their_order(
    session: AsyncSession, observer: AsyncEngine
) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "c", "age": 3, "mood": Mood.BAD, "facts": {"a": [1]}},
        {"name": "a", "money": Decimal("1.50")},
        {"name": "b", "kind": "mine", "origin": "me"},
    ]

    result = await session.execute(insert(User).returning(User), rows)
    found = result.scalars().all()

    assert [user.name for user in found] == ["c", "a", "b"]
    assert [inspect(user).persistent for user in found] == [True] * 3
    assert (found[0].mood, found[0].facts, found[1].money) == (Mood.BAD, {"a": [1]}, Decimal("1.50"))
    await session.commit()
    assert await seen(observer, User.name, User.age, User.kind, User.origin) == [
        ("a", None, "plain", "db"),
        ("b", None, "mine", "me"),
        ("c", 3, "plain", "db"),
    ]


async def test_a_thousand_rows_are_one_statement(
    session: AsyncSession, statements: StatementLog, observer: AsyncEngine
) -> None:
    rows = [{"name": f"{number:04}", "age": number} for number in range(1000)]

    result = await session.execute(insert(User).returning(User.age, User.id), rows)
    await session.execute(update(User), [{"id": key, "age": (age or 0) + 1} for age, key in result.all()])

    assert statements.kinds == ["BEGIN", "INSERT", "UPDATE"]
    await session.commit()
    assert [age for _, age in await seen(observer, User.name, User.age)] == list(range(1, 1001))


async def test_columns_are_returned_in_the_order_of_the_rows(session: AsyncSession) -> None:
    rows = [{"name": name} for name in "zxya"]

    result = await session.execute(insert(User).returning(User.name, User.origin), rows)

    assert result.all() == [(name, "db") for name in "zxya"]


async def test_expressions_are_values(session: AsyncSession, observer: AsyncEngine) -> None:
    await session.execute(insert(User), [{"name": func.lower("A")}, {"name": "b"}])
    await session.commit()

    assert await seen(observer, User.name) == [("a",), ("b",)]


async def test_no_rows_are_no_statement(session: AsyncSession, statements: StatementLog) -> None:
    assert (await session.execute(insert(User), [])).rowcount == 0
    assert (await session.execute(update(User), [])).rowcount == 0
    await session.bulk_save_objects([])
    await session.bulk_insert_mappings(User, [])

    assert not statements.events


async def test_composite_keys_are_inserted_and_updated(session: AsyncSession, observer: AsyncEngine) -> None:
    await session.execute(insert(Seat), [{"row": "A", "number": number} for number in (1, 2)])
    await session.execute(update(Seat), [{"row": "A", "number": 2, "label": "best"}])
    await session.commit()

    assert await seen(observer, Seat.number, Seat.label) == [(1, None), (2, "best")]


async def test_mappings_get_what_was_made_if_asked_for(session: AsyncSession, observer: AsyncEngine) -> None:
    rows: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "age": 2}]

    await session.bulk_insert_mappings(User, rows, return_defaults=True)

    keys = [row["id"] for row in rows]
    assert [row["kind"] for row in rows] == ["plain", "plain"]
    assert len(session.identity_map) == 0
    await session.commit()
    assert await seen(observer, User.id, User.name, User.age) == sorted([(keys[0], "a", None), (keys[1], "b", 2)])


async def test_mappings_are_left_alone_if_not(session: AsyncSession) -> None:
    row = {"name": "a"}

    await session.bulk_insert_mappings(User, [row, MappingProxyType({"name": "b"})])

    assert row == {"name": "a"}


async def test_rendered_nulls_take_the_place_of_defaults(session: AsyncSession, observer: AsyncEngine) -> None:
    await session.bulk_insert_mappings(User, [{"name": "a", "age": None}], render_nulls=True)
    await session.commit()

    assert await seen(observer, User.name, User.age, User.origin) == [("a", None, "db")]


# UPDATE ---------------------------------------------------------------------------------------------------------------


async def test_rows_are_updated_by_key_and_objects_in_memory_with_them(
    filled: AsyncSession, observer: AsyncEngine
) -> None:
    first, second = await by_name(filled, "a"), await by_name(filled, "b")

    result = await filled.execute(
        update(User),
        [{"id": first.id, "age": 11}, {"id": second.id, "name": "bb", "mood": Mood.GOOD}],
    )

    assert result.rowcount == 2
    assert (first.age, second.name, second.mood) == (11, "bb", Mood.GOOD)
    assert "touched" in inspect(first).expired_attributes or first.touched == 7
    assert not filled.dirty
    await filled.commit()
    rows = await seen(observer, User.name, User.age, User.touched)
    assert rows[:2] == [("a", 11, 7), ("bb", 20, 7)]


async def test_values_that_the_database_computes_are_stale(filled: AsyncSession) -> None:
    user = await by_name(filled, "a")

    await filled.bulk_update_mappings(User, [{"id": user.id, "age": User.age + 5}])

    assert "age" in inspect(user).expired_attributes
    await filled.refresh(user)
    assert user.age == 15


async def test_a_rollback_undoes_it_in_memory_too(filled: AsyncSession) -> None:
    user = await by_name(filled, "a")
    savepoint = await filled.begin_nested()
    await filled.execute(update(User), [{"id": user.id, "age": 11}])

    await savepoint.rollback()
    assert user.age == 10

    await filled.execute(update(User), [{"id": user.id, "age": 12}])
    await filled.rollback()
    assert user.age == 10


async def test_versions_are_counted_and_checked(filled: AsyncSession, observer: AsyncEngine) -> None:
    draft = (await filled.scalars(select(Draft).where(Draft.text == "one"))).one()

    await filled.execute(update(Draft), [{"id": draft.id, "version": 1, "text": "1"}])
    draft.text = "uno"
    await filled.commit()

    assert draft.version == 3
    assert (await seen(observer, Draft.id, Draft.text, Draft.version))[0] == (draft.id, "uno", 3)


async def test_pending_changes_are_written_before(filled: AsyncSession, observer: AsyncEngine) -> None:
    user = await by_name(filled, "a")
    user.kind = "changed"

    await filled.execute(update(User), [{"id": user.id, "age": 11}])
    await filled.commit()

    assert (await seen(observer, User.name, User.kind, User.age))[0] == ("a", "changed", 11)


async def test_an_update_with_criteria_is_executed_for_each_set_of_parameters(
    filled: AsyncSession, observer: AsyncEngine
) -> None:
    await filled.execute(
        update(User).where(User.name == bindparam("wanted")), [{"wanted": "a", "age": 1}, {"wanted": "b", "age": 2}]
    )
    await filled.commit()

    assert (await seen(observer, User.name, User.age))[:2] == [("a", 1), ("b", 2)]


# Objects --------------------------------------------------------------------------------------------------------------


async def test_objects_are_inserted_and_stay_out_of_the_session(session: AsyncSession, observer: AsyncEngine) -> None:
    people = [User(name="a", letters=[Letter(text="x")]), User(name="b", age=2)]

    await session.bulk_save_objects(people, return_defaults=True)

    assert not any(user in session for user in people)
    assert [inspect(user).transient for user in people] == [True, True]
    assert [user.kind for user in people] == ["plain", "plain"]
    await session.commit()
    assert await seen(observer, User.id, User.name) == sorted((user.id, user.name) for user in people)
    assert await seen(observer, Letter.id) == []


async def test_stored_objects_are_updated_where_they_changed(
    filled: AsyncSession, observer: AsyncEngine, statements: StatementLog
) -> None:
    user = await by_name(filled, "a")
    filled.expunge(user)
    user.age = 11
    statements.clear()

    await filled.bulk_save_objects([user])
    await filled.commit()

    assert "full_name" not in statements.sql[0]
    assert (await seen(observer, User.name, User.age))[0] == ("a", 11)


async def test_all_columns_of_stored_objects_are_updated_if_asked_for(
    filled: AsyncSession, statements: StatementLog
) -> None:
    user = await by_name(filled, "a")
    filled.expunge(user)
    statements.clear()

    await filled.bulk_save_objects([user], update_changed_only=False)

    assert "full_name" in statements.sql[0]


async def test_without_order_each_class_is_written_at_once(session: AsyncSession, statements: StatementLog) -> None:
    mixed = [User(name="a"), Seat(row="A", number=1), User(name="b"), Seat(row="A", number=2)]

    await session.bulk_save_objects(mixed, preserve_order=False)

    assert statements.tables("INSERT") == ["seats", "users"]


# Conflicts ------------------------------------------------------------------------------------------------------------


@pytest.mark.without("mariadb", reason="INSERT has no ON CONFLICT there")
async def test_an_upsert_returns_objects_with_what_the_row_has_now(
    filled: AsyncSession, engine: AsyncEngine, observer: AsyncEngine
) -> None:
    user = await by_name(filled, "a")
    statement = upsert(engine).values([{"name": "a", "age": 1}, {"name": "z", "age": 1}])
    statement = statement.on_conflict_do_update(index_elements=[User.name], set_={"years": 99}).returning(User)

    found = (await filled.scalars(statement, execution_options={"populate_existing": True})).all()

    assert {each.name: each.age for each in found} == {"a": 99, "z": 1}
    assert user in found
    await filled.commit()
    assert ("a", 99) in await seen(observer, User.name, User.age)


@pytest.mark.without("mariadb", reason="INSERT has no ON CONFLICT there")
async def test_an_upsert_takes_a_list_of_rows(filled: AsyncSession, engine: AsyncEngine) -> None:
    user = await by_name(filled, "a")
    statement = upsert(engine).on_conflict_do_update(index_elements=[User.name], set_={"years": 99}).returning(User)

    found = (await filled.scalars(statement, [{"name": "a"}, {"name": "y"}, {"name": "z"}])).all()

    assert [(each.name, each.age) for each in found] == [("a", 99), ("y", None), ("z", None)]
    assert user.age == 99


@pytest.mark.without("mariadb", reason="INSERT has no ON CONFLICT there")
async def test_rows_that_exist_are_left_out_where_nothing_is_done_about_them(
    filled: AsyncSession, engine: AsyncEngine
) -> None:
    statement = upsert(engine).on_conflict_do_nothing().returning(User.name)

    assert (await filled.execute(statement, [{"name": "a"}, {"name": "z"}])).all() == [("z",)]


# Failures -------------------------------------------------------------------------------------------------------------


async def test_a_failure_leaves_no_half_of_the_rows(session: AsyncSession, observer: AsyncEngine) -> None:
    with pytest.raises(UniqueViolationError):
        await session.execute(insert(User), [{"name": "a"}, {"name": "b", "age": 1}, {"name": "a"}])

    with pytest.raises(PendingRollbackError):
        await session.commit()
    await session.rollback()
    assert await seen(observer, User.name) == []


async def test_a_failure_in_a_savepoint_leaves_what_was_before(session: AsyncSession, observer: AsyncEngine) -> None:
    await session.execute(insert(User), [{"name": "a"}])
    with pytest.raises(UniqueViolationError):
        async with session.begin_nested():
            await session.bulk_insert_mappings(User, [{"name": "b"}, {"name": "a"}])
    await session.commit()

    assert await seen(observer, User.name) == [("a",)]


@pytest.mark.parametrize("row", [{"id": 999, "age": 1}])
async def test_a_row_that_is_not_there_fails_the_update_of_all(
    filled: AsyncSession, observer: AsyncEngine, row: dict[str, Any]
) -> None:
    user = await by_name(filled, "a")

    with pytest.raises(StaleDataError, match="users"):
        await filled.execute(update(User), [{"id": user.id, "age": 11}, row])
    await filled.rollback()

    assert user.age == 10
    assert (await seen(observer, User.name, User.age))[0] == ("a", 10)


async def test_a_version_that_is_out_of_date_fails(filled: AsyncSession) -> None:
    with pytest.raises(StaleDataError):
        await filled.bulk_update_mappings(Draft, [{"id": 1, "version": 9, "text": "x"}])


BAD: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda session: session.execute(insert(User), [{"nam": "a"}]), ArgumentError, "'nam'; did you mean 'name'"),
    (lambda session: session.execute(insert(User), [{"letters": []}]), InvalidRequestError, "is a relation"),
    (lambda session: session.execute(insert(User), [("a", 1)]), ArgumentError, r"number 0 is \('a', 1\)"),
    (lambda session: session.execute(update(User), [{"age": 1}]), ArgumentError, "number 0 lacks 'id'"),
    (lambda session: session.execute(update(Draft), [{"id": 1, "text": ""}]), ArgumentError, "lacks 'version'"),
    (lambda session: session.execute(update(Seat), [{"row": "A"}]), ArgumentError, "lacks 'number'"),
    (lambda session: session.execute(update(User), [{"id": 1, "aeg": 1}]), ArgumentError, "did you mean 'age'"),
    (
        lambda session: session.execute(update(User).values(age=1), [{"id": 1}, {"id": 2}]),
        ArgumentError,
        "takes its values from the list",
    ),
    (
        lambda session: session.execute(update(User).returning(User.id), [{"id": 1, "age": 1}]),
        ArgumentError,
        "cannot return rows",
    ),
    (lambda session: session.execute(update(User.__table__), [{"years": 1}]), ArgumentError, r"needs a where\(\)"),
    (lambda session: session.bulk_insert_mappings(User, {"name": "a"}), ArgumentError, "several mappings, in a list"),
    (lambda session: session.bulk_update_mappings(User, [5]), ArgumentError, "number 0 is 5"),
]


@pytest.mark.parametrize(("use", "error", "says"), BAD)
async def test_what_cannot_be_written_is_refused_before_anything_is_sent(
    session: AsyncSession,
    statements: StatementLog,
    use: Callable[[AsyncSession], Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        await use(session)

    assert not statements.events


async def test_a_value_of_the_wrong_type_names_its_attribute(session: AsyncSession) -> None:
    with pytest.raises(DataError, match=r"User\.name"):
        await session.execute(insert(User), [{"name": 5}])


# Events ---------------------------------------------------------------------------------------------------------------


async def test_handlers_of_statements_hear_of_bulk_statements(filled: AsyncSession) -> None:
    user = await by_name(filled, "a")
    heard: list[Any] = []
    events.listen(
        filled, "do_orm_execute", lambda state: heard.append((state.is_insert, state.is_update, state.is_executemany))
    )
    events.listen(filled, "after_bulk_update", lambda context: heard.append((context.rowcount, context.parameters)))

    await filled.execute(insert(User), [{"name": "x"}])
    await filled.execute(update(User), [{"id": user.id, "age": 1}])

    assert heard == [
        (True, False, True),
        (False, True, True),
        (1, [{"id": user.id, "age": 1}]),
    ]


async def test_handlers_of_rows_do_not(session: AsyncSession) -> None:
    heard: list[object] = []

    def hear(_mapper: object, _connection: object, target: object) -> None:
        heard.append(target)

    events.listen(User, "before_insert", hear)
    try:
        await session.execute(insert(User), [{"name": "a"}])
        await session.bulk_save_objects([User(name="b")])
    finally:
        events.remove(User, "before_insert", hear)

    assert heard == []
