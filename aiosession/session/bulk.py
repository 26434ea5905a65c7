"""How are many rows written without objects? Mappings of values go through the planning of a flush.

Defaults, versions, checks of values and the form in which rows travel are those of a flush; relations, cascades and the
identity map have no part in it.
"""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from sqlalchemy import Column, Insert, Table, Update, null

from aiosession import core
from aiosession.engine.execution import AnyResult
from aiosession.engine.result import NOT_ROWS, Result
from aiosession.errors import ArgumentError, InvalidRequestError, near
from aiosession.loading.dml import mapper_of_write
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.returning import rows_with_objects
from aiosession.mapping.mapper import AnyMapper, EntityRef
from aiosession.session.transactions import fail
from aiosession.state.state import EntityState, state_of
from aiosession.state.values import is_expression
from aiosession.state.workspace import Workspace
from aiosession.transaction.context import SessionContext
from aiosession.unit_of_work.columns import columns_of
from aiosession.unit_of_work.execute import Outcome, execute_plan
from aiosession.unit_of_work.inserting import Inserting
from aiosession.unit_of_work.keys import Keys
from aiosession.unit_of_work.linking import Links
from aiosession.unit_of_work.plan import Batch, FlushPlan
from aiosession.unit_of_work.updating import RowUpdate, Updating
from aiosession.unit_of_work.worklist import Worklist

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """Rows on their way: each as an object that nobody else knows, in the order in which they were given."""

    mapper: AnyMapper
    states: list[EntityState]
    work: Worklist


def is_bulk(statement: Insert | Update) -> bool:
    """Whether *statement*, given a list of rows, writes each of them by itself: entities, and nothing but the rows."""
    if isinstance(statement, Update):
        return statement.whereclause is None
    return (
        isinstance(core.entity_of(statement.table), EntityRef)
        and core.is_plain_insert(statement)
        and not core.given_values(statement)
        and all(isinstance(each, Column | Table) for each in core.returning_columns(statement))
    )


async def execute_bulk(
    ctx: SessionContext, statement: Insert | Update, rows: Sequence[Values], run: LoadRun
) -> AnyResult:
    """Insert *rows*, or update the rows with their primary keys; *run* is about the objects that come back."""
    if isinstance(statement, Insert):
        return await insert_rows(ctx, statement, rows, run)
    if not isinstance(core.entity_of(statement.table), EntityRef):
        raise ArgumentError(
            "an update() of a table with a list of parameters needs a where(), such as "
            "where(table.c.id == bindparam('key')); update(User) with a list updates by primary key"
        )
    if core.given_values(statement) or core.returning_columns(statement):
        raise ArgumentError(
            "an update() by primary key takes its values from the list of mappings, and cannot return rows; "
            "use where() for anything else"
        )
    return await update_rows(ctx, mapper_of_write(statement), rows, run.token)


# INSERT ---------------------------------------------------------------------------------------------------------------


async def insert_rows(ctx: SessionContext, statement: Insert, rows: Sequence[Values], run: LoadRun) -> AnyResult:
    """Insert *rows* as ``execute(insert(User), rows)`` does; what is returned comes in their order."""
    mapper = mapper_of_write(statement)
    given = _given(mapper, _checked(mapper, rows))
    elements = core.returning_columns(statement)
    wanted = [core.deannotate(each) for each in core.expressions(elements) if isinstance(each, Column)]
    batches = _inserts(given)
    if elements:
        batches = [_returning(batch, mapper, wanted) for batch in batches]
    outcome = await _carry_out(ctx, batches)
    if not elements:
        return Result(NOT_ROWS, (), rowcount=len(rows), without_rows=f"INSERT INTO {mapper.table.fullname}")
    returned = _in_order(given, outcome)
    run.reread = True
    shape, found = rows_with_objects(elements, [None] * len(wanted), [row[: len(wanted)] for row in returned], run)
    return Result(shape, found)


async def insert_mappings(
    ctx: SessionContext, mapper: AnyMapper, mappings: Iterable[Values], *, return_defaults: bool, render_nulls: bool
) -> None:
    """Insert rows given as mappings; with *return_defaults* the mappings get what the database made."""
    rows = _checked(mapper, mappings)
    given = _given(mapper, [_with_nulls(mapper, row) for row in rows] if render_nulls else rows)
    outcome = await _carry_out(ctx, _inserts(given))
    if return_defaults:
        for row, made in zip(rows, _made(given, outcome), strict=True):
            if not isinstance(row, MutableMapping):
                raise ArgumentError(f"return_defaults writes into the mappings; a {type(row).__name__} cannot change")
            row.update(made)


