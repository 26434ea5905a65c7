"""The annotation that makes an attribute a mapped one, and what stands on its right-hand side."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from sqlalchemy.sql import roles
from sqlalchemy.sql.elements import SQLCoreOperations

from aiosession.mapping.expressions import InstrumentedAttribute

T = TypeVar("T")


class Unset(Enum):
    """The type of :data:`UNSET`."""

    UNSET = "UNSET"


UNSET: Final = Unset.UNSET
"""Not given, where None would be a value."""

if TYPE_CHECKING:

    class Mapped(SQLCoreOperations[T], roles.DDLConstraintColumnRole):
        """Annotation of a mapped attribute: an expression on the class, a value on its objects."""

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object | None, owner: Any) -> InstrumentedAttribute[T] | T:
            """Return the expression of the class, or the value of an object."""
            ...

        def __set__(self, instance: Any, value: SQLCoreOperations[T] | T) -> None:
            """Set the value, or a SQL expression that computes it when it is written."""
            ...

        def __delete__(self, instance: Any) -> None:
            """Delete the value: NULL, or no related objects."""
            ...

else:

    class Mapped(Generic[T]):
        """Annotation of a mapped attribute: an expression on the class, a value on its objects."""

        __slots__ = ()


@dataclass(frozen=True, slots=True)
class DataclassOptions:
    """What an attribute is as a field of a dataclass."""

    init: bool | Unset = UNSET
    repr: bool | Unset = UNSET
    default: object = UNSET
    default_factory: object = UNSET
    compare: bool | Unset = UNSET
    kw_only: bool | Unset = UNSET
    hash: bool | Unset | None = UNSET

    def field_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``dataclasses.field()`` that were given."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in values.items() if value is not UNSET}


class Declaration(Mapped[T]):
    """What ``mapped_column()``, ``relationship()`` and the like return: a promise of a mapped attribute."""

    __slots__ = ("dataclass_options",)

    def __init__(self, dataclass_options: DataclassOptions) -> None:
        self.dataclass_options = dataclass_options

    def copy(self) -> "Declaration[T]":
        """Return the declaration for another class that inherits it from a mixin."""
        raise NotImplementedError
