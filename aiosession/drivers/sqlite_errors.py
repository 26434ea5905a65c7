"""Say which of our errors stands for an error of Python's sqlite3."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from aiosession import errors
from aiosession.drivers.protocol import CommitRefusedError, TransactionLostError

BY_EXTENDED_CODE: Final[Mapping[int, type[errors.DatabaseError]]] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: errors.UniqueViolationError,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: errors.UniqueViolationError,
    sqlite3.SQLITE_CONSTRAINT_ROWID: errors.UniqueViolationError,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: errors.ForeignKeyViolationError,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: errors.NotNullViolationError,
    sqlite3.SQLITE_CONSTRAINT_CHECK: errors.CheckViolationError,
    # a WAL reader that wants to write after somebody else has: repeating the transaction helps, waiting does not
    sqlite3.SQLITE_BUSY_SNAPSHOT: errors.SerializationError,
}
"""What an extended result code means, where its primary code (the low byte) says too little."""

BY_CODE: Final[Mapping[int, type[errors.DatabaseError]]] = {
    sqlite3.SQLITE_AUTH: errors.ProgrammingError,
    sqlite3.SQLITE_BUSY: errors.LockNotAvailableError,
    sqlite3.SQLITE_CANTOPEN: errors.OperationalError,
    sqlite3.SQLITE_CONSTRAINT: errors.IntegrityError,
    sqlite3.SQLITE_CORRUPT: errors.InternalError,
    sqlite3.SQLITE_FULL: errors.OperationalError,
    sqlite3.SQLITE_INTERNAL: errors.InternalError,
    sqlite3.SQLITE_INTERRUPT: errors.StatementTimeoutError,
    sqlite3.SQLITE_IOERR: errors.OperationalError,
    sqlite3.SQLITE_LOCKED: errors.LockNotAvailableError,
    sqlite3.SQLITE_MISMATCH: errors.DataError,
    sqlite3.SQLITE_MISUSE: errors.ProgrammingError,
    sqlite3.SQLITE_NOLFS: errors.NotSupportedError,
    sqlite3.SQLITE_NOMEM: errors.OperationalError,
    sqlite3.SQLITE_NOTADB: errors.OperationalError,
    sqlite3.SQLITE_RANGE: errors.ProgrammingError,
    sqlite3.SQLITE_READONLY: errors.OperationalError,
    sqlite3.SQLITE_SCHEMA: errors.OperationalError,
    sqlite3.SQLITE_TOOBIG: errors.DataError,
    # SQLite's catch-all: nearly always a statement that cannot be compiled (no such table, syntax)
    sqlite3.SQLITE_ERROR: errors.ProgrammingError,
}
"""What a primary result code means."""

BY_TYPE: Final[tuple[tuple[type[BaseException], type[errors.DatabaseError]], ...]] = (
    (CommitRefusedError, errors.InternalError),
    (TransactionLostError, errors.InternalError),
    (sqlite3.IntegrityError, errors.IntegrityError),
    (sqlite3.DataError, errors.DataError),
    (sqlite3.NotSupportedError, errors.NotSupportedError),
    (sqlite3.InternalError, errors.InternalError),
    (sqlite3.OperationalError, errors.OperationalError),
    (sqlite3.DatabaseError, errors.DatabaseError),
    (sqlite3.Error, errors.ProgrammingError),
    # raised by sqlite3 while it binds a value: an integer of more than 64 bits, a lone surrogate
    (OverflowError, errors.DataError),
    (UnicodeEncodeError, errors.DataError),
)
"""What is left when there is no result code: errors that the module sqlite3 makes itself."""

_CLOSED: Final = ("closed database", "no active connection", "Connection closed")


def translate(error: BaseException) -> type[errors.DatabaseError] | None:
    """Return our class for *error*; None if sqlite3 did not make it."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(code, int):
        found = BY_EXTENDED_CODE.get(code) or BY_CODE.get(code & 0xFF)
        if found is not None:
            return found
    if is_disconnect(error):
        return errors.DisconnectError
    if isinstance(error, sqlite3.ProgrammingError):
        return _translate_programming_error(error)
    return next((ours for kind, ours in BY_TYPE if isinstance(error, kind)), None)


def is_disconnect(error: BaseException) -> bool:
    """Say whether *error* means that the connection has been closed."""
    if not isinstance(error, sqlite3.ProgrammingError | ValueError):
        return False
    return any(words in str(error) for words in _CLOSED)


def _translate_programming_error(error: sqlite3.ProgrammingError) -> type[errors.DatabaseError]:
    # a value of a type that SQLite has no column for is a matter of data, as on every database
    return errors.DataError if "type" in str(error) and "not supported" in str(error) else errors.ProgrammingError