def _given(mapper: AnyMapper, rows: Sequence[Values]) -> Given:
    work = Worklist(Workspace())
    states: list[EntityState] = []
    new = object.__new__
    for row in rows:
        obj = new(mapper.class_)
        obj.__dict__.update(row)
        state = state_of(obj)
        states.append(state)
        work.inserts[state] = obj
    _check_names(mapper, rows)
    return Given(mapper, states, work)


def _inserts(given: Given) -> list[Batch]:
    if not given.states:
        return []
    return Inserting(given.mapper, given.states, Keys(given.work), Links()).batches()


def _returning(batch: Batch, mapper: AnyMapper, wanted: Sequence[Column[Any]]) -> Batch:
    """Return *batch* so that it returns the wanted columns, and behind them the key by which rows are told apart."""
    columns = (*wanted, *(column for column in mapper.primary_key if column not in set(wanted)))
    return replace(
        batch, shape=replace(batch.shape, returning=columns), returned=tuple(column.key for column in columns)
    )


def _in_order(given: Given, outcome: Outcome) -> list[tuple[Any, ...]]:
    """Return what came back, in the order in which rows were given."""
    by_state: dict[EntityState, tuple[Any, ...]] = {}
    for written in outcome.written:
        by_state.update(
            (state, row) for state, row in zip(written.batch.states, written.returned, strict=True) if row is not None
        )
    return [by_state[state] for state in given.states if state in by_state]


def _made(given: Given, outcome: Outcome) -> list[dict[str, Any]]:
    """Return what the flush or the database decided on for each row."""
    by_state: dict[EntityState, dict[str, Any]] = {state: {} for state in given.states}
    for written in outcome.written:
        batch = written.batch
        for number, state in enumerate(batch.states):
            values = by_state[state]
            values.update((name, written.values[place][number]) for name, place in batch.decided)
            row = written.returned[number] if written.returned else None
            if row is not None:
                values.update(zip(batch.returned, row, strict=True))
    return list(by_state.values())


def _with_nulls(mapper: AnyMapper, row: Values) -> Values:
    """Have None mean NULL also for columns with a default."""
    by_key = columns_of(mapper).by_key
    has_default = {name for name, role in by_key.items() if role.column.default or role.column.server_default}
    return {name: null() if value is None and name in has_default else value for name, value in row.items()}


# UPDATE ---------------------------------------------------------------------------------------------------------------


async def update_rows(
    ctx: SessionContext, mapper: AnyMapper, mappings: Iterable[Values], token: object | None = None
) -> AnyResult:
    """Update the rows with the primary keys in *mappings* and keep objects in memory in step."""
    rows = _checked(mapper, mappings)
    _check_names(mapper, rows)
    keys = _primary_keys(mapper, rows)
    updates = [_update(mapper, row, key, token) for row, key in zip(rows, keys, strict=True)]
    work = Worklist(Workspace())
    batches = Updating(mapper, Keys(work), Links()).batches_of([row for row, _ in updates if row.values])
    await _carry_out(ctx, batches)
    _keep_in_step(ctx.workspace, mapper, batches, updates)
    return Result(NOT_ROWS, (), rowcount=len(rows), without_rows=f"UPDATE {mapper.table.fullname}")


