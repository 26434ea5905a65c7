"""Send a plan: batch after batch, each in the form that its database takes best.

Values are converted before anything is sent, as far as they are known by then. Nothing is changed in memory: what came
back is returned, and a failure leaves all objects as they were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Final, cast

from aiosession.aio import together
from aiosession.drivers.protocol import Answer, Request, Wire
from aiosession.errors import DatabaseError, DataError, StaleDataError
from aiosession.sql.combined import CombinedStatement, Member, combined_statement, stale_member
from aiosession.sql.keys import LAST_NUMBER, asked_at_once, counts_by_itself
from aiosession.sql.writes import WriteKind, WriteStatement, write_statements
from aiosession.state.state import EntityState
from aiosession.transaction.bind import Bind, BindTransaction
from aiosession.transaction.context import SessionContext
from aiosession.transaction.operation import Operation
from aiosession.unit_of_work.checks import named
from aiosession.unit_of_work.dispatching import Dispatch, Form, converted, counted_up, dispatched, schemas_of
from aiosession.unit_of_work.fetching import key_question, missing_keys, wanted_at_once, with_keys
from aiosession.unit_of_work.plan import Batch, FlushPlan, Generated
from aiosession.unit_of_work.together import Sending, is_known, send_together

ReturnedRow = tuple[object, ...]


_MOST_LONE_ROWS: Final = 10_000
"""More rows than this are written in a transaction: round trips do not matter, and it may take as long as it takes."""
_MOST_COMBINED: Final = 8
_SINGLE: Final = frozenset({Form.ROW, Form.ARRAYS, Form.EXPRESSION})
"""Forms that are one statement."""
_PIPED: Final = frozenset({Form.ROW, Form.ARRAYS})
"""Forms that are one statement whose text is known beforehand."""


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
        found.append(dispatched(batch, bind))
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
    by_bind = _by_bind(dispatches)
    if len(by_bind) == 1:
        outcome.written += await _send_all(ctx, plan, dispatches, outcome, is_lone=is_lone)
    else:
        outcome.written += await _send_everywhere(ctx, plan, by_bind, outcome)
    return outcome


def _by_bind(dispatches: Sequence[Dispatch]) -> list[list[Dispatch]]:
    """Return the dispatches of each bind; all in one list if some wait for what another database makes."""
    found: dict[Bind, list[Dispatch]] = {}
    makers: dict[EntityState, Bind] = {}
    for each in dispatches:
        found.setdefault(each.bind, []).append(each)
        for place in each.batch.deferred:
            for value in each.batch.values[place]:
                if type(value) is Generated and makers.get(value.state) is not each.bind:
                    return [list(dispatches)]
        makers.update(dict.fromkeys(each.batch.states, each.bind))
    return list(found.values())


async def _send_everywhere(
    ctx: SessionContext, plan: FlushPlan, groups: Sequence[Sequence[Dispatch]], outcome: Outcome
) -> list[Written]:
    """Send to several databases side by side; transactions begin one after the other before that."""
    for group in groups:
        batch = group[0].batch
        await ctx.wire(mapper=batch.mapper, clause=batch.table, pure=False, token=batch.token)
    found = await together([_send_all(ctx, plan, group, outcome, is_lone=False) for group in groups])
    return [written for group in found for written in group]


async def _send_all(
    ctx: SessionContext, plan: FlushPlan, dispatches: Sequence[Dispatch], outcome: Outcome, *, is_lone: bool
) -> list[Written]:
    """Send one batch after the other, or several at once where the driver can."""
    sent: list[Written] = []
    while len(sent) < len(dispatches):
        batch = dispatches[len(sent)].batch
        _, wire = await ctx.wire(mapper=batch.mapper, clause=batch.table, pure=False, lone=is_lone, token=batch.token)
        group = dispatches[len(sent) : len(sent) + 1]
        if isinstance(wire, BindTransaction):
            group = _sent_together(dispatches, len(sent), outcome)
        try:
            if len(group) == 1:
                found = [await _send(group[0], wire, outcome)]
            else:
                ready = [_sending(each, *_ready(each, outcome)) for each in group]
                found = await send_together(cast("BindTransaction", wire), ready)
        except DataError as error:
            raise _noting(batch, named(_suspects(group, error), outcome.made, error)) from error
        except Exception as error:
            _noting(batch, error)
            raise
        sent += found
        for written in found:
            _note_made(plan.awaited, written, outcome)
    return sent


def _sent_together(dispatches: Sequence[Dispatch], start: int, outcome: Outcome) -> Sequence[Dispatch]:
    """Return the dispatches from *start* on that can be sent without waiting for an answer in between."""
    end, first = start + 1, dispatches[start]
    if first.engine.capabilities.pipelines and first.form in _PIPED:
        while (
            end < len(dispatches)
            and dispatches[end].form in _PIPED
            and dispatches[end].bind is first.bind
            and is_known(dispatches[end].batch, outcome.made)
        ):
            end += 1
    return dispatches[start:end]


def _suspects(group: Sequence[Dispatch], error: DataError) -> list[Batch]:
    """Return the batches whose statement it may be that failed."""
    if len(group) == 1:
        return [group[0].batch]
    return [each.batch for each in group if each.statement is not None and each.statement.sql == error.statement]


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
    return combined_statement(write_statements(engine.dialect, schemas_of(engine)), tuple(members))


async def _send_combined(
    ctx: SessionContext, combined: CombinedStatement, dispatches: Sequence[Dispatch]
) -> list[Written]:
    batch = dispatches[0].batch
    _, wire = await ctx.wire(mapper=batch.mapper, clause=batch.table, pure=False, lone=True, token=batch.token)
    try:
        rows = await wire.fetch(combined.sql, combined.parameters([_parameters(each) for each in dispatches]))
    except DatabaseError as error:
        _noting(batch, error)
        stale = stale_member(str(error.orig))
        if stale is None and isinstance(error, DataError):
            raise named((each.batch for each in dispatches), {}, error) from error
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


# Sending --------------------------------------------------------------------------------------------------------------


async def _send(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    batch = dispatch.batch
    if dispatch.form is Form.KEYED:
        return await _send_keyed(dispatch, wire, outcome)
    values, processed = _ready(dispatch, outcome)
    statement = dispatch.statement
    if statement is None:
        return await _send_expression(dispatch, wire, values)
    if dispatch.form is Form.EACH:
        found = await wire.fetch_each(statement.sql, statement.of_rows(processed, batch.count))
        met = [row for each in found for row in each]
        _check(batch, len(met))
        return Written(batch, values, statement.results(met) if batch.returned else ())
    if dispatch.form is Form.MANY:
        _check(batch, await wire.execute_many(statement.sql, statement.of_rows(processed, batch.count)))
        return Written(batch, values, ())
    sending = _sending(dispatch, values, processed)
    request = sending.request
    if request.fetches:
        return sending.read(await wire.fetch(request.sql, request.parameters))
    return sending.read(await wire.execute(request.sql, request.parameters))


def _ready(dispatch: Dispatch, outcome: Outcome) -> tuple[list[list[Any]], list[list[Any]]]:
    """Return the values of a batch, with what the database has made by now, as they are and as they are sent."""
    batch, statement = dispatch.batch, dispatch.statement
    values = [
        outcome.resolve(column) if place in batch.deferred else column for place, column in enumerate(batch.values)
    ]
    if statement is None:
        return values, []
    return values, [
        converted(batch, dispatch.engine, statement, place, values[place]) if column is None else column
        for place, column in enumerate(dispatch.processed)
    ]


def _sending(dispatch: Dispatch, values: list[list[Any]], processed: list[list[Any]]) -> Sending[Written]:
    """Return the one statement that writes a batch."""
    batch, statement = dispatch.batch, cast("WriteStatement", dispatch.statement)
    is_array = dispatch.form is Form.ARRAYS
    parameters = statement.of_columns(processed) if is_array else statement.of_row(processed)

    def read(answer: Answer) -> Written:
        if isinstance(answer, int):
            _check(batch, answer)
            return Written(batch, values, ())
        rows = statement.results(answer)
        _check(batch, len(rows))
        return Written(batch, values, _in_order(batch, values, rows) if is_array else rows)

    return Sending(Request(statement.sql, parameters, bool(batch.shape.returning)), read)


def _noting(batch: Batch, error: Exception) -> Exception:
    """Return *error*, which says where it came up if there are several places."""
    if batch.token is not None:
        error.add_note(f"on shard {batch.token!r}")
    return error


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
    compiled, extracted = engine.statements.compile(statement, schema_translate_map=schemas_of(engine))
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
        schemas = schemas_of(engine)
        question = key_question(batch, column, engine, schemas)
        at_once = asked_at_once(question, batch.count, engine.dialect)
        statement = question if at_once is None else at_once
        compiled, extracted = engine.statements.compile(statement, schema_translate_map=schemas)
        sql, parameters = compiled.bind(None, extracted)
        found = await wire.fetch_each(sql, [parameters] * (batch.count if at_once is None else 1))
        made.append([value for rows in found for (value,) in compiled.process(rows)])
    return await _send(dispatched(with_keys(batch, missing, made), dispatch.bind), wire, outcome)


async def _send_counted(dispatch: Dispatch, wire: Wire, outcome: Outcome) -> Written:
    """Send rows one by one and ask for the number that each one got."""
    batch = dispatch.batch
    rows: list[ReturnedRow] = []
    values: list[list[Any]] = [[] for _ in batch.values]
    silent = replace(batch, shape=replace(batch.shape, returning=()), returned=())
    for number in range(batch.count):
        row = tuple([column[number]] for column in batch.values)
        one = replace(silent, values=row, count=1, states=[batch.states[number]])
        written = await _send(dispatched(one, dispatch.bind), wire, outcome)
        for column, (value,) in zip(values, written.values, strict=True):
            column.append(value)
        rows += [tuple(row) for row in await wire.fetch(LAST_NUMBER[dispatch.engine.dialect.name])]
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
    numbered = counted_up(batch)
    places = {column: place for place, column in enumerate(returning)}
    if numbered is not None:
        return sorted(rows, key=itemgetter(places[numbered]))
    key = () if mapper is None else mapper.primary_key
    by_key = {tuple([row[places[column]] for column in key]): row for row in rows}
    split = len(batch.shape.columns)
    written = dict(zip(batch.shape.match, values[split:], strict=True))
    written.update(zip(batch.shape.columns, values, strict=False))
    return [by_key.get(sent) for sent in zip(*(written[column] for column in key), strict=True)]


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
