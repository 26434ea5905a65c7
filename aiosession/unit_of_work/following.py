"""Find the objects that follow a key that changes, because the database carries it to their rows (passive_updates).

Nothing is written for them, but from then on their rows are found by what they have then, and memory has to say so too.
Only called when a row gets another key, so that it may look at all objects in memory.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aiosession.state.state import EntityState
from aiosession.state.values import NO_VALUE
from aiosession.unit_of_work.keys import Keys
from aiosession.unit_of_work.relations import CarriedKey, relations_of


def carry(keys: Keys, state: EntityState, names: Sequence[str]) -> None:
    """Note what the rows of objects in memory get when attributes called *names* of the row of *state* change."""
    todo = [(state, {name: keys.of_stored_or_none(state, name) for name in names}, _new_values(keys, state, names))]
    while todo:
        parent, old, new = todo.pop()
        for carried in relations_of(parent.mapper).carried:
            if any(source in new for source, _ in carried.pairs):
                todo += _followers(keys, parent, carried, old, new)


def _new_values(keys: Keys, state: EntityState, names: Sequence[str]) -> dict[str, Any]:
    return {name: keys.of(state, name) for name in names}


def _followers(
    keys: Keys, parent: EntityState, carried: CarriedKey, old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[EntityState, dict[str, Any], dict[str, Any]]]:
    wanted = [
        (destination, old[source] if source in old else keys.of_stored_or_none(parent, source))
        for source, destination in carried.pairs
    ]
    found: list[tuple[EntityState, dict[str, Any], dict[str, Any]]] = []
    for child in keys.work.workspace.identity_map.live_states():
        if child.mapper is not carried.mapper or child is parent or child.place != parent.place:
            continue
        held = {destination: keys.of_stored_or_none(child, destination) for destination, _ in wanted}
        if all(held[destination] == value and value is not NO_VALUE for destination, value in wanted):
            given = {destination: new[source] for source, destination in carried.pairs if source in new}
            keys.followed.setdefault(child, {}).update(given)
            found.append((child, held, given))
    return found
