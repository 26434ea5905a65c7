"""The tables that translate errors leave nothing out."""

import sqlite3

import asyncpg
import psycopg
import pytest

from aiosession import errors
from aiosession.drivers import asyncpg_errors, psycopg_errors, sqlite_errors
from aiosession.drivers.protocol import CommitRefusedError, TransactionLostError

NOT_ERRORS = {"00", "01", "02", "03"}
"""Classes of SQLSTATEs that are no errors: success, warnings, no data, not yet complete."""


def _postgres_errors() -> list[type[asyncpg.PostgresError]]:
    kinds: list[type[asyncpg.PostgresError]] = []
    for name in asyncpg.exceptions.__all__:
        kind = getattr(asyncpg.exceptions, name)
        if issubclass(kind, asyncpg.PostgresError) and isinstance(kind.sqlstate, str):
            kinds.append(kind)
    return kinds


@pytest.mark.parametrize("kind", _postgres_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_postgresql_has_a_class(kind: type[asyncpg.PostgresError]) -> None:
    if str(kind.sqlstate)[:2] in NOT_ERRORS:
        return

    assert asyncpg_errors.translate(kind("x")) not in (None, errors.DatabaseError)


def test_an_unknown_sqlstate_is_a_database_error() -> None:
    error = asyncpg.exceptions.UnknownPostgresError("x")

    assert asyncpg_errors.translate(error) is errors.DatabaseError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.SerializationError("x"), errors.SerializationError),
        (asyncpg.DeadlockDetectedError("x"), errors.DeadlockError),
        (asyncpg.LockNotAvailableError("x"), errors.LockNotAvailableError),
        (asyncpg.QueryCanceledError("x"), errors.StatementTimeoutError),
        (asyncpg.AdminShutdownError("x"), errors.DisconnectError),
        (asyncpg.ConnectionDoesNotExistError("x"), errors.DisconnectError),
        (asyncpg.InterfaceError("connection is closed"), errors.DisconnectError),
        (asyncpg.InvalidCachedStatementError("x"), errors.OperationalError),
        (asyncpg.ExclusionViolationError("x"), errors.CheckViolationError),
        (asyncpg.InFailedSQLTransactionError("x"), errors.InternalError),
        (asyncpg.InternalClientError("x"), errors.InternalError),
        (asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is"), errors.DisconnectError),
        (asyncpg.InvalidPasswordError("x"), errors.OperationalError),
        (asyncpg.InvalidCatalogNameError("x"), errors.OperationalError),
        (asyncpg.InsufficientPrivilegeError("x"), errors.ProgrammingError),
        (asyncpg.UnsupportedClientFeatureError("x"), errors.NotSupportedError),
        (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), errors.OperationalError),
        (ConnectionRefusedError(), errors.DisconnectError),
        (TimeoutError(), errors.StatementTimeoutError),
        (CommitRefusedError("ROLLBACK"), errors.InternalError),
        (KeyError("x"), None),
    ],
    ids=repr,
)
def test_errors_of_asyncpg(error: Exception, expected: type[errors.DatabaseError] | None) -> None:
    assert asyncpg_errors.translate(error) is expected
    assert asyncpg_errors.is_disconnect(error) is (expected is errors.DisconnectError)


def _psycopg_errors() -> list[type[psycopg.Error]]:
    kinds = [getattr(psycopg.errors, name) for name in dir(psycopg.errors)]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, psycopg.Error) and kind.sqlstate]


