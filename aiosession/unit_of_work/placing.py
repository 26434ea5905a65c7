"""In which of several databases do the rows of a flush go? Chosen for new objects, kept by all others.

Rows that refer to each other are in the same place, so that the work of each place is planned by itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aiosession.errors import FlushError
from aiosession.state.state import EntityState, state_of
from aiosession.transaction.placement import Placement
from aiosession.unit_of_work.plan import FlushPlan
from aiosession.unit_of_work.planning import make_plan
from aiosession.unit_of_work.relations import relations_of
from aiosession.unit_of_work.worklist import Worklist, added, current


async def choose_places(placement: Placement, work: Worklist) -> None:
    """Have a place chosen for each new object; for those that others refer to before the others."""
    for state in work.inserts:
        state.token = None
    for state in _parents_first(work):
        state.token = await placement.for_new(state.mapper, state())
    _check_neighbours(work)


def plan_by_place(work: Worklist) -> FlushPlan:
    """Return what has to be sent for *work*, place after place."""
    plans = [(part.token, make_plan(part)) for part in _parts(work)]
    return FlushPlan(
        tuple(replace(batch, token=token) for token, plan in plans for batch in plan),
        awaited={state: values for _, plan in plans for state, values in plan.awaited.items()},
        replaced={new: old for _, plan in plans for new, old in plan.replaced.items()},
        followed={state: values for _, plan in plans for state, values in plan.followed.items()},
    )


def _parts(work: Worklist) -> Iterable[Worklist]:
    """Return the work of each place, in the order in which places come up."""
    parts: dict[object, Worklist] = {}
    for state in (*work.inserts, *work.updates, *work.deletes, *_losing(work)):
        if state.place not in parts:
            parts[state.place] = Worklist(work.workspace, dropped=work.dropped, token=state.place)
    for state, obj in work.inserts.items():
        parts[state.place].inserts[state] = obj
    for state, obj in work.updates.items():
        parts[state.place].updates[state] = obj
    for state, reason in work.deletes.items():
        parts[state.place].deletes[state] = reason
    for token, part in parts.items():
        part.released += [(state, foreign_key) for state, foreign_key in work.released if state.place == token]
        emptied = [(each, [state for state in states if state.place == token]) for each, states in work.emptied]
        part.emptied += [(association, states) for association, states in emptied if states]
    return parts.values()


def _losing(work: Worklist) -> Iterator[EntityState]:
    """Yield the objects whose rows lose a reference."""
    return (state for state, _ in work.released)


def _parents_first(work: Worklist) -> Iterator[EntityState]:
    """Yield the new objects, each one after those new ones that it refers to as far as they are no circle."""
    inserts = work.inserts
    referred: dict[EntityState, list[EntityState]] = {}
    for state in inserts:
        relations, values = relations_of(state.mapper), state.values()
        targets = [values.get(reference.key) for reference in relations.references]
        referred.setdefault(state, []).extend(state_of(target) for target in targets if target is not None)
        for child in relations.collections:
            for member in current(state, child.relationship):
                referred.setdefault(state_of(member), []).append(state)
    begun: set[EntityState] = set()
    done: dict[EntityState, None] = {}
    todo = list(reversed(inserts))
    while todo:
        state = todo[-1]
        waited_for = [other for other in referred[state] if other in inserts and other not in begun]
        begun.add(state)
        if waited_for:
            todo += waited_for
        else:
            done[todo.pop()] = None
    yield from done


def _check_neighbours(work: Worklist) -> None:
    """Refuse relations that would lead from one place to another: no foreign key can."""
    for state in (*work.inserts, *work.updates):
        for relationship in state.mapper.relationships.values():
            if relationship.viewonly:
                continue
            for member in added(state, relationship):
                other = state_of(member)
                if work.is_present(other) and other.place != state.place:
                    raise FlushError(
                        f"{relationship.parent.name}.{relationship.key} leads from {state.describe()} on shard "
                        f"{state.place!r} to {other.describe()} on shard {other.place!r}; rows that refer to each "
                        f"other are on one shard: let shard_chooser return that of the object referred to"
                    )
