"""Show what is known about an object: the answer of ``inspect(obj)``."""

from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final, Literal

from typing_extensions import override

from aiosession.mapping.mapper import AnyMapper, Attribute, IdentityKey
from aiosession.state.awaitable import awaited_history
from aiosession.state.history import History, history_of
from aiosession.state.lifecycle import DELETED, DETACHED, PENDING, PERSISTENT, TRANSIENT, Lifecycle
from aiosession.state.reading import is_modified, read, unloaded_names
from aiosession.state.state import STATE_KEY, EntityState, is_stale, state_of
from aiosession.state.values import NO_VALUE
from aiosession.state.workspace import workspace_of


class AttributeState:
    """What is known about one attribute of an object; looking changes and loads nothing."""

    __slots__ = ("_obj", "_state", "key")

    def __init__(self, state: EntityState, obj: object, key: str) -> None:
        self._state = state
        self._obj = obj
        self.key = key

    @property
    def attribute(self) -> Attribute:
        """The mapped attribute."""
        return self._state.mapper.attribute(self.key)

    @property
    def value(self) -> Any:
        """The value, as reading the attribute gives it; NotLoadedError if it is not loaded."""
        return read(self._state, self.key)

    @property
    def loaded_value(self) -> Any:
        """The value in memory, NO_VALUE if there is none."""
        return self._state.values().get(self.key, NO_VALUE)

    @property
    def history(self) -> History:
        """What was added, unchanged and deleted since the last flush."""
        return history_of(self._state, self.key)

    def load_history(self) -> Awaitable[History]:
        """Load the attribute if it is not in memory, for all siblings at once; then return its history."""
        return awaited_history(self._state, self._obj, self.key)

    @property
    def is_stale(self) -> bool:
        """Whether the value may have changed in the database since it was read."""
        return is_stale(self._state, self.key)

    @override
    def __repr__(self) -> str:
        return f"<AttributeState {self._state.mapper.name}.{self.key}: {self.loaded_value!r}>"


class AttributeStates(Mapping[str, AttributeState]):
    """The attributes of an object, by name or as attributes."""

    def __init__(self, state: EntityState, obj: object) -> None:
        self._state = state
        self._obj = obj

    @override
    def __getitem__(self, key: str) -> AttributeState:
        if key not in self._state.mapper.attributes:
            raise KeyError(key)
        return AttributeState(self._state, self._obj, key)

    def __getattr__(self, name: str) -> AttributeState:
        if name.startswith("__"):
            raise AttributeError(name)
        return AttributeState(self._state, self._obj, self._state.mapper.attribute(name).key)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._state.mapper.attributes)

    @override
    def __len__(self) -> int:
        return len(self._state.mapper.attributes)


class InstanceState:
    """What is known about an object: its place in the lifecycle, its identity, its attributes."""

    __slots__ = ("_state", "object")

    is_instance: Final[Literal[True]] = True
    """Tells what ``inspect()`` gave: a mapper and an alias have no such attribute."""

    def __init__(self, obj: Any) -> None:
        self._state = state_of(obj)
        self.object = obj

    @property
    def lifecycle(self) -> Lifecycle:
        """Which of the five states the object is in."""
        return self._state.status

    @property
    def transient(self) -> bool:
        """Whether the object is in no session and has no row."""
        return self.lifecycle is TRANSIENT

    @property
    def pending(self) -> bool:
        """Whether the next flush inserts the object's row."""
        return self.lifecycle is PENDING

    @property
    def persistent(self) -> bool:
        """Whether the object is in a session and has a row."""
        return self.lifecycle is PERSISTENT

    @property
    def deleted(self) -> bool:
        """Whether the row was deleted by a flush of the transaction in progress."""
        return self.lifecycle is DELETED

    @property
    def detached(self) -> bool:
        """Whether the object has a row and is in no session."""
        return self.lifecycle is DETACHED

    @property
    def was_deleted(self) -> bool:
        """Whether the object's row was deleted, in this transaction or by one that was committed."""
        return self.deleted or self._state.was_deleted

    @property
    def session(self) -> Any:
        """The session that the object is in, or None."""
        workspace = workspace_of(self.object)
        return None if workspace is None else workspace.owner

    @property
    def mapper(self) -> AnyMapper:
        """The mapper of the object's class."""
        return self._state.mapper

    @property
    def key(self) -> IdentityKey | None:
        """The identity key: class, primary key, token; None without a row."""
        return self._state.key

    @property
    def identity(self) -> tuple[Any, ...] | None:
        """The primary key; None without a row."""
        return None if self._state.key is None else self._state.key[1]

    @property
    def identity_token(self) -> Any:
        """What tells apart rows with the same primary key in different databases; None if there is nothing to tell."""
        return self._state.place

    @property
    def has_identity(self) -> bool:
        """Whether the object has a row."""
        return self._state.key is not None

    @property
    def attrs(self) -> AttributeStates:
        """The attributes: ``inspect(user).attrs.name.history``."""
        return AttributeStates(self._state, self.object)

    @property
    def dict(self) -> "dict[str, Any]":
        """The mapped values in memory, by name."""
        return {key: value for key, value in self._state.values().items() if key != STATE_KEY}

    @property
    def unloaded(self) -> set[str]:
        """Names of the attributes that have no value in memory."""
        return unloaded_names(self._state)

    @property
    def unmodified(self) -> set[str]:
        """Names of the attributes without unflushed changes."""
        return self._state.mapper.attributes.keys() - {*(self._state.committed or ()), *(self._state.pending or ())}

    @property
    def expired(self) -> bool:
        """Whether the object as a whole is stale: the next awaited call that touches it reads it anew."""
        workspace = self._state.workspace
        return workspace is not None and self._state.key is not None and self._state.epoch != workspace.epoch

    @property
    def expired_attributes(self) -> set[str]:
        """Names of the attributes with values that may have changed in the database since they were read."""
        return {key for key in self._state.mapper.attributes if is_stale(self._state, key)}

    @property
    def modified(self) -> bool:
        """Whether a flush would find something to write."""
        return is_modified(self.object)

    @override
    def __repr__(self) -> str:
        return f"<InstanceState {self._state.describe()}, {self.lifecycle.value}>"
