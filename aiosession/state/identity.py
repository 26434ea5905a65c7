"""Keep one object per row: the identity map, which holds its objects weakly."""

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import Any

from typing_extensions import override

from aiosession.errors import InvalidRequestError
from aiosession.mapping.mapper import IdentityKey
from aiosession.state.state import EntityState, name_of_key


class IdentityMap(Mapping[IdentityKey, object]):
    """A mapping from identity keys to objects, each kept only while somebody else holds it.

    ``states`` is the plain dictionary underneath, for generated row loaders; an entry may outlive its object
    (see ``Workspace.purge``), so look at what ``states[key]()`` returns.
    """

    __slots__ = ("__weakref__", "states")

    def __init__(self) -> None:
        self.states: dict[IdentityKey, EntityState] = {}

    @override
    def get(self, key: IdentityKey, default: Any = None, /) -> Any:
        """Return the object with this key, or *default*."""
        state = self.states.get(key)
        found = None if state is None else state()
        return default if found is None else found

    def state(self, key: IdentityKey) -> EntityState | None:
        """Return the state of the living object with this key, or None."""
        state = self.states.get(key)
        return None if state is None or state() is None else state

    def add(self, key: IdentityKey, state: EntityState) -> None:
        """Enter an object; InvalidRequestError if another one has the key."""
        self.check(key, state)
        self.states[key] = state

    def check(self, key: IdentityKey, state: EntityState) -> None:
        """Raise InvalidRequestError if another living object has the key."""
        present = self.states.get(key)
        if present is not None and present is not state and present() is not None:
            raise InvalidRequestError(
                f"another object with the identity {name_of_key(key)} is already in this session; change that "
                f"one, or expunge it first"
            )

    def discard(self, key: IdentityKey, state: EntityState) -> None:
        """Remove the entry if it is *state*'s; a newer state's entry stays."""
        if self.states.get(key) is state:
            del self.states[key]

    def living(self) -> list[tuple[IdentityKey, object]]:
        """Return all objects that are still there, with their keys; they stay as long as the list does."""
        found = [(key, state()) for key, state in list(self.states.items())]
        return [(key, obj) for key, obj in found if obj is not None]

    def live_states(self) -> list[EntityState]:
        """Return the states of all living objects."""
        return [state for state in list(self.states.values()) if state() is not None]

    @override
    def values(self) -> ValuesView[object]:
        """Return a view of all living objects."""
        return LivingObjects(self)

    @override
    def items(self) -> ItemsView[IdentityKey, object]:
        """Return a view of all keys with their living objects."""
        return LivingItems(self)

    @override
    def __iter__(self) -> Iterator[IdentityKey]:
        return iter([key for key, _ in self.living()])

    @override
    def __contains__(self, key: object) -> bool:
        state = self.states.get(key)  # type: ignore[call-overload]  # any object may be asked for
        return state is not None and state() is not None

    @override
    def __getitem__(self, key: IdentityKey) -> object:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    @override
    def __len__(self) -> int:
        return len(self.living())


class LivingObjects(ValuesView[object]):
    """The objects of an identity map, none of which vanishes while they are gone through."""

    _mapping: IdentityMap
    __slots__ = ()

    @override
    def __iter__(self) -> Iterator[object]:
        return iter([obj for _, obj in self._mapping.living()])

    @override
    def __contains__(self, value: object) -> bool:
        return any(obj is value for obj in self)


class LivingItems(ItemsView[IdentityKey, object]):
    """The keys and objects of an identity map, none of which vanishes while they are gone through."""

    _mapping: IdentityMap
    __slots__ = ()

    @override
    def __iter__(self) -> Iterator[tuple[IdentityKey, object]]:
        return iter(self._mapping.living())
