"""Execute a statement for a session.

Found again by identity or structure, sent where it belongs, its rows turned into objects, and what is left to other
statements loaded by them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import ClauseElement, Delete, Insert, Select, Update
from sqlalchemy.sql.dml import UpdateBase

from aiosession import core
from aiosession.engine.execution import AnyResult, Parameters, prepare, send
from aiosession.engine.result import Result
from aiosession.errors import ArgumentError
from aiosession.loading.criteria import propagated
from aiosession.loading.dml import execute_write, is_entity_write, named_write
from aiosession.loading.everywhere import select_everywhere
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.known import queries
from aiosession.loading.places import at_places, places_of_statement
from aiosession.loading.plan import mapper_of_statement
from aiosession.loading.relations import follow
from aiosession.loading.returning import execute_from, execute_returning, note_write, returns_entities, written_mapper
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.purity import is_pure
from aiosession.transaction.context import SessionContext

Options: TypeAlias = Mapping[str, Any]


async def execute(
    context: SessionContext,
    statement: ClauseElement,
    parameters: Parameters | None = None,
    options: Options | None = None,
) -> AnyResult:
    """Execute a statement: entities come as objects of the session, everything else as values."""
    settings = {**core.statement_options(statement), **(options or {})}
    token = settings.get("identity_token")
    if context.placement is not None:
        tokens = await places_of_statement(context, context.placement, statement, parameters, settings)
        if len(tokens) > 1:
            return await _execute_everywhere(context, statement, parameters, settings, tokens)
        token = tokens[0]
    if settings.get("autoflush", True):
        await context.autoflush()
    if not isinstance(statement, Select) or not core.mentions_entity(statement):
        return await _execute_other(context, statement, parameters, settings, token)
    _check_schemas(settings)
    known = queries.find(statement)
    engine, wire = await context.wire(mapper=known.shape.mapper, clause=statement, pure=known.shape.pure, token=token)
    plan = known.shape.plan(engine, statement)
    if not plan.compiled.columns:
        return await _execute_other(context, statement, parameters, settings, token)
    sql, values = plan.compiled.bind(_single(parameters), known.extracted)
    rows = await wire.fetch(sql, values)
    run = _run(context, settings, token)
    run.reread = plan.locks_rows
    run.criteria = propagated(statement)
    found = plan.rows(rows, run)
    if run.unfinished:
        await follow(context, run)
    return Result(plan.shape, found)


async def _execute_everywhere(
    context: SessionContext,
    statement: ClauseElement,
    parameters: Parameters | None,
    settings: Options,
    tokens: Sequence[object],
) -> AnyResult:
    """Execute a statement in several places, and put together what it comes to."""
    if isinstance(statement, Update | Delete):
        if settings.get("autoflush", True):
            await context.autoflush()
        work = {token: partial(_execute_other, context, statement, parameters, settings, token) for token in tokens}
        first, *others = await at_places(context, work, pure=False, clause=statement)
        return first.merge(*others)
    _check_schemas(settings)
    runs = {token: _run(context, settings, token) for token in tokens}
    flushes = bool(settings.get("autoflush", True))
    return await select_everywhere(context, statement, _single(parameters), runs, flushes=flushes)


async def _execute_other(
    context: SessionContext,
    statement: ClauseElement,
    parameters: Parameters | None,
    settings: Options,
    token: object | None,
) -> AnyResult:
    """Execute what is not a query over entities: statements about tables, text, RETURNING."""
    if isinstance(statement, core.EntitiesFrom):
        return await execute_from(context, statement, _single(parameters), _run(context, settings, token))
    if isinstance(statement, Update | Delete) and is_entity_write(statement) and not _is_list(parameters):
        return await execute_write(context, statement, _single(parameters), settings, _run(context, settings, token))
    if isinstance(statement, Insert | Update):
        statement, parameters = named_write(statement, parameters)
    if isinstance(statement, UpdateBase) and returns_entities(statement):
        return await execute_returning(context, statement, parameters, _run(context, settings, token))
    engine, wire = await context.wire(
        mapper=mapper_in(statement), clause=statement, pure=is_pure(statement), token=token
    )
    schema_map = settings.get("schema_translate_map", engine.options.get("schema_translate_map"))
    result = await send(wire, prepare(engine.statements, statement, parameters, schema_translate_map=schema_map))
    if isinstance(statement, UpdateBase):
        note_write(context.workspace, statement)
    return result


def mapper_in(statement: object) -> AnyMapper | None:
    """Return the mapper of the class that a statement is about, None if it is about none."""
    if isinstance(statement, UpdateBase):
        return written_mapper(statement)
    return mapper_of_statement(statement) if isinstance(statement, Select) else None


def _run(context: SessionContext, settings: Options, token: object | None) -> LoadRun:
    return LoadRun(context.workspace, overwrite=bool(settings.get("populate_existing", False)), token=token)


def _check_schemas(settings: Options) -> None:
    if "schema_translate_map" in settings:
        raise ArgumentError(
            "objects belong to the schemas of their session: make it as "
            "AsyncSession(engine, schema_translate_map=...) instead of giving the map to one statement"
        )


def _is_list(parameters: Parameters | None) -> bool:
    return isinstance(parameters, list | tuple) and len(parameters) > 1


def _single(parameters: Parameters | None) -> Mapping[str, Any] | None:
    given = parameters
    if isinstance(given, list | tuple) and len(given) <= 1:
        given = given[0] if given else None
    if given is None or isinstance(given, Mapping):
        return given
    raise ArgumentError(f"a SELECT is executed with one set of parameters, a mapping, not with {_shortened(given)}")


def _shortened(given: object) -> str:
    return f"a list of {len(given)}" if isinstance(given, list | tuple) else repr(given)
