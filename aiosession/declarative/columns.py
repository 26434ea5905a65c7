"""Declare columns: ``mapped_column()``, ``column_property()``, ``deferred()``."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Column, ColumnElement
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlalchemy.sql.operators import OperatorType
from typing_extensions import override

from aiosession.core import complete_column, copy_column
from aiosession.declarative.mapped import UNSET, DataclassOptions, Declaration, Unset
from aiosession.errors import ArgumentError

T = TypeVar("T")

if TYPE_CHECKING:
    _ColumnDeclaration = Declaration
else:

    class _ColumnDeclaration(Declaration[T], SQLCoreOperations):
        """A declaration that can be used like a column inside the class body."""

        __slots__ = ()


class MappedColumn(_ColumnDeclaration[T]):
    """The declaration of a column; inside the class body it can be used like one (indexes, constraints)."""

    __slots__ = (
        "active_history",
        "column",
        "deferred",
        "deferred_group",
        "deferred_raiseload",
        "has_nullable",
        "sort_order",
    )

    def __init__(
        self,
        column: Column[Any],
        dataclass_options: DataclassOptions,
        *,
        has_nullable: bool,
        sort_order: int = 0,
        active_history: bool = False,
    ) -> None:
        super().__init__(dataclass_options)
        self.column = column
        self.has_nullable = has_nullable
        self.sort_order = sort_order
        self.active_history = active_history
        self.deferred = False
        self.deferred_group: str | None = None
        self.deferred_raiseload = False

    def defer(self, *, group: str | None, raiseload: bool) -> None:
        """Leave the column out of queries until it is asked for."""
        self.deferred = True
        self.deferred_group = group
        self.deferred_raiseload = raiseload

    @override
    def copy(self) -> "MappedColumn[T]":
        """Return the declaration with a column of its own."""
        twin: MappedColumn[T] = MappedColumn(
            copy_column(self.column),
            self.dataclass_options,
            has_nullable=self.has_nullable,
            sort_order=self.sort_order,
            active_history=self.active_history,
        )
        twin.deferred, twin.deferred_group = self.deferred, self.deferred_group
        twin.deferred_raiseload = self.deferred_raiseload
        return twin

    def complete(self, template: "MappedColumn[Any]") -> None:
        """Take over what *template*, from ``Annotated[..., mapped_column()]``, says and this does not."""
        complete_column(self.column, template.column)
        self.has_nullable = self.has_nullable or template.has_nullable
        self.sort_order = self.sort_order or template.sort_order
        self.active_history = self.active_history or template.active_history
        if template.deferred and not self.deferred:
            self.defer(group=template.deferred_group, raiseload=template.deferred_raiseload)
        if not self.dataclass_options.field_arguments():
            self.dataclass_options = template.dataclass_options

    def __clause_element__(self) -> Column[Any]:
        return self.column

    @override
    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core to the column."""
        return cast("ColumnElement[Any]", op(self.column, *other, **kwargs))

    @override
    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core with the column on its right."""
        return cast("ColumnElement[Any]", op(other, self.column, **kwargs))

    @override
    def __hash__(self) -> int:
        return id(self)


class ExpressionDeclaration(_ColumnDeclaration[T]):
    """The declaration of an attribute that is computed by a SQL expression."""

    __slots__ = ("deferred", "deferred_group", "deferred_raiseload", "doc", "expression", "info")

    def __init__(
        self,
        expression: ColumnElement[Any],
        dataclass_options: DataclassOptions,
        info: Mapping[Any, Any],
        doc: str | None,
    ) -> None:
        super().__init__(dataclass_options)
        self.expression = expression
        self.info = info
        self.doc = doc
        self.deferred = False
        self.deferred_group: str | None = None
        self.deferred_raiseload = False

    def defer(self, *, group: str | None, raiseload: bool) -> None:
        """Leave the expression out of queries until it is asked for."""
        self.deferred = True
        self.deferred_group = group
        self.deferred_raiseload = raiseload

    @override
    def copy(self) -> "ExpressionDeclaration[T]":
        """Return the declaration itself: expressions can be shared."""
        return self

    def __clause_element__(self) -> ColumnElement[Any]:
        return self.expression

    @override
    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core to the expression."""
        return cast("ColumnElement[Any]", op(self.expression, *other, **kwargs))

    @override
    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core with the expression on its right."""
        return cast("ColumnElement[Any]", op(other, self.expression, **kwargs))

    @override
    def __hash__(self) -> int:
        return id(self)


def mapped_column(  # noqa: PLR0913 - the arguments of Core's Column, of dataclass fields, and loading
    *args: Any,
    init: bool | Unset = UNSET,
    repr: bool | Unset = UNSET,  # noqa: A002 - the name that dataclasses have
    default: Any = UNSET,
    default_factory: Callable[[], Any] | Unset = UNSET,
    compare: bool | Unset = UNSET,
    kw_only: bool | Unset = UNSET,
    hash: bool | Unset | None = UNSET,  # noqa: A002 - the name that dataclasses have
    insert_default: Any = UNSET,
    nullable: bool | Unset = UNSET,
    primary_key: bool = False,
    deferred: bool | Unset = UNSET,
    deferred_group: str | None = None,
    deferred_raiseload: bool = False,
    active_history: bool = False,
    sort_order: int = 0,
    **column_options: Any,
) -> MappedColumn[Any]:
    """Declare a column: name, type and constraints as in Core's ``Column``, all optional.

    ``default`` is the value of new rows, and in a dataclass the default of the constructor; ``insert_default`` sets
    the former alone. ``nullable`` follows from the annotation if not given.
    """
    if nullable is not UNSET:
        column_options["nullable"] = nullable
    value = default if insert_default is UNSET else insert_default
    if value is not UNSET and not (value is None and insert_default is UNSET):
        column_options["default"] = value
    name_and_type = {"name", "type_"} & column_options.keys()
    arguments = [column_options.pop("name")] if "name" in name_and_type else []
    if arguments and args and isinstance(args[0], str):
        raise ArgumentError(f"mapped_column({args[0]!r}, name={arguments[0]!r}) says two names")
    if column_options.pop("use_existing_column", False):
        raise ArgumentError(
            "mapped_column(use_existing_column=True) belongs to inheritance, which is not available yet"
        )
    column: Column[Any] = Column(*arguments, *args, primary_key=primary_key, **column_options)
    declaration: MappedColumn[Any] = MappedColumn(
        column,
        DataclassOptions(init, repr, default, default_factory, compare, kw_only, hash),
        has_nullable=nullable is not UNSET,
        sort_order=sort_order,
        active_history=active_history,
    )
    if deferred is True or (deferred is UNSET and (deferred_group is not None or deferred_raiseload)):
        declaration.defer(group=deferred_group, raiseload=deferred_raiseload)
    return declaration


def column_property(  # noqa: PLR0913 - loading and dataclass options
    expression: Any,
    *,
    deferred: bool = False,
    group: str | None = None,
    raiseload: bool = False,
    active_history: bool = False,
    init: bool | Unset = UNSET,
    repr: bool | Unset = UNSET,  # noqa: A002 - the name that dataclasses have
    default: Any = UNSET,
    default_factory: Callable[[], Any] | Unset = UNSET,
    compare: bool | Unset = UNSET,
    kw_only: bool | Unset = UNSET,
    hash: bool | Unset | None = UNSET,  # noqa: A002 - the name that dataclasses have
    info: Mapping[Any, Any] | None = None,
    doc: str | None = None,
) -> "ExpressionDeclaration[Any] | MappedColumn[Any]":
    """Declare a read-only attribute that a SQL expression computes, or a plain column with options."""
    options = DataclassOptions(init, repr, default, default_factory, compare, kw_only, hash)
    declaration = _declaration_of(expression, options, active_history=active_history, info=info or {}, doc=doc)
    if deferred or group is not None or raiseload:
        declaration.defer(group=group, raiseload=raiseload)
    return declaration


def deferred(
    column: Any, *, group: str | None = None, raiseload: bool = False
) -> "ExpressionDeclaration[Any] | MappedColumn[Any]":
    """Declare a column or expression that queries leave out until it is asked for."""
    if isinstance(column, MappedColumn | ExpressionDeclaration):
        column.defer(group=group, raiseload=raiseload)
        return column
    return column_property(column, deferred=True, group=group, raiseload=raiseload)


def has_table(column: Column[Any]) -> bool:
    """Tell whether *column* belongs to a table already."""
    return getattr(column, "table", None) is not None


def declared_column(column: Column[Any]) -> MappedColumn[Any]:
    """Return the declaration for a plain Core column."""
    return MappedColumn(column, DataclassOptions(), has_nullable=True)


def _declaration_of(
    expression: Any, options: DataclassOptions, *, active_history: bool, info: Mapping[Any, Any], doc: str | None
) -> "ExpressionDeclaration[Any] | MappedColumn[Any]":
    if isinstance(expression, MappedColumn):
        expression.active_history = active_history
        return expression
    if isinstance(expression, Column):
        return MappedColumn(expression, options, has_nullable=True, active_history=active_history)
    element = getattr(expression, "scalar_subquery", None)
    found = element() if callable(element) and not isinstance(expression, ColumnElement) else expression
    clause_element = getattr(found, "__clause_element__", None)
    if clause_element is not None:
        found = clause_element()
    if not isinstance(found, ColumnElement):
        raise ArgumentError(f"column_property() takes a SQL expression, not {expression!r}")
    return ExpressionDeclaration(found, options, info, doc)
