"""Look into INSERT, UPDATE and DELETE statements, and make ones like them."""

from collections.abc import Mapping
from typing import Any, TypeVar, cast

from sqlalchemy import Insert, Update
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.util import immutabledict

W = TypeVar("W", bound=UpdateBase)


def given_values(statement: Insert | Update) -> Mapping[object, object]:
    """Return what was given to ``values()``: by column, or by name."""
    return cast("Mapping[object, object]", statement._values or {})


def has_rows(statement: Insert) -> bool:
    """Whether ``values()`` was given several rows, or the rows are selected."""
    return bool(statement._multi_values) or statement.select is not None


def given_names(statement: Insert | Update) -> set[object]:
    """Return the columns and names to which ``values()`` gave values, of all rows."""
    rows = [row for rows in getattr(statement, "_multi_values", ()) for row in rows if isinstance(row, Mapping)]
    return {name for row in (given_values(statement), *rows) for name in row}


def with_names(statement: W, names: Mapping[Any, Any]) -> W:
    """Return *statement* with other names in place of some of those in its values, which keep their order."""
    copy = statement._generate()
    state = copy.__dict__
    if state.get("_values"):
        state["_values"] = immutabledict(_renamed(state["_values"], names))
    if state.get("_multi_values"):
        state["_multi_values"] = tuple(
            [_renamed(row, names) if isinstance(row, Mapping) else row for row in rows]
            for rows in state["_multi_values"]
        )
    return copy


def _renamed(row: Mapping[Any, Any], names: Mapping[Any, Any]) -> dict[Any, Any]:
    return {names.get(name, name): value for name, value in row.items()}


def keeps_parameter_order(statement: Insert) -> bool:
    """Whether ``returning()`` was asked to give rows in the order of the parameters."""
    return bool(statement._sort_by_parameter_order)


def is_plain_insert(statement: object) -> bool:
    """Whether *statement* inserts the rows of its parameters and does nothing about conflicts."""
    return (
        isinstance(statement, Insert)
        and not has_rows(statement)
        and getattr(statement, "_post_values_clause", None) is None
    )
