"""Write values into a statement, for libraries that send text to MariaDB and MySQL.

Only types that the server reads back as what they were are taken: anything else is refused, never made text.
"""

import datetime as dt
import math
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, TypeAlias

Quote: TypeAlias = Callable[[str], str]
"""Escapes a text in the way that the connection's SQL mode reads."""


_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1


class RefusedValueError(ValueError):
    """A value that cannot be written into a statement."""


class ParameterCountError(TypeError):
    """A statement got more or fewer parameters than it has places for them."""


def filled(sql: str, parameters: Sequence[object], quote: Quote) -> bytes:
    """Return *sql* with literals in place of each ``%s``."""
    return filled_text(sql.encode(), parameters, quote)


def filled_text(sql: bytes, parameters: Sequence[object], quote: Quote) -> bytes:
    """Return *sql*, already encoded, with literals in place of each ``%s``."""
    literals = tuple([literal(value, quote) for value in parameters])
    try:
        return sql % literals
    except TypeError as error:
        raise ParameterCountError(
            f"the statement does not have places (%s) for {len(literals)} parameters: {error}"
        ) from None
    except ValueError as error:
        raise ParameterCountError(f"a percent sign that is no place for a parameter is written %%: {error}") from None


def literal(value: object, quote: Quote) -> bytes:
    """Return *value* as it is written in SQL."""
    write = _WRITERS.get(type(value))
    if write is None:
        if isinstance(value, str):
            return _text(value, quote)
        write = next((_WRITERS[kind] for kind in type(value).__mro__ if kind in _WRITERS), None)
        if write is None:
            raise RefusedValueError(f"{value!r} of type {type(value).__name__} cannot be sent to this database")
    return write(value, quote)


def _text(value: str, quote: Quote) -> bytes:
    try:
        return b"'" + quote(value).encode() + b"'"
    except UnicodeEncodeError as error:
        raise RefusedValueError(f"{value!r} holds surrogates, which no encoding has: {error}") from None


def _int(value: int, _quote: Quote) -> bytes:
    if not _LEAST <= value <= _MOST:
        raise RefusedValueError(f"{value!r} has more than 64 bits")
    return int.__repr__(value).encode()


def _float(value: float, _quote: Quote) -> bytes:
    if not math.isfinite(value):
        raise RefusedValueError(f"this database has no {value!r}")
    text = repr(float(value))
    return (text if "e" in text else f"{text}e0").encode()


def _decimal(value: Decimal, _quote: Quote) -> bytes:
    if not value.is_finite():
        raise RefusedValueError(f"this database has no {value!r}")
    return format(value, "f").encode()


def _datetime(value: dt.datetime, _quote: Quote) -> bytes:
    if value.tzinfo is not None:
        raise RefusedValueError(f"{value!r} has a time zone, which this database does not store: give UTC without one")
    return f"'{value.isoformat(' ')}'".encode()


def _time(value: dt.time, _quote: Quote) -> bytes:
    if value.tzinfo is not None:
        raise RefusedValueError(f"{value!r} has a time zone, which this database does not store")
    return f"'{value.isoformat()}'".encode()


def _timedelta(value: dt.timedelta, _quote: Quote) -> bytes:
    sign, rest = ("-", -value) if value.days < 0 else ("", value)
    minutes, seconds = divmod(rest.days * 86400 + rest.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"'{sign}{hours:02}:{minutes:02}:{seconds:02}.{rest.microseconds:06}'".encode()


_WRITERS: Final[dict[type, Callable[[Any, Quote], bytes]]] = {
    type(None): lambda _value, _quote: b"NULL",
    bool: lambda value, _quote: b"1" if value else b"0",
    int: _int,
    str: _text,
    float: _float,
    Decimal: _decimal,
    bytes: lambda value, _quote: f"X'{value.hex()}'".encode(),
    bytearray: lambda value, _quote: f"X'{value.hex()}'".encode(),
    memoryview: lambda value, _quote: f"X'{value.hex()}'".encode(),
    dt.datetime: _datetime,
    dt.date: lambda value, _quote: f"'{value.isoformat()}'".encode(),
    dt.time: _time,
    dt.timedelta: _timedelta,
    uuid.UUID: lambda value, _quote: f"'{value}'".encode(),
}
