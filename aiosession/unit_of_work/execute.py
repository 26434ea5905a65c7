"""Send a plan: batch after batch, each in the form that its database takes best.

Values are converted before anything is sent, as far as they are known by then. Nothing is changed in memory: what came
back is returned, and a failure leaves all objects as they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from operator import itemgetter
from typing import Any, Final, cast

from sqlalchemy import Column

from aiosession.drivers.protocol import Wire
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import DatabaseError, DataError, FlushError, StaleDataError
from aiosession.sql.combined import CombinedStatement, Member, combined_statement, stale_member
from aiosession.sql.keys import asked_at_once, counts_by_itself
from aiosession.sql.schemas import SchemaMap
from aiosession.sql.writes import WriteKind, WriteShape, WriteStatement, write_statements
from aiosession.state.state import EntityState
from aiosession.transaction.bind import Bind
from aiosession.transaction.context import SessionContext
from aiosession.transaction.operation import Operation
from aiosession.unit_of_work.checks import complaint
from aiosession.unit_of_work.columns import columns_of
from aiosession.unit_of_work.fetching import (
    can_return,
    fetchable,
    key_question,
    missing_keys,
    unknown_key,
    wanted_at_once,
    with_keys,
)
from aiosession.unit_of_work.plan import Batch, FlushPlan, Generated

ReturnedRow = tuple[object, ...]


class Form(Enum):
    """How the rows of a batch travel."""

    ROW = "one row, one parameter per column"
    ARRAYS = "any number of rows, one array per column"
    MANY = "a statement per row, nothing comes back"
    EACH = "a statement per row, rows come back"
    EXPRESSION = "one row with SQL expressions"
    KEYED = "keys are asked for apart from the rows, which return nothing"


_MOST_LONE_ROWS: Final = 10_000
"""More rows than this are written in a transaction: round trips do not matter, and it may take as long as it takes."""
_MOST_COMBINED: Final = 8
_SINGLE: Final = frozenset({Form.ROW, Form.ARRAYS, Form.EXPRESSION})
"""Forms that are one statement."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """A batch that was sent, with the values that were to come, and what came back."""

    batch: Batch
    values: Sequence[list[Any]]
    returned: Sequence[ReturnedRow | None]
    """For each row the values of the shape's ``returning``; None where it could not be told which they are."""


@dataclass(slots=True, eq=False)
class Outcome:
    """What came of a plan."""

    written: list[Written] = field(default_factory=list)
    made: dict[Generated, Any] = field(default_factory=dict)
    """The values that the database made and that other rows waited for."""

    def resolve(self, values: list[Any]) -> list[Any]:
        """Return *values* with what the database made in place of what stood for it."""
        made = self.made
        return [made[value] if type(value) is Generated else value for value in values]


async def route(ctx: SessionContext, plan: FlushPlan) -> list[Dispatch]:
    """Find the database of each batch and convert what is known; nothing is sent."""
    binds: dict[object, Bind] = {}
    found: list[Dispatch] = []
    for batch in plan:
        place = (batch.mapper or batch.table) if batch.token is None else batch.token
        bind = binds.get(place)
        if bind is None:
            bind = await ctx.bind(Operation.FLUSH, mapper=batch.mapper, clause=batch.table, token=batch.token)
            binds[place] = bind
        found.append(_dispatch(batch, bind))
    return found


async def execute_plan(ctx: SessionContext, plan: FlushPlan) -> Outcome:
    """Send everything in order; StaleDataError if rows are not met as they should be."""
    dispatches = await route(ctx, plan)
    outcome = Outcome()
    is_lone = ctx.allows_lone_write and plan.row_count <= _MOST_LONE_ROWS
    if is_lone and plan.needs_transaction:
        combined = _combined(dispatches)
        if combined is not None:
            outcome.written += await _send_combined(ctx, combined, dispatches)
            return outcome
        is_lone = False
    is_lone = is_lone and all(map(_is_lone, dispatches))
    for dispatch in dispatches:
        batch = dispatch.batch
        _, wire = await ctx.wire(mapper=batch.mapper, clause=batch.table, pure=False, lone=is_lone, token=batch.token)
        try:
            written = await (_send if batch.token is None else _send_noting)(dispatch, wire, outcome)
        except DataError as error:
            raise _named(batch, outcome, error) from error
        outcome.written.append(written)
        _note_made(plan.awaited, written, outcome)
    return outcome


