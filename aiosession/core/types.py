"""What types do to values, and what columns clauses consist of."""

from collections.abc import Callable, Iterable

from sqlalchemy import Dialect
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.type_api import TypeEngine

Processor = Callable[[object], object]


def bind_processor(type_: TypeEngine[object], dialect: Dialect) -> Processor | None:
    """Return what turns a Python value into what the driver takes, or None if nothing need be done."""
    return type_._cached_bind_processor(dialect)


def result_processor(type_: TypeEngine[object], dialect: Dialect, driver_type: object = None) -> Processor | None:
    """Return what turns a driver's value into the Python value, or None if nothing need be done."""
    return type_._cached_result_processor(dialect, driver_type)


def has_bind_expression(type_: TypeEngine[object]) -> bool:
    """Tell whether parameters of this type are wrapped in a SQL expression."""
    return type_._has_bind_expression


def expressions(clauses: Iterable[object]) -> list[ColumnElement[object]]:
    """Return the columns that *clauses* (tables, columns, subqueries) select."""
    found: list[ColumnElement[object]] = []
    for clause in clauses:
        found.extend(clause._select_iterable)  # type: ignore[attr-defined]  # private in Core
    return found
