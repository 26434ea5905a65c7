"""Turn joins along relations into joins of tables.

``select(User).join(User.addresses)`` names a relation where SQL wants a table and a condition. Each SELECT that
mentions entities passes through :func:`expand_joins` when it is compiled, nested ones included; importing this module
makes it so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, and_, join

from aiosession import core
from aiosession.errors import ArgumentError
from aiosession.loading.selecting import JoinElement
from aiosession.mapping.expressions import RelationshipExpression
from aiosession.mapping.joins import join_conditions
from aiosession.mapping.mapper import EntityRef


def expand_joins(statement: core.AnySelect) -> core.AnySelect:
    """Return *statement* with its joins along relations replaced by joins of tables."""
    memoized = [element for group in core.memoized_entities(statement) for element in core.setup_joins(group)]
    joins = [*memoized, *core.setup_joins(statement)]
    if not any(_is_relation(target) or _is_relation(condition) for target, condition, _, _ in joins):
        return statement
    expanded: list[JoinElement] = []
    for element in joins:
        expanded.extend(_expand(element))
    return core.rewritten(statement, joins=expanded)


def _is_relation(part: object) -> bool:
    return isinstance(part, RelationshipExpression)


def _expand(element: JoinElement) -> Sequence[JoinElement]:
    target, condition, left, flags = element
    if isinstance(target, RelationshipExpression):
        if condition is not None:
            raise ArgumentError(
                f"join({target}, ...) takes no ON clause: the relation has one; add criteria with "
                f"{target}.and_(...), or name the class: join({target.relationship.target.name}, <condition>)"
            )
        return _along(target, target.target, left, flags)
    if isinstance(condition, RelationshipExpression):
        entity = core.entity_of(target)
        if not isinstance(entity, EntityRef) or entity.mapper is not condition.relationship.target:
            raise ArgumentError(
                f"{condition} leads to {condition.relationship.target.name}; it cannot be the ON clause of a join "
                f"to {target}"
            )
        return _along(condition, entity, left, flags)
    return [element]


def _along(
    expression: RelationshipExpression[Any], target: EntityRef, left: Any, flags: Mapping[str, bool]
) -> Sequence[JoinElement]:
    relationship = expression.relationship
    source = left if left is not None else expression.entity.element
    secondary: FromClause | None = relationship.secondary
    if secondary is not None and target.is_alias:
        secondary = secondary.alias()
    conditions = join_conditions(expression.entity, relationship, target, secondary)
    criteria: Sequence[ColumnElement[bool]] = [target.adapt(criterion) for criterion in expression.extra_criteria]
    if secondary is None or conditions.secondary is None:
        return [(target.element, and_(conditions.primary, *criteria), source, flags)]
    inner = and_(conditions.secondary, *criteria)
    if flags["isouter"] or flags["full"]:
        return [(join(secondary, target.element, inner), conditions.primary, source, flags)]
    return [(secondary, conditions.primary, source, flags), (target.element, inner, secondary, flags)]


core.expand_selects_with(expand_joins)
