"""How will the database carry out what a session sends? Its plan for a statement, sent as the session would send it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ClauseElement, Delete, Insert, Select, Update

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.execution import OneRow, prepare
from aiosession.engine.explaining import SAVEPOINT, Explanation, Request, ask, check_can_undo
from aiosession.errors import ArgumentError
from aiosession.loading.dml import is_entity_write, mapper_of_write, named_write
from aiosession.loading.places import only_place, places_of_statement
from aiosession.loading.plan import plan_query
from aiosession.loading.query import mapper_in
from aiosession.session.bind_arguments import bind_of
from aiosession.session.querying import How, Options, checked, execution_options
from aiosession.sql.purity import is_pure
from aiosession.transaction.bind import BindTransaction
from aiosession.transaction.context import SessionContext


async def explain(
    ctx: SessionContext, statement: object, params: OneRow | None, request: Request, how: How
) -> Explanation:
    """Ask the database of a statement for its plan; with *analyze* it is carried out, a write in a savepoint."""
    ctx.check_open()
    clause = checked(statement)
    if params is not None and not isinstance(params, Mapping):
        raise ArgumentError("a statement is explained with one set of parameters, a mapping")
    options = {**core.statement_options(clause), **execution_options(how, How)}
    mapper = mapper_in(clause)
    with ctx.bound_to(await bind_of(ctx, clause, how.get("bind_arguments"), mapper)):
        if ctx.placement is not None:
            tokens = await places_of_statement(ctx, ctx.placement, clause, params, options)
            options["identity_token"] = only_place(tokens, "a statement that is explained")
        token = options.get("identity_token")
        if not request.analyze or is_pure(clause):
            if request.analyze:
                await ctx.autoflush()
            engine, wire = await ctx.wire(mapper=mapper, clause=clause, pure=True, token=token)
            return await ask(wire, engine.name, request, *_sql(engine, clause, params, options))
        await ctx.autoflush()
        share = await ctx.share(mapper=mapper, clause=clause, token=token)
    sql, values = _sql(share.engine, clause, params, options)
    return await _measured(share, request, sql, values)


async def _measured(share: BindTransaction, request: Request, sql: str, values: Sequence[object]) -> Explanation:
    check_can_undo(share.options.isolation_level or share.engine.isolation_level)
    await share.savepoint(SAVEPOINT)
    try:
        return await ask(share, share.engine.name, request, sql, values)
    finally:
        await share.roll_back_to(SAVEPOINT)


def _sql(
    engine: AsyncEngine, clause: ClauseElement, params: OneRow | None, options: Options
) -> tuple[str, Sequence[object]]:
    """Return what the session would send for a statement."""
    if isinstance(clause, Select) and mapper_in(clause) is not None:
        compiled = plan_query(engine, clause, None, pure=True).compiled
        return compiled.bind(params, None)
    written, given = _written(clause, params)
    schemas = options.get("schema_translate_map", engine.options.get("schema_translate_map"))
    call = prepare(engine.statements, written, given, schema_translate_map=schemas)
    return call.sql, call.values


def _written(clause: Any, params: Any) -> tuple[Any, Any]:
    """Return a write of a class as one of its table."""
    if isinstance(clause, Update | Delete) and is_entity_write(clause):
        criteria = list(core.criteria_of(core.criteria_options(clause), mapper_of_write(clause).entity))
        clause = clause.where(*criteria) if criteria else clause
    return named_write(clause, params) if isinstance(clause, Insert | Update) else (clause, params)
