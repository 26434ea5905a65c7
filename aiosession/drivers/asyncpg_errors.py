"""Say which of our errors stands for an error of asyncpg."""

from typing import Final

import asyncpg

from aiosession import errors
from aiosession.drivers import postgres_errors
from aiosession.drivers.protocol import CommitRefusedError

BY_TYPE: Final[tuple[tuple[type[BaseException], type[errors.DatabaseError]], ...]] = (
    (CommitRefusedError, errors.InternalError),
    (asyncpg.exceptions.InvalidCachedStatementError, errors.OperationalError),
    (asyncpg.exceptions.OutdatedSchemaCacheError, errors.OperationalError),
    (asyncpg.exceptions.UnsupportedClientFeatureError, errors.NotSupportedError),
    (asyncpg.exceptions.UnsupportedServerFeatureError, errors.NotSupportedError),
    (asyncpg.exceptions.ClientConfigurationError, errors.ProgrammingError),
)
"""Errors that asyncpg makes itself, the special before the general."""

# Errors of the wire that asyncpg lets through as they are.
_WIRE: Final = (OSError, EOFError)
# What asyncpg says when the server has ended the connection while nobody was looking.
_OUT_OF_STEP: Final = "cannot switch to state"
_LOST: Final = ("connection is closed", "connection was closed", "connection has been released", "connection lost")


def translate(error: BaseException) -> type[errors.DatabaseError] | None:
    """Return our class for *error*; None if neither asyncpg nor the wire made it."""
    for kind, ours in BY_TYPE:
        if isinstance(error, kind):
            return ours
    if isinstance(error, asyncpg.PostgresError):
        return postgres_errors.by_code(str(getattr(error, "sqlstate", None)))
    if isinstance(error, asyncpg.InternalClientError):
        return errors.DisconnectError if _OUT_OF_STEP in str(error) else errors.InternalError
    if isinstance(error, asyncpg.InterfaceError):
        return _translate_interface_error(error)
    if isinstance(error, TimeoutError):
        return errors.StatementTimeoutError
    return errors.DisconnectError if isinstance(error, _WIRE) else None


def is_disconnect(error: BaseException) -> bool:
    """Say whether *error* means that the connection is gone."""
    return translate(error) is errors.DisconnectError


def _translate_interface_error(error: asyncpg.InterfaceError) -> type[errors.DatabaseError]:
    message = str(error)
    if isinstance(error, ValueError):
        return errors.DataError
    if any(words in message for words in _LOST):
        return errors.DisconnectError
    if "the server expects" in message or "query arguments" in message:
        return errors.ProgrammingError
    return errors.OperationalError
