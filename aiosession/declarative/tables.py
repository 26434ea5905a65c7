"""Make the table of a declarative class."""

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import MetaData, Table
from sqlalchemy import exc as core_exc

from aiosession.declarative.columns import MappedColumn
from aiosession.declarative.mapped import Declaration
from aiosession.errors import MappingError


def table_for(class_: type[Any], declarations: Mapping[str, Declaration[Any]], metadata: MetaData) -> Table:
    """Return the table of *class_*: its ``__table__``, or one made of ``__tablename__`` and its columns."""
    given = getattr(class_, "__table__", None)
    if given is not None:
        return _given(class_, given, declarations)
    name = getattr(class_, "__tablename__", None)
    if not isinstance(name, str):
        raise MappingError(
            f"class {class_.__name__} has no __tablename__ (and no __table__); set it, or say __abstract__ = True if "
            f"the class is only a base of others"
        )
    return _made(class_, name, declarations, metadata)


def _given(class_: type[Any], table: object, declarations: Mapping[str, Declaration[Any]]) -> Table:
    if not isinstance(table, Table):
        raise MappingError(f"class {class_.__name__}: __table__ has to be a Table, not {table!r}")
    for key, declaration in declarations.items():
        if isinstance(declaration, MappedColumn) and declaration.column.table is not table:
            name = declaration.column.name or key
            if name not in table.c:
                raise MappingError(
                    f"{class_.__name__}.{key}: table {table.name!r} has no column {name!r}; columns belong into "
                    f"__table__ itself"
                )
            declaration.column = table.c[name]
    return table


def _made(class_: type[Any], name: str, declarations: Mapping[str, Declaration[Any]], metadata: MetaData) -> Table:
    arguments, options = _table_arguments(class_)
    columns = []
    for key, declaration in declarations.items():
        if isinstance(declaration, MappedColumn):
            _name_column(declaration, key)
            columns.append(declaration)
    columns.sort(key=lambda declaration: declaration.sort_order)
    try:
        return Table(name, metadata, *(declaration.column for declaration in columns), *arguments, **options)
    except core_exc.InvalidRequestError as error:
        raise MappingError(
            f"class {class_.__name__}: table {name!r} is in this MetaData already, of another class or Table; give the "
            f"class another __tablename__, or use that table as __table__"
        ) from error
    except core_exc.SQLAlchemyError as error:
        raise MappingError(f"class {class_.__name__}: table {name!r} cannot be made: {error}") from error


def _name_column(declaration: MappedColumn[Any], key: str) -> None:
    column = declaration.column
    if not cast("str | None", column.name):
        column.name = key
    if not cast("str | None", column.key):
        column.key = column.name


def _table_arguments(class_: type[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given = getattr(class_, "__table_args__", None)
    if given is None:
        return (), {}
    if isinstance(given, dict):
        return (), dict(given)
    if not isinstance(given, tuple):
        raise MappingError(
            f"class {class_.__name__}: __table_args__ has to be a tuple (of constraints and indexes, a dict of options "
            f"last) or a dict, not {given!r}; a tuple of one needs a comma"
        )
    if given and isinstance(given[-1], dict):
        return given[:-1], dict(given[-1])
    return given, {}
