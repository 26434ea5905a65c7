"""Very many rows go into a table as a stream of values."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import BindParameter, ColumnElement, String, TypeDecorator, func
from typing_extensions import override

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    DataError,
    DeclarativeBase,
    Mapped,
    NotNullViolationError,
    UniqueViolationError,
    mapped_column,
)
from aiosession.session import copying
from aiosession.testing.statements import StatementLog
from tests.behaviour.bulk_model import Item, Kind, Place, make_tables, stored


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


async def test_mappings_are_copied_with_their_types_and_defaults(
    session: AsyncSession, engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "size": 1, "price": Decimal("1.25"), "kind": Kind.FANCY, "facts": {"x": [1]}},
        {"name": "b", "size": None, "price": None, "kind": None, "facts": None},
    ]

    assert await session.bulk_copy(Item, rows) == 2

    assert statements.kinds == (["BEGIN", "COPY"] if engine.name == "postgresql" else ["BEGIN", "INSERT"])
    assert not list(session)
    await session.commit()
    assert await stored(
        observer, Item.name, Item.size, Item.price, Item.kind, Item.facts, Item.origin, Item.touched
    ) == [("a", 1, Decimal("1.25"), Kind.FANCY, {"x": [1]}, "db", 0), ("b", None, None, Kind.PLAIN, None, "db", 0)]


@pytest.mark.parametrize("columns", [["name", "size"], [Item.name, Item.size]])
async def test_sequences_are_copied_to_the_columns_that_are_said(session: AsyncSession, columns: list[Any]) -> None:
    assert await session.bulk_copy(Item, [("a", 1), ["b", 2]], columns=columns) == 2

    assert await session.query(Item.name, Item.size).order_by(Item.name).all() == [("a", 1), ("b", 2)]


async def test_rows_come_from_generators_chunk_by_chunk(
    session: AsyncSession, statements: StatementLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK", 10)
    taken: list[int] = []

    def some() -> Iterator[dict[str, Any]]:
        for number in range(25):
            taken.append(len(statements))
            yield {"row": number, "column": "x"}

    async def more() -> AsyncIterator[tuple[int, str]]:
        for number in range(25):
            yield number, "y"

    assert await session.bulk_copy(Place, some()) == 25
    assert await session.bulk_copy(Place, more(), columns=["row", "column"]) == 25

    assert await session.query(Place).count() == 50
    assert taken[-1] == taken[0] + 2  # two chunks were on their way before the last row was asked for


async def test_pending_changes_are_written_before(session: AsyncSession, statements: StatementLog) -> None:
    session.add(Item(name="first"))

    await session.bulk_copy(Item, [{"name": "second"}])

    assert [name for (name,) in await session.query(Item.name).order_by(Item.key).all()] == ["first", "second"]


async def test_copied_rows_are_part_of_the_transaction(session: AsyncSession, observer: AsyncEngine) -> None:
    async with session.begin_nested() as savepoint:
        await session.bulk_copy(Item, [{"name": "a"}])
        await savepoint.rollback()
    await session.bulk_copy(Item, [{"name": "b"}])
    assert await stored(observer, Item.name) == []

    await session.commit()

    assert await stored(observer, Item.name) == [("b",)]


async def test_a_schema_may_have_another_name(engine: AsyncEngine) -> None:
    if engine.name != "postgresql":
        return
    await make_tables(engine)
    elsewhere = engine.execution_options(schema_translate_map={None: "elsewhere"})
    async with elsewhere.begin() as connection:
        await connection.exec_driver_sql("CREATE SCHEMA elsewhere")
        await connection.create_all(Item.metadata)
    async with AsyncSession(elsewhere) as session:
        await session.bulk_copy(Item, [{"name": "a"}])
        await session.commit()

    assert await stored(elsewhere, Item.name) == [("a",)]
    assert await stored(engine, Item.name) == []


async def test_nothing_is_nothing(session: AsyncSession, statements: StatementLog) -> None:
    assert await session.bulk_copy(Item, []) == 0
    assert statements.count == 0


@pytest.mark.parametrize(
    ("rows", "error"),
    [([{"name": "a"}, {"name": "a"}], UniqueViolationError), ([{"name": None}], NotNullViolationError)],
)
async def test_rows_that_the_database_refuses_leave_nothing(
    session: AsyncSession, observer: AsyncEngine, rows: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await session.bulk_copy(Item, rows)

    await session.rollback()
    await session.bulk_copy(Item, [{"name": "b"}])
    await session.commit()
    assert await stored(observer, Item.name) == [("b",)]


@pytest.mark.parametrize(
    ("rows", "columns", "error", "message"),
    [
        ([{"nam": "a"}], None, ArgumentError, "did you mean 'name'"),
        ([("a",)], ["nam"], ArgumentError, "did you mean 'name'"),
        ([("a",)], None, ArgumentError, r"say columns=\[Item\.a"),
        ([("a",), ("b", 1)], ["name"], ArgumentError, r"has 1 values, for name; row 1 is \('b', 1\)"),
        ([{"name": "a"}, {"name": "b", "size": 1}], None, ArgumentError, "same names, here name; row 1"),
        ([{"name": 5}], None, DataError, r"Item\.name is a column of type String and cannot hold 5"),
        ({"name": "a"}, None, ArgumentError, "takes several rows"),
        (5, None, ArgumentError, "takes several rows"),
    ],
)
async def test_wrong_rows_are_refused_before_anything_is_sent(
    session: AsyncSession, statements: StatementLog, rows: Any, columns: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await session.bulk_copy(Item, rows, columns=columns)

    assert statements.of_kind("COPY") == statements.of_kind("INSERT") == []


async def test_expressions_cannot_be_copied(session: AsyncSession, engine: AsyncEngine) -> None:
    if engine.capabilities.copies:
        with pytest.raises(ArgumentError, match=r"takes values only: use session\.execute"):
            await session.bulk_copy(Item, [{"name": func.upper("a")}])


class _Lower(TypeDecorator[str]):
    impl = String(20)
    cache_ok = True

    @override
    def bind_expression(self, bindparam: BindParameter[str]) -> ColumnElement[str]:
        return func.lower(bindparam)


class _Base(DeclarativeBase):
    pass


class Sent(_Base):
    """What only an INSERT can write: COPY sends values and nothing else."""

    __tablename__ = "sent"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    low: Mapped[str | None] = mapped_column(_Lower)
    made: Mapped[str] = mapped_column(default=func.lower("ABC"))
    told: Mapped[str] = mapped_column(server_default="db")
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture
async def sent(engine: AsyncEngine) -> AsyncIterator[AsyncSession]:
    async with engine.begin() as connection:
        await connection.create_all(_Base.metadata)
    async with AsyncSession(engine) as session:
        yield session


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        ({"name": "a"}, ("a", None, "abc", "db", 1)),
        ({"low": "XY", "made": "m", "version": 3}, (None, "xy", "m", "db", 3)),
        ({"made": "m", "told": None, "version": 3}, (None, None, "m", "db", 3)),
        ({"made": "m", "told": "t", "name": "n"}, ("n", None, "m", "t", 1)),
    ],
)
async def test_rows_are_the_same_as_those_of_an_insert(
    sent: AsyncSession, row: dict[str, Any], stored: tuple[object, ...]
) -> None:
    assert await sent.bulk_copy(Sent, [row]) == 1

    assert await sent.query(Sent.name, Sent.low, Sent.made, Sent.told, Sent.version).all() == [stored]


@pytest.mark.parametrize("row", [{"name": func.now()}, {"name": func.now(), "made": "m", "version": 1}])
async def test_expressions_are_refused_however_rows_travel(sent: AsyncSession, row: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"Sent\.name got a SQL expression"):
        await sent.bulk_copy(Sent, [row])


async def test_rows_without_values_are_refused(session: AsyncSession) -> None:
    with pytest.raises(ArgumentError, match="no values"):
        await session.bulk_copy(Item, [{}])


@pytest.mark.parametrize("values", [{"row": 2**63, "column": "x"}, {"row": 1, "column": "\ud800"}])
async def test_a_value_that_the_driver_cannot_send_is_a_data_error(
    session: AsyncSession, values: dict[str, Any]
) -> None:
    with pytest.raises(DataError):
        await session.bulk_copy(Place, [values])
