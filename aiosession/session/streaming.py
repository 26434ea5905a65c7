"""How are rows handed out while they arrive? A cursor in the session's transaction, its rows made into objects.

Between two chunks the session is free for other operations; a chunk is one operation.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import ClauseElement, Select

from aiosession import core
from aiosession.drivers.protocol import Row
from aiosession.engine.execution import DEFAULT_CHUNK, Parameters, prepare, shape_of
from aiosession.engine.row import ResultShape
from aiosession.engine.streaming import AsyncResult, Origin, RowSource
from aiosession.errors import ArgumentError
from aiosession.loading.criteria import propagated
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.places import only_place, places_of_statement
from aiosession.loading.plan import QueryPlan, mapper_of_statement, plan_query
from aiosession.loading.relations import follow
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import executing
from aiosession.session.bind_arguments import bind_of
from aiosession.session.querying import How, Options, checked, execution_options
from aiosession.sql.compiled import CompiledStatement
from aiosession.transaction.bind import BindTransaction
from aiosession.transaction.context import SessionContext

Values: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A statement ready to be read in chunks."""

    sql: str
    values: Sequence[object]
    shape: ResultShape
    plan: QueryPlan | None
    process: Callable[[Sequence[Row]], Sequence[Values]]
    criteria: tuple[object, ...] = ()


async def stream(
    ctx: SessionContext, statement: object, params: Parameters | None, how: How, *, asks: bool = True
) -> AsyncResult[*tuple[Any, ...]]:
    """Begin to read the rows of a statement; handlers of ``do_orm_execute`` are asked before."""
    ctx.check_open()
    clause = checked(statement)
    if asks and ctx.listens("do_orm_execute"):
        result: AsyncResult[*tuple[Any, ...]] = await executing.run(
            ctx, clause, params, how, partial(stream, asks=False)
        )
        return result
    options = {**core.statement_options(clause), **execution_options(how, How)}
    size = int(options.get("yield_per") or DEFAULT_CHUNK)
    mapper = mapper_of_statement(clause) if isinstance(clause, Select) else None
    with ctx.bound_to(await bind_of(ctx, clause, how.get("bind_arguments"), mapper)):
        if ctx.placement is not None:
            tokens = await places_of_statement(ctx, ctx.placement, clause, params, options)
            options["identity_token"] = only_place(tokens, "a statement that is streamed")
        if options.get("autoflush", True):
            await ctx.autoflush()
        share = await ctx.share(mapper=mapper, clause=clause, token=options.get("identity_token"))
    cursor = _cursor(share, clause, params, mapper)
    origin = Origin(cursor.sql, lambda: share.connection is not None)
    return AsyncResult(cursor.shape, RowSource(_chunks(ctx, share, cursor, options, size), origin))


def _cursor(
    share: BindTransaction, clause: ClauseElement, params: Parameters | None, mapper: AnyMapper | None
) -> Cursor:
    if mapper is not None and isinstance(clause, Select):
        if isinstance(params, Sequence):
            raise ArgumentError("a query that is streamed takes one set of parameters, a mapping")
        plan = plan_query(share.engine, clause, None, pure=False, in_chunks=True)
        if plan.collapses:
            raise ArgumentError(
                "a query with contains_eager() of a collection cannot be streamed: the rows of one object may be far "
                "apart; use selectinload() for the collection"
            )
        _check_columns(plan.compiled)
        sql, values = plan.compiled.bind(params, None)
        return Cursor(sql, values, plan.shape, plan, plan.compiled.process, propagated(clause))
    call = prepare(share.engine.statements, clause, params)
    if call.rows is not None:
        raise ArgumentError("a statement that is streamed takes one set of parameters, a mapping")
    _check_columns(call.compiled)
    return Cursor(call.sql, call.values, shape_of(call.compiled), None, call.compiled.process)


def _check_columns(compiled: CompiledStatement) -> None:
    if not compiled.returns_rows or not compiled.columns:
        raise ArgumentError(
            "only statements whose columns are known can be streamed; use execute(), or text(...).columns(...)"
        )


async def _chunks(
    ctx: SessionContext, share: BindTransaction, cursor: Cursor, options: Options, size: int
) -> AsyncGenerator[Sequence[Values], None]:
    rows = share.stream(cursor.sql, cursor.values, size=size)
    try:
        while True:
            with ctx.guard.enter("reading a stream"):
                ctx.check_open()
                chunk = await anext(rows, None)
                found = None if chunk is None else await _made(ctx, cursor, chunk, options)
            if found is None:
                return
            yield found
    finally:
        await rows.aclose()


async def _made(ctx: SessionContext, cursor: Cursor, rows: Sequence[Row], options: Options) -> Sequence[Values]:
    """Return the rows of the result, objects in the places of entities."""
    if cursor.plan is None:
        return cursor.process(rows)
    run = LoadRun(
        ctx.workspace,
        overwrite=bool(options.get("populate_existing", False)),
        reread=cursor.plan.locks_rows,
        token=options.get("identity_token"),
        criteria=cursor.criteria,
    )
    found = cursor.plan.rows(rows, run)
    if run.unfinished:
        await follow(ctx, run)
    return found
