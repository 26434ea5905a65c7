"""Ask a database for the value of a key column before the row is inserted, where RETURNING cannot tell it after."""

from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Dialect, FetchedValue, Integer, Select, func
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.sql.schema import DefaultClause

from aiosession import core
from aiosession.sql.schemas import SchemaMap

LAST_NUMBER: Final = {
    "sqlite": "SELECT last_insert_rowid()",
    "mariadb": "SELECT LAST_INSERT_ID()",
    "mysql": "SELECT LAST_INSERT_ID()",
}
"""Asks for the number of the row that this connection has inserted last, by the dialect's name."""


def next_value(column: Column[Any], dialect: Dialect, schemas: SchemaMap | None = None) -> ColumnElement[Any] | None:
    """Return SQL for the value that *column* is going to have; None if the database only makes it with the row."""
    default: Any = column.default if column.default is not None else column.server_default
    if isinstance(default, DatabaseSequence):
        return default.next_value()
    if isinstance(default, DefaultClause) or (default is not None and not isinstance(default, FetchedValue)):
        return default.arg if isinstance(default.arg, ColumnElement) else None
    is_counted = column is core.autoincrement_column(column.table) and isinstance(column.type, Integer)
    if is_counted and dialect.name == "postgresql":
        return func.nextval(func.pg_get_serial_sequence(_quoted(column, dialect, schemas), column.name))
    return None


def asked_at_once(question: Select[Any], count: int, dialect: Dialect) -> Select[Any] | None:
    """Return *question* for *count* rows in one statement; None if it has to be asked row by row."""
    if dialect.name != "postgresql":
        return None
    return question.select_from(func.generate_series(1, count).table_valued("number"))


def counts_by_itself(column: Column[Any], dialect: Dialect) -> bool:
    """Whether the database numbers the rows of *column* and tells the number of the last one afterwards."""
    is_plain = column.default is None and column.server_default is None
    return is_plain and dialect.name in LAST_NUMBER and column is core.autoincrement_column(column.table)


def _quoted(column: Column[Any], dialect: Dialect, schemas: SchemaMap | None) -> str:
    quote, table = dialect.identifier_preparer, column.table
    schema = (schemas or {}).get(table.schema, table.schema)
    name = quote.quote(table.name)
    return name if schema is None else f"{quote.quote_schema(schema)}.{name}"
