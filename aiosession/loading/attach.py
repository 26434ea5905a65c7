"""Give related objects to their owners.

Fills collections and scalar relations with what a statement loaded. What is loaded already and not stale, and what was
changed and not flushed, stays as it is. Pure: no I/O here.
"""

import gc
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiosession.loading.hydrate import EntityLoader, LoadRun, Row
from aiosession.mapping.mapper import Relationship
from aiosession.state.attributes import merge_loaded_collection
from aiosession.state.contents import refill
from aiosession.state.group import LoadGroup
from aiosession.state.relations import init_collection, rules_of
from aiosession.state.state import STATE_KEY, EntityState

_MANY_ROWS: Final = 50


def hydrate(loader: EntityLoader, rows: Sequence[Row], run: LoadRun) -> list[Any]:
    """Return the object of each row (None where there is none), with its joined relations filled.

    Relations that need statements of their own are noted in ``run.unfinished``.
    """
    run.workspace.purge()
    group: LoadGroup[EntityState] = LoadGroup()
    group.criteria = run.criteria
    is_watched = bool(run.workspace.dispatch.hooks or loader.shape.mapper.events.hooks)
    load = loader.watched() if is_watched else loader.load
    if len(rows) < _MANY_ROWS or not gc.isenabled():
        objects = load(rows, run, group)
    else:
        # Nothing made here is garbage yet: looking for some while it is made costs more than making it.
        gc.disable()
        try:
            objects = load(rows, run, group)
        finally:
            gc.enable()
    for joined in loader.joined:
        related = hydrate(joined.loader, rows, run)
        _attach_joined(run, objects, related, joined.relation.relationship)
    if loader.shape.following:
        run.unfinished.append((loader.shape.following, group.states))
    if is_watched:
        _announce(run)
    return objects


def _announce(run: LoadRun) -> None:
    """Call the handlers of ``load``, ``loaded_as_persistent`` and ``refresh`` for what was loaded."""
    made, run.made = run.made, []
    renewed, run.renewed = run.renewed, []
    workspace = run.workspace
    loaded = workspace.dispatch.hooks.get("loaded_as_persistent")
    for entity in made:
        load = entity.__dict__[STATE_KEY].mapper.events.hooks.get("load")
        if load is not None:
            load.now(entity, run)
        if loaded is not None:
            loaded.now(workspace.owner, entity)
    for entity, names in renewed:
        refresh = entity.__dict__[STATE_KEY].mapper.events.hooks.get("refresh")
        if refresh is not None:
            refresh.now(entity, run, names)


def _attach_joined(run: LoadRun, owners: Sequence[Any], related: Sequence[Any], relationship: Relationship) -> None:
    by_owner: dict[int, tuple[Any, dict[int, Any]]] = {}
    for owner, member in zip(owners, related, strict=True):
        if owner is not None:
            entry = by_owner.get(id(owner))
            if entry is None:
                entry = by_owner[id(owner)] = (owner, {})
            if member is not None:
                entry[1][id(member)] = member
    found = ((owner.__dict__[STATE_KEY], list(members.values())) for owner, members in by_owner.values())
    attach_all(run, relationship, found)


def attach_all(run: LoadRun, relationship: Relationship, found: Iterable[tuple[EntityState, list[Any]]]) -> None:
    """Make members what the relation of their owners holds; the short way for collections that nobody has touched."""
    key = relationship.key
    rules = rules_of(relationship)
    is_collection = relationship.uselist
    for state, members in found:
        owner = state()
        untouched = not (state.pending or state.parked or state.committed or state.expired)
        if is_collection and untouched and key not in owner.__dict__:
            refill(init_collection(state, owner, rules), members)
        else:
            attach(run, state, relationship, members)


def attach(run: LoadRun, state: EntityState, relationship: Relationship, members: list[Any]) -> None:
    """Make *members* what the relation of an owner holds, unless it must stay as it is."""
    if not is_wanted(run, state, relationship.key):
        return
    if run.overwrite and _is_changed(state, relationship.key):
        run.workspace.expire(state, [relationship.key])
    if relationship.uselist:
        merge_loaded_collection(state, relationship.key, members)
    else:
        run.workspace.set_loaded(state, relationship.key, members[0] if members else None)


def _is_changed(state: EntityState, key: str) -> bool:
    return key in (state.committed or ()) or key in (state.pending or ())


def is_wanted(run: LoadRun, state: EntityState, key: str) -> bool:
    """Tell whether an attribute has to be loaded: it is not known, or stale, and not changed in memory."""
    if run.overwrite:
        return True
    if state.committed is not None and key in state.committed:
        return False
    if key not in state.values() or state.epoch != run.workspace.epoch:
        return True
    return state.expired is not None and key in state.expired
