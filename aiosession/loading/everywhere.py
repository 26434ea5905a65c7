"""Ask several databases the same SELECT, side by side, and return one result."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.execution import AnyResult, OneRow, prepare
from aiosession.engine.execution import shape_of as shape_of_compiled
from aiosession.engine.result import Result
from aiosession.engine.row import ResultShape
from aiosession.errors import ArgumentError
from aiosession.loading.criteria import propagated
from aiosession.loading.hydrate import LoadRun, Row
from aiosession.loading.known import queries
from aiosession.loading.merging import Merge, Part, Values, merge_of, without_keys
from aiosession.loading.places import at_places
from aiosession.loading.relations import follow
from aiosession.sql.purity import is_pure
from aiosession.state.group import LoadGroup
from aiosession.state.state import STATE_KEY, EntityState
from aiosession.transaction.context import SessionContext


async def select_everywhere(
    context: SessionContext,
    statement: Any,
    parameters: OneRow | None,
    runs: Mapping[object, LoadRun],
    *,
    flushes: bool,
) -> AnyResult:
    """Return the rows of all places in *runs*, which say what loading means in each."""
    engine = await context.engine(token=next(iter(runs)))
    merge = merge_of(statement, parameters, engine.dialect)
    shape, collapses = _shape(engine, statement)
    if collapses and merge.is_cut:
        raise ArgumentError(
            "rows of several shards with contains_eager() of a collection cannot be limited: the rows of one object "
            "would be cut apart; use selectinload() for the collection"
        )
    if flushes:
        await context.autoflush()
    work = {token: partial(_part, context, merge, parameters, run) for token, run in runs.items()}
    rows = merge.rows(await at_places(context, work, pure=is_pure(statement), clause=statement), shape)
    if collapses:
        rows = list({id(row[0]): row for row in rows}.values())
    for place in shape.entities:
        _make_siblings([row[place] for row in rows])
    return Result(shape, rows)


def _make_siblings(objects: Sequence[Any]) -> None:
    """Have what objects lack loaded for all of them at once, wherever they are from."""
    states = [entity.__dict__[STATE_KEY] for entity in objects if entity is not None]
    groups = dict.fromkeys(state.group for state in states if state.group is not None)
    if len(groups) < 2:
        return
    joined: LoadGroup[EntityState] = LoadGroup()
    for group in groups:
        joined.criteria = group.criteria
        for state in group.states:
            if state.group is group:
                state.group = joined
                joined.states.append(state)


def _shape(engine: AsyncEngine, statement: core.AnySelect) -> tuple[ResultShape, bool]:
    """Return the shape of the result, and whether one object may come in several rows."""
    if core.mentions_entity(statement):
        plan = queries.find(statement).shape.plan(engine, statement)
        columns, shape, collapses = plan.compiled.columns, plan.shape, plan.collapses
    else:
        compiled, _ = engine.statements.compile(statement)
        columns, shape, collapses = compiled.columns, shape_of_compiled(compiled), False
    if not columns:
        raise ArgumentError(
            "rows of several shards can only be put together if their columns are known: select columns, or "
            "literal_column(), in place of text() and *"
        )
    return shape, collapses


async def _part(context: SessionContext, merge: Merge, parameters: OneRow | None, run: LoadRun) -> Part:
    """Return the rows of one place."""
    fetch = _objects if core.mentions_entity(merge.statement) else _values
    raw, rows = await fetch(context, merge.statement, parameters, run)
    count = len(merge.terms)
    keys = [tuple(row)[len(row) - count :] for row in raw] if count else ()
    return Part(list(without_keys(rows, count)), keys)


async def _objects(
    context: SessionContext, statement: core.AnySelect, parameters: OneRow | None, run: LoadRun
) -> tuple[Sequence[Row], Sequence[Values]]:
    known = queries.find(statement)
    engine, wire = await context.wire(
        mapper=known.shape.mapper, clause=statement, pure=known.shape.pure, token=run.token
    )
    plan = known.shape.plan(engine, statement)
    sql, values = plan.compiled.bind(parameters, known.extracted)
    raw = await wire.fetch(sql, values)
    run.reread = plan.locks_rows
    run.criteria = propagated(statement)
    rows = plan.rows(raw, run)
    if run.unfinished:
        await follow(context, run)
    return raw, rows


async def _values(
    context: SessionContext, statement: core.AnySelect, parameters: OneRow | None, run: LoadRun
) -> tuple[Sequence[Row], Sequence[Values]]:
    engine, wire = await context.wire(clause=statement, pure=is_pure(statement), token=run.token)
    call = prepare(engine.statements, statement, parameters)
    raw = await wire.fetch(call.sql, call.values)
    return raw, call.compiled.process(raw)
