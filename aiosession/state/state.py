"""Hold what is known about one object: the record that stands between the object, the session and the database."""

import weakref
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Protocol

from typing_extensions import override

from aiosession.errors import UnmappedError
from aiosession.mapping.mapper import AnyMapper, IdentityKey, Relationship
from aiosession.state.group import LoadGroup
from aiosession.state.lifecycle import DELETED, DETACHED, PENDING, PERSISTENT, TRANSIENT, Lifecycle, advance
from aiosession.state.pending import PendingChanges

STATE_KEY: Final = "_aiosession_state"
"""Where an object's ``__dict__`` holds its state."""

STALE_EPOCH: Final = -1
"""The epoch of a state that is stale whatever its workspace's epoch."""


class Tracker(Protocol):
    """What states and attributes need of the workspace they belong to; it is :class:`~.workspace.Workspace`."""

    epoch: int
    parks_stale: bool
    dirty: "dict[EntityState, object]"

    def add(self, obj: object) -> None:
        """Take in an object and what the save-update cascade reaches from it."""
        ...

    def adopt(self, state: "EntityState", obj: object) -> None:
        """Take in a transient object that leads to no other one."""
        ...

    def drop_pending(self, state: "EntityState") -> None:
        """Let a pending object go."""
        ...

    def identify(self, key: IdentityKey) -> object | None:
        """Return the object with this identity key, if it is in memory."""
        ...

    def describe(self) -> str:
        """Say which session this is, for messages."""
        ...


class EntityState(weakref.ref[Any]):
    """The record of one object; a weak reference to it (``state()`` is the object or None).

    Made for every loaded row, so it sets nothing itself: what was never set reads as its default. Compared and hashed
    by identity, never through the object.
    """

    __slots__ = (
        "committed",
        "epoch",
        "expired",
        "group",
        "inserted_here",
        "key",
        "lifecycle",
        "mapper",
        "parents",
        "parked",
        "pending",
        "token",
        "was_deleted",
        "workspace_ref",
    )

    mapper: AnyMapper
    key: IdentityKey | None
    """Identity key; None while there is no row."""
    lifecycle: Lifecycle
    """As the workspace last put it; :attr:`status` is right even after the workspace is gone."""
    workspace_ref: Callable[[], Tracker | None] | None
    committed: dict[str, object] | None
    """The last value known from the database of each attribute that was changed since; a tuple for collections."""
    expired: set[str] | None
    """Attributes that are stale although the state as a whole is not."""
    epoch: int
    """The workspace's epoch when the columns were last loaded or written."""
    pending: dict[str, PendingChanges] | None
    """What back-references did to collections that are not loaded."""
    group: "LoadGroup[EntityState] | None"
    inserted_here: bool
    """Whether this session inserted the row: relations never touched are known to be empty."""
    was_deleted: bool
    """Whether a committed transaction deleted the row."""
    parents: "dict[Relationship, EntityState | None] | None"
    """For delete-orphan relations that were changed: the parent now, None where the object was removed."""
    token: object | None
    """Where the row of an object without one will be, once that is decided; afterwards it is part of the key."""
    parked: dict[str, object] | None
    """Stale values kept out of reach, where the session is to refuse reading them."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __getattr__(self, name: str) -> Any:  # only reached for slots that were never set
        value = _default(self, name)
        setattr(self, name, value)
        return value

    @property
    def workspace(self) -> Tracker | None:
        """The workspace that the object is in, if it is alive."""
        reference = self.workspace_ref
        return None if reference is None else reference()

    @property
    def status(self) -> Lifecycle:
        """The lifecycle state, taking into account that the workspace may be gone."""
        current = self.lifecycle
        if self.workspace_ref is None or self.workspace_ref() is not None:
            return current
        return TRANSIENT if current is PENDING else DETACHED

    @property
    def place(self) -> Any:
        """The identity token: where the row is, or will be once that is decided; None if there is only one place."""
        return self.token if self.key is None else self.key[2]

    def release(self) -> None:
        """Cut the tie to a workspace: pending becomes transient, persistent and deleted become detached."""
        current = self.lifecycle
        if current is PERSISTENT or current is DELETED:
            self.lifecycle = DETACHED  # legal, and done for each of thousands of objects when a session is closed
        elif current is PENDING:
            self.lifecycle = TRANSIENT
        self.workspace_ref = None

    def move(self, wanted: Lifecycle) -> None:
        """Go to another lifecycle state; IllegalMoveError if that cannot be."""
        self.lifecycle = advance(self.lifecycle, wanted)

    def pending_for(self, key: str) -> PendingChanges:
        """Return the record of changes to the unloaded collection *key*, made if there is none."""
        pending = self.pending
        if pending is None:
            pending = self.pending = {}
        if key not in pending:
            pending[key] = PendingChanges()
        return pending[key]

    def values(self) -> MutableMapping[str, object]:
        """Return the object's ``__dict__``; empty if the object is gone."""
        obj = self()
        return {} if obj is None else obj.__dict__

    @override
    def __repr__(self) -> str:
        return f"<EntityState {self.describe()}, {self.status.value}>"

    def describe(self) -> str:
        """Name the object for messages: its class and primary key."""
        if self.key is None:
            return f"a {self.status.value} {self.mapper.name}"
        return name_of_key(self.key)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return (_revived, (self(), self.key, self.committed, self.expired))


