"""How are connections told apart in logs? By a number, given when somebody first asks for it."""

from itertools import count
from typing import Final
from weakref import WeakKeyDictionary

from aiosession.drivers.protocol import DriverConnection

_numbers: Final[WeakKeyDictionary[DriverConnection, int]] = WeakKeyDictionary()
_next: Final = count(1)


def number_of(connection: DriverConnection) -> int:
    """Return the number of a connection, which no other one in this process has or had."""
    number = _numbers.get(connection)
    if number is None:
        number = _numbers[connection] = next(_next)
    return number
