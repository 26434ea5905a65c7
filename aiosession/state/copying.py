"""Let mapped objects be copied and pickled: what comes out has a record and collections of its own."""

from collections.abc import Mapping
from typing import Any

from aiosession.mapping.mapper import AnyMapper
from aiosession.state.collections import new_collection
from aiosession.state.contents import members, refill
from aiosession.state.relations import OwnerLink, rules_of
from aiosession.state.state import STATE_KEY, state_of


def make_copyable(mapper: AnyMapper) -> None:
    """Give a mapped class the ``__setstate__`` that copies and pickles need, unless it has one."""
    if not hasattr(mapper.class_, "__setstate__"):
        mapper.class_.__setstate__ = restore_values


def restore_values(obj: Any, values: Mapping[str, object]) -> None:
    """Fill an object with the values of another one: the ``__setstate__`` of mapped classes.

    A shallow copy becomes a transient object; what is unpickled or copied deeply keeps its identity and changes.
    """
    obj.__dict__.update(values)
    state = values.get(STATE_KEY)
    if state is None:
        return
    if state_of(obj)() is not obj:
        del obj.__dict__[STATE_KEY]
    record = state_of(obj)
    for key, relationship in record.mapper.relationships.items():
        value = values.get(key)
        if value is not None and relationship.uselist:
            collection = new_collection(relationship.collection_class, OwnerLink(record, rules_of(relationship)))
            refill(collection, members(value))
            obj.__dict__[key] = collection
