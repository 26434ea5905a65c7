"""Say what stands in for a value: the one that nobody knows, and whether two values are the same."""

from enum import Enum
from typing import Any, Final

from sqlalchemy import ClauseElement
from typing_extensions import override


class Unknown(Enum):
    """The type of :data:`NO_VALUE`."""

    NO_VALUE = "NO_VALUE"

    @override
    def __repr__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return False


NO_VALUE: Final = Unknown.NO_VALUE
"""There is no value: never set, never loaded, or not known to anybody in this process."""


def is_same(first: Any, second: Any) -> bool:
    """Whether writing *first* over *second* would change nothing.

    SQL expressions are the same only as themselves, and so is everything whose comparison fails or gives no truth
    value (arrays, say).
    """
    if first is second:
        return True
    if first is NO_VALUE or second is NO_VALUE or is_expression(first) or is_expression(second):
        return False
    try:
        return bool(first == second)
    except Exception:  # noqa: BLE001, RUF100 - a user's __eq__ may raise anything
        return False


def is_expression(value: object) -> bool:
    """Whether *value* is a SQL expression, whose result only the database knows."""
    return isinstance(value, ClauseElement) or hasattr(type(value), "__clause_element__")
