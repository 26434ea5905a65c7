"""How compiled statements are found again."""

import gc

import pytest
from sqlalchemy import Column, Integer, MetaData, Sequence, String, Table, insert, select, text, update, values
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.schema import CreateTable

from aiosession.errors import ArgumentError
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import StatementKind

item = Table("item", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))


@pytest.fixture
def cache() -> StatementCache:
    return StatementCache(SQLiteDialect_aiosqlite(dbapi=SQLiteDialect_aiosqlite.import_dbapi()), size=10)


def test_same_statement_object_is_found_by_identity(cache: StatementCache, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = select(item)
    first, _ = cache.compile(statement)
    monkeypatch.setattr("aiosession.core.cache_key", None)

    second, _ = cache.compile(statement)

    assert second is first


def test_statements_that_differ_in_values_share_one_compiled_form(cache: StatementCache) -> None:
    found = [cache.compile(select(item).where(item.c.id == number)) for number in (1, 2)]

    (one, of_one), (two, of_two) = found
    assert one is two
    assert [one.bind(None, of_one)[1], two.bind(None, of_two)[1]] == [(1,), (2,)]


def test_statements_that_differ_in_shape_do_not(cache: StatementCache) -> None:
    one, _ = cache.compile(select(item).where(item.c.id == 1))
    two, _ = cache.compile(select(item).where(item.c.id > 1))

    assert one.sql != two.sql


def test_columns_that_are_given_values_make_a_shape(cache: StatementCache) -> None:
    statement = insert(item)

    some, _ = cache.compile(statement, column_keys=("id",))
    all_, _ = cache.compile(statement, column_keys=("id", "name"))
    again, _ = cache.compile(statement, column_keys=("id",))

    assert some.sql != all_.sql
    assert some is again


def test_one_execution_and_many_are_two_shapes(cache: StatementCache) -> None:
    one, _ = cache.compile(insert(item), column_keys=("name",))
    many, _ = cache.compile(insert(item), column_keys=("name",), many=True)

    assert (one.returns_keys, many.returns_keys) == (False, False)
    assert one is not many


def test_names_of_parameters_make_no_shape_of_a_query(cache: StatementCache) -> None:
    statement = select(item)

    one, _ = cache.compile(statement, column_keys=("a",))
    two, _ = cache.compile(statement, column_keys=("b",))

    assert one is two


def test_number_of_shapes_is_bounded(cache: StatementCache) -> None:
    for number in range(50):
        cache.compile(select(item.c.id.label(f"label_{number}")))

    assert len(cache) == 10


def test_least_recently_used_shape_goes_first(cache: StatementCache) -> None:
    kept, _ = cache.compile(select(item))
    for number in range(9):
        cache.compile(select(item.c.id.label(f"label_{number}")))
    cache.compile(select(item))
    cache.compile(select(item.c.name))

    again, _ = cache.compile(select(item))

    assert again is kept


def test_statement_that_is_gone_is_forgotten(cache: StatementCache) -> None:
    for number in range(100):
        cache.compile(select(item).where(item.c.id == number))
    gc.collect()

    assert len(cache._known) == 0


def test_statement_without_cache_key_is_compiled_each_time(cache: StatementCache) -> None:
    found = [cache.compile(insert(item).values([{"id": number}])) for number in (1, 2)]

    assert [compiled.bind(None, extracted)[1] for compiled, extracted in found] == [(1,), (2,)]
    assert len(cache) == 0


def test_clear_forgets_everything(cache: StatementCache) -> None:
    statement = select(item)
    first, _ = cache.compile(statement)

    cache.clear()

    assert cache.compile(statement)[0] is not first


def test_ddl_is_compiled(cache: StatementCache) -> None:
    compiled, extracted = cache.compile(CreateTable(item))

    assert compiled.kind is StatementKind.DDL
    assert "CREATE TABLE item" in compiled.bind(None, extracted)[0]


def test_a_statement_is_compiled_once_for_all_names_of_schemas(cache: StatementCache) -> None:
    table = Table("item", MetaData(), Column("id", Integer), schema="tenant")

    plain, _ = cache.compile(select(table))
    one, _ = cache.compile(select(table), schema_translate_map={"tenant": "first"})
    two, _ = cache.compile(select(table), schema_translate_map={"tenant": "second"})

    assert plain.sql.split()[-1] == "tenant.item"
    assert one is two
    assert len(cache) == 2
    assert cache.for_schemas({"tenant": "first"}) is cache.for_schemas({"tenant": "second", "other": None})
    assert cache.for_schemas({None: "first"}) is not cache.for_schemas({"tenant": "first"})
    assert cache.for_schemas(None) is cache.for_schemas({}) is cache


def test_statement_that_core_cannot_compile_is_an_argument_error(cache: StatementCache) -> None:
    with pytest.raises(ArgumentError, match="cannot be compiled"):
        cache.compile(update(item).values(nothing=1))


def test_text_and_values_are_executable(cache: StatementCache) -> None:
    assert cache.compile(text("SELECT 1"))[0].sql == "SELECT 1"
    assert cache.compile(values(item.c.id).data([(1,)]))[0].returns_rows


def test_sequence_is_executable() -> None:
    dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # Core's dialects are untyped

    compiled, _ = StatementCache(dialect).compile(Sequence("numbers"))

    assert "nextval('numbers')" in compiled.sql
    assert not compiled.pure


def test_ddl_that_core_cannot_compile_is_an_argument_error(cache: StatementCache) -> None:
    table = Table("unfinished", MetaData(), Column("id"))

    with pytest.raises(ArgumentError, match="DDL cannot be compiled"):
        cache.compile(CreateTable(table))
