"""UPDATE and DELETE by criteria change rows, and the objects in memory with them."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import bindparam, delete, func, select, update

from aiosession import AsyncEngine, AsyncSession, aliased, events, inspect, object_session
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.testing.statements import StatementLog
from tests.behaviour.writes_model import Draft, Letter, Mood, Seat, User, fill, seen


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


async def users(session: AsyncSession) -> list[User]:
    return list((await session.scalars(select(User).order_by(User.name))).all())


CHOICES: list[Any] = ["auto", "evaluate", "fetch"]


@pytest.mark.parametrize("how", CHOICES)
async def test_an_update_changes_rows_and_the_objects_that_meet_the_criteria(
    session: AsyncSession, observer: AsyncEngine, how: str
) -> None:
    people = await users(session)

    result = await session.execute(
        update(User).where(User.age > 20).values(age=User.age + 1, name=User.name + "!"),
        execution_options={"synchronize_session": how},
    )

    assert result.rowcount == 2
    expected = [("a", 10), ("b", 20), ("c!", 31), ("d!", 41), ("e", None)]
    assert [(user.name, user.age) for user in people] == expected
    assert not session.dirty
    await session.commit()
    assert await seen(observer, User.name, User.age) == expected


@pytest.mark.parametrize("how", CHOICES)
async def test_a_delete_lets_go_of_the_objects_whose_rows_are_gone(
    session: AsyncSession, observer: AsyncEngine, how: str
) -> None:
    people = await users(session)

    result = await session.execute(
        delete(User).where(User.age.between(20, 30)), execution_options={"synchronize_session": how}
    )

    assert result.rowcount == 2
    assert [inspect(user).deleted for user in people] == [False, True, True, False, False]
    await session.commit()
    assert [object_session(user) is session for user in people] == [True, False, False, True, True]
    assert [name for (name,) in await seen(observer, User.name)] == ["a", "d", "e"]


async def test_false_leaves_objects_alone(session: AsyncSession) -> None:
    people = await users(session)

    await session.execute(update(User).values(age=1), execution_options={"synchronize_session": False})
    await session.execute(delete(User).where(User.name == "e"), execution_options={"synchronize_session": False})

    assert [user.age for user in people] == [10, 20, 30, 40, None]
    assert inspect(people[4]).persistent


@pytest.mark.parametrize("how", CHOICES)
async def test_a_rollback_gives_objects_back_what_they_had(session: AsyncSession, how: str) -> None:
    people = await users(session)
    options = {"synchronize_session": how}

    await session.execute(update(User).where(User.age < 30).values(age=0), execution_options=options)
    await session.execute(delete(User).where(User.age == 40), execution_options=options)
    await session.rollback()

    assert [user.age for user in people] == [10, 20, 30, 40, None]
    assert all(inspect(user).persistent for user in people)


async def test_the_rollback_of_a_savepoint_undoes_what_was_done_within(session: AsyncSession) -> None:
    people = await users(session)
    await session.execute(update(User).where(User.name == "a").values(age=11))

    savepoint = await session.begin_nested()
    await session.execute(update(User).where(User.name == "a").values(age=12))
    await session.execute(delete(User).where(User.name == "b"))
    await savepoint.rollback()

    assert people[0].age == 11
    assert inspect(people[1]).persistent
    assert (await session.scalars(select(User.age).where(User.name == "a"))).one() == 11


async def test_criteria_that_python_can_evaluate_cost_no_returning(
    session: AsyncSession, statements: StatementLog
) -> None:
    await users(session)
    statements.clear()

    await session.execute(update(User).where(User.age > 20).values(age=1))

    assert "RETURNING" not in statements.sql[0].upper()


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_criteria_that_only_the_database_can_tell_have_keys_returned_by_the_same_statement(
    session: AsyncSession, statements: StatementLog
) -> None:
    people = await users(session)
    statements.clear()

    await session.execute(update(User).where(func.upper(User.name) == "B").values(age=1))

    assert "RETURNING" in statements.sql[0].upper()
    assert statements.count == 1
    assert [user.age for user in people] == [10, 1, 30, 40, None]


async def test_stale_objects_are_found_by_the_database(session: AsyncSession) -> None:
    people = await users(session)
    await session.commit()

    await session.execute(delete(User).where(User.age == 20))

    assert [inspect(user).deleted for user in people] == [False, True, False, False, False]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_a_change_that_is_not_written_is_not_what_criteria_are_tested_on(session: AsyncSession) -> None:
    people = await users(session)
    people[0].age = 99

    await session.execute(
        update(User).where(User.age == 99).values(kind="wrong"), execution_options={"autoflush": False}
    )

    assert people[0].kind == "plain"


@pytest.mark.parametrize("how", CHOICES)
async def test_a_change_that_is_not_written_survives_an_update(
    session: AsyncSession, observer: AsyncEngine, how: str
) -> None:
    people = await users(session)
    people[0].age = 99

    await session.execute(
        update(User).where(User.name == "a").values(age=1, kind="new"),
        execution_options={"autoflush": False, "synchronize_session": how},
    )

    assert (people[0].age, people[0].kind) == (99, "new")
    await session.commit()
    assert (await seen(observer, User.name, User.age))[0] == ("a", 99)


async def test_all_new_values_are_computed_from_the_old_row(session: AsyncSession, observer: AsyncEngine) -> None:
    user = (await session.scalars(select(User).where(User.name == "b"))).one()

    await session.execute(
        update(User).where(User.name == "b").ordered_values((User.age, User.age + 1), (User.touched, User.age))
    )

    assert (user.age, user.touched) == (21, 20)
    await session.commit()
    assert (await seen(observer, User.name, User.age, User.touched))[1] == ("b", 21, 20)


async def test_a_value_that_the_database_computes_or_rounds_is_read_again(session: AsyncSession) -> None:
    user = (await users(session))[0]
    await session.execute(update(User).where(User.name == "a").values(money=Decimal("11.05")))
    assert user.money == Decimal("11.05")

    await session.execute(
        update(User).where(User.name == "a").values(money=User.money * Decimal("1.105"), kind=func.upper(User.kind))
    )

    assert inspect(user).expired_attributes >= {"money", "kind"}
    await session.refresh(user)
    assert (user.kind, user.money) == (
        "PLAIN",
        (await session.scalars(select(User.money).where(User.name == "a"))).one(),
    )


async def test_what_a_column_makes_of_itself_at_an_update_is_stale(session: AsyncSession) -> None:
    user = (await users(session))[0]

    await session.execute(update(User).where(User.name == "a").values(age=1))

    assert "touched" in inspect(user).expired_attributes
    await session.refresh(user)
    assert user.touched == 7


async def test_a_relation_is_stale_whose_foreign_key_is_written(session: AsyncSession) -> None:
    letter = (await session.scalars(select(Letter).where(Letter.text == "x"))).one()
    await session.load(letter, Letter.user)

    await session.execute(update(Letter).where(Letter.text == "x").values(user_id=None))

    assert letter.user_id is None
    assert "user" in inspect(letter).expired_attributes


async def test_choices_and_documents_are_written_and_kept(session: AsyncSession, observer: AsyncEngine) -> None:
    user = (await users(session))[0]

    await session.execute(update(User).where(User.name == "a").values({User.mood: Mood.BAD, "facts": {"k": [1]}}))

    assert (user.mood, user.facts) == (Mood.BAD, {"k": [1]})
    await session.commit()
    assert (await seen(observer, User.name, User.mood, User.facts))[0] == ("a", Mood.BAD, {"k": [1]})


async def test_negated_flags_and_choices_are_criteria(session: AsyncSession) -> None:
    people = await users(session)
    await session.execute(update(User).where(User.name.in_(["a", "b"])).values(mood=Mood.GOOD))

    await session.execute(
        update(User).where(User.mood == Mood.GOOD).values(kind="good"),
        execution_options={"synchronize_session": "evaluate"},
    )

    assert [user.kind for user in people] == ["good", "good", "plain", "plain", "plain"]


@pytest.mark.parametrize("how", CHOICES)
async def test_composite_keys_are_found(session: AsyncSession, how: str) -> None:
    seats = list((await session.scalars(select(Seat).order_by(Seat.row, Seat.number))).all())

    await session.execute(
        update(Seat).where(Seat.row == "A", Seat.number == 2).values(label="best"),
        execution_options={"synchronize_session": how},
    )

    assert [seat.label for seat in seats] == [None, "best", None]


async def test_criteria_may_have_parameters(session: AsyncSession) -> None:
    people = await users(session)

    await session.execute(update(User).where(User.age == bindparam("wanted")), {"wanted": 20, "kind": "x"})
    await session.execute(delete(User).where(User.age == bindparam("wanted")), {"wanted": 30})

    assert [user.kind for user in people] == ["plain", "x", "plain", "plain", "plain"]
    assert inspect(people[2]).deleted


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_returned_columns_come_with_the_objects_in_step(session: AsyncSession) -> None:
    people = await users(session)

    result = await session.execute(
        update(User).where(func.lower(User.name) == "a").values(age=1).returning(User.name, User.age)
    )

    assert result.all() == [("a", 1)]
    assert people[0].age == 1


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_returned_objects_have_the_new_values(session: AsyncSession) -> None:
    people = await users(session)

    changed = (await session.scalars(update(User).where(User.age < 30).values(age=1).returning(User))).all()
    gone = (await session.scalars(delete(User).where(User.name == "c").returning(User))).all()

    assert {user.name: user.age for user in changed} == {"a": 1, "b": 1}
    assert set(changed) == set(people[:2])
    assert gone == [people[2]]
    assert inspect(people[2]).deleted


async def test_a_statement_on_the_table_marks_objects_stale(session: AsyncSession) -> None:
    user = (await users(session))[0]

    await session.execute(update(User.__table__).values(years=1))
    await session.refresh_all()

    assert user.age == 1


async def test_a_write_by_criteria_does_not_count_versions(session: AsyncSession, observer: AsyncEngine) -> None:
    drafts = list((await session.scalars(select(Draft).order_by(Draft.id))).all())

    await session.execute(update(Draft).where(Draft.text == "one").values(text="1"))
    drafts[0].text = "uno"
    await session.commit()

    assert await seen(observer, Draft.id, Draft.text, Draft.version) == [(1, "uno", 2), (2, "two", 1)]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_handlers_hear_of_writes_by_criteria_and_of_their_numbers(session: AsyncSession) -> None:
    heard: list[tuple[str, int]] = []
    events.listen(session, "after_bulk_update", lambda context: heard.append(("update", context.rowcount)))
    events.listen(session, "after_bulk_delete", lambda context: heard.append(("delete", context.rowcount)))

    await session.execute(update(User).where(User.age > 20).values(age=1))
    await session.execute(update(User).where(User.age == 1).values(age=2).returning(User))
    await session.execute(delete(User).where(User.name == "e"))
    await session.execute(update(User.__table__).values(years=1))

    assert heard == [("update", 2), ("update", 2), ("delete", 1)]


@pytest.mark.parametrize(
    ("statement", "options", "error", "says"),
    [
        (update(User).values(age=1), {"synchronize_session": "fetc"}, ArgumentError, "did you mean 'fetch'"),
        (update(User).values(age=1), {"synchronize_session": True}, ArgumentError, "not True"),
        (update(User).values(agee=1), {}, ArgumentError, "User has no attribute 'agee'; did you mean 'age'"),
        (update(User).values(letters=[]), {}, ArgumentError, "User.letters is no column"),
        (update(aliased(User)).values(age=1), {}, ArgumentError, "is an alias"),
        (
            delete(User).where(func.lower(User.name) == "a"),
            {"synchronize_session": "evaluate"},
            InvalidRequestError,
            "Python cannot evaluate these criteria",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, statement: Any, options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await session.execute(statement, execution_options=options)

    assert not statements.events
