"""The part of a session that is in memory: which objects it has, what they went through, how to undo it.

Pure: no I/O. A session owns one workspace; its objects refer to it weakly.
"""

import weakref
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from aiosession.errors import InvalidRequestError
from aiosession.events.dispatch import Dispatch
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import IdentityKey
from aiosession.state import settle, undo
from aiosession.state.cascade import neighbours_past_and_present, reachable
from aiosession.state.identity import IdentityMap
from aiosession.state.lifecycle import DELETED, DETACHED, PENDING, PERSISTENT, TRANSIENT
from aiosession.state.moves import NOBODY, Move, announce, before_attach, note_arrival, note_departures
from aiosession.state.state import STALE_EPOCH, EntityState, state_of, state_or_none
from aiosession.state.undo import Frame
from aiosession.state.unwinding import changed, undo_innermost

_FEW_STATES: Final = 1000

LoadAttribute = Callable[[EntityState, str], Awaitable[object]]


class Workspace:
    """The objects of one session.

    ``new``, ``dirty`` and ``deleted`` hold their objects strongly; everything else is held by whoever uses it.
    ``load_attribute`` is what ``awaitable_attrs`` calls.
    """

    def __init__(self, owner: object | None = None, *, stale_reads: Literal["return", "raise"] = "return") -> None:
        self.identity_map = IdentityMap()
        self.new: dict[EntityState, object] = {}
        self.dirty: dict[EntityState, object] = {}
        self.deleted: dict[EntityState, object] = {}
        self.epoch = 0
        self.parks_stale = stale_reads == "raise"
        self.load_attribute: LoadAttribute | None = None
        self.has_tokens = False
        """Whether objects here may have identity tokens."""
        self.dispatch: Dispatch = NOBODY
        """Handlers of the session's events."""
        self.is_listened_to = False
        """Whether ``dispatch`` is of this session alone."""
        self.moves: list[Move] = []
        """What has happened to objects and handlers are still to be told."""
        self.ref: Callable[[], Workspace | None] = weakref.ref(self)
        """What the states of this workspace hold as ``workspace_ref``."""
        self._owner = None if owner is None else weakref.ref(owner)
        self.frames = [Frame()]
        self._most_states = _FEW_STATES

    # Asking

    @property
    def stale_reads(self) -> Literal["return", "raise"]:
        """Whether reading a stale value returns the last known one, or raises."""
        return "raise" if self.parks_stale else "return"

    @property
    def owner(self) -> object | None:
        """The session that the workspace belongs to, if it is alive."""
        return None if self._owner is None else self._owner()

    @property
    def frame(self) -> Frame:
        """The undo record of the innermost transaction or savepoint."""
        return self.frames[-1]

    @property
    def depth(self) -> int:
        """How many frames are open on top of the first."""
        return len(self.frames) - 1

    def describe(self) -> str:
        """Say which session this is, for messages."""
        owner = self.owner
        return f"session at {hex(id(self if owner is None else owner))}"

    def identify(self, key: IdentityKey) -> object | None:
        """Return the object with this identity key, if it is in memory and not deleted."""
        found: object | None = self.identity_map.get(key)
        return found

    def contains(self, obj: object) -> bool:
        """Whether an object is in this session: pending, or persistent."""
        state = state_or_none(obj)
        return state is not None and self.has(state)

    def has(self, state: EntityState) -> bool:
        """Whether the object of *state* is in this session: pending, or persistent."""
        return state.workspace_ref is self.ref and state.lifecycle is not DELETED

    def objects(self) -> list[object]:
        """Return all pending and persistent objects."""
        return [*self.new.values(), *self.identity_map.values()]

    # Taking in and letting go

    def add(self, obj: object) -> None:
        """Take in an object and what the save-update cascade reaches from it; nothing is taken in on an error."""
        state = state_of(obj)
        near = neighbours_past_and_present(state, Cascade.SAVE_UPDATE)
        if not near and state.workspace_ref is None and state.lifecycle is TRANSIENT:
            self.adopt(state, obj)
            return
        if self.has(state):
            self.deleted.pop(state, None)
            arriving = []
        else:
            arriving = [(state, obj)]
        if not all(self.has(state_of(each)) for each, _ in near):
            reached = reachable(state, Cascade.SAVE_UPDATE, halt=self.has, step=neighbours_past_and_present)
            arriving += [(each.state, each.obj) for each in reached]
        for other, _ in arriving:
            if other.workspace_ref is not None or other.key is not None:
                self._check_arrival(other)
        for other, each in arriving:
            self._attach(other, each)

    def adopt(self, state: EntityState, obj: object) -> None:
        """Take in a transient object that leads to no other one."""
        if self.dispatch.hooks:
            before_attach(self, obj)
        state.workspace_ref = self.ref
        state.move(PENDING)
        self.new[state] = obj
        if self.dispatch.hooks:
            note_arrival(self, obj, "transient_to_pending")

    def expunge(self, obj: object) -> None:
        """Let an object go, and what the expunge cascade reaches from it."""
        state = state_of(obj)
        if state.workspace is not self:
            raise InvalidRequestError(f"{state.describe()} is not in this session ({self.describe()})")
        leaving = [(state, obj), *((each.state, each.obj) for each in reachable(state, Cascade.EXPUNGE))]
        for other, _ in leaving:
            if other.workspace is self:
                self.detach(other)
        announce(self)

    def drop_pending(self, state: EntityState) -> None:
        """Let a pending object go; others stay."""
        if state in self.new:
            self.detach(state)
            announce(self)

    def let_go(self, state: EntityState) -> None:
        """Let one object go, whatever it is here, and forget how to undo what happened to it; others stay."""
        self.detach(state)
        for frame in self.frames:
            frame.forget(state)

    def clear(self) -> None:
        """Let everything go: the session is closed or expunged as a whole."""
        if self.dispatch.hooks:
            note_departures(self, [*self.new, *self.identity_map.states.values(), *self._deleted_in_frames()])
        for state in self.identity_map.states.values():
            if state.lifecycle is PERSISTENT:  # nearly all, and there may be many
                state.lifecycle = DETACHED
                state.workspace_ref = None
                state.group = None  # it refers back to the state
        for state in [*self.new, *self.deleted, *self.identity_map.states.values()]:
            if state.workspace_ref is not None:
                state.release()
        for state in self._deleted_in_frames():
            state.release()
        self.identity_map.states.clear()
        for held in (self.new, self.dirty, self.deleted):
            held.clear()
        self.frames = [Frame()]
        announce(self)

    def _deleted_in_frames(self) -> list[EntityState]:
        return [state for frame in self.frames for state in frame.deleted]

    def purge(self) -> None:
        """Remove the traces of objects that are gone, once there may be many.

        A callback at the death of each object would cost a tenth of loading it.
        """
        states = self.identity_map.states
        if len(states) <= self._most_states:
            return
        for key, state in [(key, state) for key, state in states.items() if state() is None]:
            del states[key]
            state.group = None
            for frame in self.frames:
                frame.forget(state)
        self._most_states = max(_FEW_STATES, 2 * len(states))

    def _check_arrival(self, state: EntityState) -> None:
        other = state.workspace
        if other is not None and other is not self:
            raise InvalidRequestError(
                f"{state.describe()} is already in the {other.describe()} and cannot be added to the "
                f"{self.describe()}; expunge it there first"
            )
        if state.status is DELETED:
            raise InvalidRequestError(
                f"{state.describe()} has been deleted in this transaction; roll back to have it again, or add "
                f"a new object"
            )
        if state.was_deleted:
            raise InvalidRequestError(f"the row of {state.describe()} has been deleted; add a new object instead")
        if state.key is not None:
            self.identity_map.check(state.key, state)

    def _attach(self, state: EntityState, obj: object) -> None:
        if state.workspace_ref is not None:
            state.release()  # from a workspace that is gone
        if state.key is None:
            self.adopt(state, obj)
            return
        if self.dispatch.hooks:
            before_attach(self, obj)
        state.workspace_ref = self.ref
        self.identity_map.add(state.key, state)
        self.has_tokens = self.has_tokens or state.key[2] is not None
        state.move(PERSISTENT)
        state.epoch = self.epoch
        state.inserted_here = False
        if state.committed or state.pending:
            self.dirty[state] = obj
        if self.dispatch.hooks:
            note_arrival(self, obj, "detached_to_persistent")

    def detach(self, state: EntityState) -> None:
        """Let one object go; others stay."""
        if self.dispatch.hooks:
            note_departures(self, (state,))
        for held in (self.new, self.dirty, self.deleted, *(frame.deleted for frame in self.frames)):
            held.pop(state, None)
        if state.key is not None:
            self.identity_map.discard(state.key, state)
        state.group = None
        state.release()

    # What a flush reports

    def mark_deleted(self, state: EntityState) -> None:
        """Have the row of a persistent object deleted by the next flush; a detached object is taken in first."""
        obj = state()
        if state.lifecycle is DELETED and state.workspace is self:
            return
        if state.key is None:
            raise InvalidRequestError(f"{state.describe()} has no row that could be deleted; use session.expunge(obj)")
        if state.workspace is not self:
            self._check_arrival(state)
            self._attach(state, obj)
        self.deleted[state] = obj

    def make_persistent(self, state: EntityState, key: IdentityKey) -> None:
        """Note that an object has a row: its INSERT was done, or a loader made it."""
        obj = state()
        if state.lifecycle is PENDING:
            self.identity_map.add(key, state)
            self.frame.log_insert(state, obj)
            self.new.pop(state, None)
            state.inserted_here = True
            if self.dispatch.hooks:
                self.moves.append(("pending_to_persistent", obj))
            if state.committed or state.pending:
                self.dirty[state] = obj
        else:
            self.identity_map.add(key, state)
            self.has_tokens = self.has_tokens or key[2] is not None
            state.workspace_ref = self.ref
        state.move(PERSISTENT)
        state.key = key
        state.epoch = self.epoch
        state.expired = None

    def record_inserted(
        self, states: Sequence[EntityState], keys: Sequence[IdentityKey], values: Sequence[Mapping[str, object]]
    ) -> None:
        """Note that the rows of pending objects were inserted, and what the flush or the database decided on for each.

        Does for many objects that nobody has changed what ``record_generated`` and ``make_persistent`` do for one.
        """
        if self.dispatch.hooks:
            self.moves += (("pending_to_persistent", self.new[state]) for state in states)
        settle.record_inserted(self.frame, zip(states, keys, values, strict=True), self.identity_map, self.new)
        for state in states:
            state.epoch = self.epoch

    def make_deleted(self, state: EntityState) -> None:
        """Note that the row of an object was deleted."""
        obj = state()
        state.move(DELETED)
        if self.dispatch.hooks:
            self.moves.append(("persistent_to_deleted", obj))
        self.deleted.pop(state, None)
        self.dirty.pop(state, None)
        self.frame.deleted[state] = obj
        if state.key is not None:
            self.identity_map.discard(state.key, state)

    def rekey(self, state: EntityState, key: IdentityKey) -> None:
        """Note that the primary key of a row was changed."""
        old = state.key
        if old == key or old is None:
            return
        self.identity_map.add(key, state)
        self.identity_map.discard(old, state)
        self.frame.rekeyed.setdefault(state, old)
        state.key = key

    def record_written(self, state: EntityState, written: Mapping[str, object]) -> None:
        """Note what a flush wrote for the user: each attribute with the value that the flush saw.

        Collections as tuples of members, unloaded ones as the :class:`PendingChanges` seen (``changes_of(state)``
        gives all of it). What was changed again meanwhile stays dirty. Values that the flush itself decided on
        (foreign keys, generated keys) go to :meth:`record_generated`.
        """
        settle.record_written(self.frame, state, written)
        self._keep_if_dirty(state)

    def record_generated(self, state: EntityState, values: Mapping[str, object]) -> None:
        """Note values that a flush or the database decided on; they replace what the object has."""
        settle.record_generated(self.frame, state, values)
        self._keep_if_dirty(state)

    def record_unknown(self, state: EntityState, names: Iterable[str]) -> None:
        """Note attributes whose value only the database knows after a flush: reading them raises NotLoadedError."""
        settle.record_unknown(self.frame, state, names)
        self._keep_if_dirty(state)

    def set_loaded(self, state: EntityState, key: str, value: object) -> None:
        """Set what was read from the database, without history; an unflushed change of it is lost."""
        settle.set_loaded(state, key, value)

    def changes_of(self, state: EntityState) -> dict[str, object]:
        """Return every changed attribute with its present value, in the form that ``record_written`` takes."""
        return settle.changes_of(state)

    def _keep_if_dirty(self, state: EntityState) -> None:
        if not state.committed and not state.pending:
            self.dirty.pop(state, None)
        elif state.lifecycle is PERSISTENT and state not in self.dirty:
            self.dirty[state] = state()

    # Staleness

    def expire(self, state: EntityState, names: Iterable[str] | None = None) -> None:
        """Throw away unflushed changes and mark values stale: all, or those of some attributes."""
        obj = state()
        if state.workspace is not self or state.lifecycle is not PERSISTENT:
            raise InvalidRequestError(f"{state.describe()} is {state.status.value}; only persistent objects can expire")
        chosen = None if names is None else [state.mapper.attribute(name).key for name in names]
        undo.undo_unflushed(state, obj, chosen)
        self._keep_if_dirty(state)
        expire = state.mapper.events.hooks.get("expire")
        if expire is not None:
            expire.now(obj, chosen)
        if chosen is None:
            state.epoch = STALE_EPOCH
        else:
            state.expired = (state.expired or set()).union(chosen)
        if self.parks_stale:
            settle.park(state, chosen)

    def expire_all(self) -> None:
        """Throw away all unflushed changes of persistent objects and mark everything stale."""
        for state, obj in list(self.dirty.items()):
            undo.undo_unflushed(state, obj)
        self.dirty.clear()
        self._turn_stale()

    def _turn_stale(self) -> None:
        self.epoch += 1
        if self.parks_stale:
            for state in self.identity_map.live_states():
                settle.park(state, None)

    # Transactions

    def push_frame(self) -> None:
        """Begin recording for a transaction or savepoint."""
        self.frames.append(undo.begin_frame(self.new, changed(self), self.deleted))

    def release_frame(self) -> None:
        """End the innermost frame; the one around it can still undo what happened in it."""
        frame = self.frames.pop()
        self.frame.absorb(frame)

    def rollback_frame(self) -> None:
        """Put back everything to how it was when the innermost frame began, and end it."""
        for state in undo_innermost(self):
            state.epoch = STALE_EPOCH
            if self.parks_stale and state.lifecycle is PERSISTENT:
                settle.park(state, None)
        announce(self)

    def commit_frames(self, *, expire: bool = True) -> None:
        """End all frames for good: deleted objects are detached, values turn stale if *expire* says so."""
        for frame in self.frames:
            for state in frame.deleted:
                if state.lifecycle is DELETED:
                    if self.dispatch.hooks:
                        note_departures(self, (state,))
                    state.release()
                    state.was_deleted = True
        self.frames = [Frame()]
        if expire:
            self._turn_stale()
        announce(self)

    def rollback_all(self) -> None:
        """Put back everything to how it was when the transaction began; all values turn stale."""
        for _ in range(len(self.frames)):
            undo_innermost(self)
        self._turn_stale()
        announce(self)


def workspace_of(obj: Any) -> Workspace | None:
    """Return the workspace that an object is in, or None."""
    state = state_or_none(obj)
    workspace = None if state is None else state.workspace
    return (
        workspace
        if isinstance(workspace, Workspace) and state is not None and state.lifecycle is not DETACHED
        else None
    )
