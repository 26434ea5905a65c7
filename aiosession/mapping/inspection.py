"""Find the mapper and the entity reference of a class, alias or object."""

from typing import Any, TypeVar, overload

from aiosession.core import entity_of
from aiosession.errors import MappingError, UnmappedError
from aiosession.events.catalogue import CLASS, EVERY_CLASS
from aiosession.events.dispatch import EVERY_MAPPER, mapped_classes
from aiosession.events.listening import Place, register
from aiosession.mapping.mapper import AnyMapper, EntityRef, Mapper
from aiosession.mapping.registry import all_registries, mapper_of_class

T = TypeVar("T")


@overload
def mapper_of(entity: type[T]) -> Mapper[T]: ...
@overload
def mapper_of(entity: object) -> AnyMapper: ...
def mapper_of(entity: object) -> AnyMapper:
    """Return the mapper of a mapped class, an alias of one, or an object; configures mappers if that is still to do."""
    mapper = _find_mapper(entity)
    if mapper is None:
        raise UnmappedError(entity)
    if not mapper.registry.is_configured:
        mapper.registry.configure()
    return mapper


@register
def find_class(target: object) -> Place | None:
    """Find what listens to the objects of a class, of a mapper, or of all mappers."""
    if target is Mapper:
        return Place("Mapper", EVERY_CLASS, EVERY_MAPPER)
    class_ = target.class_ if isinstance(target, Mapper) else target
    if not isinstance(class_, type):
        return None
    return Place(class_.__name__, CLASS, mapped_classes.of(class_), needs_propagate=mapper_of_class(class_) is None)


def entity_ref(entity: object) -> EntityRef:
    """Return what *entity*, a mapped class, an alias or a mapper, is called in statements."""
    reference = getattr(entity, "__entity_ref__", None)
    if isinstance(reference, EntityRef):
        return reference
    annotated = entity if isinstance(entity, EntityRef) else entity_of(entity)
    if isinstance(annotated, EntityRef):
        return annotated
    mapper = _find_mapper(entity) if isinstance(entity, type | Mapper) else None
    if mapper is None:
        raise UnmappedError(entity)
    return mapper.entity


def configure_mappers() -> None:
    """Work out the relations of all registries; raises one MappingError with everything that is wrong."""
    problems: list[str] = []
    for registry in all_registries():
        try:
            registry.configure()
        except MappingError as error:
            problems.extend(error.problems)
    if problems:
        raise MappingError(*problems)


def _find_mapper(entity: object) -> AnyMapper | None:
    if isinstance(entity, type):
        return mapper_of_class(entity)
    if isinstance(entity, Mapper):
        return entity
    reference: Any = getattr(entity, "__entity_ref__", None)
    if isinstance(reference, EntityRef):
        return reference.mapper
    return mapper_of_class(type(entity))