_DEFAULTS: Final[dict[str, object]] = {
    **dict.fromkeys(EntityState.__slots__),
    "epoch": 0,
    "inserted_here": False,
    "was_deleted": False,
    "lifecycle": TRANSIENT,
}


def _default(state: EntityState, name: str) -> object:
    if name == "mapper":
        return type(state()).__mapper__  # type: ignore[union-attr]  # asked for while the object lives
    try:
        return _DEFAULTS[name]
    except KeyError:
        raise AttributeError(f"{type(state).__name__!r} object has no attribute {name!r}") from None


def state_of(obj: object) -> EntityState:
    """Return the state of a mapped object; a new one, transient, if it has none yet."""
    try:
        state: EntityState | None = obj.__dict__.get(STATE_KEY)
    except AttributeError:
        state = None
    return _new_state(obj) if state is None else state


def _new_state(obj: Any) -> EntityState:
    mapper = getattr(type(obj), "__mapper__", None)  # None for classes too: it is their class that is asked
    if mapper is None:
        raise UnmappedError(obj)
    state = EntityState(obj)
    state.mapper = mapper
    state.lifecycle = TRANSIENT
    # Read soon, and setting them is cheaper than finding out that they were never set.
    state.key = state.workspace_ref = state.committed = state.pending = state.parents = state.group = None
    obj.__dict__[STATE_KEY] = state
    return state


def state_or_none(obj: object) -> EntityState | None:
    """Return the state of an object that has one."""
    try:
        state: EntityState | None = obj.__dict__.get(STATE_KEY)
    except AttributeError:
        return None
    return state


def name_of_key(key: IdentityKey) -> str:
    """Show an identity key as people write it: ``User(1)``, ``Item(3, 'a')``."""
    class_, primary_key, token = key
    listing = ", ".join(map(repr, primary_key))
    return f"{class_.__name__}({listing})" + ("" if token is None else f" [{token!r}]")


def is_stale(state: EntityState, key: str) -> bool:
    """Whether the value of *key* may have changed in the database since it was read; own changes are not stale."""
    committed = state.committed
    if committed is not None and key in committed:
        return False
    expired = state.expired
    if expired is not None and key in expired:
        return True
    workspace = state.workspace
    return workspace is not None and state.epoch != workspace.epoch


def _revived(
    obj: object, key: IdentityKey | None, committed: dict[str, object] | None, expired: set[str] | None
) -> EntityState:
    state = EntityState(obj)
    state.mapper = type(obj).__mapper__  # type: ignore[attr-defined]  # only mapped objects have a state
    state.key = key
    state.lifecycle = TRANSIENT if key is None else DETACHED
    state.committed = committed
    state.expired = expired
    return state
