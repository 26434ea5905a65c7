"""Say what an object holds and what of it is changed; looking changes and loads nothing."""

from collections.abc import Iterable
from typing import Any

from aiosession.state import instrumentation
from aiosession.state.history import history_of
from aiosession.state.state import EntityState, state_of


def is_modified(obj: object) -> bool:
    """Whether a flush would find something to write: an attribute with a net change."""
    state = state_of(obj)
    changed: Iterable[str] = {*(state.committed or ()), *(state.pending or ())}
    return any(history_of(state, key) for key in (changed if state.key is not None else state.mapper.attributes))


def unloaded_names(state: EntityState) -> set[str]:
    """Return the mapped attributes that have no value in memory."""
    return state.mapper.attributes.keys() - state.values().keys()


def read(state: EntityState, key: str) -> Any:
    """Return the value of an attribute of a state's object, as reading it would."""
    obj = state()
    values = state.values()
    return values[key] if key in values else instrumentation.on_unloaded(state, obj, state.mapper.attribute(key))
