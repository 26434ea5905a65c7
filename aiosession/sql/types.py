"""Choose how a value of a Core type travels to and from a driver.

Core's own processors do the conversion; they are chosen here for one dialect, without a cursor at hand.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ARRAY, Dialect, Float, Numeric, TypeDecorator
from sqlalchemy.sql.type_api import TypeEngine

from aiosession import core

Processor = Callable[[object], object]

# What PostgreSQL reports for the columns of a result; Core asks for it to convert numbers.
_NUMERIC_OID = 1700
_DOUBLE_OID = 701


def bind_processor(type_: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return what turns a Python value into what the driver takes, or None if nothing need be done."""
    return core.bind_processor(type_, dialect)


def result_processor(type_: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return what turns a driver's value into the Python value, or None if nothing need be done."""
    return core.result_processor(type_, dialect, _driver_type(type_, dialect))


def _driver_type(type_: TypeEngine[Any], dialect: Dialect) -> int | None:
    """Return the type that a driver reports for a number; None for all else and where nobody asks."""
    if dialect.name != "postgresql":
        return None
    found: TypeEngine[Any] = type_
    while isinstance(found, TypeDecorator | ARRAY):
        found = found.item_type if isinstance(found, ARRAY) else found.load_dialect_impl(dialect)
    if isinstance(found, Float):
        return _DOUBLE_OID
    return _NUMERIC_OID if isinstance(found, Numeric) else None
