"""SQL expressions in place of values: what the database makes of them, and when the object knows it."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ForeignKey, Integer, String, bindparam, func, literal, select
from sqlalchemy import text as sql_text

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship
from aiosession.errors import NotLoadedError, NotNullViolationError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Counter(Base):
    """The usual case."""

    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    value: Mapped[int | None]
    readings: Mapped[list["Reading"]] = relationship(back_populates="counter")


class Reading(Base):
    __tablename__ = "reading"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]
    counter_id: Mapped[int | None] = mapped_column(ForeignKey("counter.id"))
    counter: Mapped[Counter | None] = relationship(back_populates="readings")


class Careless(Base):
    """Fetches nothing that it does not need."""

    __tablename__ = "careless"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int | None]
    __mapper_args__ = {"eager_defaults": False}


class Edition(Base):
    """Counts its versions."""

    __tablename__ = "edition"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    statements.clear()


async def _saved(session: AsyncSession, *objects: object) -> None:
    session.add_all(objects)
    await session.commit()


async def _stored(observer: AsyncEngine, column: Any) -> list[Any]:
    """Read a column from outside, in the order of the primary key."""
    async with AsyncSession(observer) as other:
        return list(await other.scalars(select(column).order_by(*column.class_.__table__.primary_key.columns)))


EXPRESSIONS: list[Any] = [
    pytest.param(lambda: Counter.value + 1, id="attribute"),
    pytest.param(lambda: Counter.__table__.c.value + 1, id="column"),
    pytest.param(lambda: sql_text("value + 1"), id="text"),
    pytest.param(lambda: func.abs(-42), id="function"),
    pytest.param(lambda: literal(40) + 2, id="literals"),
    pytest.param(lambda: bindparam("given", 42, unique=True) + 0, id="parameter"),
    pytest.param(lambda: select(func.max(Counter.value) + 1).scalar_subquery(), id="subquery"),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_an_update_evaluates_an_expression_and_fetches_its_value_in_the_same_statement(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, expression: Callable[[], Any]
) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=41)
        await _saved(session, counter)
        statements.clear()

        counter.value = expression()
        await session.flush()

        assert counter.value == 42
        assert statements.count == 1
        assert not session.dirty
        await session.commit()
    assert await _stored(observer, Counter.value) == [42]


@pytest.mark.parametrize("expression", EXPRESSIONS[3:])
async def test_an_insert_evaluates_an_expression_and_fetches_its_value_in_the_same_statement(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, expression: Callable[[], Any]
) -> None:
    async with AsyncSession(engine) as session:
        await _saved(session, Counter(name="before", value=41))
        statements.clear()
        counter = Counter(name="a", value=expression())
        session.add(counter)

        await session.flush()

        assert (counter.value, statements.count) == (42, 1)
        await session.commit()
    assert await _stored(observer, Counter.value) == [41, 42]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_expressions_and_plain_values_of_many_objects_do_not_mix(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        counters = [Counter(name=f"c{n}", value=n) for n in range(6)]
        await _saved(session, *counters)

        up = Counter.value + 100
        for n, counter in enumerate(counters):
            counter.name += "!"
            choices: list[Any] = [up, Counter.value * 2, n + 1000]
            counter.value = choices[n % 3]
        await session.commit()

        assert [counter.value for counter in counters] == [100, 2, 1002, 103, 8, 1005]
    assert await _stored(observer, Counter.value) == [100, 2, 1002, 103, 8, 1005]
    assert await _stored(observer, Counter.name) == [f"c{n}!" for n in range(6)]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_two_sessions_that_count_up_lose_nothing(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        mine = Counter(name="a", value=0)
        await _saved(session, mine)
        theirs = await other.get_one(Counter, mine.id)

        mine.value = Counter.value + 1
        theirs.value = Counter.value + 1
        await session.commit()
        await other.commit()

        assert theirs.value == 2
    assert await _stored(observer, Counter.value) == [2]


async def test_the_value_of_an_expression_is_unknown_if_nothing_is_to_be_fetched(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        some = [Careless(value=n) for n in range(3)]
        await _saved(session, *some)

        for each in some:
            each.value = Careless.value + 1
        await session.flush()

        with pytest.raises(NotLoadedError, match=r"Careless\.value .*session\.load\(careless, Careless\.value\)"):
            _ = some[0].value
        await session.load(some, Careless.value)
        assert [each.value for each in some] == [1, 2, 3]


async def test_a_failed_flush_leaves_the_expression_in_place(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=1)
        await _saved(session, counter)
        counter.name = expression = func.nullif("b", "b")

        with pytest.raises(NotNullViolationError):
            await session.flush()

        assert counter.__dict__["name"] is expression
        await session.rollback()
        assert counter.name == "a"
        assert not session.dirty
    assert await _stored(observer, Counter.name) == ["a"]


async def test_rollback_brings_back_the_value_from_before(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=1)
        await _saved(session, counter)

        counter.value = Counter.value + 1
        await session.flush()
        await session.rollback()

        assert counter.value == 1
        assert not session.dirty
    assert await _stored(observer, Counter.value) == [1]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_rollback_to_a_savepoint_brings_back_what_was_known_there(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=1)
        await _saved(session, counter)
        counter.value = Counter.value + 1
        await session.flush()

        savepoint = await session.begin_nested()
        counter.value = Counter.value + 10
        await session.flush()
        assert counter.value == 12
        await savepoint.rollback()

        assert counter.value == 2
        await session.commit()
    assert await _stored(observer, Counter.value) == [2]


async def test_an_expression_that_is_not_flushed_is_dropped_by_rollback(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=1)
        await _saved(session, counter)
        counter.value = Counter.value + 1

        await session.rollback()

        assert counter.value == 1


async def test_a_primary_key_may_be_an_expression(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(id=literal(40) + 2, name="a", readings=[Reading(note="x")])
        session.add(counter)

        await session.flush()

        assert counter.id == counter.readings[0].counter_id == 42
        assert await session.get(Counter, 42) is counter
        await session.commit()
    assert await _stored(observer, Reading.counter_id) == [42]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_a_primary_key_may_change_by_an_expression(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        some = [Careless(id=n, value=n) for n in (1, 2)]
        await _saved(session, *some)

        some[0].id = Careless.id + 100
        await session.flush()

        assert [each.id for each in some] == [101, 2]
        assert await session.get(Careless, 101) is some[0]
        assert await session.get(Careless, 1) is None
        await session.rollback()
        assert await session.get(Careless, 1) is some[0]
        assert some[0].id == 1


async def test_a_foreign_key_may_be_an_expression(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="the last")
        await _saved(session, counter)
        last = select(func.max(Counter.id)).scalar_subquery()
        reading = Reading(note="x", counter_id=last)
        session.add(reading)

        await session.flush()

        assert reading.counter_id == counter.id
        assert await reading.awaitable_attrs.counter is counter
        await session.commit()
    assert await _stored(observer, Reading.counter_id) == [counter.id]


@pytest.mark.without("mariadb", reason="UPDATE has no RETURNING there")
async def test_an_expression_may_go_with_a_version(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        edition = Edition(value=1)
        await _saved(session, edition)

        edition.value = Edition.value + 1
        await session.commit()

        assert (edition.value, edition.version) == (2, 2)
    assert await _stored(observer, Edition.version) == [2]


async def test_a_plan_shows_expressions_as_sql(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counter = Counter(name="a", value=1)
        await _saved(session, counter)
        counter.name = "b"
        counter.value = Counter.value + 1

        plan = await session.plan()

        (row,) = [row for batch in plan for row in batch.rows]
        assert str(row.reason) == "changed: name, value"
        assert row.values["name"] == "b"
        assert str(row.values["value"]) == "counter.value + :value_1"
        assert "counter.value + :value_1" in str(plan)