def _combined(dispatches: Sequence[Dispatch]) -> CombinedStatement | None:
    """Return the one statement that does what *dispatches* do one after the other, if there is one."""
    engine = dispatches[0].engine
    is_wanted = engine.capabilities.combines_writes and engine.options.get("combine_writes", True)
    if not is_wanted or len(dispatches) > _MOST_COMBINED:
        return None
    members: list[Member] = []
    for each in dispatches:
        batch = each.batch
        if each.bind is not engine or each.statement is None or batch.deferred or not _is_lone(each):
            return None
        is_counted = batch.is_counted and (batch.kind is not WriteKind.INSERT or bool(batch.shape.returning))
        members.append(Member(batch.shape, each.form is Form.ARRAYS, is_counted))
    return combined_statement(write_statements(engine.dialect, _schemas(engine)), tuple(members))


async def _send_combined(
    ctx: SessionContext, combined: CombinedStatement, dispatches: Sequence[Dispatch]
) -> list[Written]:
    batch = dispatches[0].batch
    _, wire = await ctx.wire(mapper=batch.mapper, clause=batch.table, pure=False, lone=True, token=batch.token)
    try:
        rows = await wire.fetch(combined.sql, combined.parameters([_parameters(each) for each in dispatches]))
    except DatabaseError as error:
        _note_place(batch, error)
        stale = stale_member(str(error.orig))
        if stale is None and isinstance(error, DataError):
            raise _named_among(dispatches, error) from error
        if stale is None:
            raise
        number, matched = stale
        raise _stale(dispatches[number].batch, matched) from error
    return [
        _written(each, [tuple(row[place]) for row in rows])
        for each, place in zip(dispatches, combined.splits, strict=True)
    ]


def _parameters(dispatch: Dispatch) -> list[object]:
    """Return the values of a member of a combined statement, and the number of rows that it has to write."""
    is_array = dispatch.form is Form.ARRAYS
    values: list[object] = [column if is_array else column and column[0] for column in dispatch.processed]
    return [*values, dispatch.batch.count]


def _written(dispatch: Dispatch, rows: Sequence[ReturnedRow]) -> Written:
    """Return what came of a member of a combined statement, whose part of *rows* is repeated if it wrote one row."""
    batch = dispatch.batch
    if not batch.shape.returning or dispatch.statement is None:
        return Written(batch, batch.values, ())
    if dispatch.form is not Form.ARRAYS:
        return Written(batch, batch.values, dispatch.statement.results(rows[:1]))
    return Written(batch, batch.values, _in_order(batch, batch.values, dispatch.statement.results(rows)))


def _is_lone(dispatch: Dispatch) -> bool:
    """Whether a batch is one statement, after which nothing is read."""
    return dispatch.form in _SINGLE and not wanted_at_once(dispatch.batch)


# Making ready ---------------------------------------------------------------------------------------------------------


def _dispatch(planned: Batch, bind: Bind) -> Dispatch:
    engine = bind if isinstance(bind, AsyncEngine) else bind.engine
    batch = fetchable(planned, engine)
    if batch.returned and not can_return(batch, engine):
        if batch.kind is not WriteKind.INSERT:
            raise unknown_key(batch)
        return Dispatch(batch, bind, engine, Form.KEYED, None, [])
    if batch.statement is not None:
        return Dispatch(batch, bind, engine, Form.EXPRESSION, None, [])
    form, shape = _form(batch, engine)
    statements = write_statements(engine.dialect, _schemas(engine))
    statement = statements.for_arrays(shape) if form is Form.ARRAYS else statements.for_row(shape)
    if statement is None:
        raise FlushError(f"{batch.kind.value} on table {batch.table.name!r} cannot be sent as arrays")
    processed = [
        None if place in batch.deferred else _converted(batch, engine, statement, place, values)
        for place, values in enumerate(batch.values)
    ]
    return Dispatch(batch, bind, engine, form, statement, processed)


