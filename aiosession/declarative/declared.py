"""Compute parts of a declaration per class: ``declared_attr`` on mixins and abstract bases."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from aiosession.declarative.mapped import Mapped
from aiosession.mapping.expressions import InstrumentedAttribute

T = TypeVar("T")

DECLARED_VALUES: Final = "__declared_values__"
"""Where a class keeps, while it is being mapped, what its ``declared_attr`` functions returned."""


class DeclaredDirective(Generic[T]):
    """A class-level setting (``__tablename__``, ``__table_args__``, ``__mapper_args__``) computed per class."""

    def __init__(self, function: Callable[..., T]) -> None:
        self.function: Callable[..., Any] = getattr(function, "__func__", function)
        self.__doc__ = function.__doc__

    def __get__(self, instance: object | None, owner: Any) -> T:
        value: T = value_for(self, owner)
        return value


class declared_attr(Generic[T]):  # noqa: N801 - the name that people know
    """A mapped attribute that is declared anew for each class that inherits it.

    ``declared_attr.directive`` is for settings: ``__tablename__``, ``__table_args__``, ``__mapper_args__``.
    """

    directive = DeclaredDirective

    def __init__(self, function: Callable[..., Mapped[T]]) -> None:
        self.function: Callable[..., Any] = getattr(function, "__func__", function)
        self.__doc__ = function.__doc__

    @classmethod
    def cascading(cls, function: Callable[..., Mapped[T]]) -> "declared_attr[T]":
        """Declare the attribute for each class and its subclasses; every class is its own case anyway."""
        return cls(function)

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: Any) -> InstrumentedAttribute[T]: ...
        @overload
        def __get__(self, instance: object, owner: Any) -> T: ...
        def __get__(self, instance: object | None, owner: Any) -> InstrumentedAttribute[T] | T:
            """Return the expression of the class, or the value of an object."""
            ...

        def __set__(self, instance: Any, value: Any) -> None:
            """Set the value of an object."""
            ...

    else:

        def __get__(self, instance: object | None, owner: Any) -> Any:
            return value_for(self, owner)


def value_for(declared: "DeclaredDirective[Any] | declared_attr[Any]", class_: type[Any]) -> Any:
    """Return what the function gives for *class_*; while the class is being mapped it is called once."""
    values: dict[object, Any] | None = class_.__dict__.get(DECLARED_VALUES)
    if values is None:
        return declared.function(class_)
    if declared not in values:
        values[declared] = declared.function(class_)
    return values[declared]
