"""Load the relations of many owners at once.

One statement per relation, whatever the number of owners: members by the owners' keys, single references from the
identity map first. What comes is grouped and attached; deeper relations follow in the same way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiosession.errors import InvalidRequestError
from aiosession.loading.attach import attach, attach_all, hydrate, is_wanted
from aiosession.loading.columns import refresh
from aiosession.loading.criteria import by_criteria, limited_relation
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.keys import Key
from aiosession.loading.places import in_each_place
from aiosession.loading.plans import KeyedPlan, fetch_by_keys, owner_columns, plan_by_primary_key, plan_for_members
from aiosession.loading.shapes import RelationShape, default_relation
from aiosession.mapping.mapper import Relationship
from aiosession.state.state import STATE_KEY, EntityState
from aiosession.transaction.context import SessionContext


@dataclass(frozen=True, slots=True)
class Owners:
    """Objects whose relation is wanted, by the key that finds their members; held so that they stay alive."""

    objects: list[Any]
    by_key: dict[Any, list[EntityState]]
    """Keys are tuples, or values themselves if the key has one column."""
    without_key: list[EntityState]

    def keys(self) -> list[Key]:
        """Return the keys, all of them as tuples, in the order of ``by_key``."""
        return [key if isinstance(key, tuple) else (key,) for key in self.by_key]


async def load_relation(context: SessionContext, states: Iterable[EntityState], relationship: Relationship) -> None:
    """Load a relation of all *states* that lack it or hold it stale: one statement for any number of them."""
    # Within the criteria of the statements that the owners came from.
    for criteria, owners in by_criteria(states):
        relation = limited_relation(default_relation(relationship), criteria)
        await in_each_place(context, owners, partial(load_and_follow, context, [relation], criteria))


async def load_and_follow(
    context: SessionContext,
    relations: Iterable[RelationShape],
    criteria: tuple[object, ...],
    token: object | None,
    states: Sequence[EntityState],
) -> None:
    """Load relations of *states*, all of which are in the same place, and what is behind them."""
    run = LoadRun(context.workspace, token=token, criteria=criteria)
    for relation in relations:
        await load_related(context, run, states, relation)
    await follow(context, run)


async def follow(context: SessionContext, run: LoadRun) -> None:
    """Load what the statements of *run* left to statements of their own, level by level."""
    while run.unfinished:
        relations, states = run.unfinished.pop(0)
        for relation in relations:
            await load_related(context, run, states, relation)


async def load_related(
    context: SessionContext, run: LoadRun, states: Iterable[EntityState], relation: RelationShape
) -> None:
    """Load one relation of *states* in the place of *run*; what is deeper is left in ``run.unfinished``."""
    key = relation.relationship.key
    wanting: list[EntityState] = []
    settled: list[EntityState] = []
    for state in dict.fromkeys(states):
        if state() is not None:
            (wanting if is_wanted(run, state, key) else settled).append(state)
    _deepen(run, relation, (state.values().get(key) for state in settled))
    if wanting and relation.relationship.uses_get and not relation.criteria:
        await _load_references(context, run, wanting, relation)
    elif wanting:
        await _load_members(context, run, wanting, relation)


def _deepen(run: LoadRun, relation: RelationShape, values: Iterable[Any]) -> None:
    """Note what has to be loaded behind *values* of a relation that were in memory before."""
    deeper = (*relation.shape.joined, *relation.shape.following)
    if deeper:
        uselist = relation.relationship.uselist
        found = [member for value in values for member in related_objects(value, is_collection=uselist)]
        if found:
            run.unfinished.append((deeper, [member.__dict__[STATE_KEY] for member in found]))


def related_objects(value: Any, *, is_collection: bool) -> Iterable[Any]:
    """Return the objects that the value of a relation consists of."""
    if value is None:
        return ()
    if not is_collection:
        return (value,)
    return value.values() if isinstance(value, dict) else value


async def _load_references(
    context: SessionContext, run: LoadRun, states: Sequence[EntityState], relation: RelationShape
) -> None:
    """Load many-to-one relations: targets that are in memory and fresh cost nothing."""
    relationship = relation.relationship
    parent = relationship.parent
    columns = tuple(parent.by_column[column].key for column in relationship.get_columns)
    owners = await _owners(context, states, columns)
    keys = owners.keys()
    found = {key: target for key in keys if (target := _in_memory(run, relation, key)) is not None}
    missing = [key for key in keys if key not in found]
    _deepen(run, relation, list(found.values()))
    if missing:
        build = partial(plan_by_primary_key, shape=relation.shape)
        plan, rows = await fetch_by_keys(context, relation.shape.mapper, build, missing, token=run.token)
        targets = hydrate(plan.loader, rows, run)
        found.update((target.__dict__[STATE_KEY].key[1], target) for target in targets)
        for key in found.keys() - keys:
            raise _unknown_key(relation, key)
    for key, waiting in zip(keys, owners.by_key.values(), strict=True):
        members = [found[key]] if key in found else []
        for state in waiting:
            attach(run, state, relationship, members)
    for state in owners.without_key:
        attach(run, state, relationship, [])


def _in_memory(run: LoadRun, relation: RelationShape, key: Key) -> Any:
    """Return the target with this primary key if it is in memory, fresh, and has all that is wanted of it."""
    if run.overwrite:
        return None
    workspace = run.workspace
    state = workspace.identity_map.states.get(relation.relationship.target.identity_key(key, run.token))
    target = None if state is None else state()
    if target is None or state is None or state.epoch != workspace.epoch:
        return None
    wanted = {column.key for column in relation.shape.columns}
    if (state.expired and not wanted.isdisjoint(state.expired)) or not wanted <= target.__dict__.keys():
        return None
    return target


async def _load_members(
    context: SessionContext, run: LoadRun, states: Sequence[EntityState], relation: RelationShape
) -> None:
    """Load the members of a relation by the keys of its owners."""
    owners = await _owners(context, states, owner_columns(relation))
    members: dict[Any, list[Any]] = {key: [] for key in owners.by_key}
    if members:
        build = partial(plan_for_members, relation=relation)
        plan, rows = await fetch_by_keys(context, relation.shape.mapper, build, owners.keys(), token=run.token)
        _group(relation, members, plan, rows, hydrate(plan.loader, rows, run))
    found = ((state, members[key]) for key, states in owners.by_key.items() for state in states)
    attach_all(run, relation.relationship, found)
    for state in owners.without_key:
        attach(run, state, relation.relationship, [])


def _group(
    relation: RelationShape,
    members: dict[Any, list[Any]],
    plan: KeyedPlan,
    rows: Sequence[Any],
    objects: Sequence[Any],
) -> None:
    """Put each object to the members of the owner that its row names."""
    keys = plan.keys_of(rows)
    if plan.loader.multiplies_rows:
        once = {(key, id(member)): member for key, member in zip(keys, objects, strict=True)}
        keys, objects = [key for key, _ in once], list(once.values())
    try:
        for key, member in zip(keys, objects, strict=True):
            members[key].append(member)
    except KeyError as error:
        raise _unknown_key(relation, error.args[0]) from None


def _unknown_key(relation: RelationShape, key: object) -> InvalidRequestError:
    """Return the error for a row whose key is only for the database the same as one that was asked for."""
    return InvalidRequestError(
        f"{relation.relationship.parent.name}.{relation.relationship.key} cannot be loaded: the database found a row "
        f"with the key {key!r}, which it takes for one that was asked for and Python does not (a collation that "
        f"ignores case or trailing blanks?); write keys alike on both sides"
    )


async def _owners(context: SessionContext, states: Sequence[EntityState], columns: Sequence[str]) -> Owners:
    """Return the owners by key; foreign keys that are not known, or stale, are read first."""
    epoch = context.workspace.epoch
    primary_key = {attribute.key for attribute in states[0].mapper.primary_key_attributes}
    if not primary_key.issuperset(columns):
        unknown = [state for state in states if state.epoch != epoch or not state.values().keys() >= set(columns)]
        if unknown:
            await refresh(context, unknown, columns)
    owners = Owners([state() for state in states], {}, [])
    single = columns[0] if len(columns) == 1 else None
    for state in states:
        values = _stored_keys(state) if state.committed else state.values()
        key: Any = values[single] if single is not None else tuple([values[column] for column in columns])
        if key is None or (single is None and None in key):
            owners.without_key.append(state)
        else:
            owners.by_key.setdefault(key, []).append(state)
    return owners


def _stored_keys(state: EntityState) -> Mapping[str, object]:
    """Return the values of a changed object, with the primary key by which the database still knows its row."""
    if state.key is None:
        return state.values()
    names = [attribute.key for attribute in state.mapper.primary_key_attributes]
    return {**state.values(), **dict(zip(names, state.key[1], strict=True))}
