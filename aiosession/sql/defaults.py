"""Fill in what Python computes for columns that a Core INSERT or UPDATE leaves out.

Entities do not come this way: the unit of work knows their defaults itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import Column, ColumnDefault

from aiosession import errors
from aiosession.core import ClientDefault


class DefaultContext:
    """What a default's callable may ask about the row that it computes a value for."""

    __slots__ = ("current_column", "current_parameters")

    def __init__(self, parameters: Mapping[str, object], column: object) -> None:
        self.current_parameters: Final = parameters
        self.current_column: Final[Any] = column

    def get_current_parameters(self, *, isolate_multiinsert_groups: bool = True) -> Mapping[str, object]:
        """Return the other values of the row, by column key.

        In an INSERT of several rows at once these are the values of the same row, unless all are asked for.
        """
        column = self.current_column
        number = 0 if isinstance(column, Column) else column.index + 1
        suffix = f"_m{number}"
        row = {
            name.removesuffix(suffix): value for name, value in self.current_parameters.items() if name.endswith(suffix)
        }
        return row if row and isolate_multiinsert_groups else self.current_parameters


class DefaultValues:
    """The defaults of one statement that Python computes for each row."""

    __slots__ = ("_defaults",)

    def __init__(self, defaults: Sequence[ClientDefault]) -> None:
        self._defaults: Final = tuple(_checked(default) for default in defaults)

    def apply(self, values: dict[str, object]) -> None:
        """Add the defaults to *values* (by parameter name)."""
        for parameter, column, constant, compute in self._defaults:
            values[parameter] = constant if compute is None else compute(DefaultContext(values, column))


def _checked(
    given: ClientDefault,
) -> tuple[str, Column[object], object, Callable[[DefaultContext], object] | None]:
    default = given.default
    if not isinstance(default, ColumnDefault) or not (default.is_scalar or default.is_callable):
        raise errors.InvalidRequestError(
            f"the default of column {given.column} would need a statement of its own; "
            f"leave implicit_returning=True on its table, or give a value"
        )
    if default.is_callable:
        return given.parameter, given.column, None, cast("Callable[[DefaultContext], object]", default.arg)
    return given.parameter, given.column, default.arg, None
