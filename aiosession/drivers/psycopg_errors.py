"""Say which of our errors stands for an error of psycopg.

What the server reports has a SQLSTATE; what psycopg and libpq find out themselves has none, nor has a server's refusal
of an attempt to connect, of which libpq only keeps the text.
"""

from typing import Final

import psycopg

from aiosession import errors
from aiosession.drivers import postgres_errors
from aiosession.drivers.protocol import CommitRefusedError

# The first that fits counts.
BY_TYPE: Final[tuple[tuple[type[BaseException], type[errors.DatabaseError]], ...]] = (
    (CommitRefusedError, errors.InternalError),
    (psycopg.errors.ConnectionTimeout, errors.DisconnectError),
    (psycopg.errors.CancellationTimeout, errors.OperationalError),
    (psycopg.errors.PipelineAborted, errors.OperationalError),
    (psycopg.DataError, errors.DataError),
    (psycopg.IntegrityError, errors.IntegrityError),
    (psycopg.InternalError, errors.InternalError),
    (psycopg.NotSupportedError, errors.NotSupportedError),
    (psycopg.InterfaceError, errors.OperationalError),
    (psycopg.Error, errors.DatabaseError),
    (UnicodeError, errors.DataError),  # raised as it is for text that the connection's encoding does not have
    (TimeoutError, errors.StatementTimeoutError),
    (OSError, errors.DisconnectError),
    (EOFError, errors.DisconnectError),
)
"""Errors without a SQLSTATE, the special before the general."""

_REFUSES_VALUE: Final = "cannot adapt type"
_REFUSES_TO_CONNECT: Final = ("connection failed:", "FATAL:")
_NOT_YET_OR_NO_MORE: Final = ("is starting up", "is shutting down", "in recovery mode", "not yet accepting")
_KEEPS_PLANS: Final = "RevalidateCachedQuery"
"""The function of the server that finds the columns of a prepared statement changed."""


def translate(error: BaseException) -> type[errors.DatabaseError] | None:
    """Return our class for *error*; None if neither psycopg nor the wire made it."""
    if isinstance(error, psycopg.Error):
        if error.sqlstate is not None:
            return errors.OperationalError if is_stale_plan(error) else postgres_errors.by_code(error.sqlstate)
        if type(error) is psycopg.OperationalError:
            return _translate_failure_of_the_line(str(error))
        if type(error) is psycopg.ProgrammingError:
            return errors.DataError if _REFUSES_VALUE in str(error) else errors.ProgrammingError
    return next((ours for kind, ours in BY_TYPE if isinstance(error, kind)), None)


def is_disconnect(error: BaseException) -> bool:
    """Say whether *error* means that the connection is gone."""
    return translate(error) is errors.DisconnectError


def is_stale_plan(error: psycopg.Error) -> bool:
    """Say whether a prepared statement failed because the tables that it reads have changed."""
    return isinstance(error, psycopg.errors.FeatureNotSupported) and error.diag.source_function == _KEEPS_PLANS


def _translate_failure_of_the_line(message: str) -> type[errors.DatabaseError]:
    """Tell a server that refuses a connection from one that is not there or has gone."""
    if all(words in message for words in _REFUSES_TO_CONNECT) and not any(
        words in message for words in _NOT_YET_OR_NO_MORE
    ):
        return errors.OperationalError
    return errors.DisconnectError
