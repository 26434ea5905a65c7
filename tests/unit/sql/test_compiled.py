"""Binding values into compiled statements, on both paramstyles."""

import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Dialect,
    Integer,
    MetaData,
    Numeric,
    Sequence,
    String,
    Table,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite

from aiosession.errors import ArgumentError, DataError, InvalidRequestError
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import StatementKind
from aiosession.sql.types import bind_processor, result_processor

metadata = MetaData()
item = Table(
    "item",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String),
    Column("key", Uuid),
    Column("price", Numeric),
)


numbers: list[int] = []


def _postgresql() -> Dialect:
    dialect: Dialect = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # Core's dialects are untyped
    dialect.insert_returning = True
    return dialect


def _sqlite() -> Dialect:
    dialect: Dialect = SQLiteDialect_aiosqlite(dbapi=SQLiteDialect_aiosqlite.import_dbapi())
    dialect.favor_returning_over_lastrowid = True
    return dialect


@pytest.fixture(params=[_postgresql, _sqlite], ids=["postgresql", "sqlite"])
def cache(request: pytest.FixtureRequest) -> StatementCache:
    return StatementCache(request.param())


def _bound(cache: StatementCache, statement: object, parameters: dict[str, Any] | None = None) -> tuple[Any, ...]:
    keys = None if parameters is None else tuple(parameters)
    compiled, extracted = cache.compile(statement, column_keys=keys)
    return compiled.bind(parameters, extracted)[1]


@pytest.mark.parametrize(
    ("statement", "kind", "returns_rows"),
    [
        (select(item), StatementKind.SELECT, True),
        (select(item.c.id).union(select(item.c.id)), StatementKind.SELECT, True),
        (insert(item), StatementKind.INSERT, False),
        (insert(item).returning(item.c.id), StatementKind.INSERT, True),
        (update(item).values(name="a"), StatementKind.UPDATE, False),
        (delete(item).returning(item), StatementKind.DELETE, True),
        (text("SELECT 1"), StatementKind.TEXT, True),
    ],
)
def test_kind_says_what_a_statement_does(
    cache: StatementCache, statement: object, kind: StatementKind, returns_rows: bool
) -> None:
    compiled, _ = cache.compile(statement)

    assert (compiled.kind, compiled.returns_rows) == (kind, returns_rows)


def test_values_follow_the_order_of_the_placeholders(cache: StatementCache) -> None:
    statement = select(item).where(item.c.name == "n", item.c.id > 5, item.c.price < 3)

    assert _bound(cache, statement) == ("n", 5, 3)


def test_one_named_parameter_fills_every_place_it_is_used_in(cache: StatementCache) -> None:
    values = _bound(cache, text("SELECT :a, :b, :a"), {"a": 1, "b": 2})

    assert values in ((1, 2), (1, 2, 1))


def test_given_parameters_win_over_values_in_the_statement(cache: StatementCache) -> None:
    statement = select(item).where(item.c.id == bindparam("wanted", 1))

    assert _bound(cache, statement) == (1,)
    assert _bound(cache, statement, {"wanted": 2}) == (2,)


def test_params_of_a_statement_are_its_values(cache: StatementCache) -> None:
    statement = select(item).where(item.c.id == bindparam("wanted"))

    assert _bound(cache, statement.params(wanted=8)) == (8,)
    assert _bound(cache, statement.params(wanted=9)) == (9,)


def test_callable_parameter_is_called_at_each_execution(cache: StatementCache) -> None:
    numbers = iter((1, 2))
    statement = select(item).where(item.c.id == bindparam("n", callable_=lambda: next(numbers)))

    assert [_bound(cache, statement), _bound(cache, statement)] == [(1,), (2,)]


def test_missing_parameter_is_named(cache: StatementCache) -> None:
    statement = select(item).where(item.c.id == bindparam("wanted"))

    with pytest.raises(InvalidRequestError, match="'wanted'"):
        _bound(cache, statement)


def test_missing_parameter_is_noticed_after_one_that_had_a_value(cache: StatementCache) -> None:
    _bound(cache, select(item).where(item.c.id == bindparam("wanted", 1)))

    with pytest.raises(InvalidRequestError, match="'wanted'"):
        _bound(cache, select(item).where(item.c.id == bindparam("wanted")))


def test_unknown_column_is_refused_with_a_suggestion(cache: StatementCache) -> None:
    with pytest.raises(ArgumentError, match=r"'nmae' is not a column.*did you mean 'name'"):
        _bound(cache, insert(item), {"name": "a", "nmae": "b"})


def test_plain_string_is_refused_with_a_remedy(cache: StatementCache) -> None:
    with pytest.raises(ArgumentError, match=r"text\('SELECT 1'\)"):
        cache.compile("SELECT 1")


