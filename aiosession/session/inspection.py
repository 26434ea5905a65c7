"""What is known about something mapped? ``inspect()`` of classes, aliases and objects; the session of an object."""

from typing import Any, TypeVar, overload

from aiosession.mapping.inspection import entity_ref, mapper_of
from aiosession.mapping.mapper import EntityRef, Mapper
from aiosession.session.identity import owner_of
from aiosession.session.session import AsyncSession
from aiosession.state.view import InstanceState

T = TypeVar("T")


@overload
def inspect(subject: type[T] | Mapper[T]) -> Mapper[T]: ...
@overload
def inspect(subject: object) -> Any: ...
def inspect(subject: object) -> Any:
    """Return what is known about *subject*: the `Mapper` of a class, the entity of an alias, an object's state.

    It is not `sqlalchemy.inspect`, which knows nothing of these mappings; anything that is not mapped is an error.
    """
    if isinstance(subject, type | Mapper):
        return mapper_of(subject)
    reference = getattr(subject, "__entity_ref__", None)
    if isinstance(reference, EntityRef):
        return entity_ref(subject)
    return InstanceState(subject)


def object_session(instance: object) -> AsyncSession | None:
    """Return the session that an object is in, None if it is in none."""
    owner = owner_of(instance)
    return owner if isinstance(owner, AsyncSession) else None
