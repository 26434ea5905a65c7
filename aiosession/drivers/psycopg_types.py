"""How values travel through psycopg.

Parameters: psycopg converts by the class of a value and the server casts to the type of the column, so that a number
would do for a text; the dialect made here refuses what asyncpg refuses too, before anything is sent. JSON is made text
by Core's types. Lists become array literals of no type: the server takes it from the statement, whatever is in them.
"""

import operator
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.abc import AdaptContext
from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer
from psycopg.pq import Format
from psycopg.types.json import set_json_loads
from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Dialect,
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
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.types import TypeEngine
from typing_extensions import override

from aiosession.drivers.protocol import DriverOptions

_Type = type[TypeEngine[Any]]
_Convert = Callable[[Any], object]


# The dialect ----------------------------------------------------------------------------------------------------------


def _one_of(*accepted: type) -> _Convert:
    """Return what lets values of these classes pass."""

    def check(value: object) -> object:
        if isinstance(value, accepted):
            return value
        raise _wrong(value, *accepted)

    return check


def _wrong(value: object, *accepted: type) -> TypeError:
    wanted = " or ".join(kind.__name__ for kind in accepted)
    return TypeError(f"expected {wanted}, got {type(value).__name__}")


def _whole(value: Any) -> object:
    return value if value.__class__ is int else int(operator.index(value))


def _real(value: Any) -> object:
    if isinstance(value, str | bytes | bytearray):
        raise _wrong(value, float)
    return value if value.__class__ is float else float(value)


def _naive(value: object) -> object:
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            raise TypeError("it has a time zone, and the column has none")
        return value
    return _one_of(date)(value)


def _converting(base: _Type, convert: _Convert) -> _Type:
    """Return the type *base*, whose parameters go through *convert* first."""

    def bind_processor(self: Any, dialect: Dialect) -> _Convert:
        return _unless_none(_naive if _is_without_zone(self) else convert, base.bind_processor(self, dialect))

    return type(base.__name__, (base,), {"bind_processor": bind_processor, "__doc__": base.__doc__})


def _is_without_zone(type_: object) -> bool:
    return isinstance(type_, DateTime) and not type_.timezone


def _unless_none(convert: _Convert, then: _Convert | None) -> _Convert:
    if then is None:
        return lambda value: None if value is None else convert(value)
    return lambda value: None if value is None else then(convert(value))


def _as_text(base: _Type) -> _Type:
    """Return the JSON type *base*, whose parameters are serialized before they get to psycopg."""
    return type(base.__name__, (base,), {"bind_processor": JSON.bind_processor, "__doc__": base.__doc__})


_CORES: Final[dict[_Type, _Type]] = dict(PGDialectAsync_psycopg.colspecs)
_CONVERTED: Final[dict[_Type, _Convert]] = {
    String: _one_of(str),
    Integer: _whole,
    SmallInteger: _whole,
    BigInteger: _whole,
    Float: _real,
    Numeric: _one_of(Decimal, int, float, str),
    Date: _one_of(date),
    DateTime: _one_of(date),
    Time: _one_of(time),
    Interval: _one_of(timedelta),
    postgresql.INTERVAL: _one_of(timedelta),
    Uuid: _one_of(UUID, str),
    LargeBinary: _one_of(bytes, bytearray, memoryview),
}


class PsycopgDialect(PGDialectAsync_psycopg):
    """Core's dialect for psycopg with the server's own placeholders, as psycopg's raw cursors take them."""

    driver = "psycopg"
    supports_statement_cache = True
    supports_native_json_serialization = False
    colspecs = (
        _CORES
        | {known: _converting(_CORES.get(known, known), convert) for known, convert in _CONVERTED.items()}
        | {known: _as_text(_CORES[known]) for known in (JSON, postgresql.JSON, postgresql.JSONB)}
    )

    def __init__(self, options: DriverOptions) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # Core's dialects are untyped
            dbapi=psycopg,
            paramstyle="numeric_dollar",
            use_native_hstore=False,
            json_serializer=options.json_serializer,
            json_deserializer=options.json_deserializer,
        )


# The connections ------------------------------------------------------------------------------------------------------


def adapters(options: DriverOptions) -> AdaptersMap:
    """Return how connections convert values: as psycopg does, but for lists and JSON."""
    made = AdaptersMap(psycopg.adapters)
    made.register_dumper(list, ArrayDumper)
    deserialize = options.json_deserializer
    if deserialize is not None:
        set_json_loads(lambda data: deserialize(data if isinstance(data, str) else bytes(data).decode()), made)
    return made


class ArrayDumper(Dumper):
    """Writes a list as an array literal, several times as fast as psycopg's own, and with elements of any classes."""

    format = Format.TEXT
    oid = 0

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._transformer = Transformer.from_context(context)

    @override
    def dump(self, obj: list[Any]) -> bytes:
        """Return the literal in the connection's encoding."""
        text = self._literal(obj)
        if "\0" in text:
            raise psycopg.DataError("PostgreSQL text cannot contain NUL (0x00) bytes")
        return text.encode(self._transformer.encoding)

    def _literal(self, elements: list[Any]) -> str:
        return "{" + ",".join([_ELEMENTS.get(each.__class__, self._element)(each) for each in elements]) + "}"

    def _element(self, value: Any) -> str:
        """Return an element that is neither a number nor a text."""
        if isinstance(value, list):
            return self._literal(value)
        found = self._transformer.get_dumper(value, PyFormat.TEXT).dump(value)
        return "NULL" if found is None else _quoted(bytes(found).decode(self._transformer.encoding))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_ELEMENTS: Final[dict[type, Callable[[Any], str]]] = {
    NoneType: lambda _: "NULL",
    int: str,
    str: _quoted,
    float: repr,
    Decimal: str,
    UUID: str,
    date: date.isoformat,
    time: time.isoformat,
    datetime: datetime.isoformat,
}
"""How the usual elements look in an array literal, where they need no quotes or get them."""
