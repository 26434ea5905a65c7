"""How does the state of objects from elsewhere get into a session? ``merge()``: look everything up, then copy.

All that has to be asked of the database is asked first, class by class: one statement for the rows of a class, one for
each relation that is merged into. Then everything is copied at once, so that a merge that is cancelled or fails while
it waits has changed nothing.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from aiosession.errors import ArgumentError, ObjectNotFoundError
from aiosession.loading.attach import hydrate
from aiosession.loading.columns import is_outdated, refresh
from aiosession.loading.get import primary_key_of
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.options import LoadOption
from aiosession.loading.places import at_places, in_each_place, places_of_key
from aiosession.loading.plans import fetch_by_keys, plan_by_primary_key
from aiosession.loading.relations import follow, load_and_follow
from aiosession.loading.shapes import EntityShape, default_relation, default_shape, shape_for_options
from aiosession.mapping.mapper import AnyMapper, IdentityKey, Relationship
from aiosession.state.merging import Given, Survey, has_to_be_known, pending_by_key, stamp, transfer
from aiosession.state.relations import is_known_empty
from aiosession.state.state import STATE_KEY, EntityState, state_of
from aiosession.transaction.context import SessionContext

T = TypeVar("T")
Held = dict[IdentityKey, Any]


async def merge_all(
    ctx: SessionContext, objects: Iterable[T], *, load: bool, options: Sequence[LoadOption] | None
) -> list[T]:
    """Copy the state of objects, and of what the merge cascade reaches, onto objects of the session; return those."""
    ctx.check_open()
    if not isinstance(objects, Iterable):
        raise ArgumentError(f"merge_all() takes several objects, in a list for example, not {objects!r}; see merge()")
    each = list(objects)
    for obj in each:
        state_of(obj)
    if not load:
        survey = Survey(ctx.workspace, each, follows_back=True)
        stamp(survey)
        return [root.target for root in survey.roots]
    await ctx.autoflush()
    survey = Survey(ctx.workspace, each)
    held = await _look_up(ctx, survey, tuple(options or ()))
    transfer(survey, held)
    return [root.target for root in survey.roots]


async def _look_up(ctx: SessionContext, survey: Survey, options: tuple[LoadOption, ...]) -> Held:
    """Return the objects of the session that something will be merged into, with the relations that takes."""
    held: Held = pending_by_key(ctx.workspace)
    asked_for = {root.mapper for root in survey.roots} if options else set()
    for mapper, group in survey.by_mapper().items():
        shape = shape_for_options(mapper, options) if mapper in asked_for else default_shape(mapper)
        await _fetch(ctx, shape, group, held)
        await _know_columns(ctx, mapper, group, held)
        for relationship, states in _relations_to_load(group, held).items():
            relation = default_relation(relationship)
            await in_each_place(ctx, states, partial(load_and_follow, ctx, [relation], ()))
    return held


async def _fetch(ctx: SessionContext, shape: EntityShape, group: Sequence[Given], held: Held) -> None:
    """Find the rows of one class that are not in memory, or stale there; those of a bind come with one statement."""
    mapper = shape.mapper
    known: set[IdentityKey] = set()
    missing: dict[object, dict[tuple[object, ...], None]] = {}
    for key in dict.fromkeys(given.key for given in group):
        if key is None or key in held:
            continue
        state = ctx.workspace.identity_map.state(key)
        if state is not None:
            held[key] = state()
            if not is_outdated(ctx.workspace, state):
                continue
            known.add(key)
        for token in await _places(ctx, mapper, key):
            missing.setdefault(token, {})[primary_key_of(mapper, key[1])] = None
    work = {token: partial(_fetch_at, ctx, shape, token, list(keys)) for token, keys in missing.items()}
    found = {key: entity for part in await at_places(ctx, work, pure=True) for key, entity in part.items()}
    _check_found(mapper, [key for key in known if key not in found])
    for key, entity in found.items():
        held[key] = entity
        if ctx.placement is not None:  # what has no token yet is looked for in several places
            held.setdefault((*key[:2], None), entity)


async def _places(ctx: SessionContext, mapper: AnyMapper, key: IdentityKey) -> Sequence[object | None]:
    """Return where the row of an object may be."""
    if key[2] is not None or ctx.placement is None:
        return [key[2]]
    return await places_of_key(ctx, ctx.placement, mapper, primary_key_of(mapper, key[1]), {})


async def _fetch_at(
    ctx: SessionContext, shape: EntityShape, token: object | None, keys: Sequence[tuple[object, ...]]
) -> dict[IdentityKey, Any]:
    run = LoadRun(ctx.workspace, token=token)
    build = partial(plan_by_primary_key, shape=shape)
    plan, rows = await fetch_by_keys(ctx, shape.mapper, build, keys, token=token)
    found = {entity.__dict__[STATE_KEY].key: entity for entity in hydrate(plan.loader, rows, run)}
    await follow(ctx, run)
    return found


async def _know_columns(ctx: SessionContext, mapper: AnyMapper, group: Sequence[Given], held: Held) -> None:
    """Load what is about to be replaced, is not in memory, and has to be known (``active_history``)."""
    watched = [attribute.key for attribute in mapper.column_attributes.values() if attribute.active_history]
    if not watched:
        return
    targets = [(given, state) for given in group if (state := _persistent_target(given, held)) is not None]
    wanted = {name for name in watched for given, _ in targets if name in given.values}
    lacking = [state for _, state in targets if not wanted <= state.values().keys()]
    if lacking:
        await refresh(ctx, lacking, wanted)


def _persistent_target(given: Given, held: Held) -> EntityState | None:
    target = None if given.key is None else held.get(given.key)
    state = None if target is None else state_of(target)
    return None if state is None or state.key is None else state


def _check_found(mapper: AnyMapper, gone: Sequence[IdentityKey]) -> None:
    for key in gone:
        raise ObjectNotFoundError(mapper.class_, key[1])


def _relations_to_load(group: Sequence[Given], held: Held) -> dict[Relationship, list[EntityState]]:
    """Return the relations that something is merged into and whose present content matters, each with its owners."""
    wanted: dict[Relationship, list[EntityState]] = {}
    for given in group:
        state = _persistent_target(given, held)
        if state is None:
            continue
        for relationship in given.related:
            is_empty = relationship.key not in state.values() and is_known_empty(state, relationship.key)
            if has_to_be_known(relationship) and not is_empty:
                wanted.setdefault(relationship, []).append(state)
    return wanted
