"""Give mapped attributes their meaning in SQL: ``User.name``, ``User.addresses``."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from sqlalchemy import ColumnElement, FromClause, Label, false, or_
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.base import Immutable
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlalchemy.sql.operators import OperatorType
from typing_extensions import override

from aiosession.core import CacheKeyed
from aiosession.errors import ArgumentError
from aiosession.mapping.criteria import (
    RelationInStatement,
    is_not_object,
    is_object,
    is_related,
    is_unset,
    related_exists,
)
from aiosession.mapping.inspection import entity_ref, mapper_of
from aiosession.mapping.joins import join_condition
from aiosession.mapping.mapper import Attribute, ColumnAttribute, EntityRef, Relationship

T_co = TypeVar("T_co", covariant=True)

if TYPE_CHECKING:

    class _Operations(SQLCoreOperations[T_co], roles.JoinTargetRole, roles.OnClauseRole):
        """What type checkers see: annotations do not tell columns from relations."""

else:

    class _Operations(SQLCoreOperations, Generic[T_co]):
        __slots__ = ()


class InstrumentedAttribute(_Operations[T_co]):
    """A mapped attribute as its class has it: a column, an expression or a relation, to build statements from."""

    __slots__ = ("entity", "key")
    key: str
    entity: EntityRef

    def __init__(self, entity: EntityRef, key: str) -> None:
        self.entity = entity
        self.key = key

    @property
    def class_(self) -> type[Any]:
        """The mapped class."""
        return self.entity.mapper.class_

    if TYPE_CHECKING:

        def label(self, name: str | None) -> Label[T_co]:
            """Return the column under another name."""
            ...

        def any(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
            """Return the condition that some member of the collection (or array) meets *criterion*."""
            ...

        def has(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
            """Return the condition that the related object meets *criterion*."""
            ...

        def of_type(self, entity: Any) -> "InstrumentedAttribute[T_co]":
            """Return the relation, leading to an alias."""
            ...

        def and_(self, *criteria: ColumnElement[bool]) -> "InstrumentedAttribute[T_co]":
            """Return the relation, limited to related rows that meet *criteria*."""
            ...

    @override
    def __hash__(self) -> int:
        return id(self)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @override
    def __str__(self) -> str:
        return f"{self.entity.alias_name or self.entity.mapper.name}.{self.key}"


class ColumnExpression(InstrumentedAttribute[T_co]):
    """A column or SQL expression of an entity; all operators of Core columns apply."""

    __slots__ = ("attribute",)

    def __init__(self, attribute: ColumnAttribute, entity: EntityRef | None = None) -> None:
        super().__init__(attribute.mapper.entity if entity is None else entity, attribute.key)
        self.attribute = attribute

    @property
    def expression(self) -> ColumnElement[T_co]:
        """The column itself, as Core knows it, annotated with the entity."""
        return self.entity.column(self.attribute)

    def __clause_element__(self) -> ColumnElement[T_co]:
        return self.entity.column(self.attribute)

    @override
    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core to the column."""
        return cast("ColumnElement[Any]", op(self.entity.column(self.attribute), *other, **kwargs))

    @override
    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Apply an operator of Core with the column on its right."""
        return cast("ColumnElement[Any]", op(other, self.entity.column(self.attribute), **kwargs))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # what only some types have: astext, overlap(), any() …
            if name.startswith("_") or name == "is_clause_element":
                raise AttributeError(name)
            return getattr(self.entity.column(self.attribute), name)


class RelationshipExpression(
    InstrumentedAttribute[T_co], roles.JoinTargetRole, roles.OnClauseRole, CacheKeyed, Immutable
):
    """A relation of an entity: a join target, and conditions about what it holds."""

    __slots__ = ("_condition", "extra_criteria", "relationship", "target_entity")

    def __init__(
        self,
        relationship: Relationship,
        entity: EntityRef | None = None,
        target_entity: EntityRef | None = None,
        extra_criteria: tuple[ColumnElement[bool], ...] = (),
    ) -> None:
        super().__init__(relationship.parent.entity if entity is None else entity, relationship.key)
        self.relationship = relationship
        self.target_entity = target_entity
        self.extra_criteria = extra_criteria
        self._condition: ColumnElement[bool] | None = None

    @property
    def target(self) -> EntityRef:
        """The entity that the relation leads to here: the alias given to :meth:`of_type`, or the target class."""
        return self.relationship.target.entity if self.target_entity is None else self.target_entity

    @property
    def entity_namespace(self) -> object:
        """Where ``filter_by()`` looks for names after a join along the relation."""
        return self.target.entity_namespace

    @override
    def of_type(self, entity: Any) -> "RelationshipExpression[T_co]":
        """Return the relation, leading to *entity*, an alias of its target."""
        target = entity_ref(entity)
        if target.mapper is not self.relationship.target:
            raise ArgumentError(
                f"{self} leads to {self.relationship.target.name}, so of_type() takes an alias of that, not {target!r}"
            )
        return RelationshipExpression(self.relationship, self.entity, target, self.extra_criteria)

    @override
    def and_(self, *criteria: ColumnElement[bool]) -> "RelationshipExpression[T_co]":
        """Return the relation, limited to related rows that meet *criteria*."""
        more = tuple(coercions.expect(roles.WhereHavingRole, criterion) for criterion in criteria)
        return RelationshipExpression(self.relationship, self.entity, self.target_entity, (*self.extra_criteria, *more))

    @override
    def any(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
        """Return the condition that some member of the collection meets *criterion* and has these *values*."""
        if not self.relationship.uselist:
            raise ArgumentError(f"{self} holds one object, not a collection; use has()")
        return related_exists(self._relation, criterion, values)

    @override
    def has(self, criterion: Any = None, **values: Any) -> ColumnElement[bool]:
        """Return the condition that the related object meets *criterion* and has these *values*."""
        if self.relationship.uselist:
            raise ArgumentError(f"{self} holds a collection; use any()")
        return related_exists(self._relation, criterion, values)

    @override
    def contains(self, other: Any, **kw: Any) -> ColumnElement[bool]:
        """Return the condition that the object *other* is in the collection."""
        if not self.relationship.uselist:
            raise ArgumentError(f"{self} holds one object, not a collection; use ==")
        return is_object(self._relation, other)

    def with_parent(self, owner: object, target: EntityRef | None) -> ColumnElement[bool]:
        """Return the condition that rows of *target* (None: where the relation leads) are related to an object."""
        if target is not None and target.mapper is not self.relationship.target:
            raise ArgumentError(
                f"{self} leads to {self.relationship.target.name}; with_parent() cannot give rows of {target!r}"
            )
        chosen = self.target_entity if target is None else target
        return is_related(RelationInStatement(self.entity, self.relationship, chosen, self.extra_criteria), owner)

    @override
    def in_(self, other: Iterable[object]) -> ColumnElement[bool]:  # type: ignore[override]  # objects only, no subquery
        """Return the condition that the related object is one of *other*."""
        choices = [self == related for related in other]
        return or_(*choices) if choices else false()

    @override
    def __eq__(self, other: Any) -> ColumnElement[bool]:  # type: ignore[override]  # as Core's operators do
        if other is None:
            return is_unset(self._relation)
        self._refuse_collection("==", "contains()")
        return is_object(self._relation, other)

    @override
    def __ne__(self, other: Any) -> ColumnElement[bool]:  # type: ignore[override]  # as Core's operators do
        if other is None:
            return ~is_unset(self._relation)
        self._refuse_collection("!=", "~ and contains()")
        return is_not_object(self._relation, other)

    @override
    def is_(self, other: Any) -> ColumnElement[bool]:  # type: ignore[override]  # may be more than one comparison
        """Return the condition that there is no related object; *other* is None."""
        return self.__eq__(other)

    @override
    def is_not(self, other: Any) -> ColumnElement[bool]:  # type: ignore[override]  # may be more than one comparison
        """Return the condition that there is a related object; *other* is None."""
        return self.__ne__(other)

    @override
    def __hash__(self) -> int:
        return id(self)

    @override
    def operate(self, op: OperatorType, *other: Any, **kwargs: Any) -> NoReturn:
        """Refuse operators of columns."""
        name = getattr(op, "__name__", repr(op))
        raise ArgumentError(
            f"{self} is a relation, to which {name!r} does not apply; use any(), has(), contains(), ==, !=, or a column"
        )

    @override
    def reverse_operate(self, op: OperatorType, other: Any, **kwargs: Any) -> NoReturn:
        """Refuse operators of columns."""
        self.operate(op)

    @override
    def cache_facts(self) -> tuple[object, ...]:
        """Return the owner, the relation, where it leads and on what further conditions."""
        return (self.entity, self.relationship, self.target_entity, *self.extra_criteria)

    def __clause_element__(self) -> ColumnElement[bool]:
        if self._condition is None:
            self._condition = join_condition(self.entity, self.relationship, self.target)
        return self._condition

    @property
    def _relation(self) -> RelationInStatement:
        return RelationInStatement(self.entity, self.relationship, self.target_entity, self.extra_criteria)

    def _refuse_collection(self, operator: str, instead: str) -> None:
        if self.relationship.uselist:
            raise ArgumentError(
                f"{self} holds a collection, which {operator} cannot compare with an object; use {instead}"
            )


def with_parent(instance: object, prop: InstrumentedAttribute[Any], from_entity: object = None) -> ColumnElement[bool]:
    """Return the criterion for the rows that *instance* has in a relation: ``with_parent(author, Author.books)``.

    The object need not have loaded the relation. *from_entity* is an alias of the related class, if the statement
    selects one.
    """
    if not isinstance(prop, RelationshipExpression):
        raise ArgumentError(f"with_parent() takes a relation such as User.books, not {prop!r}")
    return prop.with_parent(instance, None if from_entity is None else entity_ref(from_entity))


class ClassInStatements:
    """Descriptor ``__clause_element__`` of mapped classes: what Core takes the class for. Their objects have none."""

    def __get__(self, instance: object | None, owner: type[Any]) -> Callable[[], FromClause]:
        if instance is not None:
            raise AttributeError("__clause_element__")
        return mapper_of(owner).entity.clause_element


def expression_of(entity: EntityRef, attribute: Attribute) -> "ColumnExpression[Any] | RelationshipExpression[Any]":
    """Return what *attribute* is in statements that use *entity*."""
    if isinstance(attribute, Relationship):
        return RelationshipExpression(attribute, entity)
    return ColumnExpression(attribute, entity)
