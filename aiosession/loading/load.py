"""Load what objects lack when the application asks for it.

``session.load(users, User.books, Book.tags)``, ``session.refresh(user)``, ``refresh_all()``: what is asked for, checked
and grouped, then one statement per class or relation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiosession.errors import ArgumentError, InvalidRequestError, ObjectNotFoundError
from aiosession.loading.attach import is_wanted
from aiosession.loading.columns import refresh, refresh_stale
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.places import in_each_place
from aiosession.loading.relations import load_and_follow, load_relation, related_objects
from aiosession.loading.shapes import default_relation, default_shape, owner_keys, with_groups
from aiosession.mapping.expressions import ColumnExpression, RelationshipExpression
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute, Relationship
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.state import EntityState, state_of
from aiosession.transaction.context import SessionContext

Attribute = ColumnAttribute | Relationship


@dataclass(frozen=True, slots=True)
class Reached:
    """Objects of one class along the paths that were asked for."""

    mapper: AnyMapper
    states: list[EntityState]


async def load(context: SessionContext, objects: object, *attributes: object) -> None:
    """Load attributes of one object or many that lack them or hold them stale, one statement per attribute at most.

    An attribute of a class that the previous ones lead to continues the path: ``User.books, Book.tags``. Of objects
    without a row, relations are loaded that their foreign key values lead to.
    """
    states = [_loadable(context, each) for each in _listed(objects)]
    wanted = _checked(states, attributes)
    _check_rows(states, wanted)
    if not states:
        return
    await context.autoflush()
    for state in await refresh_stale(context, states):
        raise _gone(state)
    reached: dict[AnyMapper, dict[EntityState, None]] = {}
    for state in states:
        reached.setdefault(state.mapper, {})[state] = None
    for mapper, group in _grouped(wanted):
        await _load_attributes(context, list(reached.get(mapper, ())), group, reached)


async def reload(
    context: SessionContext,
    objects: Sequence[object],
    names: Iterable[str] | None = None,
    *,
    lock: Mapping[str, Any] | None = None,
) -> None:
    """Read expired objects, or expired attributes of them, again; a missing row is `ObjectNotFoundError`."""
    states = [_persistent(context, each) for each in objects]
    chosen = None if names is None else list(names)
    columns = None if chosen is None else [name for name in chosen if any(_is_column(state, name) for state in states)]
    if columns is None or columns or lock is not None:
        for state in await refresh(context, states, columns, lock=lock):
            raise _gone(state)
    await _reload_relations(context, states, chosen)


async def reload_stale(context: SessionContext) -> None:
    """Read all stale objects of the session again, one statement per class; those whose rows are gone stay stale."""
    await refresh_stale(context, context.workspace.identity_map.live_states())


async def load_for_siblings(context: SessionContext, state: EntityState, key: str) -> None:
    """Load one attribute of an object and of all objects that came with it and lack it, with one statement."""
    attribute = state.mapper.attribute(key)
    run = LoadRun(context.workspace)
    siblings = [state] if state.group is None else [state, *state.group.states]
    wanting = [
        each
        for each in dict.fromkeys(siblings)
        if each.lifecycle is PERSISTENT
        and each.workspace is context.workspace
        and each() is not None
        and is_wanted(run, each, key)
    ]
    if not wanting:
        return
    held = [each() for each in wanting]
    await context.autoflush()
    if state in await refresh_stale(context, wanting):
        raise _gone(state)
    wanting = [each for each in wanting if is_wanted(run, each, key)]
    if isinstance(attribute, Relationship):
        await load_relation(context, wanting, attribute)
    elif wanting:
        await refresh(context, wanting, with_groups(state.mapper, [key]))
    del held


async def _load_attributes(
    context: SessionContext,
    states: Sequence[EntityState],
    attributes: Sequence[Attribute],
    reached: dict[AnyMapper, dict[EntityState, None]],
) -> None:
    """Load attributes of one class, and note where its relations lead."""
    run = LoadRun(context.workspace)
    columns = [attribute.key for attribute in attributes if isinstance(attribute, ColumnAttribute)]
    lacking = [state for state in states if any(is_wanted(run, state, key) for key in columns)]
    if lacking:
        await refresh(context, lacking, with_groups(lacking[0].mapper, columns))
    for attribute in attributes:
        if isinstance(attribute, Relationship):
            owners = [state for state in states if state.key is not None or _leads_somewhere(state, attribute)]
            await load_relation(context, owners, attribute)
            members = reached.setdefault(attribute.target, {})
            for state in states:
                for member in related_objects(state.values().get(attribute.key), is_collection=attribute.uselist):
                    members[state_of(member)] = None


def _grouped(attributes: Sequence[Attribute]) -> list[tuple[AnyMapper, list[Attribute]]]:
    """Put neighbouring columns of the same class together, so that they come with one statement."""
    groups: list[tuple[AnyMapper, list[Attribute]]] = []
    for attribute in attributes:
        if isinstance(attribute, Relationship):
            groups.append((attribute.parent, [attribute]))
        elif groups and groups[-1][0] is attribute.mapper and isinstance(groups[-1][1][0], ColumnAttribute):
            groups[-1][1].append(attribute)
        else:
            groups.append((attribute.mapper, [attribute]))
    return groups


def _checked(states: Sequence[EntityState], attributes: Sequence[object]) -> list[Attribute]:
    """Return the attributes that were asked for, or say which of them nothing leads to."""
    found: list[Attribute] = []
    known = {state.mapper for state in states}
    for each in attributes:
        if not isinstance(each, ColumnExpression | RelationshipExpression):
            raise ArgumentError(f"load() takes mapped attributes such as User.books, not {each!r}")
        attribute = each.relationship if isinstance(each, RelationshipExpression) else each.attribute
        owner = attribute.parent if isinstance(attribute, Relationship) else attribute.mapper
        if known and owner not in known:
            classes = ", ".join(sorted(mapper.name for mapper in known))
            raise ArgumentError(
                f"load() was given {owner.name}.{attribute.key}, but only objects of {classes} can be reached here; "
                f"name the relation that leads to {owner.name} before it"
            )
        found.append(attribute)
        if isinstance(attribute, Relationship):
            known.add(attribute.target)
    return found


def _listed(objects: object) -> list[object]:
    """Return one object or many as a list."""
    if hasattr(type(objects), "__mapper__"):
        return [objects]
    if not isinstance(objects, Iterable) or isinstance(objects, str | bytes):
        raise ArgumentError(f"load() takes mapped objects, not {objects!r}")
    return list(objects)


def _gone(state: EntityState) -> ObjectNotFoundError:
    return ObjectNotFoundError(state.mapper.class_, state.key[1] if state.key is not None else None)


def _persistent(context: SessionContext, entity: object) -> EntityState:
    state = state_of(entity)
    if state.lifecycle is not PERSISTENT or state.workspace is not context.workspace:
        place = "" if state.workspace is None or state.workspace is context.workspace else " of another session"
        known_as = state.describe() if state.key is None else f"the {state.status.value} {state.describe()}"
        raise InvalidRequestError(
            f"{known_as}{place} cannot be loaded or refreshed: only persistent objects of this session can; "
            f"add and flush it first"
        )
    return state


def _loadable(context: SessionContext, entity: object) -> EntityState:
    """Return the state of an object that something can be loaded for: it is persistent here, or has no row yet."""
    state = state_of(entity)
    if state.key is None and state.workspace in {None, context.workspace}:
        return state
    return _persistent(context, entity)


def _check_rows(states: Sequence[EntityState], wanted: Sequence[Attribute]) -> None:
    """Refuse to load columns of objects that have no row."""
    columns = {each.mapper: each for each in wanted if isinstance(each, ColumnAttribute)}
    for state in states if columns else ():
        if state.key is None and state.mapper in columns:
            raise InvalidRequestError(
                f"{state.describe()} has no row from which {columns[state.mapper].key!r} could be loaded; "
                f"add and flush it first"
            )


def _leads_somewhere(state: EntityState, relationship: Relationship) -> bool:
    """Whether a relation of an object without a row is not set, and the values that lead to its members are."""
    values = state.values()
    return relationship.key not in values and all(values.get(key) is not None for key in owner_keys(relationship))


def _is_column(state: EntityState, name: str) -> bool:
    return isinstance(state.mapper.attribute(name), ColumnAttribute)


async def _reload_relations(
    context: SessionContext, states: Sequence[EntityState], names: Sequence[str] | None
) -> None:
    """Load the relations called *names*, or else those that always come with their owners."""
    by_mapper: dict[AnyMapper, list[EntityState]] = {}
    for state in states:
        by_mapper.setdefault(state.mapper, []).append(state)
    for mapper, group in by_mapper.items():
        if names is None:
            shape = default_shape(mapper)
            relations = [*shape.joined, *shape.following]
        else:
            relations = [default_relation(mapper.relationships[name]) for name in names if name in mapper.relationships]
        if relations:
            await in_each_place(context, group, partial(load_and_follow, context, relations, ()))
