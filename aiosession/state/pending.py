"""Record what back-references did to a collection that is not loaded."""

from collections.abc import Iterable


class PendingChanges:
    """Members to add to and to remove from a collection once it is loaded, in order, each one once."""

    __slots__ = ("_added", "_removed")

    def __init__(self) -> None:
        self._added: dict[int, object] = {}  # by id(): members may be unhashable
        self._removed: dict[int, object] = {}

    @property
    def added(self) -> tuple[object, ...]:
        """What was added, oldest first."""
        return tuple(self._added.values())

    @property
    def removed(self) -> tuple[object, ...]:
        """What was removed, oldest first."""
        return tuple(self._removed.values())

    def add(self, member: object) -> None:
        """Record an addition; it takes back a removal."""
        if self._removed.pop(id(member), None) is None:
            self._added[id(member)] = member

    def remove(self, member: object) -> None:
        """Record a removal; it takes back an addition."""
        if self._added.pop(id(member), None) is None:
            self._removed[id(member)] = member

    def subtract(self, written: "PendingChanges") -> None:
        """Forget what a flush has written."""
        for member in written.added:
            self._added.pop(id(member), None)
        for member in written.removed:
            self._removed.pop(id(member), None)

    def copy(self) -> "PendingChanges":
        """Return an independent record of the same changes."""
        other = PendingChanges()
        for member in self.added:
            other.add(member)
        for member in self.removed:
            other.remove(member)
        return other

    def merge(self, loaded: Iterable[object]) -> list[object]:
        """Return *loaded* with the changes made to it."""
        merged = [member for member in loaded if id(member) not in self._removed]
        present = {id(member) for member in merged}
        merged.extend(member for key, member in self._added.items() if key not in present)
        return merged

    def __bool__(self) -> bool:
        return bool(self._added or self._removed)
