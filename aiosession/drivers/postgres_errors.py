"""Say which of our errors stands for a SQLSTATE of PostgreSQL, whichever library reports it."""

from collections.abc import Mapping
from typing import Final

from aiosession import errors

BY_CODE: Final[Mapping[str, type[errors.DatabaseError]]] = {
    "0A000": errors.NotSupportedError,
    "22P05": errors.DataError,
    "23502": errors.NotNullViolationError,
    "23503": errors.ForeignKeyViolationError,
    "23505": errors.UniqueViolationError,
    "23514": errors.CheckViolationError,
    "23P01": errors.CheckViolationError,
    "25P02": errors.InternalError,
    "25P03": errors.DisconnectError,
    "40001": errors.SerializationError,
    "40P01": errors.DeadlockError,
    "55P03": errors.LockNotAvailableError,
    "57014": errors.StatementTimeoutError,
    "57P01": errors.DisconnectError,
    "57P02": errors.DisconnectError,
    "57P03": errors.DisconnectError,
    "57P05": errors.DisconnectError,
}
"""What one SQLSTATE means, where its class (below) says too little."""

BY_CLASS: Final[Mapping[str, type[errors.DatabaseError]]] = {
    "08": errors.DisconnectError,
    "09": errors.InternalError,
    "0A": errors.NotSupportedError,
    "0B": errors.InternalError,
    "0F": errors.DataError,
    "0L": errors.ProgrammingError,
    "0P": errors.ProgrammingError,
    "0Z": errors.InternalError,
    "10": errors.DataError,
    "20": errors.ProgrammingError,
    "21": errors.ProgrammingError,
    "22": errors.DataError,
    "23": errors.IntegrityError,
    "24": errors.InternalError,
    "25": errors.InternalError,
    "26": errors.InternalError,
    "27": errors.OperationalError,
    "28": errors.OperationalError,
    "2B": errors.InternalError,
    "2D": errors.InternalError,
    "2F": errors.InternalError,
    "34": errors.OperationalError,
    "38": errors.InternalError,
    "39": errors.InternalError,
    "3B": errors.InternalError,
    "3D": errors.OperationalError,
    "3F": errors.ProgrammingError,
    "40": errors.OperationalError,
    "42": errors.ProgrammingError,
    "44": errors.CheckViolationError,
    "53": errors.OperationalError,
    "54": errors.OperationalError,
    "55": errors.OperationalError,
    "57": errors.OperationalError,
    "58": errors.OperationalError,
    "72": errors.OperationalError,
    "F0": errors.InternalError,
    "HV": errors.OperationalError,
    "P0": errors.InternalError,
    "XX": errors.InternalError,
}
"""What a class of SQLSTATEs (its first two characters) means."""


def by_code(code: str) -> type[errors.DatabaseError]:
    """Return our class for the SQLSTATE *code*."""
    return BY_CODE.get(code) or BY_CLASS.get(code[:2], errors.DatabaseError)
