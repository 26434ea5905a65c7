"""Adapt the join condition of a relation to the tables and aliases of a statement."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, and_

from aiosession.errors import InvalidRequestError
from aiosession.mapping.mapper import EntityRef, Relationship
from aiosession.mapping.sides import is_remote, plain, replace_columns


@dataclass(frozen=True, slots=True)
class JoinConditions:
    """ON clauses: from the left side to the target, or to the secondary table and from there to the target."""

    primary: ColumnElement[bool]
    secondary: ColumnElement[bool] | None = None

    @property
    def combined(self) -> ColumnElement[bool]:
        """Both as one condition."""
        return self.primary if self.secondary is None else and_(self.primary, self.secondary)


def join_conditions(
    left: EntityRef, relationship: Relationship, right: EntityRef, secondary: FromClause | None = None
) -> JoinConditions:
    """Return the ON clauses that lead along *relationship* from *left* to *right*.

    *secondary* is what stands for the secondary table in the statement; by default the table itself.
    """
    if relationship.secondary is None:
        return JoinConditions(_direct(left, relationship, right))
    middle = relationship.secondary if secondary is None else secondary
    if relationship.secondaryjoin is None:
        raise InvalidRequestError(f"{relationship!r} has no secondaryjoin")
    return JoinConditions(
        _through(relationship.primaryjoin, left, relationship.secondary, middle),
        _through(relationship.secondaryjoin, right, relationship.secondary, middle),
    )


def join_condition(
    left: EntityRef, relationship: Relationship, right: EntityRef, secondary: FromClause | None = None
) -> ColumnElement[bool]:
    """Return the conditions of :func:`join_conditions` as one."""
    return join_conditions(left, relationship, right, secondary).combined


def _direct(left: EntityRef, relationship: Relationship, right: EntityRef) -> ColumnElement[bool]:
    def replacement(column: Column[Any]) -> ColumnElement[Any]:
        return (right if is_remote(column) else left).column_of(plain(column))

    return replace_columns(relationship.primaryjoin, replacement)


def _through(
    condition: ColumnElement[bool], entity: EntityRef, secondary: FromClause, middle: FromClause
) -> ColumnElement[bool]:
    def replacement(column: Column[Any]) -> ColumnElement[Any]:
        bare = plain(column)
        if bare.table is not secondary:
            return entity.column_of(bare)
        return bare if middle is secondary else _corresponding(middle, bare)

    return replace_columns(condition, replacement)


def _corresponding(selectable: FromClause, column: Column[Any]) -> ColumnElement[Any]:
    found = selectable.corresponding_column(column)
    if found is None:
        raise InvalidRequestError(
            f"{selectable!r} does not stand for {column.table!r}: it has no column {column.name!r}"
        )
    return found
