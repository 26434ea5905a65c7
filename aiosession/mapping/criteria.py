"""Say in SQL what a relation holds: EXISTS for ``any()`` and ``has()``, comparison with an object, IS NULL."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    FromClause,
    Select,
    and_,
    bindparam,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.sql import coercions, roles

from aiosession.errors import ArgumentError
from aiosession.mapping.joins import join_conditions
from aiosession.mapping.mapper import AliasRef, AnyMapper, ColumnAttribute, EntityRef, Relationship
from aiosession.mapping.sides import is_remote, plain, replace_columns


@dataclass(frozen=True, slots=True)
class RelationInStatement:
    """A relation as a statement uses it: from which entity, to which (None: the target itself), on what condition."""

    owner: EntityRef
    relationship: Relationship
    target: EntityRef | None
    criteria: tuple[ColumnElement[bool], ...] = ()

    @property
    def name(self) -> str:
        """The name of the relation, for messages."""
        return f"{self.relationship.parent.name}.{self.relationship.key}"


def related_exists(
    relation: RelationInStatement, criterion: object = None, values: Mapping[str, object] | None = None
) -> ColumnElement[bool]:
    """Return EXISTS (a related row for which *criterion* holds and attributes have these *values*)."""
    target = _separate_target(relation)
    relationship = relation.relationship
    conditions = join_conditions(relation.owner, relationship, target)
    wanted = [conditions.combined, *(target.adapt(condition) for condition in relation.criteria)]
    if criterion is not None:
        wanted.append(target.adapt(coercions.expect(roles.WhereHavingRole, criterion)))
    wanted += (_column(target, key) == value for key, value in (values or {}).items())
    inner: list[FromClause] = [target.selectable]
    if relationship.secondary is not None:
        inner.append(relationship.secondary)
    # Named as an entity, so that options of the statement about it reach the subquery.
    found: Select[*tuple[Any, ...]] = select(literal_column("1")).select_from(target.element)
    return found.where(*wanted).correlate_except(*inner).exists()


def is_unset(relation: RelationInStatement) -> ColumnElement[bool]:
    """Return the condition that there is no related row."""
    if _refers(relation):
        return and_(*(column.is_(None) for column in _own_columns(relation)))
    return not_(related_exists(relation))


def is_object(relation: RelationInStatement, related: object) -> ColumnElement[bool]:
    """Return the condition that *related* is the, or one of the, related objects."""
    _check_kind(relation, related)
    relationship = relation.relationship
    secondary = relationship.secondary
    if secondary is None or relationship.secondaryjoin is None:
        return _comparison(relation, related)
    conditions = join_conditions(relation.owner, relationship, relationship.target.entity)
    to_object = replace_columns(
        relationship.secondaryjoin,
        lambda column: plain(column) if is_remote(column) else _value(relationship.target, plain(column), related),
    )
    return select(literal_column("1")).where(conditions.primary, to_object).correlate_except(secondary).exists()


def is_related(relation: RelationInStatement, owner: object) -> ColumnElement[bool]:
    """Return the condition that a row of the target is related to the object *owner*."""
    relationship = relation.relationship
    parent = relationship.parent
    if not isinstance(owner, parent.class_):
        raise ArgumentError(f"with_parent() was given {owner!r}; {relation.name} belongs to objects of {parent.name}")
    target = relationship.target.entity if relation.target is None else relation.target
    secondary = relationship.secondary

    def from_owner(column: Column[Any]) -> ColumnElement[Any]:
        bare = plain(column)
        if not is_remote(column):
            return _value(parent, bare, owner)
        return bare if secondary is not None else target.column_of(bare)

    wanted = [replace_columns(relationship.primaryjoin, from_owner)]
    criteria = [target.adapt(criterion) for criterion in relation.criteria]
    if secondary is None or relationship.secondaryjoin is None:
        return and_(*wanted, *criteria)
    wanted.append(
        replace_columns(
            relationship.secondaryjoin,
            lambda column: target.column_of(plain(column)) if is_remote(column) else plain(column),
        )
    )
    related = select(literal_column("1")).where(*wanted).correlate_except(secondary).exists()
    return and_(related, *criteria)


def is_not_object(relation: RelationInStatement, related: object) -> ColumnElement[bool]:
    """Return the condition that *related* is not the related object; none at all counts."""
    same = is_object(relation, related)
    if not _refers(relation):
        return not_(same)
    return or_(not_(same), *(column.is_(None) for column in _own_columns(relation)))


def _refers(relation: RelationInStatement) -> bool:
    pairs = relation.relationship.synchronize_pairs
    remote = relation.relationship.remote_side
    return relation.relationship.secondary is None and bool(pairs) and pairs[0][0] in remote


def _own_columns(relation: RelationInStatement) -> list[ColumnElement[Any]]:
    return [relation.owner.column_of(own) for _, own in relation.relationship.synchronize_pairs]


def _comparison(relation: RelationInStatement, related: object) -> ColumnElement[bool]:
    relationship = relation.relationship

    def replacement(column: Column[Any]) -> ColumnElement[Any]:
        bare = plain(column)
        return _value(relationship.target, bare, related) if is_remote(column) else relation.owner.column_of(bare)

    return replace_columns(relationship.primaryjoin, replacement)


def _value(mapper: AnyMapper, column: Column[Any], related: object) -> BindParameter[Any]:
    key = mapper.attribute_of(column).key
    value = getattr(related, key)
    if value is None:
        # Not known yet: the flush before the statement may give it.
        return bindparam(None, callable_=lambda: getattr(related, key), type_=column.type, unique=True)
    return bindparam(None, value, type_=column.type, unique=True)


def _check_kind(relation: RelationInStatement, related: object) -> None:
    target = relation.relationship.target
    if not isinstance(related, target.class_):
        raise ArgumentError(
            f"{relation.name} is compared with {related!r}; it holds {target.name}, so compare it with an object of "
            f"that class or None, or a column of {target.name} inside any() or has()"
        )


def _separate_target(relation: RelationInStatement) -> EntityRef:
    if relation.target is not None:
        return relation.target
    target = relation.relationship.target
    if target is not relation.relationship.parent:
        return target.entity
    return AliasRef(target, target.table.alias(), target.class_, None)


def _column(target: EntityRef, key: str) -> ColumnElement[Any]:
    attribute = target.mapper.attribute(key)
    if not isinstance(attribute, ColumnAttribute):
        raise ArgumentError(f"{target.mapper.name}.{key} is a relation; compare it in a criterion, not by keyword")
    return target.column(attribute)
