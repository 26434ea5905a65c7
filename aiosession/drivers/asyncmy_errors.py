"""Say which of our errors stands for an error of asyncmy or an error number of MariaDB and MySQL."""

from collections.abc import Mapping
from typing import Final

import asyncmy.errors

from aiosession import errors
from aiosession.drivers.mysql_values import ParameterCountError, RefusedValueError
from aiosession.drivers.protocol import CommitRefusedError, TransactionLostError

_GROUPS: Final[Mapping[type[errors.DatabaseError], tuple[int, ...]]] = {
    errors.DisconnectError: (
        *(1053, 1077, 1078, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031),
        *(2002, 2003, 2004, 2005, 2006, 2012, 2013, 2014, 2027, 2055),
    ),
    errors.UniqueViolationError: (1022, 1062, 1169, 1586, 1859),
    errors.ForeignKeyViolationError: (1216, 1217, 1451, 1452, 1761, 1762),
    errors.NotNullViolationError: (1048, 1138, 1364, 1566),
    errors.CheckViolationError: (1369, 3819, 4025),
    errors.DeadlockError: (1213, 1614),
    errors.LockNotAvailableError: (1205, 3572),
    errors.SerializationError: (1020, 1637),
    errors.StatementTimeoutError: (1317, 1613, 1969, 3024),
    errors.DataError: (
        *(1264, 1265, 1292, 1300, 1365, 1366, 1367, 1406, 1411, 1416, 1441, 1525, 1690, 1916, 1918, 3140, 3156, 3854),
        *(3988, 4038, 4079, 4161),
    ),
    errors.NotSupportedError: (1178, 1235, 1286, 1289, 1295, 1556, 1845, 1846),
    errors.ProgrammingError: (
        *(1007, 1008, 1046, 1049, 1050, 1051, 1052, 1054, 1055, 1056, 1060, 1061, 1063, 1064, 1065, 1066, 1067, 1068),
        *(1071, 1072, 1075, 1090, 1091, 1093, 1102, 1103, 1104, 1109, 1110, 1111, 1113, 1115, 1120, 1136, 1140, 1142),
        *(1143, 1146, 1149, 1166, 1170, 1193, 1221, 1222, 1227, 1231, 1232, 1241, 1242, 1247, 1248, 1267, 1271, 1305),
        *(1318, 1327, 1356, 1362, 1370, 1415, 1463, 1470, 1471, 1582, 1583, 1630, 1901, 1906, 1907, 3105, 3780, 4078),
    ),
    errors.InternalError: (1399, 1400, 1401, 1402, 1613, 1792),
}
BY_NUMBER: Final[Mapping[int, type[errors.DatabaseError]]] = {
    number: kind for kind, numbers in _GROUPS.items() for number in numbers
}
"""What an error number means, where the class of asyncmy's error says too little."""

BY_TYPE: Final[tuple[tuple[type[BaseException], type[errors.DatabaseError]], ...]] = (
    (CommitRefusedError, errors.InternalError),
    (TransactionLostError, errors.InternalError),
    (RefusedValueError, errors.DataError),
    (ParameterCountError, errors.ProgrammingError),
    (asyncmy.errors.InterfaceError, errors.DisconnectError),
    (asyncmy.errors.DataError, errors.DataError),
    (asyncmy.errors.IntegrityError, errors.IntegrityError),
    (asyncmy.errors.ProgrammingError, errors.ProgrammingError),
    (asyncmy.errors.NotSupportedError, errors.NotSupportedError),
    (asyncmy.errors.OperationalError, errors.OperationalError),
    # what it makes itself when the answers of the server are out of step
    (asyncmy.errors.InternalError, errors.DisconnectError),
    (asyncmy.errors.MySQLError, errors.DatabaseError),
    (TimeoutError, errors.StatementTimeoutError),
    (OSError, errors.DisconnectError),
    (EOFError, errors.DisconnectError),
)
"""Kinds of errors, the special before the general."""


def number_of(error: BaseException) -> int:
    """Return the number of an error of the server; 0 for all others."""
    if not isinstance(error, asyncmy.errors.MySQLError):
        return 0
    number = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def translate(error: BaseException) -> type[errors.DatabaseError] | None:
    """Return our class for *error*; None if neither asyncmy nor the wire made it."""
    known = BY_NUMBER.get(number_of(error))
    if known is not None:
        return known
    return next((ours for kind, ours in BY_TYPE if isinstance(error, kind)), None)


def is_disconnect(error: BaseException) -> bool:
    """Say whether *error* means that the connection is gone."""
    return translate(error) is errors.DisconnectError
