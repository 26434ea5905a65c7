"""Tell handlers of mapped classes what a flush writes.

All ``before_`` handlers are called before the plan is made: what they set is part of the statements. The ``after_``
handlers come when everything is sent; while they run, objects show the keys and values that the database made.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from aiosession.engine.engine import AsyncConnection
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind
from aiosession.state.state import EntityState
from aiosession.state.values import NO_VALUE
from aiosession.transaction.context import SessionContext
from aiosession.unit_of_work.execute import Outcome, Written
from aiosession.unit_of_work.plan import FlushPlan
from aiosession.unit_of_work.settle import decided_rows
from aiosession.unit_of_work.worklist import Worklist

Shown: TypeAlias = tuple[MutableMapping[str, object], str, object, object]
"""The values of an object, a name in it, what it was, and what is shown."""


@dataclass(slots=True, eq=False)
class FlushContext:
    """One flush, as handlers of its events see it."""

    session: object
    plan: FlushPlan | None = None
    """What was written; None before the flush."""


def is_heard(work: Worklist) -> bool:
    """Whether somebody listens to what happens to one of the classes of a flush."""
    mappers = {state.mapper for state in chain(work.inserts, work.updates, work.deletes)}
    return any(mapper.events.hooks for mapper in mappers)


async def before_writing(ctx: SessionContext, work: Worklist) -> None:
    """Call the handlers of before_insert, before_update and before_delete."""
    await _tell(ctx, "before_insert", work.inserts)
    await _tell(ctx, "before_update", work.updates)
    await _tell(ctx, "before_delete", work.deletes)


async def after_writing(
    ctx: SessionContext, work: Worklist, plan: FlushPlan, outcome: Outcome, flushing: FlushContext | None
) -> None:
    """Call the handlers of after_insert, after_update, after_delete, and those of after_flush."""
    with _made_values(outcome, of_all=flushing is not None):
        _tell_refreshed(outcome, flushing)
        await _tell(ctx, "after_insert", work.inserts)
        await _tell(ctx, "after_update", work.updates)
        await _tell(ctx, "after_delete", work.deletes)
        if flushing is not None:
            flushing.plan = plan
            await ctx.fire("after_flush", flushing)


def _tell_refreshed(outcome: Outcome, flushing: FlushContext | None) -> None:
    """Call the handlers of refresh_flush: the flush or the database has decided on values."""
    for written in outcome.written:
        mapper = written.batch.mapper
        hook = None if mapper is None else mapper.events.hooks.get("refresh_flush")
        if hook is not None and written.batch.kind is not WriteKind.DELETE:
            for state, values in zip(written.batch.states, decided_rows(written), strict=True):
                if values:
                    hook.now(state(), flushing, list(values))


async def _tell(ctx: SessionContext, name: str, states: Mapping[EntityState, object]) -> None:
    connections: dict[tuple[AnyMapper, object], AsyncConnection] = {}
    for state in list(states):
        mapper = state.mapper
        hook = mapper.events.hooks.get(name)
        obj = state()
        if hook is None or obj is None or ctx.handed is None:
            continue
        place = (mapper, state.place)
        if place not in connections:
            share = await ctx.share(mapper=mapper, clause=mapper.table, token=state.place)
            connections[place] = ctx.handed.connection(share)
        await ctx.call(hook, mapper, connections[place], obj)


@contextmanager
def _made_values(outcome: Outcome, *, of_all: bool) -> Iterator[None]:
    """Show in objects what the database made; taken back, as settling puts it there for good."""
    shown = [
        shown
        for written in outcome.written
        if written.batch.mapper is not None and (of_all or written.batch.mapper.events.hooks)
        for shown in _show(written)
    ]
    try:
        yield
    finally:
        for held, name, before, value in reversed(shown):
            if held.get(name) is value:
                held[name] = before
                if before is NO_VALUE:
                    del held[name]


def _show(written: Written) -> Iterator[Shown]:
    if written.batch.kind is not WriteKind.DELETE:
        for state, values in zip(written.batch.states, decided_rows(written), strict=True):
            held = state.values()
            for name, value in values.items():
                yield held, name, held.get(name, NO_VALUE), value
                held[name] = value
