"""Execute UPDATE and DELETE of entities, and keep the objects in memory in step with the rows they changed.

How the objects are found is said by the execution option ``synchronize_session``: "evaluate" tests the criteria on them
in Python, "fetch" has the database return the keys of the rows, "auto" evaluates where Python can tell and fetches
where it cannot, False leaves the objects alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from sqlalchemy import BindParameter, ClauseElement, Delete, Insert, Update, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import UpdateBase

from aiosession import core
from aiosession.engine.execution import AnyResult, OneRow, Parameters, prepare, send
from aiosession.engine.result import NOT_ROWS, Result
from aiosession.engine.row import ResultShape
from aiosession.errors import ArgumentError, InvalidRequestError, near
from aiosession.loading.evaluator import UNKNOWN, Evaluate, NotEvaluableError, evaluator
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.returning import returned_rows, returns_entities
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute, EntityRef
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace
from aiosession.transaction.context import SessionContext

Options: TypeAlias = Mapping[str, Any]
Write: TypeAlias = Update | Delete
V = TypeVar("V", bound=Insert | Update)

_CHOICES: Final = ("auto", "evaluate", "fetch", False)


@dataclass(frozen=True, slots=True)
class Matched:
    """Objects whose rows a statement writes."""

    certain: list[EntityState]
    doubtful: list[EntityState]
    """Their values are not known well enough to tell."""


def is_entity_write(statement: object) -> bool:
    """Whether *statement* is an UPDATE or DELETE of a mapped class (and not of its table)."""
    return isinstance(statement, Update | Delete) and isinstance(core.entity_of(statement.table), EntityRef)


def mapper_of_write(statement: UpdateBase) -> AnyMapper:
    """Return the mapper of the class that *statement* writes."""
    entity = core.entity_of(statement.table)
    if not isinstance(entity, EntityRef):
        raise ArgumentError(f"{statement.table} is no mapped class")
    if entity.is_alias:
        raise ArgumentError(f"{statement.table} is an alias; UPDATE, DELETE and INSERT take the class itself")
    return entity.mapper


async def execute_write(
    context: SessionContext, statement: Write, parameters: OneRow | None, options: Options, run: LoadRun
) -> AnyResult:
    """Execute an UPDATE or DELETE of a mapped class with one set of parameters."""
    mapper = mapper_of_write(statement)
    how = _choice(options)
    criteria = list(core.criteria_of(core.criteria_options(statement), mapper.entity))
    statement = statement.where(*criteria) if criteria else statement
    named: Write = with_columns(statement, mapper) if isinstance(statement, Update) else statement
    if parameters and isinstance(named, Update):
        parameters = row_with_columns(mapper, parameters)
    if returns_entities(named):
        shape, rows = await returned_rows(context, named, parameters, run)
        if isinstance(named, Delete):
            for state in _deleted(context.workspace, mapper, rows):
                context.workspace.make_deleted(state)
        return Result(shape, rows)
    matched = None if how is False or how == "fetch" else _evaluated(run, named, mapper, parameters)
    if how == "evaluate" and isinstance(matched, NotEvaluableError):
        raise InvalidRequestError(
            f"Python cannot evaluate these criteria ({matched}); use synchronize_session='fetch', or False"
        )
    if how == "fetch" or (how == "auto" and not (isinstance(matched, Matched) and not matched.doubtful)):
        result, certain = await _fetch(context, named, parameters, options, run)
        matched = Matched(certain, [])
    else:
        result = await _send(context, named, parameters, options, run)
    if isinstance(matched, Matched):
        synchronize(context.workspace, named, mapper, matched, parameters)
    return result


def _choice(options: Options) -> object:
    how = options.get("synchronize_session", "auto")
    if how is None:
        return False
    if how not in _CHOICES or how is True or (how == 0 and how is not False):
        hint = near(str(how), ["auto", "evaluate", "fetch"])
        raise ArgumentError(f"synchronize_session is 'auto', 'evaluate', 'fetch' or False, not {how!r}{hint}")
    return how


def with_columns(statement: V, mapper: AnyMapper) -> V:
    """Return *statement* with the keys of columns in place of the names of attributes in its values."""
    names = {name: column_key(mapper, name) for name in core.given_names(statement) if isinstance(name, str)}
    return statement if all(name == key for name, key in names.items()) else core.with_names(statement, names)


def named_write(statement: V, parameters: Parameters | None) -> tuple[V, Parameters | None]:
    """Return an INSERT or UPDATE of a mapped class and its parameters with columns in place of names of attributes."""
    if not isinstance(core.entity_of(statement.table), EntityRef):
        return statement, parameters
    mapper = mapper_of_write(statement)
    if isinstance(parameters, Mapping):
        parameters = row_with_columns(mapper, parameters)
    elif parameters:
        parameters = [row_with_columns(mapper, row) for row in parameters]
    return with_columns(statement, mapper), parameters


def row_with_columns(mapper: AnyMapper, row: OneRow) -> OneRow:
    """Return *row* with the keys of columns in place of the names of attributes; other names stay."""
    names = {name: attribute.column.key for name, attribute in mapper.column_attributes.items()}
    return {names.get(name, name): value for name, value in row.items()}


def column_key(mapper: AnyMapper, name: str) -> str:
    """Return the key of the column of an attribute."""
    attribute = mapper.attributes.get(name)
    if isinstance(attribute, ColumnAttribute) and not attribute.is_read_only:
        return attribute.column.key
    if attribute is None and name in mapper.table.c:
        return name
    if attribute is not None:
        raise ArgumentError(f"{mapper.name}.{name} is no column of its table and cannot be written")
    raise ArgumentError(f"{mapper.name} has no attribute {name!r}{near(name, mapper.column_attributes)}")


# Which objects --------------------------------------------------------------------------------------------------------


def _candidates(run: LoadRun, mapper: AnyMapper) -> list[EntityState]:
    token = run.token
    return [
        state
        for state in run.workspace.identity_map.live_states()
        if state.mapper is mapper and state.lifecycle is PERSISTENT and (token is None or state.place == token)
    ]


def _evaluated(
    run: LoadRun, statement: Write, mapper: AnyMapper, parameters: OneRow | None
) -> Matched | NotEvaluableError:
    """Test the criteria on the objects in memory."""
    try:
        test = evaluator(statement.whereclause, mapper, parameters)
    except NotEvaluableError as error:
        return error
    matched = Matched([], [])
    for state in _candidates(run, mapper):
        answer = test(state)
        if answer is UNKNOWN:
            matched.doubtful.append(state)
        elif answer:
            matched.certain.append(state)
    return matched


async def _send(
    context: SessionContext, statement: Write, parameters: Parameters | None, options: Options, run: LoadRun
) -> AnyResult:
    mapper = mapper_of_write(statement)
    engine, wire = await context.wire(mapper=mapper, clause=statement, pure=False, token=run.token)
    schemas = options.get("schema_translate_map", engine.options.get("schema_translate_map"))
    return await send(wire, prepare(engine.statements, statement, parameters, schema_translate_map=schemas))


async def _fetch(
    context: SessionContext, statement: Write, parameters: OneRow | None, options: Options, run: LoadRun
) -> tuple[AnyResult, list[EntityState]]:
    """Have the keys of the rows returned besides what is asked for; ask before, where the database cannot do that."""
    mapper = mapper_of_write(statement)
    engine, wire = await context.wire(mapper=mapper, clause=statement, pure=False, token=run.token)
    if not (engine.capabilities.returning and (isinstance(statement, Delete) or engine.capabilities.update_returning)):
        found = await _find(context, statement, parameters, run)
        return await _send(context, statement, parameters, options, run), found
    own = len(core.expressions(core.returning_columns(statement)))
    schemas = options.get("schema_translate_map", engine.options.get("schema_translate_map"))
    call = prepare(
        engine.statements, statement.returning(*mapper.primary_key), parameters, schema_translate_map=schemas
    )
    rows = call.compiled.process(await wire.fetch(call.sql, call.values))
    found = _known(run, mapper, [tuple(row[own:]) for row in rows])
    if not own:
        return Result(NOT_ROWS, (), rowcount=len(rows), without_rows=call.sql), found
    columns = call.compiled.columns[:own]
    shape = ResultShape([column.name for column in columns], [column.objects for column in columns])
    return Result(shape, [tuple(row[:own]) for row in rows]), found


async def _find(
    context: SessionContext, statement: Write, parameters: OneRow | None, run: LoadRun
) -> list[EntityState]:
    """Return the objects of the rows that *statement* is about to write, and lock those rows until then."""
    mapper = mapper_of_write(statement)
    criteria = statement.whereclause
    asked = select(*mapper.primary_key).with_for_update()
    if criteria is not None:
        asked = asked.where(criteria)
    names = {each.key for each in visitors.iterate(asked) if isinstance(each, BindParameter)}
    given = {name: value for name, value in (parameters or {}).items() if name in names}
    engine, wire = await context.wire(mapper=mapper, clause=statement, pure=False, token=run.token)
    schemas = engine.options.get("schema_translate_map")
    call = prepare(engine.statements, asked, given or None, schema_translate_map=schemas)
    return _known(run, mapper, call.compiled.process(await wire.fetch(call.sql, call.values)))


def _known(run: LoadRun, mapper: AnyMapper, keys: Sequence[Sequence[Any]]) -> list[EntityState]:
    """Return the objects in memory that have these primary keys."""
    states = run.workspace.identity_map.states
    wanted = dict.fromkeys(mapper.identity_key(tuple(key), run.token) for key in keys)
    return [state for key in wanted if (state := states.get(key)) is not None and state() is not None]


def _deleted(workspace: Workspace, mapper: AnyMapper, rows: Sequence[Sequence[Any]]) -> list[EntityState]:
    """Return the states of the objects that a DELETE returned."""
    states = [state_of(value) for row in rows for value in row if isinstance(value, mapper.class_)]
    return [state for state in dict.fromkeys(states) if workspace.has(state)]


# What becomes of them -------------------------------------------------------------------------------------------------


def synchronize(
    workspace: Workspace, statement: Write, mapper: AnyMapper, matched: Matched, parameters: OneRow | None
) -> None:
    """Do to objects what *statement* did to their rows; a rollback undoes it."""
    if isinstance(statement, Delete):
        for state in matched.certain:
            workspace.make_deleted(state)
        for state in matched.doubtful:
            workspace.expire(state)
        return
    values = _new_values(statement, mapper, parameters)
    made = _made_by_database(mapper, values)
    for state in matched.certain:
        _update(workspace, state, values, made)
    for state in matched.doubtful:
        workspace.expire(state, _unchanged(state, [*values, *made]))


def _new_values(statement: Update, mapper: AnyMapper, parameters: OneRow | None) -> dict[str, Evaluate | None]:
    """Return how each attribute that is written gets its value; None where only the database knows."""
    by_key = {attribute.column.key: attribute for attribute in mapper.column_attributes.values()}
    found: dict[str, Evaluate | None] = {}
    for column, value in (*core.given_values(statement).items(), *(parameters or {}).items()):
        # a parameter that is no column is one that the criteria name
        attribute = by_key.get(column if isinstance(column, str) else getattr(column, "key", ""))
        if attribute is not None:
            found[attribute.key] = _computed(value, mapper, parameters)
    return found


def _computed(value: Any, mapper: AnyMapper, parameters: OneRow | None) -> Evaluate | None:
    try:
        return evaluator(value if isinstance(value, ClauseElement) else literal(value), mapper, parameters)  # type: ignore[arg-type]  # an expression
    except (NotEvaluableError, SQLAlchemyError):
        return None


def _made_by_database(mapper: AnyMapper, values: Mapping[str, object]) -> list[str]:
    """Return what an UPDATE changes besides: columns with a value of their own at each one, and relations."""
    columns = [
        each.key
        for each in mapper.column_attributes.values()
        if each.key not in values
        and not each.is_read_only
        and any(made is not None for made in (each.column.onupdate, each.column.server_onupdate, each.column.computed))
    ]
    written = {mapper.column_attributes[key].column for key in values if key in mapper.column_attributes}
    relations = [
        each.key
        for each in mapper.relationships.values()
        if any(local in written for local, _ in each.local_remote_pairs)
    ]
    return columns + relations


def _update(
    workspace: Workspace, state: EntityState, values: Mapping[str, Evaluate | None], made: Sequence[str]
) -> None:
    held = state.values()
    known: dict[str, object] = {}
    # all are computed before any is set: UPDATE sees the row as it was
    lost = [key for key in _unchanged(state, made) if key in held]
    for key in _unchanged(state, values):
        compute = values[key]
        value = UNKNOWN if compute is None else compute(state)
        if key in held and value is not UNKNOWN:
            known[key] = value
        elif key in held:
            lost.append(key)
    if known:
        workspace.record_generated(state, known)
    if lost:
        workspace.expire(state, lost)


def _unchanged(state: EntityState, names: Iterable[str]) -> list[str]:
    """Return the attributes of *names* without a change that is still to be written; such a change stays."""
    changed = state.committed or ()
    return [name for name in names if name not in changed]
