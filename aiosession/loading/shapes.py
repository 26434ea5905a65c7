"""Work out what is loaded of an entity.

Mapping defaults and the user's options, worked out to a plain description: which columns, which relations and how.
Shapes are hashable: whatever is compiled for one is found again by it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement

from aiosession.errors import ArgumentError
from aiosession.loading.options import (
    ColumnDirective,
    ColumnRule,
    Directive,
    EveryEntity,
    EveryRelationDirective,
    Load,
    LoadOption,
    Step,
    Strategy,
    UndeferGroup,
    shown,
)
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute, EntityRef, Relationship

_BY_MAPPING = {"selectin": Strategy.SELECTIN, "joined": Strategy.JOINED}
_JOINS = (Strategy.JOINED, Strategy.CONTAINED)


@dataclass(frozen=True, slots=True)
class EntityShape:
    """The columns of one entity and the relations that come with it, in mapping order."""

    mapper: AnyMapper
    columns: tuple[ColumnAttribute, ...]
    joined: tuple["RelationShape", ...] = ()
    following: tuple["RelationShape", ...] = ()

    @property
    def follows_criteria(self) -> bool:
        """Whether values of this one statement are needed by statements that follow it."""
        return any(relation.criteria or relation.shape.has_criteria for relation in self.following) or any(
            relation.shape.follows_criteria for relation in self.joined
        )

    @property
    def has_criteria(self) -> bool:
        """Whether values of this one statement are in the shape, so that nothing compiled for it may be kept."""
        return any(relation.criteria or relation.shape.has_criteria for relation in (*self.joined, *self.following))


@dataclass(frozen=True, slots=True)
class RelationShape:
    """One relation that is loaded: how, and what of its target."""

    relationship: Relationship
    strategy: Strategy
    target: EntityRef
    shape: EntityShape
    criteria: tuple[ColumnElement[bool], ...] = ()
    innerjoin: bool = False


@dataclass(slots=True)
class _Wishes:
    """What options say about one entity, before defaults."""

    only: set[str] = field(default_factory=set)
    deferred: set[str] = field(default_factory=set)
    undeferred: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    every_relation: Strategy = Strategy.DEFAULT
    relations: dict[str, "_RelationWishes"] = field(default_factory=dict)


@dataclass(slots=True)
class _RelationWishes:
    step: Step
    strategy: Strategy = Strategy.DEFAULT
    innerjoin: bool | None = None
    wishes: _Wishes = field(default_factory=_Wishes)


def default_shape(mapper: AnyMapper) -> EntityShape:
    """Return what is loaded of an entity when no options are given."""
    memo = mapper.memo
    shape: EntityShape | None = memo.get(EntityShape)
    if shape is None:
        shape = memo[EntityShape] = _resolve(mapper, _Wishes(), ())
    return shape


def default_relation(relationship: Relationship) -> RelationShape:
    """Return how a relation is loaded when it is asked for by name, and what of its target."""
    memo = relationship.parent.memo
    relation: RelationShape | None = memo.get((RelationShape, relationship.key))
    if relation is None:
        target = relationship.target
        shape = _resolve(target, _Wishes(), (relationship,))
        relation = RelationShape(relationship, Strategy.SELECTIN, target.entity, shape)
        memo[RelationShape, relationship.key] = relation
    return relation


def shape_of(mapper: AnyMapper, directives: Iterable[Directive]) -> EntityShape:
    """Return what is loaded of an entity; later directives win over earlier ones."""
    wishes = _Wishes()
    for directive in directives:
        _note(wishes, directive)
    return _resolve(mapper, wishes, ())


def directives_for(entity: EntityRef, options: Iterable[LoadOption]) -> list[Directive]:
    """Return what *options* say about *entity*: those made for it, and those for every entity."""
    return [
        directive
        for option in options
        if not isinstance(option, Load) or option.entity == entity
        for directive in option.directives
    ]


def shape_for_options(mapper: AnyMapper, options: Sequence[LoadOption]) -> EntityShape:
    """Return what is loaded of the objects of a class with *options*; options of other classes are errors."""
    for option in options:
        if not isinstance(option, Load | EveryEntity | UndeferGroup):
            raise ArgumentError(f"expected loader options such as selectinload({mapper.name}...), not {option!r}")
        if isinstance(option, Load) and option.entity != mapper.entity:
            raise ArgumentError(f"an option is about {shown(option.entity)}; only options of {mapper.name} fit here")
    return without_joins(shape_of(mapper, directives_for(mapper.entity, options)), is_not_contained)


def without_joins(shape: EntityShape, keep: Callable[[RelationShape], bool]) -> EntityShape:
    """Return *shape* with joined relations loaded by statements of their own, but for those to *keep*."""
    joined: list[RelationShape] = []
    following = list(shape.following)
    for relation in shape.joined:
        if keep(relation):
            joined.append(replace(relation, shape=without_joins(relation.shape, keep)))
        else:
            following.append(replace(relation, strategy=Strategy.SELECTIN))
    return replace(shape, joined=tuple(joined), following=tuple(following))


def is_contained(relation: RelationShape) -> bool:
    """Tell whether the statement itself has the join, so that nothing can be changed about it."""
    return relation.strategy is Strategy.CONTAINED


def is_not_contained(relation: RelationShape) -> bool:
    """Tell whether the join of a relation is ours: in statements that the user did not write no other one is there."""
    return relation.strategy is not Strategy.CONTAINED


def keeps_rows(relation: RelationShape) -> bool:
    """Tell whether a joined relation leaves the number of rows as it is, or is the statement's own affair."""
    return not relation.relationship.uselist or relation.strategy is Strategy.CONTAINED


