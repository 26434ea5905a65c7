"""Work with attributes by name: what tools, loaders and merges use instead of plain Python.

The first argument is always the object. Nothing here loads anything.
"""

from collections.abc import Sequence
from typing import Any

from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.mapping.mapper import Relationship
from aiosession.state.changes import mark_dirty, note_change
from aiosession.state.history import History, history_of
from aiosession.state.relations import RelationRules, load_collection, rules_of
from aiosession.state.settle import set_loaded
from aiosession.state.state import EntityState, state_of
from aiosession.state.values import NO_VALUE
from aiosession.state.view import InstanceState

__all__ = [
    "NO_VALUE",
    "History",
    "del_attribute",
    "flag_dirty",
    "flag_modified",
    "get_attribute",
    "get_history",
    "init_collection",
    "instance_dict",
    "instance_state",
    "is_instrumented",
    "set_attribute",
    "set_committed_value",
]


def get_attribute(obj: object, key: str) -> Any:
    """Return the value of a mapped attribute, as reading it would."""
    state_of(obj).mapper.attribute(key)
    return getattr(obj, key)


def set_attribute(obj: object, key: str, value: object) -> None:
    """Set a mapped attribute, with history and back-references."""
    state_of(obj).mapper.attribute(key)
    setattr(obj, key, value)


def del_attribute(obj: object, key: str) -> None:
    """Delete the value of a mapped attribute: the flush writes NULL."""
    state_of(obj).mapper.attribute(key)
    delattr(obj, key)


def set_committed_value(obj: object, key: str, value: Any) -> None:
    """Set a value as if it had been loaded from the database: no history, no back-references, no cascade."""
    state = state_of(obj)
    attribute = state.mapper.attribute(key)
    if isinstance(attribute, Relationship) and attribute.uselist:
        set_loaded_collection(state, key, list(value))
    else:
        set_loaded(state, key, value)


def set_loaded_collection(state: EntityState, key: str, loaded: Sequence[object]) -> Any:
    """Give an object the members of a collection as the database has them; unflushed changes of it are lost."""
    obj = state()
    collection = load_collection(state, obj, _collection_rules(state, key), loaded)
    set_loaded(state, key, collection)
    if state.pending is not None:
        state.pending.pop(key, None)
    return collection


def merge_loaded_collection(state: EntityState, key: str, loaded: Sequence[object]) -> Any:
    """Like :func:`set_loaded_collection`, but keep what was changed through back-references while it was not loaded.

    Those changes become changes of the collection: the history shows them.
    """
    pending = None if state.pending is None else state.pending.pop(key, None)
    collection = set_loaded_collection(state, key, loaded)
    if state.pending is not None and not state.pending:
        state.pending = None
    if pending:
        obj = state()
        note_change(state, obj, key, tuple(loaded))
        load_collection(state, obj, _collection_rules(state, key), pending.merge(loaded))
    return collection


def init_collection(obj: object, key: str) -> Any:
    """Give an object an empty collection, without history, and return it."""
    return set_loaded_collection(state_of(obj), key, ())


def flag_modified(obj: object, key: str) -> None:
    """Have the flush write an attribute although it was not set: its value was changed inside."""
    state = state_of(obj)
    state.mapper.attribute(key)
    if key not in state.values():
        raise InvalidRequestError(f"{state.describe()} has no value for {key!r} that could have been modified")
    note_change(state, obj, key, NO_VALUE)
    if state.committed is not None:
        state.committed[key] = NO_VALUE


def flag_dirty(obj: object) -> None:
    """Have the next flush look at an object although nothing in it was changed."""
    mark_dirty(state_of(obj), obj)


def get_history(obj: object, key: str) -> History:
    """Return what was added to, unchanged in and deleted from an attribute since it was last read or flushed.

    An old value that nobody has loaded is not in it; ``await inspect(obj).attrs.name.load_history()`` loads first.
    """
    return history_of(state_of(obj), key)


def is_instrumented(obj: object, key: str) -> bool:
    """Whether *key* is a mapped attribute of an object."""
    return key in state_of(obj).mapper.attributes


def instance_state(obj: object) -> InstanceState:
    """Return what is known about a mapped object; what ``inspect(obj)`` gives."""
    return InstanceState(obj)


def instance_dict(obj: object) -> dict[str, Any]:
    """Return the values in memory by name, with whatever else the object's ``__dict__`` holds; not to be written to."""
    state_of(obj)
    return obj.__dict__


def _collection_rules(state: EntityState, key: str) -> RelationRules:
    attribute = state.mapper.attribute(key)
    if not isinstance(attribute, Relationship) or not attribute.uselist:
        raise ArgumentError(f"{state.mapper.name}.{key} is not a collection")
    return rules_of(attribute)
