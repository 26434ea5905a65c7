"""What can be done with the rows of a result."""

import copy
import pickle
from typing import Any

import pytest
from sqlalchemy import ColumnClause, column
from typing_extensions import override

from aiosession.engine.result import OneColumn, Result
from aiosession.engine.row import NoSuchColumnError, ResultShape, Row
from aiosession.errors import ArgumentError, MultipleResultsFound, NoResultFound, ResourceClosedError

ID: ColumnClause[int] = column("id")
NAME: ColumnClause[str] = column("name")
SHAPE = ResultShape(("id", "name"), [(ID,), (NAME,)])
ROWS = [(1, "ann"), (2, "bob"), (3, "cid"), (1, "ann")]


def _result(rows: list[tuple[Any, ...]] = ROWS, shape: ResultShape = SHAPE) -> Result[int, str]:
    return Result(shape, rows)


class TestRow:
    row: Row[int, str] = SHAPE.row_class((1, "ann"))

    def test_row_is_a_tuple(self) -> None:
        number, name = self.row

        assert (number, name) == self.row == (1, "ann")
        assert self.row[1] == "ann"
        assert hash(self.row) == hash((1, "ann"))
        assert len(self.row) == 2

    def test_values_are_attributes(self) -> None:
        assert (self.row.id, self.row.name) == (1, "ann")

    def test_values_are_found_by_name_and_column_object(self) -> None:
        assert self.row._mapping["name"] == self.row._mapping[NAME] == "ann"
        assert dict(self.row._mapping) == self.row._asdict() == {"id": 1, "name": "ann"}

    def test_names_are_known(self) -> None:
        assert self.row._fields == ("id", "name")
        assert "name" in self.row._mapping
        assert "nothing" not in self.row._mapping

    def test_missing_attribute_names_what_there_is(self) -> None:
        with pytest.raises(AttributeError, match=r"no column 'nmae'.*'id', 'name'; did you mean 'name'"):
            _ = self.row.nmae

    def test_missing_key_names_what_there_is(self) -> None:
        with pytest.raises(NoSuchColumnError, match="no column other"):
            _ = self.row._mapping[column("other")]

    def test_ambiguous_name_is_refused(self) -> None:
        row = ResultShape(("id", "id"), [(ID,), ()]).row_class((1, 2))

        with pytest.raises(AttributeError, match="2 columns of this row are called 'id'"):
            _ = row.id
        with pytest.raises(NoSuchColumnError, match="2 columns"):
            _ = row._mapping["id"]
        assert row._mapping[ID] == 1

    def test_column_called_like_a_method_is_an_attribute(self) -> None:
        row: Any = ResultShape(("count", "index", "_fields", "not an identifier")).row_class((1, 2, 3, 4))

        assert (row.count, row.index, row._mapping["_fields"], row._mapping["not an identifier"]) == (1, 2, 3, 4)
        assert row._fields == ("count", "index", "_fields", "not an identifier")

    def test_row_cannot_be_changed(self) -> None:
        with pytest.raises(AttributeError):
            self.row.__setattr__("name", "eve")

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
    def test_row_can_be_copied_and_pickled(self, copied: Any) -> None:
        row = copied(self.row)

        assert row == self.row
        assert row.name == "ann"


class TestFetching:
    def test_all(self) -> None:
        result = _result()

        assert result.all() == ROWS
        assert result.all() == []

    def test_iteration(self) -> None:
        assert [row.name for row in _result()] == ["ann", "bob", "cid", "ann"]

    def test_next(self) -> None:
        result = _result(ROWS[:1])

        assert next(result) == ROWS[0]
        with pytest.raises(StopIteration):
            next(result)

    def test_fetchone_and_fetchmany(self) -> None:
        result = _result()

        assert result.fetchone() == ROWS[0]
        assert result.fetchmany(2) == ROWS[1:3]
        assert result.fetchmany() == ROWS[3:]
        assert result.fetchone() is None

    def test_partitions(self) -> None:
        assert [len(part) for part in _result().partitions(3)] == [3, 1]

    @pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
    def test_first_needs_no_row_and_closes(self, rows: list[tuple[Any, ...]]) -> None:
        result = _result(rows)

        assert result.first() == (rows[0] if rows else None)
        with pytest.raises(ResourceClosedError, match=r"first\(\)"):
            result.all()

    def test_one_needs_exactly_one(self) -> None:
        assert _result(ROWS[:1]).one() == ROWS[0]
        with pytest.raises(NoResultFound):
            _result([]).one()
        with pytest.raises(MultipleResultsFound):
            _result().one()

    def test_one_or_none_needs_at_most_one(self) -> None:
        assert _result(ROWS[:1]).one_or_none() == ROWS[0]
        assert _result([]).one_or_none() is None
        with pytest.raises(MultipleResultsFound):
            _result().one_or_none()

    def test_scalar_methods_take_the_first_column(self) -> None:
        assert _result().scalar() == 1
        assert _result([]).scalar() is None
        assert _result(ROWS[:1]).scalar_one() == 1
        assert _result(ROWS[:1]).scalar_one_or_none() == 1
        assert _result([]).scalar_one_or_none() is None
        with pytest.raises(NoResultFound):
            _result([]).scalar_one()
        with pytest.raises(MultipleResultsFound):
            _result().scalar_one_or_none()

    def test_closed_result_refuses(self) -> None:
        result = _result()
        result.close()

        assert result.closed
        for method in (result.all, result.one, result.keys, result.fetchone, result.scalars):
            with pytest.raises(ResourceClosedError, match=r"close\(\)"):
                method()

    def test_result_without_rows_refuses_to_fetch(self) -> None:
        result: Result[Any] = Result(ResultShape(()), (), rowcount=5, without_rows="UPDATE author")

        assert (result.rowcount, result.returns_rows) == (5, False)
        with pytest.raises(ResourceClosedError, match=r"UPDATE author; see `\.rowcount`"):
            result.all()