def plain_shape(mapper: AnyMapper) -> EntityShape:
    """Return the shape of an entity's columns, those that are deferred left out, without relations."""
    memo = mapper.memo
    shape: EntityShape | None = memo.get("plain")
    if shape is None:
        shape = memo["plain"] = EntityShape(mapper, _columns(mapper, _Wishes(), ()))
    return shape


def columns_shape(mapper: AnyMapper, names: Iterable[str]) -> EntityShape:
    """Return the shape of the primary key and the columns called *names*, without relations."""
    wanted = {attribute.key for attribute in mapper.primary_key_attributes}.union(names)
    return EntityShape(mapper, tuple(column for column in _all_columns(mapper) if column.key in wanted))


def with_groups(mapper: AnyMapper, names: Iterable[str]) -> list[str]:
    """Return the columns called *names* and the deferred ones that are grouped with them: those come together."""
    wanted = list(names)
    columns = {column.key: column for column in _all_columns(mapper)}
    groups = {columns[name].deferred_group for name in wanted} - {None}
    if not groups:
        return wanted
    return [*wanted, *(key for key, each in columns.items() if each.deferred_group in groups and key not in wanted)]


def _note(wishes: _Wishes, directive: Directive) -> None:
    at = wishes
    relation: _RelationWishes | None = None
    for step in directive.path:
        relation = at.relations.setdefault(step.relationship.key, _RelationWishes(step))
        relation.step = step if step.criteria or relation.step.target != step.target else relation.step
        at = relation.wishes
    if isinstance(directive, EveryRelationDirective):
        at.every_relation = directive.strategy
    elif isinstance(directive, ColumnDirective):
        _note_columns(at, directive)
    elif relation is not None and directive.strategy is not Strategy.DEFAULT:
        relation.strategy = directive.strategy
        relation.innerjoin = directive.innerjoin


def _note_columns(wishes: _Wishes, directive: ColumnDirective) -> None:
    if directive.rule is ColumnRule.ONLY:
        wishes.only |= directive.names
    elif directive.rule is ColumnRule.UNDEFER_GROUP:
        wishes.groups |= directive.names
    elif directive.rule is ColumnRule.DEFER:
        wishes.deferred |= directive.names
        wishes.undeferred -= directive.names
    else:
        wishes.undeferred |= directive.names
        wishes.deferred -= directive.names


def _resolve(mapper: AnyMapper, wishes: _Wishes, path: Sequence[Relationship]) -> EntityShape:
    joined: list[RelationShape] = []
    following: list[RelationShape] = []
    for key, relationship in mapper.relationships.items():
        relation = _resolve_relation(relationship, wishes.relations.get(key), wishes.every_relation, path)
        if relation is not None:
            (joined if relation.strategy in _JOINS else following).append(relation)
    columns = _columns(mapper, wishes, (*joined, *following))
    return EntityShape(mapper, columns, tuple(joined), tuple(following))


def _resolve_relation(
    relationship: Relationship, wished: _RelationWishes | None, otherwise: Strategy, path: Sequence[Relationship]
) -> RelationShape | None:
    strategy = Strategy.DEFAULT if wished is None else wished.strategy
    if strategy is Strategy.DEFAULT:
        strategy = otherwise
    if strategy is Strategy.DEFAULT:
        # A default that leads back to itself stops there; options say how deep they go.
        strategy = Strategy.NOT if relationship in path else _BY_MAPPING.get(relationship.lazy, Strategy.NOT)
    if strategy is Strategy.NOT:
        return None
    wishes = _Wishes() if wished is None else wished.wishes
    shape = _resolve(relationship.target, wishes, (*path, relationship))
    if strategy not in _JOINS:
        shape = without_joins(shape, is_not_contained)
    return RelationShape(
        relationship,
        strategy,
        relationship.target.entity if wished is None else wished.step.target,
        shape,
        () if wished is None else wished.step.criteria,
        relationship.innerjoin if wished is None or wished.innerjoin is None else wished.innerjoin,
    )


def _columns(mapper: AnyMapper, wishes: _Wishes, relations: Iterable[RelationShape]) -> tuple[ColumnAttribute, ...]:
    needed = {attribute.key for attribute in mapper.primary_key_attributes}
    if mapper.version_id is not None:
        needed.add(mapper.version_id.key)
    for relation in relations:
        needed.update(owner_keys(relation.relationship))
    return tuple(column for column in _all_columns(mapper) if column.key in needed or _is_wanted(column, wishes))


def _is_wanted(column: ColumnAttribute, wishes: _Wishes) -> bool:
    if wishes.only:
        return column.key in wishes.only
    if column.key in wishes.deferred:
        return False
    return not column.deferred or column.key in wishes.undeferred or column.deferred_group in wishes.groups


def owner_keys(relationship: Relationship) -> tuple[str, ...]:
    """Return the attributes of an owner that have to be known to find its related rows."""
    parent = relationship.parent
    return tuple(
        parent.by_column[local].key for local, _ in relationship.local_remote_pairs if local in parent.by_column
    )


def _all_columns(mapper: AnyMapper) -> tuple[ColumnAttribute, ...]:
    return (*mapper.column_attributes.values(), *mapper.expression_attributes.values())
