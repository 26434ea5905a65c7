"""Which error of aiosession stands for one of sqlite3? A table by SQLite's own names, and one for what has none."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from aiosession import errors
from aiosession.drivers.protocol import CommitRefusedError, TransactionLostError
from aiosession_sqlite3.worker import ClosedError

BY_NAME: Final[Mapping[str, type[errors.DatabaseError]]] = {
    "SQLITE_CONSTRAINT_UNIQUE": errors.UniqueViolationError,
    "SQLITE_CONSTRAINT_PRIMARYKEY": errors.UniqueViolationError,
    "SQLITE_CONSTRAINT_ROWID": errors.UniqueViolationError,
    "SQLITE_CONSTRAINT_FOREIGNKEY": errors.ForeignKeyViolationError,
    "SQLITE_CONSTRAINT_NOTNULL": errors.NotNullViolationError,
    "SQLITE_CONSTRAINT_CHECK": errors.CheckViolationError,
    "SQLITE_BUSY_SNAPSHOT": errors.SerializationError,
    "SQLITE_CONSTRAINT": errors.IntegrityError,
    "SQLITE_BUSY": errors.LockNotAvailableError,
    "SQLITE_LOCKED": errors.LockNotAvailableError,
    "SQLITE_INTERRUPT": errors.StatementTimeoutError,
    "SQLITE_MISMATCH": errors.DataError,
    "SQLITE_TOOBIG": errors.DataError,
    "SQLITE_ERROR": errors.ProgrammingError,
    "SQLITE_AUTH": errors.ProgrammingError,
    "SQLITE_RANGE": errors.ProgrammingError,
    "SQLITE_MISUSE": errors.ProgrammingError,
    "SQLITE_CORRUPT": errors.InternalError,
    "SQLITE_INTERNAL": errors.InternalError,
}
"""By the name of a result, ``SQLITE_BUSY_SNAPSHOT``, or its beginning, ``SQLITE_BUSY``; all others are operational."""

BY_TYPE: Final[Mapping[type[BaseException], type[errors.DatabaseError]]] = {
    ClosedError: errors.DisconnectError,
    CommitRefusedError: errors.InternalError,
    TransactionLostError: errors.InternalError,
    # Values that sqlite3 cannot bind: a number of more than 64 bits, half a character.
    OverflowError: errors.DataError,
    UnicodeEncodeError: errors.DataError,
    sqlite3.IntegrityError: errors.IntegrityError,
    sqlite3.DataError: errors.DataError,
    sqlite3.InternalError: errors.InternalError,
    sqlite3.NotSupportedError: errors.NotSupportedError,
    sqlite3.OperationalError: errors.OperationalError,
    sqlite3.Error: errors.ProgrammingError,
}
"""What the module raises by itself, before SQLite was asked; the first that fits."""


def translate(error: BaseException) -> type[errors.DatabaseError] | None:
    """Return our class for *error*, None if it has nothing to do with the database."""
    name = getattr(error, "sqlite_errorname", None)
    if name is not None:
        beginning = "_".join(name.split("_")[:2])
        return BY_NAME.get(name) or BY_NAME.get(beginning, errors.OperationalError)
    if is_disconnect(error):
        return errors.DisconnectError
    if isinstance(error, sqlite3.Error) and "is not supported" in str(error):
        return errors.DataError  # a value of a type that SQLite has no column for
    return next((ours for kind, ours in BY_TYPE.items() if isinstance(error, kind)), None)


def is_disconnect(error: BaseException) -> bool:
    """Say whether *error* means that the connection is gone: closed before, or while a call was on its way."""
    return isinstance(error, ClosedError) or (isinstance(error, sqlite3.Error) and "closed database" in str(error))
