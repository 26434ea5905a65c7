"""Many keys are one parameter where the database can take them as one."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Date, Dialect, Enum, Integer, MetaData, String, Table, Uuid, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from aiosession.loading.keys import KeyFilter, key_filter

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("code", String),
    Column("uid", Uuid),
    Column("color", Enum("red", "green", name="color")),
    Column("day", Date),
    Column("big", BigInteger),
)


@dataclass(frozen=True)
class Limits:
    """The capabilities that decide about keys."""

    arrays: bool
    max_parameters: int = 100


def postgresql() -> Dialect:
    return asyncpg_dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # untyped in Core


def filter_for(dialect: Dialect, *names: str, **limits: Any) -> tuple[KeyFilter, str]:
    columns = [things.c[name] for name in names]
    arrays = dialect.name == "postgresql"
    found = key_filter(columns, dialect, Limits(arrays=arrays, **limits))  # type: ignore[arg-type]
    sql = str(select(things.c.id).where(found.criterion).compile(dialect=dialect))
    return found, " ".join(sql.split())


def test_one_column_is_compared_with_an_array() -> None:
    found, sql = filter_for(postgresql(), "id")

    assert sql.lower().endswith("where things.id = any($1::integer[])")
    assert list(found.parameters([(1,), (2,)])) == [{"keys_0": [1, 2]}]


def test_several_columns_are_compared_with_unnested_arrays() -> None:
    found, sql = filter_for(postgresql(), "id", "code")

    assert "unnest($1::INTEGER[], $2::VARCHAR[])" in sql
    assert list(found.parameters([(1, "a"), (2, "b")])) == [{"keys_0": [1, 2], "keys_1": ["a", "b"]}]


def test_json_carries_keys_of_any_number() -> None:
    found, sql = filter_for(sqlite.dialect(), "id", max_parameters=2)

    assert "json_each(?)" in sql
    assert list(found.parameters([(number,) for number in range(5)])) == [{"keys": "[0, 1, 2, 3, 4]"}]


def test_json_carries_composite_keys() -> None:
    found, _ = filter_for(sqlite.dialect(), "id", "code")

    assert list(found.parameters([(1, "a"), (2, "b")])) == [{"keys": '[[1, "a"], [2, "b"]]'}]


def test_values_go_into_json_as_the_database_stores_them() -> None:
    key = uuid.UUID(int=7)
    found, _ = filter_for(sqlite.dialect(), "uid", "color")

    assert list(found.parameters([(key, "red")])) == [{"keys": f'[["{key.hex}", "red"]]'}]


@pytest.mark.parametrize("names", [("day",), ("id", "day")])
def test_other_types_are_listed(names: tuple[str, ...]) -> None:
    _, sql = filter_for(sqlite.dialect(), *names)

    assert "json_each" not in sql
    assert " IN " in sql


def test_lists_are_padded_and_cut() -> None:
    found, _ = filter_for(sqlite.dialect(), "day", max_parameters=4)

    sizes = [parameters["keys"] for parameters in found.parameters([(number,) for number in range(7)])]

    assert sizes == [[0, 1, 2, 3], [4, 5, 6, 6]]