@pytest.mark.parametrize("nothing", [None, 5, item.c.id == 1, String()])
def test_what_is_no_statement_is_refused(cache: StatementCache, nothing: object) -> None:
    with pytest.raises(ArgumentError, match="not an executable"):
        cache.compile(nothing)


def test_value_that_its_type_refuses_is_named_with_the_statement() -> None:
    cache = StatementCache(_sqlite())
    statement = select(item).where(item.c.key == bindparam("wanted"))

    with pytest.raises(DataError, match=r"'wanted' cannot take 5 \(int\)") as caught:
        _bound(cache, statement, {"wanted": 5})

    assert caught.value.sql is not None
    assert "FROM item" in caught.value.sql


def test_hidden_parameters_are_not_in_errors() -> None:
    cache = StatementCache(_sqlite(), hide_parameters=True)

    with pytest.raises(DataError) as caught:
        _bound(cache, select(item).where(item.c.key == bindparam("wanted")), {"wanted": 123456})

    assert "123456" not in str(caught.value)


def test_processors_convert_values() -> None:
    key = uuid.UUID(int=5)

    assert _bound(StatementCache(_sqlite()), insert(item).values(id=1, key=key)) == (1, key.hex)
    assert _bound(StatementCache(_postgresql()), insert(item).values(id=1, key=key)) == (1, key)


def test_results_are_converted_only_where_needed() -> None:
    compiled, _ = StatementCache(_sqlite()).compile(select(item.c.id, item.c.price))
    plain, _ = StatementCache(_sqlite()).compile(select(item.c.id))
    rows = [(1, 2.5)]

    assert compiled.process(rows) == [(1, Decimal("2.5"))]
    assert plain.process(rows) is rows


def test_value_in_the_database_that_cannot_be_read_names_its_column() -> None:
    compiled, _ = StatementCache(_sqlite()).compile(select(item.c.id, item.c.key))

    with pytest.raises(DataError, match="column 'key' holds 'no uuid'"):
        compiled.process([(1, "no uuid")])


def test_columns_have_names_types_and_objects(cache: StatementCache) -> None:
    compiled, _ = cache.compile(select(item.c.id, item.c.name.label("title"), func.count()))

    assert [column.name for column in compiled.columns] == ["id", "title", "count_1"]
    assert item.c.id in compiled.columns[0].objects


