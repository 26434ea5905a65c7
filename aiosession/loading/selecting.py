"""Collect the columns and joins that entities add to a statement.

They are collected while a statement is planned; remembered is at which position of the rows each column will be.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, FromClause, and_, join

from aiosession.loading.hydrate import EntitySlots, JoinedSlots
from aiosession.loading.options import Strategy
from aiosession.loading.shapes import EntityShape, RelationShape
from aiosession.mapping.joins import join_conditions
from aiosession.mapping.mapper import AliasRef, ColumnAttribute, EntityRef

JoinElement: TypeAlias = tuple[Any, Any, Any, Mapping[str, bool]]
"""A join as Core's SELECT holds it: target, on clause, left side, {"isouter", "full"}."""


class Selection:
    """The columns, joins and order that a statement gets for its entities."""

    def __init__(self) -> None:
        self.columns: Final[list[Any]] = []
        self.joins: Final[list[JoinElement]] = []
        self.order_by: Final[list[ColumnElement[Any]]] = []

    def add_column(self, column: Any) -> int:
        """Add one column and return its position."""
        self.columns.append(column)
        return len(self.columns) - 1

    def add_entity(self, entity: EntityRef, shape: EntityShape) -> EntitySlots:
        """Add the columns of an entity, and the joins and columns of the relations that come with it."""
        positions = tuple(self.add_column(_selected(entity, attribute)) for attribute in shape.columns)
        joined = tuple(self._add_relation(entity, relation) for relation in shape.joined)
        return EntitySlots(shape, positions, joined)

    def _add_relation(self, owner: EntityRef, relation: RelationShape) -> JoinedSlots:
        if relation.strategy is Strategy.CONTAINED:
            return JoinedSlots(relation, self.add_entity(relation.target, relation.shape))
        target = anonymous_alias(relation.target)
        self.joins.append(relation_join(owner, relation, target))
        self.order_by.extend(target.adapt(clause) for clause in relation.relationship.order_by)
        return JoinedSlots(relation, self.add_entity(target, relation.shape))


def _selected(entity: EntityRef, attribute: ColumnAttribute) -> ColumnElement[Any]:
    column = entity.column(attribute)
    # The same expression in several aliases would go by one name: Core copies labels together with their names.
    return column if attribute.expression is None or not entity.is_alias else column.label(None)


def anonymous_alias(entity: EntityRef) -> EntityRef:
    """Return an alias that nothing else in a statement can mean; what is an alias already stays."""
    if entity.is_alias:
        return entity
    return AliasRef(entity.mapper, entity.mapper.table.alias(), entity.mapper.class_, None)


def relation_join(owner: EntityRef, relation: RelationShape, target: EntityRef) -> JoinElement:
    """Return the join along a relation to *target*; a secondary table is joined under an alias."""
    relationship = relation.relationship
    secondary = None if relationship.secondary is None else relationship.secondary.alias()
    conditions = join_conditions(owner, relationship, target, secondary)
    criteria = [target.adapt(criterion) for criterion in relation.criteria]
    right: FromClause = target.element
    if secondary is not None and conditions.secondary is not None:
        right = join(secondary, target.element, and_(conditions.secondary, *criteria))
        criteria = []
    flags = {"isouter": not relation.innerjoin, "full": False}
    return (right, and_(conditions.primary, *criteria), owner.element, flags)
