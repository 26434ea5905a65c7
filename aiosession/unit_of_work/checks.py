"""Refuse values that their columns cannot hold, before anything is sent; and find the one that a database refused.

Only what is wrong on every database, and quickly seen, is refused beforehand; the rest is for the type's processor, the
driver and the database, whose error then gets the name of the attribute.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from json import dumps
from math import isinf
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Time,
    Uuid,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy.sql.type_api import TypeEngine

from aiosession.errors import DataError
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteStatement
from aiosession.unit_of_work.columns import NULL, ColumnRole
from aiosession.unit_of_work.plan import Batch, Generated

_ACCEPTED: Final[tuple[tuple[type[TypeEngine[Any]], tuple[type, ...]], ...]] = (
    (Boolean, (bool, int)),
    (Integer, (int,)),
    (Float, (int, float, Decimal)),
    (Numeric, (int, float, Decimal, str)),
    (String, (str,)),
    (DateTime, (datetime,)),
    (Date, (date,)),
    (Time, (time,)),
    (Interval, (timedelta,)),
    (Uuid, (UUID, str)),
    (LargeBinary, (bytes, bytearray, memoryview)),
)
_HARMLESS: Final = frozenset({type(None), type(NULL), Generated})
_PROTOCOLS: Final[dict[type, str]] = {Integer: "__index__", Float: "__float__", Numeric: "__float__"}
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


def is_read_as_text(type_: TypeEngine[Any]) -> bool:
    """Whether a column of *type_* takes texts, and may not be able to read one."""
    return _reader(type_) is not None


def _reader(type_: TypeEngine[Any]) -> Callable[[str], object] | None:
    if isinstance(type_, EnumType):
        return type_.enums.index
    if isinstance(type_, Uuid):
        return UUID
    return Decimal if isinstance(type_, Numeric) else None


def complaint(type_: TypeEngine[Any], value: object) -> str | None:
    """Say what a database that refused to take some value may have against this one; None if nothing is to be seen."""
    for family, complain in _COMPLAINTS:
        if isinstance(type_, family):
            return complain(type_, value)
    return None


def _of_integer(type_: Any, value: object) -> str | None:
    bits = 16 if isinstance(type_, SmallInteger) else 64 if isinstance(type_, BigInteger) else 32
    is_out = isinstance(value, int) and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)
    return f"it does not fit in {bits} bits" if is_out else None


def _of_text(type_: Any, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    if "\0" in value:
        return "it contains the character NUL"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "it contains half of a surrogate pair, which is no character"
    if type_.length is not None and len(value) > type_.length:
        return f"it is {len(value)} characters long, and the column takes {type_.length}"
    return None


def _of_number(type_: Any, value: object) -> str | None:
    try:
        number = Decimal(value)  # type: ignore[arg-type]  # whatever it is: what cannot be converted is the answer
        if not number.is_finite():
            return "it is not finite"
        if type_.precision is not None and not isinstance(type_, Float):
            whole = type_.precision - (type_.scale or 0)
            if abs(number.quantize(Decimal(1).scaleb(-(type_.scale or 0)))) >= 10**whole:
                return f"it has more than {whole} digits before the point"
    except (ArithmeticError, TypeError, ValueError):
        return "it is no number, or too large a one"
    return "it is too large" if isinf(float(number)) else None


def _of_moment(type_: Any, value: object) -> str | None:
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is not None and not type_.timezone:
        return "it has a time zone, and the column has none: say DateTime(timezone=True), or take the zone off"
    return None


def _of_json(_type: Any, value: object) -> str | None:
    try:
        text = dumps(value, allow_nan=False, default=str)
    except (TypeError, ValueError):
        return "it contains NaN or infinity, which JSON does not know"
    return "it contains the character NUL" if "\\u0000" in text else None


_COMPLAINTS: Final[tuple[tuple[type[TypeEngine[Any]], Callable[[Any, object], str | None]], ...]] = (
    (Integer, _of_integer),
    (EnumType, lambda _type, _value: None),
    (String, _of_text),
    (Numeric, _of_number),
    (Float, _of_number),
    (DateTime, _of_moment),
    (JSON, _of_json),
)


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


def refused(batch: Batch, statement: WriteStatement, place: int, values: list[Any], *, hidden: bool) -> DataError:
    """Return the error for the value among *values* that its type could not convert."""
    name = _name_of(batch, statement.inputs[place])
    for value in values:
        try:
            statement.process(place, [value])
        except Exception as error:
            why = "" if hidden else f": {error}"
            reason = TypeError(f"{name} cannot hold {_shown(value, hidden=hidden)}{why}")
            return DataError(statement.sql, (value,), reason, hide_parameters=hidden)
    return DataError(statement.sql, None, TypeError(f"{name} cannot hold one of its values"))


def named(batches: Iterable[Batch], made: Mapping[Generated, Any], error: DataError) -> DataError:
    """Return an error that names the attribute and the value that a database refused, where that can be seen."""
    return next(filter(None, (_named(batch, made, error) for batch in batches)), error)


def _named(batch: Batch, made: Mapping[Generated, Any], error: DataError) -> DataError | None:
    for column, values in zip((*batch.shape.columns, *batch.shape.match), batch.values, strict=True):
        for value in (made.get(each) if type(each) is Generated else each for each in values):
            reason = None if value is None else complaint(column.type, value)
            if reason is not None:
                name = _name_of(batch, column)
                hidden = error.hide_parameters
                what = ValueError(f"{name} cannot hold {_shown(value, hidden=hidden)}: {reason}")
                return DataError(error.statement, (value,), what, hide_parameters=hidden)
    return None


def _shown(value: object, *, hidden: bool) -> str:
    return f"a value of type {type(value).__name__}" if hidden else repr(value)


def _name_of(batch: Batch, column: Column[Any]) -> str:
    """Name the attribute that holds a column, or the column if none does."""
    mapper = batch.mapper
    attribute = None if mapper is None else mapper.by_column.get(column)
    return str(column) if attribute is None else f"{attribute.mapper.name}.{attribute.key}"
