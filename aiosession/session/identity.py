"""What is an object called, and whose is it? Identity keys, and the session of an object."""

from typing import Any

from aiosession.engine.row import Row
from aiosession.errors import ArgumentError
from aiosession.loading.get import primary_key_of
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import IdentityKey
from aiosession.state.state import state_of
from aiosession.state.workspace import workspace_of


def identity_key(
    entity: type[Any] | None = None,
    ident: object = None,
    *,
    instance: object = None,
    row: Row[*tuple[Any, ...]] | None = None,
    identity_token: object = None,
) -> IdentityKey:
    """Return what a row is called in the identity map: ``identity_key(User, 1)``, of an object, or of a result's row.

    *ident* is what ``get()`` takes: a value, a tuple for a composite key, or a mapping from attribute names to values.
    """
    if entity is None:
        if instance is None:
            raise ArgumentError("identity_key() takes a class and a primary key, a class and row=, or instance=")
        return _key_of_object(instance)
    mapper = mapper_of(entity)
    if row is not None:
        values = row._mapping  # noqa: SLF001 - public, its name only keeps clear of column names
        return mapper.identity_key([values[column] for column in mapper.primary_key], identity_token)
    if ident is None:
        raise ArgumentError(f"identity_key({mapper.name}) needs a primary key, or row=")
    return mapper.identity_key(primary_key_of(mapper, ident), identity_token)


def _key_of_object(instance: object) -> IdentityKey:
    state = state_of(instance)
    values = state.values()
    known = (None,) * len(state.mapper.primary_key) if state.key is None else state.key[1]
    primary_key = [
        values.get(attribute.key, before)
        for attribute, before in zip(state.mapper.primary_key_attributes, known, strict=True)
    ]
    return state.mapper.identity_key(primary_key, state.place)


def owner_of(instance: object) -> object | None:
    """Return the session that a mapped object is in, None if it is in none."""
    state_of(instance)
    workspace = workspace_of(instance)
    return None if workspace is None else workspace.owner
