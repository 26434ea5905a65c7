"""Bring an object's record into line with what was written to, or read from, the database."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiosession.mapping.mapper import IdentityKey
from aiosession.state.changes import regain_members
from aiosession.state.contents import members
from aiosession.state.identity import IdentityMap
from aiosession.state.lifecycle import PENDING, PERSISTENT
from aiosession.state.pending import PendingChanges
from aiosession.state.state import EntityState
from aiosession.state.undo import Frame
from aiosession.state.values import NO_VALUE, is_same


def record_written(frame: Frame, state: EntityState, written: Mapping[str, object]) -> None:
    """Note the values a flush wrote, as it saw them; an attribute that differs by now is a change again."""
    obj = state()
    if obj is None:
        return
    if state.lifecycle is PENDING:
        frame.log_insert(state, obj)
    held = obj.__dict__
    changed = state.committed or {}
    for key, value in written.items():
        if value is not NO_VALUE and held.get(key, NO_VALUE) is value:  # nobody has touched it since
            if key in changed:
                frame.log(state, key, changed.pop(key))
        else:
            _settle(frame, state, key, value)
    if not state.committed:
        state.committed = None


def _settle(frame: Frame, state: EntityState, key: str, written: object) -> None:
    relations = state.mapper.relationships
    if isinstance(written, PendingChanges):
        _settle_pending(frame, state, key, written)
    elif key in relations and relations[key].uselist:
        _settle_collection(frame, state, key, written)
    else:
        _settle_value(frame, state, key, written)


def _settle_value(frame: Frame, state: EntityState, key: str, written: object) -> None:
    values: dict[str, object] = state.values()  # type: ignore[assignment]  # alive, so it is the real __dict__
    now = values.get(key, NO_VALUE)
    committed = state.committed
    if committed is not None and key in committed:
        frame.log(state, key, committed.pop(key))
    elif state.key is not None and now is NO_VALUE:
        frame.log(state, key, NO_VALUE)
    if now is NO_VALUE:
        values[key] = None if written is NO_VALUE else written
    elif not is_same(now, written):
        _remember(state, key, written)


def _settle_collection(frame: Frame, state: EntityState, key: str, written: object) -> None:
    now = state.values().get(key, NO_VALUE)
    committed = state.committed
    if committed is not None and key in committed:
        frame.log(state, key, committed.pop(key))
    if now is not NO_VALUE and not _same_members(now, written):
        _remember(state, key, written)


def _settle_pending(frame: Frame, state: EntityState, key: str, written: PendingChanges) -> None:
    # The collection was unknown when the frame began: whatever is loaded until then is worth nothing after a rollback.
    frame.log(state, key, NO_VALUE)
    pending = state.pending
    if pending is None or key not in pending:
        return
    pending[key].subtract(written)
    if not pending[key]:
        del pending[key]
    if not pending:
        state.pending = None


def record_generated(frame: Frame, state: EntityState, values: Mapping[str, object]) -> None:
    """Set what a flush or the database decided on, and how to undo it."""
    obj = state()
    if obj is None:
        return
    if state.lifecycle is PENDING:
        frame.log_insert(state, obj)
    held = obj.__dict__
    committed = state.committed
    for key, value in values.items():
        old = held.get(key, NO_VALUE)
        if committed is not None and key in committed:
            old = committed.pop(key)
        frame.log(state, key, old)
        held[key] = value
    if not committed:
        state.committed = None


def record_inserted(
    frame: Frame,
    inserted: Iterable[tuple[EntityState, IdentityKey, Mapping[str, object]]],
    identity_map: IdentityMap,
    new: dict[EntityState, Any],
) -> None:
    """Make pending objects persistent that have rows now, with what was decided on for them."""
    known, before = identity_map.states, frame.inserted
    for state, key, values in inserted:
        if known.setdefault(key, state) is not state:
            identity_map.add(key, state)
        held: dict[str, object] = new.pop(state).__dict__
        if state not in before:
            before[state] = frozenset(held)
        for name, value in values.items():
            if name in held and held[name] is not value:
                frame.log(state, name, held[name])
            held[name] = value
        state.key = key
        state.inserted_here = True
        state.lifecycle = PERSISTENT
        state.expired = None


def record_unknown(frame: Frame, state: EntityState, names: Iterable[str]) -> None:
    """Remove values that are no longer known, and note how to undo it; a call that touches the object reads them.

    Deferred ones wait until they are asked for.
    """
    names = list(names)
    record_generated(frame, state, dict.fromkeys(names, NO_VALUE))
    values = state.values()
    for name in names:
        values.pop(name, None)
    columns = state.mapper.column_attributes
    missing = {name for name in names if name in columns and not columns[name].deferred}
    if missing:
        state.expired = missing.union(state.expired or ())


def set_loaded(state: EntityState, key: str, value: object) -> None:
    """Set a value as read from the database; an unflushed change of it is lost."""
    state.values()[key] = value
    committed = state.committed
    if committed is not None and key in committed:
        del committed[key]
        if not committed:
            state.committed = None
        relationship = state.mapper.relationships.get(key)
        if relationship is not None and value is not None:
            held = members(value) if relationship.uselist else (value,)
            regain_members(state, relationship, held)
    if state.expired is not None:
        state.expired.discard(key)
    if state.parked is not None:
        state.parked.pop(key, None)
    workspace = state.workspace
    if workspace is not None and not state.committed and not state.pending:
        workspace.dirty.pop(state, None)


def changes_of(state: EntityState) -> dict[str, object]:
    """Return every changed attribute with its present value; collections as tuples, unloaded ones as recorded."""
    values = state.values()
    relations = state.mapper.relationships
    changes: dict[str, object] = {}
    for key in state.committed or ():
        value = values.get(key, NO_VALUE)
        is_collection = value is not NO_VALUE and key in relations and relations[key].uselist
        changes[key] = members(value) if is_collection else value
    for key, pending in (state.pending or {}).items():
        changes[key] = pending.copy()
    return changes


def park(state: EntityState, names: Iterable[str] | None) -> None:
    """Put stale values out of reach; the primary key stays readable, and unflushed changes stay."""
    values = state.values()
    parked = state.parked
    if parked is None:
        parked = state.parked = {}
    keep = {attribute.key for attribute in state.mapper.primary_key_attributes}.union(state.committed or ())
    for key in state.mapper.attributes if names is None else names:
        if key in values and key not in keep:
            parked[key] = values.pop(key)


def _remember(state: EntityState, key: str, written: object) -> None:
    if state.committed is None:
        state.committed = {}
    state.committed[key] = written


def _same_members(now: Any, written: Any) -> bool:
    first, second = members(now), tuple(written)
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))
