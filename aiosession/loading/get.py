"""Find one object by its primary key.

From the identity map if it is there and fresh; else with one statement, compiled once per class and options.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from aiosession.errors import ArgumentError, near
from aiosession.loading.attach import hydrate
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.options import LoadOption
from aiosession.loading.places import at_places, places_of_key
from aiosession.loading.plans import plan_of_one
from aiosession.loading.relations import follow
from aiosession.loading.shapes import EntityShape, default_shape, shape_for_options
from aiosession.mapping.mapper import AnyMapper
from aiosession.state.state import EntityState
from aiosession.transaction.context import SessionContext

_CHECKED_TYPES: Final = (int, str, UUID)


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``get()`` was asked for besides the key."""

    options: Sequence[LoadOption] = ()
    overwrite: bool = False
    lock: Mapping[str, Any] | None = None
    token: object | None = None
    said: Mapping[str, object] = field(default_factory=dict)
    """All arguments of the call, for whoever decides where to look."""


PLAIN: Final = Wish()

Fetch: TypeAlias = Callable[[tuple[object, ...], object | None], Awaitable[Any]]
"""Returns the object of a primary key and an identity token from the database, None if there is no row."""


async def get(
    context: SessionContext, mapper: AnyMapper, identity: object, wish: Wish = PLAIN, fetch: Fetch | None = None
) -> Any:
    """Return the object with this primary key, or None; no I/O and no flush if it is in memory and fresh.

    *fetch* reads the row of a primary key in another way than by the prepared statement.
    """
    primary_key = primary_key_of(mapper, identity)
    if None in primary_key:
        return None
    if context.placement is not None and wish.token is None:
        tokens = await places_of_key(context, context.placement, mapper, primary_key, wish.said)
        return await _get_somewhere(
            context, mapper, primary_key, [replace(wish, token=token) for token in tokens], fetch
        )
    shape = shape_for_options(mapper, wish.options) if wish.options else default_shape(mapper)
    state = context.workspace.identity_map.states.get((mapper.class_, primary_key, wish.token))
    entity = None if state is None or wish.lock is not None or wish.overwrite else state()
    if state is not None and entity is not None and _is_fresh(context, state):
        if not wish.options:
            return entity
        if all(column.key in entity.__dict__ for column in shape.columns):
            return await _with_relations(context, state, entity, shape)
    await context.autoflush()
    return await (_fetch(context, shape, primary_key, wish) if fetch is None else fetch(primary_key, wish.token))


async def _get_somewhere(
    context: SessionContext,
    mapper: AnyMapper,
    primary_key: tuple[object, ...],
    wishes: Sequence[Wish],
    fetch: Fetch | None,
) -> Any:
    """Return the object from the first place that has it: in memory, else in the databases."""
    states = context.workspace.identity_map.states
    for wish in wishes:
        state = states.get((mapper.class_, primary_key, wish.token))
        if wish.lock is None and not wish.overwrite and state is not None and state() is not None:
            found = await get(context, mapper, primary_key, wish, fetch)
            if found is not None:
                return found
    await context.autoflush()
    if fetch is not None:  # handlers of events see one statement after the other
        for wish in wishes:
            found = await fetch(primary_key, wish.token)
            if found is not None:
                return found
        return None
    work = {
        wish.token: partial(_fetch, context, shape_for_options(mapper, wish.options), primary_key, wish)
        for wish in wishes
    }
    everywhere = await at_places(context, work, pure=wishes[0].lock is None)
    return next((found for found in everywhere if found is not None), None)


def primary_key_of(mapper: AnyMapper, identity: object) -> tuple[object, ...]:
    """Return the primary key that *identity* (a value, a tuple, or a mapping by attribute) stands for, checked."""
    attributes = mapper.primary_key_attributes
    values: tuple[object, ...]
    if isinstance(identity, Mapping):
        values = _values_by_name(mapper, identity)
    elif isinstance(identity, tuple | list):
        values = tuple(identity)
    else:
        values = (identity,)
    if len(values) != len(attributes):
        wanted = ", ".join(attribute.key for attribute in attributes)
        raise ArgumentError(f"the primary key of {mapper.name} is ({wanted}); {identity!r} does not fit it")
    for expected, value in zip(_key_types(mapper), values, strict=True):
        if expected is not None and not isinstance(value, expected) and value is not None:
            raise _wrong_type(mapper, values)
    return values


def _values_by_name(mapper: AnyMapper, identity: Mapping[Any, object]) -> tuple[object, ...]:
    names = [attribute.key for attribute in mapper.primary_key_attributes]
    for name in identity:
        if name not in names:
            raise ArgumentError(
                f"{name!r} is not in the primary key of {mapper.name}, which is ({', '.join(names)})"
                f"{near(str(name), names)}"
            )
    return tuple(identity[name] for name in names if name in identity)


def _key_types(mapper: AnyMapper) -> tuple[type | None, ...]:
    """Return the Python types that the values of a primary key must have, None where that is not certain."""
    memo = mapper.memo
    types: tuple[type | None, ...] | None = memo.get(_key_types)
    if types is None:
        types = memo[_key_types] = tuple(_python_type(each.column.type) for each in mapper.primary_key_attributes)
    return types


def _python_type(type_: Any) -> type | None:
    """Return the Python type that values of a column must have, where that is certain."""
    if not type(type_).__module__.startswith("sqlalchemy."):
        return None
    try:
        expected: type = type_.python_type
    except NotImplementedError:
        return None
    return expected if expected in _CHECKED_TYPES else None


def _wrong_type(mapper: AnyMapper, primary_key: tuple[object, ...]) -> ArgumentError:
    for attribute, expected, value in zip(mapper.primary_key_attributes, _key_types(mapper), primary_key, strict=True):
        if expected is not None and value is not None and not isinstance(value, expected):
            return ArgumentError(
                f"{mapper.name}.{attribute.key} takes values of type {expected.__name__}; {value!r} is of type "
                f"{type(value).__name__}"
            )
    return ArgumentError(f"{primary_key!r} is no primary key of {mapper.name}")


def _is_fresh(context: SessionContext, state: EntityState) -> bool:
    if state.epoch != context.workspace.epoch:
        return False
    return not state.expired or state.mapper.column_attributes.keys().isdisjoint(state.expired)


async def _with_relations(context: SessionContext, state: EntityState, entity: Any, shape: EntityShape) -> Any:
    """Load the relations that options ask for and an object in memory lacks."""
    if shape.joined or shape.following:
        run = LoadRun(context.workspace, token=state.place)
        run.unfinished.append(((*shape.joined, *shape.following), [state]))
        await follow(context, run)
    return entity


async def _fetch(context: SessionContext, shape: EntityShape, primary_key: tuple[object, ...], wish: Wish) -> Any:
    engine, wire = await context.wire(mapper=shape.mapper, pure=wish.lock is None, token=wish.token)
    plan = plan_of_one(engine, shape, wish.lock)
    sql, values = plan.bind(primary_key)
    rows = await wire.fetch(sql, values)
    run = LoadRun(context.workspace, overwrite=wish.overwrite, reread=wish.lock is not None, token=wish.token)
    objects = hydrate(plan.loader, rows, run)
    if run.unfinished:
        await follow(context, run)
    return objects[0] if objects else None
