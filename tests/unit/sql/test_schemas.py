"""Names of schemas are put into compiled statements, quoted, or refused."""

from typing import Any

import pytest
from sqlalchemy import Column, Dialect, Integer, MetaData, Table, insert, make_url, select
from sqlalchemy import Sequence as DatabaseSequence

from aiosession.drivers.asyncpg import AsyncpgDriver
from aiosession.drivers.protocol import DriverOptions
from aiosession.errors import ArgumentError
from aiosession.sql.cache import StatementCache
from aiosession.sql.schemas import SchemaMap, SchemaNames, checked_schemas

metadata = MetaData()
plain = Table("item", metadata, Column("id", Integer))
named = Table("item", metadata, Column("id", Integer), schema="shop")


@pytest.fixture
def dialect() -> Dialect:
    driver = AsyncpgDriver(make_url("postgresql+asyncpg://host/db"), DriverOptions())
    return driver.dialect


def put(dialect: Dialect, table: Table, schemas: SchemaMap) -> str:
    compiled, _ = StatementCache(dialect).compile(select(table.c.id), schema_translate_map=schemas)
    return SchemaNames(schemas, dialect).put_into(compiled.sql).split("FROM ")[1]


@pytest.mark.parametrize(
    ("table", "schemas", "expected"),
    [
        (plain, {None: "tenant"}, "tenant.item"),
        (plain, {"shop": "tenant"}, "item"),
        (named, {"shop": "tenant"}, "tenant.item"),
        (named, {"shop": None}, "public.item"),
        (named, {None: "tenant"}, "shop.item"),
        (plain, {None: "Tenant 7"}, '"Tenant 7".item'),
        (plain, {None: 'a"; DROP TABLE item; --'}, '"a""; DROP TABLE item; --".item'),
        (plain, {None: "a].b"}, '"a].b".item'),
        (plain, {None: "select"}, '"select".item'),
        (plain, {None: "größe"}, '"größe".item'),
        (plain, {None: "__[SCHEMA_shop]"}, '"__[SCHEMA_shop]".item'),
    ],
)
def test_names_are_put_in_and_quoted(dialect: Dialect, table: Table, schemas: SchemaMap, expected: str) -> None:
    assert put(dialect, table, schemas) == expected


def test_the_names_of_sequences_get_them_too(dialect: Dialect) -> None:
    table = Table("item", MetaData(), Column("id", Integer, DatabaseSequence("item_seq", metadata=metadata)))
    compiled, _ = StatementCache(dialect).compile(insert(table).values(), schema_translate_map={None: "Tenant"})

    assert "nextval('\"Tenant\".item_seq')" in SchemaNames({None: "Tenant"}, dialect).put_into(compiled.sql)


def test_a_name_that_the_database_would_cut_is_refused(dialect: Dialect) -> None:
    assert put(dialect, plain, {None: "t" * 63})
    with pytest.raises(ArgumentError, match="would cut that after 63 bytes"):
        put(dialect, plain, {None: "t" * 64})
    with pytest.raises(ArgumentError, match="would cut that after 63 bytes"):
        put(dialect, plain, {None: "ü" * 32})


@pytest.mark.parametrize(
    "schemas",
    ["tenant", ["tenant"], 7, {None: 7}, {7: "tenant"}, {None: ""}, {"": "tenant"}, {None: "o'hara"}, {None: "a\0b"}],
)
def test_what_is_no_map_of_schemas_is_refused(schemas: Any) -> None:
    with pytest.raises(ArgumentError, match="schema"):
        checked_schemas(schemas)
