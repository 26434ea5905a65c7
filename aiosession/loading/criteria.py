"""Demand something of an entity's rows wherever a statement reads them.

``with_loader_criteria(Book, Book.archived.is_(False))`` limits the entity itself, joins to it, subqueries about it and
the relations that are loaded for the statement. Core asks the option for each SELECT that it compiles; what is loaded
by statements of its own gets the criterion with the shape of its relation.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias, cast

from sqlalchemy import ColumnElement
from sqlalchemy.sql import coercions, roles
from typing_extensions import override

from aiosession import core
from aiosession.errors import ArgumentError
from aiosession.loading.shapes import EntityShape, RelationShape
from aiosession.mapping.mapper import AnyMapper, EntityRef
from aiosession.mapping.registry import all_mappers
from aiosession.state.state import EntityState

Criterion: TypeAlias = ColumnElement[bool]
MakesCriterion: TypeAlias = Callable[[Any], Any]


class LoaderCriteria(core.CriteriaOption):
    """What rows of a class, or of all classes that derive from a base, have to meet."""

    def __init__(
        self, class_: type[Any], where: Criterion | MakesCriterion, *, include_aliases: bool, propagates: bool
    ) -> None:
        self.class_: Final = class_
        self.include_aliases: Final = include_aliases
        self.propagates: Final = propagates
        self._where: Final = where
        # Made once: the cache key and the compiled statement have to name the same parameters.
        self._made: Final[dict[AnyMapper, Criterion]] = {}

    @override
    def criterion(self, entity: object) -> Criterion | None:
        """Return what the rows of *entity* have to meet, None if nothing is said about it."""
        if not isinstance(entity, EntityRef):
            return None
        # Aliases that we made ourselves, for EXISTS and for joins to load, stand for the class.
        if entity.entity_namespace is not entity.mapper.class_ and not self.include_aliases:
            return None
        found = self.of_mapper(entity.mapper)
        return None if found is None else entity.adapt(found)

    def of_mapper(self, mapper: AnyMapper) -> Criterion | None:
        """Return what the rows of a class have to meet, written for its table."""
        if not issubclass(mapper.class_, self.class_):
            return None
        found = self._made.get(mapper)
        if found is None:
            where = self._where
            made = where(mapper.class_) if callable(where) else where
            found = self._made[mapper] = coercions.expect(roles.WhereHavingRole, made)
        return found

    @override
    def cache_facts(self) -> tuple[object, ...]:
        """Return the criteria of all classes that are concerned: which of them the statement reads is not known yet."""
        facts: list[object] = [self.class_, self.include_aliases, self.propagates]
        for mapper in all_mappers():
            criterion = self.of_mapper(mapper)
            if criterion is not None:
                facts += (mapper, criterion)
        return tuple(facts)


def with_loader_criteria(
    entity_or_base: type[Any],
    where_criteria: Criterion | MakesCriterion,
    include_aliases: bool = False,  # noqa: FBT001, FBT002  # as in SQLAlchemy
    propagate_to_loaders: bool = True,  # noqa: FBT001, FBT002  # as in SQLAlchemy
) -> LoaderCriteria:
    """Return a statement option that adds a criterion wherever the statement reads rows of a class.

    *entity_or_base* is a mapped class, or a base class or mixin of mapped ones; *where_criteria* a criterion, or a
    function that makes one for each class. With *include_aliases* it holds for ``aliased()`` classes as well. Relations
    that are loaded later for objects of the result are limited too, unless *propagate_to_loaders* is False.
    """
    if not isinstance(entity_or_base, type):
        raise ArgumentError(
            f"with_loader_criteria() takes a mapped class, or a base class of some, not {entity_or_base!r}; "
            f"include_aliases=True is for aliases"
        )
    return LoaderCriteria(
        entity_or_base, where_criteria, include_aliases=include_aliases, propagates=propagate_to_loaders
    )


def limited(shape: EntityShape, options: Sequence[core.CriteriaOption]) -> EntityShape:
    """Return the shape of a statement that has *options*, with their criteria for what other statements load.

    Joins of the statement itself get theirs when it is compiled, but none of them may drop owners.
    """
    if not options or not (shape.joined or shape.following):
        return shape
    joined = tuple(
        replace(relation, shape=limited(relation.shape, options), innerjoin=False) for relation in shape.joined
    )
    return replace(shape, joined=joined, following=tuple(limited_relation(each, options) for each in shape.following))


def limited_relation(relation: RelationShape, options: Sequence[core.CriteriaOption]) -> RelationShape:
    """Return a relation that statements without options load, with the criteria of *options* in it."""
    if not options:
        return relation
    target = relation.relationship.target
    found = tuple(core.criteria_of(options, target.entity))
    inner = relation.shape
    shape = replace(
        inner,
        joined=tuple(limited_relation(each, options) for each in inner.joined),
        following=tuple(limited_relation(each, options) for each in inner.following),
    )
    innerjoin = relation.innerjoin and not found
    return replace(relation, shape=shape, criteria=(*relation.criteria, *found), innerjoin=innerjoin)


def propagated(statement: object) -> tuple[core.CriteriaOption, ...]:
    """Return the options of *statement* that hold for later loads of its objects, too."""
    options = core.criteria_options(statement)
    return tuple([each for each in options if not isinstance(each, LoaderCriteria) or each.propagates])


def by_criteria(states: Iterable[EntityState]) -> Iterator[tuple[tuple[core.CriteriaOption, ...], list[EntityState]]]:
    """Yield objects together whose statements had the same options, with these options."""
    groups: dict[tuple[core.CriteriaOption, ...], list[EntityState]] = {}
    for state in states:
        options = () if state.group is None else cast("tuple[core.CriteriaOption, ...]", state.group.criteria)
        groups.setdefault(options, []).append(state)
    yield from groups.items()
