"""Which objects does a flush concern? New, changed and deleted ones, and what cascades bring in.

The only stage before execution that may wait: relations that a cascade needs and that are not loaded are loaded here,
for all objects of a class at once. Nothing is changed but by loading, so that a plan can be thrown away.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiosession.errors import ArgumentError
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.relationships import Direction
from aiosession.state.contents import members
from aiosession.state.lifecycle import PENDING, PERSISTENT
from aiosession.state.state import EntityState, is_stale, state_of, state_or_none
from aiosession.state.values import NO_VALUE
from aiosession.state.workspace import Workspace
from aiosession.unit_of_work.plan import Reason, Why
from aiosession.unit_of_work.relations import Association, ForeignKey, relations_of

LoadRelation = Callable[[Sequence[EntityState], Relationship], Awaitable[None]]
"""Loads a relation of several objects in one statement, merging in changes that were recorded meanwhile."""


@dataclass(slots=True, eq=False)
class Worklist:
    """The objects of one flush, and what is known about them before values are looked at."""

    workspace: Workspace
    inserts: dict[EntityState, Any] = field(default_factory=dict)
    updates: dict[EntityState, Any] = field(default_factory=dict)
    """Objects with changes; some may come to nothing."""
    deletes: dict[EntityState, Reason] = field(default_factory=dict)
    dropped: dict[EntityState, None] = field(default_factory=dict)
    """Pending objects that lost their owner: they leave the session instead of being inserted."""
    released: list[tuple[EntityState, ForeignKey]] = field(default_factory=list)
    """Rows whose foreign key is set to NULL because the row it refers to is deleted."""
    emptied: list[tuple[Association, list[EntityState]]] = field(default_factory=list)
    """Connecting rows to delete by their owner alone, because nobody has loaded them."""
    token: object | None = None
    """Which of several databases all this is for."""

    def is_present(self, state: EntityState) -> bool:
        """Whether the object of *state* is in the session and stays there."""
        return (
            state.workspace_ref is self.workspace.ref
            and (state.lifecycle is PERSISTENT or state.lifecycle is PENDING)
            and state not in self.dropped
        )


async def gather(
    workspace: Workspace, load_relation: LoadRelation, objects: Iterable[object] | None = None
) -> Worklist:
    """Return what has to be written; *objects* restricts it to some of the session's objects."""
    work = Worklist(workspace)
    chosen = None if objects is None else _chosen(objects)
    work.deletes.update(
        dict.fromkeys(workspace.deleted if chosen is None else _only(workspace.deleted, chosen), Reason(Why.DELETED))
    )
    work.inserts.update(workspace.new if chosen is None else _only(workspace.new, chosen))
    work.updates.update(workspace.dirty if chosen is None else _only(workspace.dirty, chosen))
    if chosen is not None:
        _add_referred(work)
    await _follow_keys(work, load_relation)
    _find_orphans(work)
    if work.deletes:
        await _Deletion(work, load_relation).spread()
        await _know_references(work, load_relation)
        for state in work.deletes:
            work.updates.pop(state, None)
    for state in work.dropped:
        work.inserts.pop(state, None)
    return work


def _chosen(objects: Iterable[object]) -> set[EntityState]:
    if not isinstance(objects, Iterable):
        raise ArgumentError(f"flush() and plan() take several objects: write [{objects!r}] for this one")
    return {state_of(obj) for obj in objects}


def _only(held: dict[EntityState, Any], chosen: set[EntityState]) -> dict[EntityState, Any]:
    return {state: obj for state, obj in held.items() if state in chosen}


def _add_referred(work: Worklist) -> None:
    """Take in pending objects that chosen ones refer to: without their rows those cannot be written."""
    todo = [*work.inserts, *work.updates]
    while todo:
        state = todo.pop()
        values = state.values()
        for reference in relations_of(state.mapper).references:
            target = values.get(reference.key)
            other = None if target is None else state_or_none(target)
            if other is not None and other in work.workspace.new and other not in work.inserts:
                work.inserts[other] = target
                todo.append(other)


