"""Remember how things stood when a transaction or savepoint began, and put them back.

A frame belongs to one transaction or savepoint. It holds only what changed inside it, oldest value first recorded
wins; what was changed and not flushed is known from the states themselves. Flushed objects are not kept alive: one
that is gone needs no restoring.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiosession.mapping.mapper import IdentityKey, Relationship
from aiosession.state.changes import regain_members
from aiosession.state.contents import members, refill
from aiosession.state.pending import PendingChanges
from aiosession.state.state import STATE_KEY, EntityState
from aiosession.state.values import NO_VALUE


@dataclass(slots=True)
class Unflushed:
    """Changes of one object that were not flushed when a frame began."""

    obj: object
    values: dict[str, object]
    committed: dict[str, object] | None
    pending: dict[str, PendingChanges] | None
    parents: dict[Relationship, EntityState | None] | None


@dataclass(slots=True)
class Frame:
    """What happened in one transaction or savepoint."""

    values: dict[EntityState, dict[str, object]] = field(default_factory=dict)
    """The value at the beginning of each attribute that was flushed."""
    inserted: dict[EntityState, frozenset[str]] = field(default_factory=dict)
    """Objects whose rows were inserted, with the names of what they held before."""
    deleted: dict[EntityState, object] = field(default_factory=dict)
    """Objects whose rows were deleted."""
    rekeyed: dict[EntityState, IdentityKey] = field(default_factory=dict)
    """The identity key at the beginning, of objects that got another one."""
    pending: dict[EntityState, Unflushed] = field(default_factory=dict)
    """Objects that were pending at the beginning."""
    marked: dict[EntityState, object] = field(default_factory=dict)
    """Objects that were marked for deletion at the beginning."""
    dirty: dict[EntityState, Unflushed] = field(default_factory=dict)
    """Objects with changes at the beginning."""

    def log(self, state: EntityState, key: str, old: object) -> None:
        """Record the value that *key* had; an older record stays."""
        values = self.values.get(state)
        if values is None:
            values = self.values[state] = {}
        values.setdefault(key, old)

    def log_insert(self, state: EntityState, obj: Any) -> None:
        """Record what an object held before its row was inserted."""
        if state not in self.inserted:
            self.inserted[state] = frozenset(obj.__dict__)

    def forget(self, state: EntityState) -> None:
        """Drop what is recorded of an object that is gone."""
        self.values.pop(state, None)
        self.inserted.pop(state, None)
        self.rekeyed.pop(state, None)

    def absorb(self, inner: "Frame") -> None:
        """Take over what a savepoint inside this frame recorded: it was released."""
        for state, values in inner.values.items():
            mine = self.values.setdefault(state, {})
            for key, old in values.items():
                mine.setdefault(key, old)
        for state, inserted in inner.inserted.items():
            self.inserted.setdefault(state, inserted)
        self.deleted.update(inner.deleted)
        for state, identity in inner.rekeyed.items():
            self.rekeyed.setdefault(state, identity)


def begin_frame(
    new: Mapping[EntityState, object], dirty: Mapping[EntityState, object], deleted: Mapping[EntityState, object]
) -> Frame:
    """Open a frame for a savepoint; costs nothing if everything has been flushed."""
    return Frame(
        pending={state: _capture_all(state, obj) for state, obj in new.items()},
        marked=dict(deleted),
        dirty={state: _capture_changes(state, obj) for state, obj in dirty.items()},
    )


def put_back(state: EntityState, obj: Any, old: Mapping[str, object]) -> None:
    """Give attributes the values they had; columns first, because keyed collections look at them."""
    values = obj.__dict__
    relations = state.mapper.relationships
    collections = []
    for key, value in old.items():
        if key in relations and (isinstance(value, tuple) or relations[key].uselist):
            collections.append((key, value))
        elif value is NO_VALUE:
            values.pop(key, None)
        else:
            values[key] = value
            if key in relations and value is not None:
                regain_members(state, relations[key], (value,))
    for key, value in collections:
        _put_back_collection(values, key, value)
        if isinstance(value, tuple):
            regain_members(state, relations[key], value)


def undo_unflushed(state: EntityState, obj: object, names: Iterable[str] | None = None) -> None:
    """Throw away what was changed and not flushed: all of it, or that of some attributes."""
    _undo_committed(state, obj, names)
    pending = state.pending or {}
    for name in list(pending) if names is None else names:
        if name in pending:
            regain_members(state, state.mapper.relationships[name], pending.pop(name).removed)
    if names is None:
        state.pending = None
        state.parents = None


def _undo_committed(state: EntityState, obj: object, names: Iterable[str] | None) -> None:
    committed = state.committed
    if committed is None:
        return
    chosen = committed if names is None else {name: committed[name] for name in names if name in committed}
    put_back(state, obj, chosen)
    rest = {} if names is None else {name: value for name, value in committed.items() if name not in chosen}
    state.committed = rest or None


def redo_unflushed(state: EntityState, saved: Unflushed) -> None:
    """Bring back the changes that were there when a frame began."""
    put_back(state, saved.obj, saved.values)
    state.committed = None if saved.committed is None else dict(saved.committed)
    state.pending = None if saved.pending is None else {key: each.copy() for key, each in saved.pending.items()}
    state.parents = None if saved.parents is None else dict(saved.parents)


def forget_added_attributes(state: EntityState, obj: Any, held: frozenset[str]) -> None:
    """Remove what the database gave to an object whose INSERT is undone."""
    values = obj.__dict__
    for key in [key for key in values if key not in held and key in state.mapper.attributes]:
        del values[key]


def restore_pending(state: EntityState, saved: Unflushed) -> None:
    """Give an object that was pending when a frame began exactly what it held then."""
    forget_added_attributes(state, saved.obj, frozenset(saved.values))
    redo_unflushed(state, saved)


def _capture_all(state: EntityState, obj: Any) -> Unflushed:
    return _capture(state, obj, [key for key in obj.__dict__ if key != STATE_KEY and key in state.mapper.attributes])


def _capture_changes(state: EntityState, obj: object) -> Unflushed:
    return _capture(state, obj, state.committed or ())


def _capture(state: EntityState, obj: Any, keys: Iterable[str]) -> Unflushed:
    values = obj.__dict__
    relations = state.mapper.relationships
    now: dict[str, object] = {}
    for key in keys:
        value = values.get(key, NO_VALUE)
        is_collection = value is not NO_VALUE and key in relations and relations[key].uselist
        now[key] = members(value) if is_collection else value
    return Unflushed(
        obj=obj,
        values=now,
        committed=None if state.committed is None else dict(state.committed),
        pending=None if state.pending is None else {key: each.copy() for key, each in state.pending.items()},
        parents=None if state.parents is None else dict(state.parents),
    )


def _put_back_collection(values: dict[str, object], key: str, old: object) -> None:
    current = values.get(key, NO_VALUE)
    if old is NO_VALUE:
        values.pop(key, None)
    elif current is not NO_VALUE and isinstance(old, tuple):
        refill(current, old)
