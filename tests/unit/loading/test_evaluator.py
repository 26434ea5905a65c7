"""What Python says about criteria is what the database says, or it says that it does not know."""

import enum
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, String, and_, bindparam, false, func, literal, null, or_, select, true, tuple_
from sqlalchemy.dialects import sqlite

from aiosession import AsyncSession, DeclarativeBase, Mapped, aliased, create_async_engine, mapped_column
from aiosession.loading.evaluator import UNKNOWN, NotEvaluableError, evaluator
from aiosession.mapping.inspection import mapper_of
from aiosession.state.state import state_of


class Color(enum.Enum):
    RED = "r"
    GREEN = "g"


class Rank(enum.IntEnum):
    HIGH = 1
    LOW = 2


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    key: Mapped[int] = mapped_column("id", primary_key=True)
    name: Mapped[str | None] = mapped_column("full_name")
    size: Mapped[int | None] = mapped_column("amount")
    more: Mapped[int | None]
    is_new: Mapped[bool | None]
    color: Mapped[Color | None]
    rank: Mapped[Rank | None]
    price: Mapped[Decimal | None]
    made: Mapped[datetime | None]
    facts: Mapped[Any | None] = mapped_column(JSON)
    folded: Mapped[str | None] = mapped_column(String(collation="NOCASE"))


class Other(Base):
    __tablename__ = "other"
    key: Mapped[int] = mapped_column(primary_key=True)


def said(criterion: Any, **values: Any) -> Any:
    """Return what the evaluator says of an item with these values in memory, and no others."""
    item = stored(**values)
    return evaluator(criterion, mapper_of(Item), None)(state_of(item))


def stored(**values: Any) -> Item:
    """Return an item whose values are as the database has them."""
    item = Item(**values)
    state_of(item).committed = None
    return item


# Random criteria ------------------------------------------------------------------------------------------------------

_NUMBERS: Final = st.none() | st.integers(-2, 2)
_NAMES: Final = st.none() | st.sampled_from(["", "a", "A", "b"])
_ROWS: Final = st.fixed_dictionaries(
    {"size": _NUMBERS, "more": _NUMBERS, "name": _NAMES, "is_new": st.none() | st.booleans()}
)

_TRUTHS: Final = [
    Item.is_new.__clause_element__(),  # type: ignore[attr-defined]  # what where() makes of it
    ~Item.is_new,
    Item.is_new.is_(True),
    Item.is_new.is_not(None),
    true(),
    false(),
]


def _numbers() -> st.SearchStrategy[Any]:
    columns = st.sampled_from([Item.size, Item.more])
    leaves = columns | columns.map(lambda column: -column) | st.integers(-2, 2).map(literal)
    return st.recursive(
        leaves,
        lambda inner: st.tuples(inner, inner, st.sampled_from("+-*")).map(
            lambda parts: {"+": parts[0] + parts[1], "-": parts[0] - parts[1], "*": parts[0] * parts[1]}[parts[2]]
        ),
        max_leaves=4,
    )


def _compared(left: Any, right: Any, how: str) -> Any:
    makers: dict[str, Callable[[], Any]] = {
        "==": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
    }
    return makers[how]()


def _criteria() -> st.SearchStrategy[Any]:
    numbers = _numbers()
    choices = st.lists(_NUMBERS, max_size=3)
    leaves = st.one_of(
        st.builds(_compared, numbers, numbers, st.sampled_from(["==", "!=", "<", "<=", ">", ">="])),
        st.builds(Item.size.between, numbers, numbers),
        st.builds(lambda low, high: ~Item.size.between(low, high), numbers, numbers),
        choices.map(Item.size.in_),
        choices.map(Item.size.not_in),
        st.lists(_NAMES, max_size=3).map(Item.name.in_),
        _NAMES.map(lambda name: Item.name == name),
        _NAMES.map(lambda name: Item.name != name),
        st.builds(_compared, st.just(Item.name), _NAMES.map(literal), st.sampled_from(["<", ">="])),
        st.sampled_from(["a", "b"]).map(lambda end: Item.name + end == "ab"),
        st.sampled_from(_TRUTHS),
        st.just(Item.name.is_(None)),
    )
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: and_(*parts))
            | st.lists(inner, min_size=2, max_size=3).map(lambda parts: or_(*parts))
            | inner.map(lambda criterion: ~criterion)
        ),
        max_leaves=6,
    )


def _said_by_sqlite(criterion: Any, row: dict[str, Any]) -> bool | None:
    compiled = criterion.compile(
        dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
    )
    columns = {"full_name": row["name"], "amount": row["size"], "more": row["more"], "is_new": row["is_new"]}
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE item (full_name TEXT, amount INTEGER, more INTEGER, is_new BOOLEAN)")
        connection.execute("INSERT INTO item VALUES (:full_name, :amount, :more, :is_new)", columns)
        ((found,),) = connection.execute(f"SELECT {compiled} FROM item", compiled.params).fetchall()
    finally:
        connection.close()
    return None if found is None else bool(found)


