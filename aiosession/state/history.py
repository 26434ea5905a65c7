"""Compare what an object holds with what the database was last known to hold."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from aiosession.mapping.mapper import Relationship
from aiosession.state.collections import difference
from aiosession.state.contents import members
from aiosession.state.pending import PendingChanges
from aiosession.state.state import EntityState
from aiosession.state.values import NO_VALUE, is_same


class History(NamedTuple):
    """What was added, what stayed and what was deleted, each a sequence; for a single value of length 0 or 1.

    An old value that nobody knows is not listed.
    """

    added: Sequence[Any]
    unchanged: Sequence[Any]
    deleted: Sequence[Any]

    def __bool__(self) -> bool:
        return bool(self.added or self.deleted)

    def has_changes(self) -> bool:
        """Whether a flush would have something to write."""
        return bool(self)

    def sum(self) -> list[Any]:
        """Return everything: added, unchanged and deleted."""
        return [*self.added, *self.unchanged, *self.deleted]

    def non_deleted(self) -> list[Any]:
        """Return what is there now."""
        return [*self.added, *self.unchanged]

    def non_added(self) -> list[Any]:
        """Return what was there before."""
        return [*self.unchanged, *self.deleted]

    def empty(self) -> bool:
        """Whether nothing at all is known."""
        return not (self.added or self.unchanged or self.deleted)


def history_of(state: EntityState, key: str) -> History:
    """Return the history of one attribute; nothing is loaded for it."""
    attribute = state.mapper.attribute(key)
    now = state.values().get(key, NO_VALUE)
    if isinstance(attribute, Relationship) and attribute.uselist:
        return _history_of_collection(state, key, now)
    before = _before(state, key, now)
    if now is NO_VALUE:
        # deleted from the object, or not loaded
        return History((), (), ()) if before is NO_VALUE else History((), (), (before,))
    if isinstance(attribute, Relationship):
        return _history_of_object(before, now)
    if before is not NO_VALUE and is_same(before, now):
        return History((), (now,), ())
    return History((now,), (), () if before is NO_VALUE else (before,))


def _before(state: EntityState, key: str, now: object) -> object:
    """Return the value in the database, as far as known: for an unchanged attribute the present one."""
    if state.key is None:
        return NO_VALUE
    committed = state.committed
    return now if committed is None else committed.get(key, now)


def _history_of_object(before: object, now: object) -> History:
    if before is now:
        return History((), (now,), ())
    return History((now,), (), () if before is NO_VALUE or before is None else (before,))


def _history_of_collection(state: EntityState, key: str, now: Any) -> History:
    if now is NO_VALUE:
        pending = (state.pending or {}).get(key, PendingChanges())
        return History(pending.added, (), pending.removed)
    present = members(now)
    committed = state.committed or {}
    if state.key is None or committed.get(key, present) is NO_VALUE:
        return History(difference((), present)[1], (), ())
    if key not in committed:
        return History((), present, ())
    before: Any = committed[key]
    deleted, added = difference(before, present)
    gone = {id(member) for member in (*deleted, *added)}
    return History(added, [member for member in present if id(member) not in gone], deleted)
