"""Read columns of objects in memory again.

Deferred columns, stale objects, ``refresh()``: one statement per class for any number of objects.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from aiosession.loading.attach import hydrate
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.places import at_places
from aiosession.loading.plans import fetch_by_keys, plan_by_primary_key
from aiosession.loading.shapes import EntityShape, columns_shape, plain_shape
from aiosession.mapping.mapper import AnyMapper
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.state import EntityState
from aiosession.state.workspace import Workspace
from aiosession.transaction.context import SessionContext

Lock = Mapping[str, Any]


async def refresh(
    context: SessionContext,
    states: Iterable[EntityState],
    names: Iterable[str] | None = None,
    *,
    lock: Lock | None = None,
) -> list[EntityState]:
    """Read columns of *states*, one statement per class: those called *names*, else all that are not deferred.

    What is changed in memory and not flushed stays. Returns the states whose rows are gone. *lock* are the arguments
    of ``with_for_update()``.
    """
    wanted = None if names is None else frozenset(names)
    missing: list[EntityState] = []
    for mapper, places in _by_class(states).items():
        shape = plain_shape(mapper) if wanted is None else columns_shape(mapper, wanted)
        if len(places) == 1:
            ((token, group),) = places.items()
            missing += await _read(context, shape, lock, token, group)
        else:
            read = partial(_read, context, shape, lock)
            work = {token: partial(read, token, group) for token, group in places.items()}
            missing += [state for gone in await at_places(context, work, pure=lock is None) for state in gone]
    return missing


async def refresh_stale(context: SessionContext, states: Iterable[EntityState]) -> list[EntityState]:
    """Read the columns of those of *states* that are stale; return the states whose rows are gone."""
    workspace = context.workspace
    return await refresh(context, [state for state in states if is_outdated(workspace, state)])


def is_outdated(workspace: Workspace, state: EntityState) -> bool:
    """Whether columns of an object may have changed in the database since they were read."""
    return state.epoch != workspace.epoch or _has_stale_column(state)


def _by_class(states: Iterable[EntityState]) -> dict[AnyMapper, dict[object, list[EntityState]]]:
    """Return *states* that have a row, each one once, by class and identity token."""
    found: dict[AnyMapper, dict[object, list[EntityState]]] = {}
    for state in dict.fromkeys(states):
        if state.key is not None and state.lifecycle is PERSISTENT and state() is not None:
            found.setdefault(state.mapper, {}).setdefault(state.key[2], []).append(state)
    return found


def _has_stale_column(state: EntityState) -> bool:
    return bool(state.expired) and not state.mapper.column_attributes.keys().isdisjoint(state.expired or ())


async def _read(
    context: SessionContext,
    shape: EntityShape,
    lock: Lock | None,
    token: object | None,
    states: Sequence[EntityState],
) -> list[EntityState]:
    alive = [(state(), state.group) for state in states]  # so that nobody vanishes while we wait
    keys = [state.key[1] for state in states if state.key is not None]
    build = partial(plan_by_primary_key, shape=shape, lock=lock)
    run = LoadRun(context.workspace, reread=lock is not None, token=token)
    plan, rows = await fetch_by_keys(context, shape.mapper, build, keys, pure=lock is None, token=token)
    found = {id(entity) for entity in hydrate(plan.loader, rows, run)}
    for state, (_, group) in zip(states, alive, strict=True):
        state.group = group
    return [state for state, (entity, _) in zip(states, alive, strict=True) if id(entity) not in found]