class TestViews:
    def test_scalars(self) -> None:
        assert _result().scalars().all() == [1, 2, 3, 1]
        assert _result().scalars(1).all() == _result().scalars("name").all() == _result().scalars(NAME).all()
        assert _result().scalars("name").first() == "ann"

    def test_scalars_of_a_column_that_is_not_there(self) -> None:
        with pytest.raises(ArgumentError, match="no column 2"):
            _result().scalars(2)

    def test_mappings(self) -> None:
        mappings = _result().mappings()

        assert mappings.keys() == ("id", "name")
        assert mappings.all()[1] == {"id": 2, "name": "bob"}

    def test_columns(self) -> None:
        result = _result().columns("name", 0)

        assert result.keys() == ("name", "id")
        assert result.first() == ("ann", 1)

    def test_view_goes_on_where_the_result_was(self) -> None:
        result = _result()
        result.fetchone()

        assert result.scalars().all() == [2, 3, 1]
        with pytest.raises(ResourceClosedError, match=r"scalars\(\)"):
            result.all()

    def test_result_that_moved_into_a_view_refuses(self) -> None:
        result = _result()
        result.mappings()

        with pytest.raises(ResourceClosedError):
            result.fetchone()


class TestUnique:
    def test_rows_that_came_before_are_left_out(self) -> None:
        assert _result().unique().all() == ROWS[:3]
        assert _result().unique().scalars().all() == [1, 2, 3]
        assert _result().scalars().unique().all() == [1, 2, 3]
        assert len(_result().mappings().unique().all()) == 3

    def test_one_looks_at_unique_rows(self) -> None:
        assert _result([ROWS[0], ROWS[3]]).unique().one() == ROWS[0]

    def test_fetchmany_counts_unique_rows(self) -> None:
        result = _result([ROWS[0], ROWS[3], ROWS[1]]).unique()

        assert result.fetchmany(2) == ROWS[:2]

    def test_strategy_gives_what_is_compared(self) -> None:
        assert _result().unique(lambda row: row.id % 2).all() == ROWS[:2]

    def test_entities_are_compared_by_identity(self) -> None:
        class Equal:
            @override
            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]  # not hashable on purpose

        one, two = Equal(), Equal()
        shape = ResultShape(("Equal",), entities=(0,))

        rows = [(one,), (two,), (one,)]

        assert len(_result(rows, shape).unique().all()) == 2
        assert len(_result(rows, shape).scalars().unique().all()) == 2

    def test_values_that_cannot_be_hashed_are_compared_by_identity(self) -> None:
        tags = ["a"]

        assert len(_result([(1, tags), (1, tags), (1, ["a"])]).unique().all()) == 2


class TestLoops:
    @pytest.mark.parametrize("rows", [ROWS, OneColumn(["a", "b", "c", "d"])])
    def test_a_result_can_be_read_within_a_loop_over_it(self, rows: Any) -> None:
        result: Result[Any, Any] = Result(SHAPE, rows)
        scalars = result.scalars()

        assert [(item, scalars.fetchone()) for item in scalars] == [(rows[0][0], rows[1][0]), (rows[2][0], rows[3][0])]

    def test_a_loop_that_was_left_can_be_taken_up(self) -> None:
        result = _result()

        assert next(row for row in result) == ROWS[0]
        assert result.all() == ROWS[1:]

    def test_a_loop_over_a_closed_result_is_refused(self) -> None:
        result = _result()
        loop = iter(result)
        next(loop)
        result.close()

        with pytest.raises(ResourceClosedError):
            next(loop)


class TestOneColumn:
    def test_its_rows_are_tuples(self) -> None:
        rows = OneColumn([1, 2, 3])

        assert list(rows) == [(1,), (2,), (3,)]
        assert rows[1] == (2,)
        assert list(rows[1:]) == [(2,), (3,)]
        assert len(rows) == 3

    def test_a_list_of_scalars_is_the_callers_own(self) -> None:
        rows = OneColumn([1, 2])
        result: Result[int] = Result(ResultShape(("id",)), rows)

        result.scalars().all().clear()

        assert len(rows) == 2
