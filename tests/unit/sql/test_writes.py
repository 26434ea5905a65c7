import enum
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    Boolean,
    Column,
    Dialect,
    Enum,
    Integer,
    MetaData,
    Numeric,
    Sequence,
    String,
    Table,
    TypeDecorator,
    func,
)
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql import BIT
from typing_extensions import override

from aiosession.sql.writes import WriteKind, WriteShape, WriteStatements, write_statements


class Mood(enum.Enum):
    GOOD = "good"


class Cents(TypeDecorator[Any]):
    """Euros in Python, cents in the database."""

    impl = Integer
    cache_ok = True

    @override
    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else int(value * 100)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else value / 100


table = Table(
    "item",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("name", String(5)),
    Column("mood", Enum(Mood, name="mood")),
    Column("price", Cents),
    Column("rate", Numeric(10, 2)),
    Column("order", Integer),
    Column("words", ARRAY(String)),
    Column("bits", BIT(4)),
    Column("done", Boolean),
    Column("data", JSON),
    schema="shop",
)
pair = Table("pair", MetaData(), Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
columns = table.c


def _dialect(name: str) -> Dialect:
    dialect: Dialect = registry.load(name)()
    return dialect


@pytest.fixture
def postgres() -> WriteStatements:
    return WriteStatements(_dialect("postgresql.asyncpg"))


@pytest.fixture
def sqlite() -> WriteStatements:
    return WriteStatements(_dialect("sqlite.aiosqlite"))


def _text(sql: str) -> str:
    return " ".join(sql.split())


def test_one_row_is_inserted_with_one_parameter_per_column(postgres: WriteStatements) -> None:
    statement = postgres.for_row(
        WriteShape(WriteKind.INSERT, table, (columns.name, columns.order), returning=(columns.id,))
    )

    assert statement.sql == (
        'INSERT INTO shop.item (name, "order") VALUES ($1::VARCHAR, $2::INTEGER) RETURNING shop.item.id'
    )
    assert statement.of_row([["a"], [1]]) == ["a", 1]


def test_parameters_follow_the_statement_not_the_shape(postgres: WriteStatements) -> None:
    statement = postgres.for_row(WriteShape(WriteKind.INSERT, table, (columns.order, columns.name)))

    assert statement.of_row([[1], ["a"]]) == ["a", 1]
    assert statement.of_rows([[1, 2], ["a", "b"]], 2) == [("a", 1), ("b", 2)]


def test_many_rows_are_inserted_from_arrays_in_the_given_order(postgres: WriteStatements) -> None:
    statement = postgres.for_arrays(
        WriteShape(WriteKind.INSERT, table, (columns.name, columns.mood), returning=(columns.id,))
    )

    assert statement is not None
    assert _text(statement.sql) == (
        "INSERT INTO shop.item (name, mood) SELECT given.aio_0, given.aio_1 "
        "FROM unnest($1::VARCHAR[], $2::mood[]) WITH ORDINALITY AS given(aio_0, aio_1, aio_ordinality) "
        "ORDER BY given.aio_ordinality RETURNING shop.item.id"
    )


def test_a_length_is_not_part_of_a_cast_because_it_would_cut_values(postgres: WriteStatements) -> None:
    statement = postgres.for_arrays(WriteShape(WriteKind.INSERT, table, (columns.name,)))

    assert statement is not None
    assert "$1::VARCHAR[]" in statement.sql


def test_many_rows_are_updated_from_arrays(postgres: WriteStatements) -> None:
    statement = postgres.for_arrays(WriteShape(WriteKind.UPDATE, table, (columns.rate,), (columns.id,)))

    assert statement is not None
    assert _text(statement.sql) == (
        "UPDATE shop.item SET rate=given.aio_0 FROM unnest($1::NUMERIC(10, 2)[], $2::INTEGER[]) "
        "AS given(aio_0, aio_1) WHERE shop.item.id = given.aio_1"
    )


def test_many_rows_are_deleted_by_one_array_of_keys(postgres: WriteStatements) -> None:
    statement = postgres.for_arrays(WriteShape(WriteKind.DELETE, table, match=(columns.id,)))

    assert statement is not None
    assert _text(statement.sql) == "DELETE FROM shop.item WHERE shop.item.id = ANY ($1::INTEGER[])"


def test_many_rows_with_composite_keys_are_deleted_from_arrays(postgres: WriteStatements) -> None:
    statement = postgres.for_arrays(WriteShape(WriteKind.DELETE, pair, match=(pair.c.a, pair.c.b)))

    assert statement is not None
    assert "USING unnest($1::INTEGER[], $2::INTEGER[]) AS given(aio_0, aio_1)" in statement.sql


@pytest.mark.parametrize("name", ["words", "bits"])
def test_types_that_cannot_be_array_elements_have_no_array_form(postgres: WriteStatements, name: str) -> None:
    assert postgres.for_arrays(WriteShape(WriteKind.INSERT, table, (columns[name],))) is None


def test_an_insert_without_columns_has_no_array_form(postgres: WriteStatements) -> None:
    shape = WriteShape(WriteKind.INSERT, table, returning=(columns.id,))

    assert postgres.for_arrays(shape) is None
    assert postgres.for_row(shape).sql == "INSERT INTO shop.item DEFAULT VALUES RETURNING shop.item.id"


def test_values_go_through_the_processor_of_their_type(sqlite: WriteStatements) -> None:
    shape = WriteShape(WriteKind.INSERT, table, (columns.price, columns.name), returning=(columns.price,))
    statement = sqlite.for_row(shape)

    assert statement.process(0, [1.5, None]) == [150, None]
    assert statement.process(1, ["a"]) == ["a"]
    assert statement.results([(150,)]) == [(1.5,)]


def test_sql_defaults_are_part_of_both_forms(postgres: WriteStatements) -> None:
    defaults = Table(
        "defaults",
        MetaData(),
        Column("id", Integer, Sequence("numbers"), primary_key=True),
        Column("name", String),
        Column("code", String, default=func.coalesce(func.current_user(), "nobody")),
    )
    shape = WriteShape(WriteKind.INSERT, defaults, (defaults.c.name,), returning=(defaults.c.id, defaults.c.code))

    row, arrays = postgres.for_row(shape), postgres.for_arrays(shape)

    assert arrays is not None
    for statement in (row, arrays):
        assert "nextval('numbers')" in statement.sql
        assert "nobody" in statement.of_columns([["a"]])


def test_a_statement_is_compiled_once(postgres: WriteStatements) -> None:
    first = postgres.for_row(WriteShape(WriteKind.DELETE, table, match=(columns.id,)))

    assert postgres.for_row(WriteShape(WriteKind.DELETE, table, match=(columns.id,))) is first


def test_statements_are_known_per_dialect() -> None:
    one, other = _dialect("postgresql.asyncpg"), _dialect("postgresql.asyncpg")

    assert write_statements(one) is write_statements(one)
    assert write_statements(one) is not write_statements(other)
