"""Read and refill the members of a collection, whatever its kind, without events.

What goes on when user code changes a collection is in :mod:`aiosession.state.collections`.
"""

from collections.abc import Iterable
from typing import Any


class KeyedMembers(tuple[object, ...]):
    """The members of a dictionary, with the keys they had."""

    keys: tuple[object, ...]

    @classmethod
    def of(cls, collection: dict[Any, object]) -> "KeyedMembers":
        """Take the members and keys of a dictionary."""
        snapshot = cls(collection.values())
        snapshot.keys = tuple(collection)
        return snapshot


def members(collection: Any) -> tuple[object, ...]:
    """Return the member objects of a relation's collection: the values of a dictionary, else what iterating gives."""
    if isinstance(collection, dict):
        return KeyedMembers.of(collection)
    return tuple(collection)


def holds(collection: Any, member: object) -> bool:
    """Whether this very object is in the collection, whatever ``==`` says."""
    present = collection.values() if isinstance(collection, dict) else collection
    return any(candidate is member for candidate in present)


def refill(collection: Any, wanted: Iterable[object]) -> None:
    """Make *wanted* the members of a collection, the same collection object, telling nobody."""
    if isinstance(collection, list):
        list.__setitem__(collection, slice(None), wanted)
    elif isinstance(collection, set):
        content = list(wanted)
        set.clear(collection)
        set.update(collection, content)
    elif isinstance(collection, dict):
        _refill_dict(collection, wanted)
    else:
        collection.refill_silently(list(wanted))


def add_silently(collection: Any, member: object) -> object | None:
    """Add one member, telling nobody; return the one whose place it took, which only dictionaries know."""
    if isinstance(collection, list):
        list.append(collection, member)
    elif isinstance(collection, set):
        set.add(collection, member)
    elif isinstance(collection, dict):
        key = collection.key_of(member)  # type: ignore[attr-defined]  # collections of relations have it
        displaced = collection.get(key)
        dict.__setitem__(collection, key, member)
        return displaced
    else:
        collection.refill_silently([*collection, member])
    return None


def remove_silently(collection: Any, member: object) -> bool:
    """Remove every occurrence of this very object, telling nobody; False if it was not there."""
    if isinstance(collection, list):
        rest = [candidate for candidate in collection if candidate is not member]
        is_found = len(rest) < len(collection)
        if is_found:
            list.__setitem__(collection, slice(None), rest)
        return is_found
    return holds(collection, member) and _take_out(collection, member)


def _take_out(collection: Any, member: object) -> bool:
    if isinstance(collection, set):
        set.discard(collection, member)
    elif isinstance(collection, dict):
        for key in [key for key, candidate in collection.items() if candidate is member]:
            dict.__delitem__(collection, key)
    else:
        collection.refill_silently([candidate for candidate in collection if candidate is not member])
    return True


def _refill_dict(collection: Any, wanted: Iterable[object]) -> None:
    if isinstance(wanted, KeyedMembers):
        content = dict(zip(wanted.keys, wanted, strict=True))
    else:
        content = {collection.key_of(member): member for member in wanted}
    dict.clear(collection)
    dict.update(collection, content)
