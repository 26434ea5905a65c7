"""Note that an attribute is about to change, or that a relation's parent did."""

from collections.abc import Iterable
from typing import Any

from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import Relationship
from aiosession.state.contents import members
from aiosession.state.lifecycle import DELETED
from aiosession.state.state import EntityState, state_or_none
from aiosession.state.values import NO_VALUE


def note_change(state: EntityState, obj: object, key: str, old: object) -> None:
    """Record *old* as the value the database has, if this is the first change of *key*, and the object as dirty.

    Objects without a row have nothing to compare with: whatever they hold is new.
    """
    if state.key is None:
        return
    committed = state.committed
    if committed is None:
        state.committed = {key: old}
    elif key in committed:
        return
    else:
        committed[key] = old
    mark_dirty(state, obj)


def note_collection_change(state: EntityState, obj: object, key: str, collection: Any) -> None:
    """Record the members of a collection that is about to change, if this is its first change."""
    if state.key is None:
        return
    committed = state.committed
    if committed is None or key not in committed:
        note_change(state, obj, key, members(collection))


def mark_dirty(state: EntityState, obj: object) -> None:
    """Have the workspace keep the object until its changes are flushed."""
    workspace = state.workspace
    if workspace is not None and state.key is not None and state.lifecycle is not DELETED:
        workspace.dirty[state] = obj


def value_before(state: EntityState, obj: Any, key: str) -> object:
    """Return the last value known of an attribute, parked or not; NO_VALUE if there is none."""
    value = obj.__dict__.get(key, NO_VALUE)
    if value is NO_VALUE and state.key is not None and state.parked is not None:
        return state.parked.get(key, NO_VALUE)
    return value


def gain_parent(state: EntityState, relationship: Relationship, parent: EntityState) -> None:
    """Note that an object has a parent by a relation that keeps track of them: delete-orphan, or single_parent."""
    if state.parents is None:
        state.parents = {}
    state.parents[relationship] = parent


def lose_parent(state: EntityState, relationship: Relationship, parent: EntityState) -> None:
    """Note that an object was removed from a parent; nothing happens if it has another one by now.

    A pending object that is left an orphan, of a delete-orphan relation, leaves its session.
    """
    parents = state.parents
    if parents is None:
        parents = state.parents = {}
    if parents.get(relationship, parent) is not parent:
        return
    parents[relationship] = None
    workspace = state.workspace if Cascade.DELETE_ORPHAN in relationship.cascade else None
    if workspace is not None and state.key is None:
        workspace.drop_pending(state)


def regain_members(state: EntityState, relationship: Relationship, held: Iterable[object]) -> None:
    """Note that what a delete-orphan relation had lost is its own again: the change was undone."""
    if relationship.single_parent or Cascade.DELETE_ORPHAN in relationship.cascade:
        for member in held:
            other = state_or_none(member)
            if other is not None and other.parents is not None:
                gain_parent(other, relationship, state)
