"""Criteria mean in Python what they mean in the database, NULLs included, or Python says that it does not know."""

import asyncio
import operator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, and_, false, not_, null, or_, select, true

from aiosession import AsyncSession, DeclarativeBase, Mapped, create_async_engine, inspect, mapped_column
from aiosession.loading.evaluator import UNKNOWN, NotEvaluableError, evaluator
from aiosession.state.state import state_of


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int | None]
    b: Mapped[int | None]
    t: Mapped[str | None]


CALCULATIONS = [operator.add, operator.sub, operator.mul]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]

numbers = st.integers(-3, 3)
texts = st.sampled_from(["", "a", "b", "A"])
values = st.fixed_dictionaries(
    {"a": st.none() | numbers, "b": st.none() | numbers, "t": st.none() | texts},
)
terms = st.recursive(
    st.sampled_from([Row.a, Row.b, Row.id]) | numbers.map(lambda number: Row.a * 0 + number),
    lambda inner: st.builds(lambda x, y, how: how(x, y), inner, inner, st.sampled_from(CALCULATIONS)),
    max_leaves=3,
)


comparisons = st.one_of(
    st.builds(lambda x, y, how: how(x, y), terms, terms, st.sampled_from(COMPARISONS)),
    st.builds(lambda text: Row.t == text, texts),
    st.builds(lambda text: Row.t != text, texts),
    st.builds(lambda x, low, high: x.between(low, high), terms, numbers, numbers),
    st.builds(lambda x, chosen: x.in_(chosen), st.sampled_from([Row.a, Row.b]), st.lists(numbers, max_size=3)),
    st.builds(lambda x, chosen: x.not_in(chosen), st.sampled_from([Row.a, Row.b]), st.lists(numbers, max_size=3)),
    st.builds(lambda x: x.is_(None), st.sampled_from([Row.a, Row.b, Row.t])),
    st.builds(lambda x: x.is_not(None), st.sampled_from([Row.a, Row.b, Row.t])),
    st.builds(lambda x: x == null(), st.sampled_from([Row.a, Row.t])),
    st.sampled_from([true(), false()]),
)
criteria = st.recursive(
    comparisons,
    lambda inner: st.one_of(st.builds(and_, inner, inner), st.builds(or_, inner, inner, inner), st.builds(not_, inner)),
    max_leaves=6,
)


async def answers(rows: list[dict[str, Any]], wanted: list[ColumnElement[bool]]) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        objects = [Row(**row) for row in rows]
        session.add_all(objects)
        await session.flush()
        for each in wanted:
            expected = set((await session.scalars(select(Row.id).where(each))).all())
            try:
                test = evaluator(each, inspect(Row), None)
            except NotEvaluableError:
                continue
            found = {obj.id: test(state_of(obj)) for obj in objects}
            assert UNKNOWN not in found.values()
            assert {key for key, answer in found.items() if answer} == expected, str(each)
    await engine.dispose()


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(values, min_size=1, max_size=6), wanted=st.lists(criteria, min_size=1, max_size=8))
def test_criteria_mean_the_same_in_python_and_in_the_database(
    rows: list[dict[str, Any]], wanted: list[ColumnElement[bool]]
) -> None:
    asyncio.run(answers(rows, wanted))