def _primary_keys(mapper: AnyMapper, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
    names = [attribute.key for attribute in mapper.primary_key_attributes]
    if mapper.version_id is not None:
        names.append(mapper.version_id.key)
    for number, row in enumerate(rows):
        missing = [name for name in names if row.get(name) is None]
        if missing:
            raise ArgumentError(
                f"an UPDATE of {mapper.name} by primary key needs {' and '.join(map(repr, names))} in every mapping; "
                f"number {number} lacks {', '.join(map(repr, missing))}: {dict(row)!r}"
            )
    keys = [attribute.key for attribute in mapper.primary_key_attributes]
    return [tuple([row[key] for key in keys]) for row in rows]


def _update(mapper: AnyMapper, row: Values, key: tuple[Any, ...], token: object | None) -> tuple[RowUpdate, Any]:
    """Return the update of one row, and the object that stands for it."""
    obj = object.__new__(mapper.class_)
    obj.__dict__.update(row)
    state = state_of(obj)
    state.key = mapper.identity_key(key, token)
    known = {attribute.key for attribute in mapper.primary_key_attributes}
    if mapper.version_id is not None:
        known.add(mapper.version_id.key)
    return RowUpdate(state, {name: value for name, value in row.items() if name not in known}), obj


def _keep_in_step(
    workspace: Workspace, mapper: AnyMapper, batches: Sequence[Batch], updates: Sequence[tuple[RowUpdate, Any]]
) -> None:
    unknown = {name for batch in batches for name in batch.unknown}
    for row, _ in updates:
        state = None if row.state.key is None else workspace.identity_map.state(row.state.key)
        if state is None:
            continue
        held = state.values()
        values = {name: value for name, value in row.values.items() if name in held and not is_expression(value)}
        lost = [name for name in (*row.values, *unknown) if name in held and name not in values]
        workspace.record_generated(state, values)
        if lost:
            workspace.expire(state, lost)


# Objects --------------------------------------------------------------------------------------------------------------


async def save_objects(
    ctx: SessionContext, objects: Iterable[object], *, return_defaults: bool, changed_only: bool, in_order: bool
) -> None:
    """Insert the rows of new objects and update those of others, without making them part of the session."""
    states = [(state_of(obj), obj) for obj in objects]
    if not in_order:
        states.sort(key=lambda pair: (pair[0].mapper.name, pair[0].key is not None))
    for (mapper, is_stored), group in groupby(states, key=lambda pair: (pair[0].mapper, pair[0].key is not None)):
        chosen = list(group)
        if is_stored:
            rows = [_changes(state, changed_only=changed_only) for state, _ in chosen]
            await update_rows(ctx, mapper, [row for row in rows if len(row) > len(mapper.primary_key)])
            continue
        rows = [_columns(state, state.values()) for state, _ in chosen]
        await insert_mappings(ctx, mapper, rows, return_defaults=return_defaults, render_nulls=False)
        if return_defaults:
            for (_, obj), row in zip(chosen, rows, strict=True):
                obj.__dict__.update(row)


def _columns(state: EntityState, values: Mapping[str, Any]) -> dict[str, Any]:
    known = state.mapper.column_attributes
    return {name: value for name, value in values.items() if name in known and not known[name].is_read_only}


def _changes(state: EntityState, *, changed_only: bool) -> dict[str, Any]:
    """Return the primary key (and version) of a row with the values to write."""
    mapper = state.mapper
    values = _columns(state, state.values())
    if changed_only:
        values = {name: value for name, value in values.items() if name in (state.committed or ())}
    if mapper.version_id is not None:
        values[mapper.version_id.key] = Keys(Worklist(Workspace())).of_stored(state, mapper.version_id.key)
    if state.key is not None:
        names = (attribute.key for attribute in mapper.primary_key_attributes)
        values.update(zip(names, state.key[1], strict=True))
    return values


# Both -----------------------------------------------------------------------------------------------------------------


async def _carry_out(ctx: SessionContext, batches: Sequence[Batch]) -> Outcome:
    if not batches:
        return Outcome()
    level = ctx.enter()
    level.check()
    ctx.flushing = True
    try:
        return await execute_plan(ctx, FlushPlan(tuple(batches)))
    except BaseException as error:  # some rows may be written and others not: as after a flush, all is undone
        await fail(ctx, level, error)
        raise
    finally:
        ctx.flushing = False


def _checked(mapper: AnyMapper, mappings: object) -> list[Any]:
    if isinstance(mappings, Mapping) or not isinstance(mappings, Iterable):
        raise ArgumentError(f"the rows of {mapper.name} are given as several mappings, in a list; got {mappings!r}")
    rows = list(mappings)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ArgumentError(f"a row of {mapper.name} is a mapping from names to values; number {number} is {row!r}")
    return rows


def _check_names(mapper: AnyMapper, rows: Sequence[Values]) -> None:
    names = {name for row in rows for name in row}
    known = mapper.column_attributes
    for name in names:
        if name in mapper.relationships:
            raise InvalidRequestError(
                f"{mapper.name}.{name} is a relation, which bulk statements do not follow; give the foreign key, or "
                f"use add_all()"
            )
        if name not in known or known[name].is_read_only:
            raise ArgumentError(f"{mapper.name} has no column attribute {name!r}{near(str(name), known)}")