def _schemas(engine: AsyncEngine) -> SchemaMap | None:
    return cast("SchemaMap | None", engine.settings.options.get("schema_translate_map"))


def _form(batch: Batch, engine: AsyncEngine) -> tuple[Form, WriteShape]:
    shape, can = batch.shape, engine.capabilities
    if batch.count == 1:
        return Form.ROW, shape
    if (
        can.arrays
        and _can_tell_rows_apart(batch)
        and write_statements(engine.dialect, _schemas(engine)).for_arrays(shape) is not None
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
    if _counted_up(batch) is not None:
        return True
    return set(shape.columns).issuperset(mapper.primary_key)


def _converted(
    batch: Batch, engine: AsyncEngine, statement: WriteStatement, place: int, values: list[Any]
) -> list[Any]:
    try:
        return statement.process(place, values)
    except Exception as error:
        hidden = engine.statements.hide_parameters
        raise _refused(batch, statement, place, values, hidden=hidden) from (None if hidden else error)


def _refused(batch: Batch, statement: WriteStatement, place: int, values: list[Any], *, hidden: bool) -> DataError:
    """Return the error for the value that its type could not convert."""
    name = _name_of(batch, statement.inputs[place])
    for value in values:
        try:
            statement.process(place, [value])
        except Exception as error:
            why = "" if hidden else f": {error}"
            reason = TypeError(f"{name} cannot hold {_shown(value, hidden=hidden)}{why}")
            return DataError(statement.sql, (value,), reason, hide_parameters=hidden)
    return DataError(statement.sql, None, TypeError(f"{name} cannot hold one of its values"))


def _shown(value: object, *, hidden: bool) -> str:
    return f"a value of type {type(value).__name__}" if hidden else repr(value)


def _name_of(batch: Batch, column: Column[Any]) -> str:
    """Name the attribute that holds a column, or the column if none does."""
    mapper = batch.mapper
    attribute = None if mapper is None else mapper.by_column.get(column)
    return str(column) if attribute is None else f"{attribute.mapper.name}.{attribute.key}"


def _named(batch: Batch, outcome: Outcome, error: DataError) -> DataError:
    """Return an error that names the attribute and the value that a database refused, where that can be seen."""
    for column, values in zip((*batch.shape.columns, *batch.shape.match), batch.values, strict=True):
        for value in (outcome.made.get(each) if type(each) is Generated else each for each in values):
            reason = None if value is None else complaint(column.type, value)
            if reason is not None:
                name = _name_of(batch, column)
                hidden = error.hide_parameters
                what = ValueError(f"{name} cannot hold {_shown(value, hidden=hidden)}: {reason}")
                return DataError(error.statement, (value,), what, hide_parameters=hidden)
    return error


def _named_among(dispatches: Sequence[Dispatch], error: DataError) -> DataError:
    """Return an error that names the attribute and the value of one of several batches, where that can be seen."""
    found = (_named(dispatch.batch, Outcome(), error) for dispatch in dispatches)
    return next((each for each in found if each is not error), error)


# Sending --------------------------------------------------------------------------------------------------------------


async def _send(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    batch = dispatch.batch
    if dispatch.form is Form.KEYED:
        return await _send_keyed(dispatch, wire, outcome)
    values = [
        outcome.resolve(column) if place in batch.deferred else column for place, column in enumerate(batch.values)
    ]
    if dispatch.statement is None:
        return await _send_expression(dispatch, wire, values)
    statement = dispatch.statement
    processed = [
        _converted(batch, dispatch.engine, statement, place, values[place]) if column is None else column
        for place, column in enumerate(dispatch.processed)
    ]
    if dispatch.form is Form.EACH:
        found = await wire.fetch_each(statement.sql, statement.of_rows(processed, batch.count))
        met = [row for each in found for row in each]
        _check(batch, len(met))
        return Written(batch, values, statement.results(met) if batch.returned else ())
    if dispatch.form is Form.MANY:
        _check(batch, await wire.execute_many(statement.sql, statement.of_rows(processed, batch.count)))
        return Written(batch, values, ())
    parameters = statement.of_columns(processed) if dispatch.form is Form.ARRAYS else statement.of_row(processed)
    if not batch.shape.returning:
        _check(batch, await wire.execute(statement.sql, parameters))
        return Written(batch, values, ())
    rows = statement.results(await wire.fetch(statement.sql, parameters))
    _check(batch, len(rows))
    return Written(batch, values, _in_order(batch, values, rows) if dispatch.form is Form.ARRAYS else rows)


async def _send_noting(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    """Send a batch to one of several databases; an error says which one that was."""
    try:
        return await _send(dispatch, wire, outcome)
    except Exception as error:
        _note_place(dispatch.batch, error)
        raise


def _note_place(batch: Batch, error: Exception) -> None:
    if batch.token is not None:
        error.add_note(f"on shard {batch.token!r}")


async def _send_expression(dispatch: Dispatch, wire: Wire, values: Sequence[list[Any]]) -> Written:
    """Send one row with SQL expressions, as a statement of Core's."""
    batch, shape = dispatch.batch, dispatch.batch.shape
    statement: Any = batch.statement
    split = len(shape.columns)
    plain = {column: column_values[0] for column, column_values in zip(shape.columns, values, strict=False)}
    if plain:
        statement = statement.values(plain)
    for column, column_values in zip(shape.match, values[split:], strict=True):
        statement = statement.where(column == column_values[0])
    if shape.returning:
        statement = statement.returning(*shape.returning)
    engine = dispatch.engine
    compiled, extracted = engine.statements.compile(statement, schema_translate_map=_schemas(engine))
    sql, parameters = compiled.bind(None, extracted)
    if not shape.returning:
        _check(batch, await wire.execute(sql, parameters))
        return Written(batch, values, ())
    rows = compiled.process(await wire.fetch(sql, parameters))
    _check(batch, len(rows))
    return Written(batch, values, rows)


async def _send_keyed(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    """Send rows that return nothing, with keys that the database made before; or that it counts as rows come in."""
    batch, engine = dispatch.batch, dispatch.engine
    missing = missing_keys(batch)
    if len(missing) == 1 and missing[0] not in batch.expressions and counts_by_itself(missing[0], engine.dialect):
        return await _send_counted(dispatch, wire, outcome)
    made: list[list[Any]] = []
    for column in missing:
        schemas = _schemas(engine)
        question = key_question(batch, column, engine, schemas)
        at_once = asked_at_once(question, batch.count, engine.dialect)
        statement = question if at_once is None else at_once
        compiled, extracted = engine.statements.compile(statement, schema_translate_map=schemas)
        sql, parameters = compiled.bind(None, extracted)
        found = await wire.fetch_each(sql, [parameters] * (batch.count if at_once is None else 1))
        made.append([value for rows in found for (value,) in compiled.process(rows)])
    return await _send(_dispatch(with_keys(batch, missing, made), dispatch.bind), wire, outcome)


async def _send_counted(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    """Send rows one by one and ask for the number that each one got."""
    batch = dispatch.batch
    rows: list[ReturnedRow] = []
    values: list[list[Any]] = [[] for _ in batch.values]
    silent = replace(batch, shape=replace(batch.shape, returning=()), returned=())
    for number in range(batch.count):
        row = tuple([column[number]] for column in batch.values)
        one = replace(silent, values=row, count=1, states=[batch.states[number]])
        written = await _send(_dispatch(one, dispatch.bind), wire, outcome)
        for column, (value,) in zip(values, written.values, strict=True):
            column.append(value)
        rows += [tuple(row) for row in await wire.fetch("SELECT last_insert_rowid()")]
    (key,) = missing_keys(batch)
    name = batch.returned[batch.shape.returning.index(key)]
    return Written(replace(batch, returned=(name,)), values, rows)


def _check(batch: Batch, matched: int) -> None:
    if not batch.is_counted or matched in (-1, batch.count):
        return
    if batch.kind is WriteKind.INSERT and not batch.shape.returning:
        return  # some databases count otherwise where triggers or rules write
    raise _stale(batch, matched)


def _stale(batch: Batch, matched: int) -> StaleDataError:
    return StaleDataError(
        table=batch.table.fullname,
        operation=batch.kind.value,
        expected=batch.count,
        matched=matched,
        objects=_described(batch),
    )


def _described(batch: Batch) -> list[str]:
    """Name the objects of a batch, with the version that each row was expected to have."""
    version = None if batch.mapper is None else batch.mapper.version_id
    if version is None or version.column not in batch.shape.match:
        return [state.describe() for state in batch.states]
    versions = batch.values[len(batch.shape.columns) + batch.shape.match.index(version.column)]
    return [
        f"{state.describe()} with {version.key}={value!r}" for state, value in zip(batch.states, versions, strict=True)
    ]


# What comes back ------------------------------------------------------------------------------------------------------


def _in_order(batch: Batch, values: Sequence[list[Any]], rows: list[ReturnedRow]) -> Sequence[ReturnedRow | None]:
    """Return *rows* in the order in which they were sent.

    RETURNING promises no order. But rows are inserted in the order of their ordinality, and the numbers of a sequence
    or identity column are taken one by one as they are inserted, each higher than the one before: sorted by number,
    the rows are in the order in which they were sent. Rows whose keys were known are found by their keys.
    """
    mapper, returning = batch.mapper, batch.shape.returning
    numbered = _counted_up(batch)
    places = {column: place for place, column in enumerate(returning)}
    if numbered is not None:
        return sorted(rows, key=itemgetter(places[numbered]))
    key = () if mapper is None else mapper.primary_key
    by_key = {tuple([row[places[column]] for column in key]): row for row in rows}
    split = len(batch.shape.columns)
    written = dict(zip(batch.shape.match, values[split:], strict=True))
    written.update(zip(batch.shape.columns, values, strict=False))
    return [by_key.get(sent) for sent in zip(*(written[column] for column in key), strict=True)]


def _counted_up(batch: Batch) -> Column[Any] | None:
    """Return the column by which returned rows can be sorted: the database counts it up and tells the numbers."""
    if batch.mapper is None or batch.kind is not WriteKind.INSERT:
        return None
    numbered = columns_of(batch.mapper).numbered
    is_told = numbered in set(batch.shape.returning) and numbered not in set(batch.shape.columns)
    return numbered if is_told else None


def _note_made(awaited: Mapping[EntityState, Sequence[Generated]], written: Written, outcome: Outcome) -> None:
    """Take down the values that later rows wait for."""
    batch = written.batch
    if not awaited or batch.mapper is None:
        return
    by_column = batch.mapper.by_column
    sent = {by_column[column].key: place for place, column in enumerate(batch.shape.columns) if column in by_column}
    places = {name: place for place, name in enumerate(batch.returned)}
    for number, state in enumerate(batch.states):
        for generated in awaited.get(state, ()):
            row = written.returned[number] if written.returned else None
            name = generated.attribute
            if row is not None and name in places:
                outcome.made[generated] = row[places[name]]
            elif name in sent:
                outcome.made[generated] = written.values[sent[name]][number]
