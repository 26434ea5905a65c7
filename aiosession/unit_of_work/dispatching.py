"""How does each batch travel? Its database, its form, its statement, and its values as the driver takes them."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, cast

from sqlalchemy import Column

from aiosession.engine.engine import AsyncEngine
from aiosession.errors import FlushError
from aiosession.sql.schemas import SchemaMap
from aiosession.sql.writes import WriteKind, WriteShape, WriteStatement, write_statements
from aiosession.transaction.bind import Bind
from aiosession.unit_of_work.checks import refused
from aiosession.unit_of_work.columns import columns_of
from aiosession.unit_of_work.fetching import can_return, fetchable, unknown_key
from aiosession.unit_of_work.plan import Batch


class Form(Enum):
    """How the rows of a batch travel."""

    ROW = "one row, one parameter per column"
    ARRAYS = "any number of rows, one array per column"
    MANY = "a statement per row, nothing comes back"
    EACH = "a statement per row, rows come back"
    EXPRESSION = "one row with SQL expressions"
    KEYED = "keys are asked for apart from the rows, which return nothing"


@dataclass(slots=True, eq=False)
class Dispatch:
    """A batch made ready for its database."""

    batch: Batch
    bind: Bind
    engine: AsyncEngine
    form: Form
    statement: WriteStatement | None
    processed: list[list[Any] | None]
    """Converted values by column; None where a value is still to come."""


def dispatched(planned: Batch, bind: Bind) -> Dispatch:
    """Make a batch ready for its database."""
    engine = bind if isinstance(bind, AsyncEngine) else bind.engine
    batch = fetchable(planned, engine)
    if batch.returned and not can_return(batch, engine):
        if batch.kind is not WriteKind.INSERT:
            raise unknown_key(batch)
        return Dispatch(batch, bind, engine, Form.KEYED, None, [])
    if batch.statement is not None:
        return Dispatch(batch, bind, engine, Form.EXPRESSION, None, [])
    form, shape = _form(batch, engine)
    statements = write_statements(engine.dialect, schemas_of(engine))
    statement = statements.for_arrays(shape) if form is Form.ARRAYS else statements.for_row(shape)
    if statement is None:
        raise FlushError(f"{batch.kind.value} on table {batch.table.name!r} cannot be sent as arrays")
    processed = [
        None if place in batch.deferred else converted(batch, engine, statement, place, values)
        for place, values in enumerate(batch.values)
    ]
    return Dispatch(batch, bind, engine, form, statement, processed)


def schemas_of(engine: AsyncEngine) -> SchemaMap | None:
    """Return the translation of schema names of an engine."""
    return cast("SchemaMap | None", engine.settings.options.get("schema_translate_map"))


def _form(batch: Batch, engine: AsyncEngine) -> tuple[Form, WriteShape]:
    shape, can = batch.shape, engine.capabilities
    if batch.count == 1:
        return Form.ROW, shape
    if (
        can.arrays
        and _can_tell_rows_apart(batch)
        and write_statements(engine.dialect, schemas_of(engine)).for_arrays(shape) is not None
    ):
        return Form.ARRAYS, shape
    if shape.returning:
        return Form.EACH, shape
    if batch.is_counted and batch.kind is not WriteKind.INSERT and not can.counts_many:
        return Form.EACH, replace(shape, returning=shape.match)
    return Form.MANY, shape


def _can_tell_rows_apart(batch: Batch) -> bool:
    """Whether returned rows, whose order is not promised, can be told apart: numbered in order, or by a known key."""
    shape, mapper = batch.shape, batch.mapper
    if not shape.returning or mapper is None:
        return True
    if batch.kind is not WriteKind.INSERT:
        return set(shape.returning).issuperset(mapper.primary_key)
    if counted_up(batch) is not None:
        return True
    return set(shape.columns).issuperset(mapper.primary_key)


def converted(batch: Batch, engine: AsyncEngine, statement: WriteStatement, place: int, values: list[Any]) -> list[Any]:
    """Return the values of a column as the driver takes them; `DataError` for one that its type cannot convert."""
    try:
        return statement.process(place, values)
    except Exception as error:
        hidden = engine.statements.hide_parameters
        raise refused(batch, statement, place, values, hidden=hidden) from (None if hidden else error)


def counted_up(batch: Batch) -> Column[Any] | None:
    """Return the column by which returned rows can be sorted: the database counts it up and tells the numbers."""
    if batch.mapper is None or batch.kind is not WriteKind.INSERT:
        return None
    numbered = columns_of(batch.mapper).numbered
    is_told = numbered in set(batch.shape.returning) and numbered not in set(batch.shape.columns)
    return numbered if is_told else None
