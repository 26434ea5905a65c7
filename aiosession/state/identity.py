"""Keep one object per row: the identity map, which holds its objects weakly."""

from collections.abc import Iterator

from aiosession.errors import InvalidRequestError
from aiosession.mapping.mapper import IdentityKey
from aiosession.state.state import EntityState, name_of_key


class IdentityMap:
    """Objects by identity key, each kept only while somebody else holds it.

    ``states`` is the plain dictionary underneath, for generated row loaders; an entry may outlive its object
    (see ``Workspace.purge``), so look at what ``states[key]()`` returns.
    """

    __slots__ = ("__weakref__", "states")

    def __init__(self) -> None:
        self.states: dict[IdentityKey, EntityState] = {}

    def get(self, key: IdentityKey) -> object | None:
        """Return the object with this key, or None."""
        state = self.states.get(key)
        return None if state is None else state()

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

    def keys(self) -> list[IdentityKey]:
        """Return the keys of all living objects."""
        return [key for key, state in list(self.states.items()) if state() is not None]

    def values(self) -> list[object]:
        """Return all living objects."""
        return [obj for obj in (state() for state in list(self.states.values())) if obj is not None]

    def live_states(self) -> list[EntityState]:
        """Return the states of all living objects."""
        return [state for state in list(self.states.values()) if state() is not None]

    def __iter__(self) -> Iterator[object]:
        return iter(self.values())

    def __contains__(self, key: object) -> bool:
        state = self.states.get(key)  # type: ignore[call-overload]  # any object may be asked for
        return state is not None and state() is not None

    def __getitem__(self, key: IdentityKey) -> object:
        found = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __len__(self) -> int:
        return len(self.keys())
