"""Write the pending changes of a session: gather, plan, execute, settle."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiosession.drivers.shown_url import shown
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.state.moves import announce
from aiosession.state.state import EntityState
from aiosession.transaction.context import SessionContext
from aiosession.unit_of_work import announcing
from aiosession.unit_of_work.announcing import FlushContext
from aiosession.unit_of_work.execute import Outcome, execute_plan, route
from aiosession.unit_of_work.fetching import wanted_at_once
from aiosession.unit_of_work.placing import choose_places, plan_by_place
from aiosession.unit_of_work.plan import FlushPlan
from aiosession.unit_of_work.planning import make_plan
from aiosession.unit_of_work.settle import changes_seen, settle
from aiosession.unit_of_work.worklist import gather

LoadColumns = Callable[[SessionContext, Sequence[EntityState], Sequence[str]], Coroutine[Any, Any, object]]
"""How values are read that did not come back with the rows: ``aiosession.loading.columns.refresh``."""
LoadRelation = Callable[[SessionContext, Sequence[EntityState], Relationship], Coroutine[Any, Any, None]]
"""How relations that cascades need are loaded: ``aiosession.loading.relations.load_relation``."""


@dataclass(frozen=True, slots=True)
class Loaders:
    """How a flush reads what it needs: it does not know how rows become objects."""

    relation: LoadRelation
    columns: LoadColumns


async def flush(
    ctx: SessionContext,
    objects: Iterable[object] | None = None,
    *,
    loaders: Loaders,
    flushing: FlushContext | None = None,
) -> FlushPlan:
    """Write everything that is pending, or what concerns *objects*; objects are left as they were if it fails.

    With ``ctx.allows_lone_write`` a plan of one statement is sent without BEGIN, where nothing could need undoing.
    """
    work = await gather(ctx.workspace, partial(loaders.relation, ctx), objects)
    if ctx.placement is not None:
        await choose_places(ctx.placement, work)
    is_heard = flushing is not None or announcing.is_heard(work)
    ctx.was_heard = is_heard or bool(ctx.workspace.dispatch.hooks)
    if ctx.was_heard:
        ctx.allows_lone_write = False  # a handler that fails afterwards must be able to keep it all from the database
    if is_heard:
        await announcing.before_writing(ctx, work)
    plan = make_plan(work) if ctx.placement is None else plan_by_place(work)
    seen = changes_seen(work)
    outcome = await execute_plan(ctx, plan)
    if is_heard:
        await announcing.after_writing(ctx, work, plan, outcome, flushing)
    settle(work, plan, outcome, seen)
    if ctx.workspace.moves:
        announce(ctx.workspace)
    await _fetch_unknown(ctx, outcome, loaders.columns)
    return plan


async def _fetch_unknown(ctx: SessionContext, outcome: Outcome, load_columns: LoadColumns) -> None:
    """Read what did not come back with the rows, where the mapper says that it is wanted at once."""
    wanted: dict[tuple[AnyMapper, tuple[str, ...]], list[EntityState]] = {}
    for written in outcome.written:
        batch = written.batch
        names = wanted_at_once(batch)
        if names and batch.mapper is not None:
            wanted.setdefault((batch.mapper, names), []).extend(batch.states)
    for (_, names), states in wanted.items():
        await load_columns(ctx, states, names)


async def plan(
    ctx: SessionContext, objects: Iterable[object] | None = None, *, load_relation: LoadRelation
) -> FlushPlan:
    """Return what :func:`flush` would send now, without sending it; only what cascades need is loaded.

    Defaults that Python computes are computed for the plan, and again for the flush.
    """
    work = await gather(ctx.workspace, partial(load_relation, ctx), objects)
    if ctx.placement is not None:
        await choose_places(ctx.placement, work)
    found = make_plan(work) if ctx.placement is None else plan_by_place(work)
    binds = [shown(dispatch.engine.url) for dispatch in await route(ctx, found)]
    return replace(found, binds=tuple(binds))
