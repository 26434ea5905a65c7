"""Mark the columns of a join condition: which is the foreign key, which belongs to the other side."""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement
from sqlalchemy.sql import coercions, roles, visitors

from aiosession.core import annotate, annotations_of, deannotate

C = TypeVar("C", bound=ColumnElement[Any])
T = TypeVar("T")

FOREIGN: Final = "aiosession_foreign"
REMOTE: Final = "aiosession_remote"


def foreign(expression: ColumnElement[T] | Any) -> ColumnElement[T]:
    """Mark *expression*, a column in a ``primaryjoin`` or ``secondaryjoin``, as the one that refers to the other."""
    return annotate(as_column(expression), {FOREIGN: True})


def remote(expression: ColumnElement[T] | Any) -> ColumnElement[T]:
    """Mark *expression*, a column in a ``primaryjoin``, as belonging to the target of the relation."""
    return annotate(as_column(expression), {REMOTE: True})


def as_column(expression: object) -> ColumnElement[Any]:
    """Return the SQL expression that *expression* (a column, an attribute of a class) stands for."""
    return coercions.expect(roles.ColumnArgumentRole, expression)


def is_foreign(column: ColumnElement[Any]) -> bool:
    """Tell whether *column* was marked by :func:`foreign`."""
    return FOREIGN in annotations_of(column)


def is_remote(column: ColumnElement[Any]) -> bool:
    """Tell whether *column* was marked by :func:`remote`."""
    return REMOTE in annotations_of(column)


def marked(column: Column[Any], *, as_foreign: bool, as_remote: bool) -> Column[Any]:
    """Return *column* with these marks and no others."""
    marks: dict[str, object] = {}
    if as_foreign:
        marks[FOREIGN] = True
    if as_remote:
        marks[REMOTE] = True
    return annotate(plain(column), marks) if marks else plain(column)


def plain(column: Column[Any]) -> Column[Any]:
    """Return the column of the table itself, without annotations."""
    return deannotate(column)


def columns_in(expression: ColumnElement[Any]) -> Iterator[Column[Any]]:
    """Yield every occurrence of a table's column in *expression*, annotations kept."""
    for element in visitors.iterate(expression):
        if isinstance(element, Column):
            yield element


def replace_columns(
    expression: ColumnElement[T], replacement: Callable[[Column[Any]], ColumnElement[Any]]
) -> ColumnElement[T]:
    """Return *expression* with each occurrence of a table's column replaced."""

    def replace(element: Any, **_: Any) -> Any:
        return replacement(element) if isinstance(element, Column) else None

    return visitors.replacement_traverse(expression, {}, replace)