# Orphans --------------------------------------------------------------------------------------------------------------


def _find_orphans(work: Worklist) -> None:
    """Find the objects that were taken away from their only owner."""
    for mapper, states in _by_mapper([*work.inserts, *work.updates]):
        relations = relations_of(mapper)
        for state in states if relations.is_owned else ():
            _judge(work, state)
        for relationship in relations.owning:
            for state in states:
                for member in removed(state, relationship):
                    _judge(work, state_of(member))


def _judge(work: Worklist, state: EntityState) -> None:
    parents = state.parents
    if not parents or state in work.deletes:
        return
    left = [relationship for relationship, parent in parents.items() if parent is None]
    lost = next((relationship for relationship in left if Cascade.DELETE_ORPHAN in relationship.cascade), None)
    if lost is None or not work.is_present(state):
        return
    if state.key is None:
        work.dropped[state] = None
    else:
        work.deletes[state] = Reason(Why.ORPHAN, (f"{lost.parent.name}.{lost.key}",))


# Changes of relations -------------------------------------------------------------------------------------------------


def current(state: EntityState, relationship: Relationship) -> tuple[Any, ...]:
    """Return the objects that a relation holds now, as far as they are in memory."""
    value = state.values().get(relationship.key)
    if value is None:
        return ()
    return members(value) if relationship.uselist else (value,)


def _before(state: EntityState, relationship: Relationship) -> tuple[Any, ...] | None:
    """Return what a changed relation held before, None if it is not changed (or was not loaded)."""
    committed = state.committed
    value = None if committed is None else committed.get(relationship.key, NO_VALUE)
    if value is NO_VALUE or committed is None or relationship.key not in committed:
        return None
    if isinstance(value, tuple):
        return value
    return () if value is None else (value,)


def removed(state: EntityState, relationship: Relationship) -> list[Any]:
    """Return what was taken out of a relation since it was last written."""
    pending = None if state.pending is None else state.pending.get(relationship.key)
    if pending is not None:
        return list(pending.removed)
    before = _before(state, relationship)
    if not before:
        return []
    kept = {id(member) for member in current(state, relationship)}
    return [member for member in before if id(member) not in kept]


def added(state: EntityState, relationship: Relationship) -> list[Any]:
    """Return what came into a relation since it was last written; all of it for an object without a row."""
    pending = None if state.pending is None else state.pending.get(relationship.key)
    if pending is not None:
        return list(pending.added)
    if state.key is None:
        return list(current(state, relationship))
    if state.committed is None or relationship.key not in state.committed:
        return []
    known = {id(member) for member in _before(state, relationship) or ()}
    return [member for member in current(state, relationship) if id(member) not in known]


# Primary keys that change ---------------------------------------------------------------------------------------------


def has_new_key(state: EntityState) -> bool:
    """Whether an attribute of the primary key of a row was changed."""
    committed = state.committed
    return committed is not None and any(each.key in committed for each in state.mapper.primary_key_attributes)


async def _follow_keys(work: Worklist, load_relation: LoadRelation) -> None:
    """Load the children whose foreign keys have to follow a changed primary key."""
    for mapper, states in _by_mapper(work.updates):
        relations = relations_of(mapper)
        following = [each.relationship for each in relations.following]
        following += [each.relationship for each in relations.associations if each.is_followed]
        moved = [state for state in states if has_new_key(state)] if following else []
        for relationship in following:
            await _ensure_loaded(moved, relationship, load_relation)


# Deletion -------------------------------------------------------------------------------------------------------------