@given(criterion=_criteria(), row=_ROWS)
def test_it_agrees_with_sqlite_or_does_not_know(criterion: Any, row: dict[str, Any]) -> None:
    answer = said(criterion, **row)

    if answer is not UNKNOWN:
        assert (answer if answer is None else bool(answer)) == _said_by_sqlite(criterion, row)


@given(criterion=_criteria(), row=_ROWS, lost=st.sets(st.sampled_from(["size", "more", "name", "is_new"])))
def test_what_it_says_does_not_depend_on_values_that_are_not_loaded(
    criterion: Any, row: dict[str, Any], lost: set[str]
) -> None:
    answer = said(criterion, **{name: value for name, value in row.items() if name not in lost})

    if answer is not UNKNOWN:
        assert (answer if answer is None else bool(answer)) == _said_by_sqlite(criterion, row)


# Single cases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("criterion", "values"),
    [
        (Item.name < "b", {"name": "a"}),
        (Item.color < Color.RED, {"color": Color.GREEN}),
        (Item.color == "RED", {"color": Color.RED}),
        (Item.rank < Rank.LOW, {"rank": Rank.HIGH}),
        (Item.facts == {"a": 1}, {"facts": {"a": 1}}),
        (Item.facts.is_(None), {"facts": None}),
        (Item.folded == "A", {"folded": "a"}),
        (Item.folded.in_(["A"]), {"folded": "a"}),
        (Item.price * 2 > 1, {"price": Decimal(1)}),
        (Item.price > Decimal("NaN"), {"price": Decimal(1)}),
        (Item.price == 0.1, {"price": Decimal("0.1")}),
        (Item.made == datetime(2020, 1, 1), {"made": datetime(2020, 1, 1, tzinfo=UTC)}),
        (Item.size == "1", {"size": 1}),
        (Item.size.in_(["1"]), {"size": 1}),
        (Item.size + 2**62 + 2**62 > 0, {"size": 1}),
        (Item.size == 1, {}),
        (Item.key == 1, {}),
    ],
)
def test_it_does_not_know_where_databases_may_differ_from_python(criterion: Any, values: dict[str, Any]) -> None:
    assert said(criterion, **values) is UNKNOWN


@pytest.mark.parametrize(
    ("criterion", "values", "expected"),
    [
        (Item.color == Color.RED, {"color": Color.RED}, True),
        (Item.color.in_([Color.RED, Color.GREEN]), {"color": Color.GREEN}, True),
        (Item.rank == Rank.LOW, {"rank": Rank.HIGH}, False),
        (Item.price > Decimal("1.5"), {"price": Decimal(2)}, True),
        (Item.price >= 2, {"price": Decimal(2)}, True),
        (Item.made > datetime(2020, 1, 1), {"made": datetime(2021, 1, 1)}, True),
        (and_(Item.size == 1, Item.more == 2), {"more": 3}, False),
        (or_(Item.size == 1, Item.more == 2), {"more": 2}, True),
        (Item.size == null(), {"size": None}, True),
        (Item.size.in_([]), {"size": None}, False),
        (Item.size.not_in([1, None]), {"size": 2}, None),
    ],
)
def test_it_knows_what_every_database_says(criterion: Any, values: dict[str, Any], expected: object) -> None:
    assert said(criterion, **values) is expected


@pytest.mark.parametrize(
    "criterion",
    [
        func.lower(Item.name) == "a",
        Item.name.like("a%"),
        Item.size / 2 == 1,
        Item.size.between(2, 1, symmetric=True),
        Item.size.is_distinct_from(1),
        Item.key.in_(select(Other.key)),
        Item.key == Other.key,
        aliased(Item).size == 1,
        tuple_(Item.key, Item.size).in_([(1, 2)]),
    ],
)
def test_what_only_the_database_can_say_is_refused_with_the_expression(criterion: Any) -> None:
    with pytest.raises(NotEvaluableError) as caught:
        said(criterion, name="a", size=1)
    assert str(caught.value)


def test_parameters_are_values() -> None:
    test = evaluator(Item.size == bindparam("wanted"), mapper_of(Item), {"wanted": 3})

    three, four = stored(size=3), stored(size=4)

    assert test(state_of(three)) is True
    assert test(state_of(four)) is False


async def test_values_that_are_stale_or_not_yet_written_are_not_known() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        item = Item(key=1, size=1)
        session.add(item)
        await session.flush()
        assert evaluator(Item.size == 1, mapper_of(Item), None)(state_of(item)) is True

        item.size = 5
        assert evaluator(Item.size == 5, mapper_of(Item), None)(state_of(item)) is UNKNOWN

        session.expire(item)
        assert evaluator(Item.size == 1, mapper_of(Item), None)(state_of(item)) is UNKNOWN
        assert evaluator(Item.key == 1, mapper_of(Item), None)(state_of(item)) is True
    await engine.dispose()
