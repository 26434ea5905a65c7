"""Say what comes back with the rows of a batch, where not everything can.

A table that says ``implicit_returning=False`` (a view with rules, a virtual table), or a database without RETURNING,
gives nothing back: keys are asked for beforehand. SQLite's RETURNING shows a row as it was before its triggers.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, FetchedValue, Select, insert, select
from sqlalchemy.sql.schema import DefaultClause

from aiosession.drivers.protocol import Capabilities
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import FlushError
from aiosession.sql.keys import next_value
from aiosession.sql.schemas import SchemaMap
from aiosession.sql.writes import WriteKind
from aiosession.unit_of_work.columns import columns_of
from aiosession.unit_of_work.plan import Batch


def can_return(batch: Batch, engine: AsyncEngine) -> bool:
    """Whether the rows of a batch can be asked for values with RETURNING."""
    return _returns(batch, engine.capabilities)


def _returns(batch: Batch, can: Capabilities) -> bool:
    is_able = can.returning and (batch.kind is not WriteKind.UPDATE or can.update_returning)
    return is_able and batch.table.implicit_returning


def fetchable(batch: Batch, engine: AsyncEngine) -> Batch:
    """Return *batch* without the values that cannot come back with it; those are unknown afterwards."""
    can = engine.capabilities
    if not batch.returned or (can.returning_sees_triggers and can_return(batch, engine)):
        return batch
    mapper = batch.mapper
    keys = () if mapper is None else mapper.primary_key
    names = () if mapper is None else [attribute.key for attribute in mapper.primary_key_attributes]
    columns = batch.shape.returning
    kept = [column in keys or _comes_back(batch, column, can) for column in columns]
    if all(kept):
        return batch
    if batch.kind is WriteKind.UPDATE and not any(
        is_kept and (column not in keys or column in batch.expressions)
        for column, is_kept in zip(columns, kept, strict=True)
    ):
        kept = [False] * len(kept)  # keys that would only tell apart what does not come back
    return replace(
        batch,
        shape=replace(batch.shape, returning=_where(kept, columns, wanted=True)),
        returned=_where(kept, batch.returned, wanted=True),
        unknown=(*batch.unknown, *(name for name in _where(kept, batch.returned, wanted=False) if name not in names)),
    )


def _where(kept: Sequence[bool], items: Sequence[Any], *, wanted: bool) -> tuple[Any, ...]:
    return tuple(item for item, is_kept in zip(items, kept, strict=True) if is_kept is wanted)


def _comes_back(batch: Batch, column: Column[Any], can: Capabilities) -> bool:
    if not _returns(batch, can):
        return False
    return can.returning_sees_triggers or column in batch.expressions or not _is_by_trigger(batch.kind, column)


def _is_by_trigger(kind: WriteKind, column: Column[Any]) -> bool:
    """Whether nothing but a trigger can make the value: no default of the column, no expression, says what it is."""
    made_by = column.server_default if kind is WriteKind.INSERT else column.server_onupdate
    if kind is WriteKind.UPDATE and (column.onupdate is not None or column.computed is not None):
        return False
    is_declared = isinstance(made_by, DefaultClause) or column.computed is not None or column.identity is not None
    return isinstance(made_by, FetchedValue) and not is_declared


def wanted_at_once(batch: Batch) -> tuple[str, ...]:
    """Return which unknown attributes are read after the flush: all of an eager mapper, else a version.

    The next write of a row needs to know its version.
    """
    mapper, unknown = batch.mapper, batch.unknown
    if not unknown or mapper is None:
        return ()
    if mapper.eager_defaults is True:
        return unknown
    version = columns_of(mapper).made_version
    return (version.key,) if version is not None and version.key in unknown else ()


def missing_keys(batch: Batch) -> list[Column[Any]]:
    """Return the columns of the primary key that get no value from the batch, or only a SQL expression."""
    written = set(batch.shape.columns)
    return [column for column in batch.shape.returning if column not in written]


def unknown_key(batch: Batch) -> FlushError:
    """Return the error for a row that gets a key by a SQL expression whose value cannot come back."""
    names = " and ".join(batch.returned)
    return FlushError(
        f"{batch.states[0].describe()} gets a SQL expression as {names}, which is part of the primary key, and table "
        f"{batch.table.name!r} cannot return its value (implicit_returning=False); set a value"
    )


def key_question(batch: Batch, column: Column[Any], engine: AsyncEngine, schemas: SchemaMap | None) -> Select[Any]:
    """Return the SELECT that makes a value for a key column."""
    expression = batch.expressions.get(column)
    if expression is None:
        expression = next_value(column, engine.dialect, schemas)
    if expression is None:
        raise FlushError(
            f"the key column {column} is made by the database, and table {batch.table.name!r} cannot return it; "
            f"give it a default that can be asked for beforehand: default=func.something(), a Sequence, or a "
            f"Python callable"
        )
    return select(expression)


def with_keys(batch: Batch, columns: Sequence[Column[Any]], values: Sequence[list[Any]]) -> Batch:
    """Return *batch* with values for the key columns that it lacked."""
    mapper = batch.mapper
    expressions = {column: value for column, value in batch.expressions.items() if column not in columns}
    places = range(len(batch.shape.columns), len(batch.shape.columns) + len(columns))
    names = [] if mapper is None else [mapper.attribute_of(column).key for column in columns]
    return replace(
        batch,
        shape=replace(batch.shape, columns=(*batch.shape.columns, *columns), returning=()),
        values=(*batch.values, *values),
        decided=(*batch.decided, *zip(names, places, strict=True)),
        returned=(),
        expressions=expressions,
        statement=insert(batch.table).values(expressions).inline() if expressions else None,
    )