class TestInLists:
    def test_list_is_spread(self, cache: StatementCache) -> None:
        statement = select(item.c.id).where(item.c.id.in_([1, 2]), item.c.name == "x")
        compiled, extracted = cache.compile(statement)

        sql, values = compiled.bind(None, extracted)

        assert sorted(map(str, values)) == ["1", "2", "x"]
        assert "POSTCOMPILE" not in sql

    def test_lists_of_one_length_share_their_text(self, cache: StatementCache) -> None:
        texts = []
        for numbers in ([1, 2], [3, 4], [5]):
            compiled, extracted = cache.compile(select(item.c.id).where(item.c.id.in_(numbers)))
            texts.append(compiled.bind(None, extracted)[0])

        assert texts[0] is texts[1]
        assert texts[2] != texts[0]
        assert len(cache) == 1

    def test_empty_list_matches_nothing(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(select(item.c.id).where(item.c.id.in_([])))

        assert compiled.bind(None, extracted)[1] == ()

    def test_list_of_tuples_is_spread(self, cache: StatementCache) -> None:
        pairs = [(1, "a"), (2, "b")]

        assert _bound(cache, select(item.c.id).where(tuple_(item.c.id, item.c.name).in_(pairs))) == (1, "a", 2, "b")

    def test_list_can_be_given_at_execution(self, cache: StatementCache) -> None:
        statement = select(item.c.id).where(item.c.id.in_(bindparam("ids", expanding=True)))

        assert _bound(cache, statement, {"ids": (7, 8)}) == (7, 8)
        assert _bound(cache, statement, {"ids": {9}}) == (9,)

    def test_value_that_is_no_list_is_refused(self, cache: StatementCache) -> None:
        statement = select(item.c.id).where(item.c.id.in_(bindparam("ids", expanding=True)))

        with pytest.raises(DataError, match="'ids' cannot take 5"):
            _bound(cache, statement, {"ids": 5})

    def test_elements_are_converted(self) -> None:
        keys = [uuid.UUID(int=1), uuid.UUID(int=2)]

        values = _bound(StatementCache(_sqlite()), select(item.c.id).where(item.c.key.in_(keys)))

        assert values == tuple(key.hex for key in keys)

    def test_wrong_element_is_refused(self) -> None:
        statement = select(item.c.id).where(item.c.key.in_(bindparam("keys", expanding=True)))

        with pytest.raises(DataError, match="'keys' cannot take 5"):
            _bound(StatementCache(_sqlite()), statement, {"keys": [uuid.UUID(int=1), 5]})

    def test_number_of_remembered_lengths_is_bounded(self, cache: StatementCache) -> None:
        for length in range(200):
            _bound(cache, select(item.c.id).where(item.c.id.in_(range(length))))
        compiled, _ = cache.compile(select(item.c.id).where(item.c.id.in_([1])))

        assert compiled.expanding is not None
        assert len(compiled.expanding._shapes) <= 64

    def test_literal_execute_parameters_are_part_of_the_text(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(
            select(item.c.id).where(item.c.id == literal(5, literal_execute=True), item.c.name == "x")
        )

        sql, values = compiled.bind(None, extracted)

        assert "= 5" in sql
        assert values == ("x",)

    def test_many_executions_with_a_list_are_refused(self, cache: StatementCache) -> None:
        statement = update(item).where(item.c.id.in_([1, 2])).values(name=bindparam("n"))
        compiled, extracted = cache.compile(statement, column_keys=("n",), many=True)

        with pytest.raises(InvalidRequestError, match="IN list"):
            compiled.bind_many([{"n": "a"}, {"n": "b"}], extracted)


class TestDefaults:
    table = Table(
        "thing",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kind", String, default="plain", onupdate="changed"),
        Column("number", Integer, default=lambda: numbers.pop(0)),
        Column("copy", String, default=lambda context: context.get_current_parameters()["name"] + "!"),
        Column("name", String),
        Column("computed", Integer, default=func.random()),
    )

    @pytest.fixture(autouse=True)
    def _count_from_zero(self) -> None:
        numbers[:] = range(100)

    def test_defaults_fill_what_is_left_out(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(insert(self.table).values(name="a"))

        sql, values = compiled.bind(None, extracted)

        assert set(values) == {"plain", 0, "a!", "a"}
        assert "random()" in sql

    def test_given_values_win(self, cache: StatementCache) -> None:
        values = _bound(cache, insert(self.table), {"name": "a", "kind": "own", "copy": None})

        assert set(values) == {"own", 0, None, "a"}

    def test_each_row_gets_its_own_default(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(insert(self.table), column_keys=("name",), many=True)

        _, rows = compiled.bind_many([{"name": "a"}, {"name": "b"}], extracted)

        assert [set(row) for row in rows] == [{"plain", 0, "a!", "a"}, {"plain", 1, "b!", "b"}]

    def test_each_row_of_one_statement_gets_its_own_default(self, cache: StatementCache) -> None:
        statement = insert(self.table).values([{"name": "a"}, {"name": "b"}])

        values = _bound(cache, statement)

        assert [value for value in values if isinstance(value, int)] == [0, 1]
        assert [value for value in values if str(value).endswith("!")] == ["a!", "b!"]

    def test_onupdate_is_applied(self, cache: StatementCache) -> None:
        assert _bound(cache, update(self.table).where(self.table.c.id == 1).values(name="b")) == ("changed", "b", 1)

    def test_wrong_values_next_to_defaults_are_refused(self) -> None:
        table = Table("other", MetaData(), Column("key", Uuid), Column("kind", String, default="plain"))

        with pytest.raises(DataError, match="'key' cannot take 5"):
            _bound(StatementCache(_sqlite()), insert(table).values(key=5))

    def test_missing_values_next_to_defaults_are_named(self, cache: StatementCache) -> None:
        statement = insert(self.table).values(name="a", computed=bindparam("what"))

        with pytest.raises(InvalidRequestError, match="'what'"):
            _bound(cache, statement)
        assert 77 in _bound(cache, statement, {"what": 77})

    def test_default_that_needs_a_statement_of_its_own_is_refused(self) -> None:
        table = Table(
            "old",
            MetaData(),
            Column("id", Integer, Sequence("numbers"), primary_key=True),
            implicit_returning=False,
        )

        with pytest.raises(InvalidRequestError, match="implicit_returning"):
            StatementCache(_postgresql()).compile(insert(table).values())


class TestMany:
    def test_rows_are_bound_in_order(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(insert(item), column_keys=("id", "name"), many=True)

        _, rows = compiled.bind_many([{"id": 1, "name": "a"}, {"name": "b", "id": 2}], extracted)

        assert rows == [(1, "a"), (2, "b")]

    def test_missing_value_names_row_and_parameter(self, cache: StatementCache) -> None:
        compiled, extracted = cache.compile(insert(item), column_keys=("id", "name"), many=True)

        with pytest.raises(InvalidRequestError, match=r"row 1: .*'name'"):
            compiled.bind_many([{"id": 1, "name": "a"}, {"id": 2}], extracted)


def test_numbers_need_no_conversion_on_postgresql() -> None:
    dialect = _postgresql()
    dialect.dbapi = SimpleNamespace()  # type: ignore[assignment]  # not asked for anything

    assert result_processor(Numeric(), dialect) is None
    assert result_processor(Integer(), dialect) is None
    assert bind_processor(Integer(), dialect) is None
