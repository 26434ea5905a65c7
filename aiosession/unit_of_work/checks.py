"""Refuse values that their columns cannot hold, before anything is sent.

Only what is wrong on every database is refused here; the rest is for the type's processor, the driver and the database.
"""

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ClauseElement,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    String,
    Time,
    Uuid,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.sql.type_api import TypeEngine

from aiosession.errors import DataError
from aiosession.mapping.mapper import AnyMapper
from aiosession.unit_of_work.columns import NULL, ColumnRole
from aiosession.unit_of_work.plan import Generated

_ACCEPTED: Final[tuple[tuple[type[TypeEngine[Any]], tuple[type, ...]], ...]] = (
    (Boolean, (bool, int)),
    (Integer, (int,)),
    (Float, (int, float, Decimal)),
    (String, (str,)),
    (DateTime, (datetime,)),
    (Date, (date,)),
    (Time, (time,)),
    (Interval, (timedelta,)),
    (Uuid, (UUID, str)),
    (LargeBinary, (bytes, bytearray, memoryview)),
)
_HARMLESS: Final = frozenset({type(None), type(NULL), Generated})
_PROTOCOLS: Final[dict[type, str]] = {Integer: "__index__", Float: "__float__"}
_verdicts: Final[dict[tuple[type, type], bool]] = {}


def misfits(type_: TypeEngine[Any], kinds: Iterable[type]) -> list[type]:
    """Return those of the Python types *kinds* whose values a column of *type_* cannot hold."""
    return [kind for kind in kinds if kind not in _HARMLESS and not _fits(type_, kind)]


def _fits(type_: TypeEngine[Any], kind: type) -> bool:
    pair = (type(type_), kind)
    verdict = _verdicts.get(pair)
    if verdict is None:
        verdict = _verdicts[pair] = _judge(type_, kind)
    return verdict


def _judge(type_: TypeEngine[Any], kind: type) -> bool:
    if isinstance(type_, EnumType):
        return True
    for family, accepted in _ACCEPTED:
        if isinstance(type_, family):
            protocol = _PROTOCOLS.get(family)
            return issubclass(kind, accepted) or (protocol is not None and hasattr(kind, protocol))
    return True


def unreadable(type_: TypeEngine[Any], values: Iterable[object]) -> str | None:
    """Return the first text among *values* that a column of *type_*, which takes texts, cannot read."""
    read = _reader(type_)
    if read is not None:
        for value in values:
            if type(value) is str:
                try:
                    read(value)
                except (ValueError, ArithmeticError):
                    return value
    return None


def _reader(type_: TypeEngine[Any]) -> Callable[[str], object] | None:
    if isinstance(type_, EnumType):
        return type_.enums.index
    if isinstance(type_, Uuid):
        return UUID
    return Decimal if isinstance(type_, Numeric) else None


def is_expression_type(kind: type) -> bool:
    """Whether values of this type are SQL expressions."""
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


def refuse(mapper: AnyMapper, role: ColumnRole, value: object) -> DataError:
    """Return the error for a value of a type that its column cannot hold."""
    wanted = type(role.column.type).__name__
    reason = TypeError(
        f"{mapper.name}.{role.key or role.column.name} is a column of type {wanted} and cannot hold {value!r}, which "
        f"is of type {type(value).__name__}"
    )
    return DataError(None, (value,), reason)
