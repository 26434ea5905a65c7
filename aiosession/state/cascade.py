"""Walk from an object along its relations, over what is in memory."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.relationships import Direction
from aiosession.state.contents import members
from aiosession.state.history import history_of
from aiosession.state.lifecycle import DELETED
from aiosession.state.state import EntityState, state_of

Step = Callable[[EntityState, Cascade], "list[tuple[object, Relationship]]"]


class Reached(NamedTuple):
    """An object that a cascade came to, and the relation that it came along."""

    state: EntityState
    obj: object
    relationship: Relationship


def cascading(mapper: AnyMapper, cascade: Cascade) -> tuple[Relationship, ...]:
    """Return the relations of a class that *cascade* travels along."""
    relations: tuple[Relationship, ...] | None = mapper.memo.get(id(cascade))  # lives forever; its hash() is slow
    if relations is None:
        mapper.registry.configure()
        relations = tuple(each for each in mapper.relationships.values() if cascade in each.cascade)
        mapper.memo[id(cascade)] = relations
    return relations


def reachable(
    start: EntityState,
    cascade: Cascade,
    *,
    halt: Callable[[EntityState], bool] | None = None,
    step: Step | None = None,
) -> Iterator[Reached]:
    """Yield every object that *cascade* reaches from *start* over loaded values, nearest first, each one once.

    *start* itself is not among them. Where *halt* says so an object is neither yielded nor walked through. *step* finds
    what is one step away, if not `neighbours`.
    """
    step = neighbours if step is None else step
    seen = {start}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        for obj, relationship in step(state, cascade):
            other = state_of(obj)
            if other in seen:
                continue
            seen.add(other)
            if halt is None or not halt(other):
                yield Reached(other, obj, relationship)
                waiting.append(other)


def neighbours_past_and_present(state: EntityState, cascade: Cascade) -> list[tuple[object, Relationship]]:
    """Return what `neighbours` does, and what an unflushed change has taken away and a flush has to write to.

    That is not the former target of a foreign key of the object itself, unless it has become an orphan; nor what has
    no row.
    """
    found = neighbours(state, cascade)
    if state.key is not None and (state.committed or state.pending):
        for relationship in cascading(state.mapper, cascade):
            if relationship.direction is not Direction.MANY_TO_ONE or Cascade.DELETE_ORPHAN in relationship.cascade:
                gone = history_of(state, relationship.key).deleted
                found += [(obj, relationship) for obj in gone if _has_row(state_of(obj))]
    return found


def _has_row(state: EntityState) -> bool:
    return state.key is not None and state.status is not DELETED and not state.was_deleted


def neighbours(state: EntityState, cascade: Cascade) -> list[tuple[object, Relationship]]:
    """Return the objects one step away along *cascade*, with the relation that leads there."""
    values = state.values()
    pending = state.pending
    found: list[tuple[object, Relationship]] = []
    for relationship in cascading(state.mapper, cascade):
        value = values.get(relationship.key)
        if value is None:
            if pending is not None and relationship.key in pending:
                found += [(obj, relationship) for obj in pending[relationship.key].added]
        elif relationship.uselist:
            found += [(obj, relationship) for obj in members(value)]
        else:
            found.append((value, relationship))
    return found