@pytest.mark.parametrize("kind", _psycopg_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_psycopg_with_a_code_has_the_class_of_the_code(kind: type[psycopg.Error]) -> None:
    code = str(kind.sqlstate)
    if code[:2] in NOT_ERRORS:
        return
    own = {kind for kind, _ in asyncpg_errors.BY_TYPE}
    known = {str(each.sqlstate): each for each in _postgres_errors() if each not in own}

    found = psycopg_errors.translate(kind("x"))

    assert found not in (None, errors.DatabaseError)
    if code in known:
        assert found is asyncpg_errors.translate(known[code]("x"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg.OperationalError("the connection is closed"), errors.DisconnectError),
        (psycopg.OperationalError("consuming input failed: server closed the connection"), errors.DisconnectError),
        (psycopg.OperationalError('connection failed: FATAL:  database "x" does not exist'), errors.OperationalError),
        (psycopg.OperationalError("connection failed: FATAL:  password authentication"), errors.OperationalError),
        (
            psycopg.OperationalError("connection failed: FATAL:  the database is starting up"),
            errors.DisconnectError,
        ),
        (psycopg.OperationalError("consuming input failed: FATAL:  terminating connection"), errors.DisconnectError),
        (psycopg.errors.ConnectionTimeout("x"), errors.DisconnectError),
        (psycopg.errors.PipelineAborted("x"), errors.OperationalError),
        (psycopg.ProgrammingError("cannot adapt type 'object'"), errors.DataError),
        (psycopg.ProgrammingError("the statement has 1 placeholders"), errors.ProgrammingError),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), errors.DataError),
        (psycopg.InterfaceError("the cursor is closed"), errors.OperationalError),
        (psycopg.NotSupportedError("x"), errors.NotSupportedError),
        (psycopg.InternalError("x"), errors.InternalError),
        (psycopg.Error("x"), errors.DatabaseError),
        (UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed"), errors.DataError),
        (ConnectionRefusedError(), errors.DisconnectError),
        (TimeoutError(), errors.StatementTimeoutError),
        (CommitRefusedError("ROLLBACK"), errors.InternalError),
        (KeyError("x"), None),
    ],
    ids=repr,
)
def test_errors_of_psycopg(error: Exception, expected: type[errors.DatabaseError] | None) -> None:
    assert psycopg_errors.translate(error) is expected
    assert psycopg_errors.is_disconnect(error) is (expected is errors.DisconnectError)


NOT_FAILURES = {"SQLITE_OK", "SQLITE_ROW", "SQLITE_DONE", "SQLITE_NOTICE", "SQLITE_WARNING"}
INTERNAL_ONLY = {"SQLITE_EMPTY", "SQLITE_NOTFOUND", "SQLITE_FORMAT", "SQLITE_PERM", "SQLITE_ABORT", "SQLITE_PROTOCOL"}
"""Result codes that SQLite no longer returns, or that only mean something below SQL: the class by type will do."""


def _sqlite_codes() -> dict[str, int]:
    names = [name for name in dir(sqlite3) if name.startswith("SQLITE_") and name.count("_") == 1]
    codes = {name: getattr(sqlite3, name) for name in names}
    primary = {name: code for name, code in codes.items() if isinstance(code, int) and 0 < code < 32}
    actions = {"SQLITE_ALTER", "SQLITE_ANALYZE", "SQLITE_ATTACH", "SQLITE_DELETE", "SQLITE_DENY", "SQLITE_DETACH"}
    actions |= {"SQLITE_FUNCTION", "SQLITE_IGNORE", "SQLITE_INSERT", "SQLITE_PRAGMA", "SQLITE_READ", "SQLITE_RECURSIVE"}
    actions |= {"SQLITE_REINDEX", "SQLITE_SAVEPOINT", "SQLITE_SELECT", "SQLITE_TRANSACTION", "SQLITE_UPDATE"}
    return {name: code for name, code in primary.items() if name not in actions}


@pytest.mark.parametrize("name", sorted(_sqlite_codes().keys() - NOT_FAILURES - INTERNAL_ONLY))
def test_every_result_code_of_sqlite_has_a_class(name: str) -> None:
    assert _sqlite_codes()[name] in sqlite_errors.BY_CODE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), errors.DisconnectError),
        (ValueError("no active connection"), errors.DisconnectError),
        (sqlite3.ProgrammingError("You can only execute one statement at a time."), errors.ProgrammingError),
        (sqlite3.OperationalError("x"), errors.OperationalError),
        (OverflowError("x"), errors.DataError),
        (CommitRefusedError("nothing"), errors.InternalError),
        (TransactionLostError(), errors.InternalError),
        (KeyError("x"), None),
    ],
    ids=repr,
)
def test_errors_of_sqlite(error: Exception, expected: type[errors.DatabaseError] | None) -> None:
    assert sqlite_errors.translate(error) is expected
    assert sqlite_errors.is_disconnect(error) is (expected is errors.DisconnectError)
