"""Core's dialects for MariaDB and MySQL, with columns that hold what the same types hold elsewhere.

Core renders DATETIME, TIME, FLOAT, TEXT and BLOB as they are, of which the first three cut microseconds and digits
without a word, and the last two end at 64 KiB; it refuses VARCHAR without a length, which is one of 255 here. Types of
these databases' own, and types with a length or a precision, are what they say.
"""

import datetime as dt
from typing import Any, Final

from sqlalchemy import Date, Dialect, Float, LargeBinary, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.asyncmy import MySQLDialect_asyncmy
from sqlalchemy.dialects.mysql.base import MySQLTypeCompiler
from sqlalchemy.dialects.mysql.mariadb import loader
from typing_extensions import override

from aiosession.drivers.protocol import DriverOptions

_MARIADB: Final[type[Dialect]] = loader("asyncmy")
_LENGTH: Final = 255
_FIRST_UUID: Final = (10, 7)
_FIRST_RETURNING: Final = (10, 5)


class WholeTypes(MySQLTypeCompiler):
    """Renders the generic types so that nothing is cut."""

    @override
    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:
        return super().visit_DATETIME(type_, **kw) if _is_exact(type_, mysql.DATETIME, "fsp") else "DATETIME(6)"

    @override
    def visit_TIME(self, type_: Any, **kw: Any) -> str:
        return super().visit_TIME(type_, **kw) if _is_exact(type_, mysql.TIME, "fsp") else "TIME(6)"

    @override
    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:
        is_plain = _is_plain(type_, Float) and type_.precision is None
        return "DOUBLE" if is_plain else super().visit_FLOAT(type_, **kw)

    @override
    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:
        return super().visit_VARCHAR(type_, **kw) if type_.length else f"VARCHAR({_LENGTH})"

    @override
    def visit_TEXT(self, type_: Any, **kw: Any) -> str:
        return "LONGTEXT" if _is_plain(type_, Text) and type_.length is None else super().visit_TEXT(type_, **kw)

    @override
    def visit_large_binary(self, type_: LargeBinary, **kw: Any) -> str:
        return "LONGBLOB" if type_.length is None else super().visit_large_binary(type_, **kw)


def _is_plain(type_: object, kind: type) -> bool:
    return type(type_) is kind


def _is_exact(type_: object, own: type, attribute: str) -> bool:
    return isinstance(type_, own) and getattr(type_, attribute) is not None


class _StrictDate(Date):
    """Takes dates only; the server would read texts too."""

    @override
    def bind_processor(self, dialect: Dialect) -> Any:
        return _date


def _date(value: object) -> object:
    if value is not None and not isinstance(value, dt.date):
        raise TypeError(f"a date is wanted, not {type(value).__name__}")
    return value


def _binary(value: object) -> bytes:
    """Return bytes; ``bytes(5)`` would be five of them."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"bytes are wanted, not {type(value).__name__}")
    return bytes(value)


def make_dialect(options: DriverOptions, *, is_mariadb: bool) -> Dialect:
    """Return a dialect that is ready to compile without a connection."""
    kind: Any = _MARIADB if is_mariadb else MySQLDialect_asyncmy
    dbapi = kind.import_dbapi()
    dbapi.Binary = _binary
    dialect: Dialect = kind(
        dbapi=dbapi,
        json_serializer=options.json_serializer,
        json_deserializer=options.json_deserializer,
    )
    dialect.colspecs = {**dialect.colspecs, Date: _StrictDate}
    dialect.type_compiler_instance = WholeTypes(dialect)
    return dialect


def adapt(dialect: Any, version: tuple[int, ...], *, is_mariadb: bool) -> None:
    """Let *dialect* say what a server of this version understands."""
    dialect.server_version_info = version
    dialect.insert_returning = is_mariadb and version >= _FIRST_RETURNING
    dialect.delete_returning = is_mariadb and version >= _FIRST_RETURNING
    dialect.supports_sequences = is_mariadb
    dialect.supports_native_uuid = is_mariadb and version >= _FIRST_UUID
    dialect.supports_for_update_of = not is_mariadb
    dialect.use_mysql_for_share = not is_mariadb
