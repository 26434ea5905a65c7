"""Choose the SQL type for a Python type."""

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin

import sqlalchemy
from sqlalchemy.types import TypeEngine

TypeMap: TypeAlias = Mapping[Any, type[TypeEngine[Any]] | TypeEngine[Any]]

DEFAULT_TYPES: Final[TypeMap] = {
    bool: sqlalchemy.Boolean(),
    int: sqlalchemy.Integer(),
    float: sqlalchemy.Float(),
    str: sqlalchemy.String(),
    bytes: sqlalchemy.LargeBinary(),
    decimal.Decimal: sqlalchemy.Numeric(),
    datetime.datetime: sqlalchemy.DateTime(),
    datetime.date: sqlalchemy.Date(),
    datetime.time: sqlalchemy.Time(),
    datetime.timedelta: sqlalchemy.Interval(),
    uuid.UUID: sqlalchemy.Uuid(),
    dict: sqlalchemy.JSON(),
    enum.Enum: sqlalchemy.Enum(enum.Enum),
    Literal: sqlalchemy.Enum(enum.Enum, native_enum=False),
}


def sql_type(python_type: Any, types: TypeMap) -> TypeEngine[Any] | None:
    """Return the SQL type for *python_type*, None if there is none; *types* come before the defaults.

    Generic types, new types, type aliases, enumerations and subclasses fall back to what they are made of.
    """
    for candidate in _candidates(python_type):
        for known in (types, DEFAULT_TYPES):
            if _is_hashable(candidate) and candidate in known:
                found = known[candidate]
                instance = found() if isinstance(found, type) else found
                return _for_members(instance, python_type)
    return None


def _candidates(python_type: Any) -> Iterator[Any]:
    yield python_type
    aliased = getattr(python_type, "__value__", None) or getattr(python_type, "__supertype__", None)
    if aliased is not None:
        yield from _candidates(aliased)
    elif get_origin(python_type) is Literal:
        yield Literal
    elif isinstance(python_type, type) and issubclass(python_type, enum.Enum):
        yield enum.Enum
    elif get_origin(python_type) is not None:
        yield from _candidates(get_origin(python_type))
    elif isinstance(python_type, type):
        yield from (base for base in python_type.__mro__[1:] if base is not object)


def _for_members(instance: TypeEngine[Any], python_type: Any) -> TypeEngine[Any]:
    if not isinstance(instance, sqlalchemy.Enum) or instance.enum_class is not enum.Enum:
        return instance
    options: dict[str, Any] = {"native_enum": instance.native_enum, "create_constraint": instance.create_constraint}
    if instance.values_callable is not None:
        options["values_callable"] = instance.values_callable
    real = _underlying(python_type)
    if get_origin(real) is Literal:
        return sqlalchemy.Enum(*get_args(real), **options)
    return sqlalchemy.Enum(real, **options)


def _underlying(python_type: Any) -> Any:
    aliased = getattr(python_type, "__value__", None) or getattr(python_type, "__supertype__", None)
    return python_type if aliased is None else _underlying(aliased)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