class _Deletion:
    """Spreads deletion along relations, one class and relation at a time."""

    def __init__(self, work: Worklist, load_relation: LoadRelation) -> None:
        self.work = work
        self.load_relation = load_relation
        self.found: list[EntityState] = []
        self.released: list[tuple[EntityState, ForeignKey]] = []

    async def spread(self) -> None:
        """Follow the delete cascade to its end, then see which rows only lose a reference."""
        wave = list(self.work.deletes)
        while wave:
            self.found = []
            for mapper, states in _by_mapper(wave):
                await self._spread_from(mapper, states)
            wave = self.found
        deletes = self.work.deletes
        self.work.released += [(state, child) for state, child in self.released if state not in deletes]

    async def _spread_from(self, mapper: AnyMapper, states: list[EntityState]) -> None:
        relations = relations_of(mapper)
        for child in relations.children:
            await self._from_children(states, child)
        for reference in relations.references:
            if Cascade.DELETE in reference.relationship.cascade:
                await self._load(states, reference.relationship)
                self._cascade(states, reference.relationship)
        for association in relations.associations:
            await self._from_association(states, association)

    async def _from_children(self, states: list[EntityState], child: ForeignKey) -> None:
        relationship = child.relationship
        if relationship.passive_deletes == "all":
            return
        await self._load(states, relationship)
        if Cascade.DELETE in relationship.cascade:
            self._cascade(states, relationship)
            return
        for state in states:
            self.released += [(state_of(member), child) for member in current(state, relationship)]

    async def _from_association(self, states: list[EntityState], association: Association) -> None:
        relationship = association.relationship
        if Cascade.DELETE in relationship.cascade:
            await self._load(states, relationship)
            self._cascade(states, relationship)
        unknown = [state for state in states if _needs_loading(state, relationship)]
        if unknown and not relationship.passive_deletes:
            self.work.emptied.append((association, unknown))

    async def _load(self, states: list[EntityState], relationship: Relationship) -> None:
        if not relationship.passive_deletes:
            await _ensure_loaded(states, relationship, self.load_relation)

    def _cascade(self, states: list[EntityState], relationship: Relationship) -> None:
        reason = Reason(Why.CASCADE, (f"{relationship.parent.name}.{relationship.key}",))
        for state in states:
            for member in current(state, relationship):
                self._delete(state_of(member), reason)

    def _delete(self, state: EntityState, reason: Reason) -> None:
        work = self.work
        if state in work.deletes or not work.is_present(state):
            return
        if state.key is None:
            work.dropped[state] = None
        else:
            work.deletes[state] = reason
            self.found.append(state)


async def _know_references(work: Worklist, load_relation: LoadRelation) -> None:
    """Load the foreign keys that decide on the order of deletions, where they are not in memory."""
    by_mapper = _by_mapper(work.deletes)
    mappers = {mapper for mapper, _ in by_mapper}
    for mapper, states in by_mapper:
        for reference in relations_of(mapper).references:
            if reference.relationship.target in mappers:
                keys = {attribute.key for attribute in mapper.primary_key_attributes}
                names = {destination for _, destination in reference.pairs if destination not in keys}
                unknown = [state for state in states if not _knows(state, names)]
                if unknown:
                    await load_relation(unknown, reference.relationship)


def _knows(state: EntityState, names: set[str]) -> bool:
    return all(name in state.values() or name in (state.parked or ()) for name in names)


def _by_mapper(states: Iterable[EntityState]) -> list[tuple[AnyMapper, list[EntityState]]]:
    grouped: dict[AnyMapper, list[EntityState]] = {}
    for state in states:
        grouped.setdefault(state.mapper, []).append(state)
    return list(grouped.items())


async def _ensure_loaded(states: list[EntityState], relationship: Relationship, load_relation: LoadRelation) -> None:
    missing = [state for state in states if _needs_loading(state, relationship)]
    if missing:
        await load_relation(missing, relationship)


def _needs_loading(state: EntityState, relationship: Relationship) -> bool:
    """Whether the database may know members of a relation that memory does not."""
    key = relationship.key
    if key in state.values():
        # what was set without knowing what was there before hides it
        is_blind = state.committed is not None and state.committed.get(key) is NO_VALUE
        return is_stale(state, key) or (is_blind and relationship.direction is not Direction.MANY_TO_ONE)
    return not state.inserted_here or is_stale(state, key)
