"""Hold what the user said about loading.

``selectinload(User.books).load_only(Book.title)`` and the like, as directives: paths of relations and what holds at
their ends. What the directives come to for an entity is worked out in :mod:`aiosession.loading.shapes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeAlias, runtime_checkable

from sqlalchemy import ColumnElement
from typing_extensions import override

from aiosession.core import StatementOption
from aiosession.errors import ArgumentError, near
from aiosession.mapping.expressions import ColumnExpression, InstrumentedAttribute, RelationshipExpression
from aiosession.mapping.inspection import entity_ref
from aiosession.mapping.mapper import EntityRef, Relationship


class Strategy(Enum):
    """How the rows of a relation come."""

    SELECTIN = "selectinload"  # one more statement for all owners
    JOINED = "joinedload"  # columns of the same row, the join is added
    CONTAINED = "contains_eager"  # columns of the same row, the user wrote the join
    NOT = "raiseload"  # not with this query
    DEFAULT = "defaultload"  # as the mapping says


class ColumnRule(Enum):
    """What is said about columns."""

    ONLY = "load_only"
    DEFER = "defer"
    UNDEFER = "undefer"
    UNDEFER_GROUP = "undefer_group"


@dataclass(frozen=True, slots=True)
class Step:
    """One relation along a path, and the entity it leads to."""

    relationship: Relationship
    target: EntityRef
    criteria: tuple[ColumnElement[bool], ...] = ()


Path: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class RelationDirective:
    """How the relation at the end of *path* is loaded."""

    path: Path
    strategy: Strategy
    innerjoin: bool | None = None


@dataclass(frozen=True, slots=True)
class EveryRelationDirective:
    """How the relations of the entity at the end of *path* are loaded that nothing else is said about."""

    path: Path
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class ColumnDirective:
    """Which columns of the entity at the end of *path* are loaded."""

    path: Path
    rule: ColumnRule
    names: frozenset[str]


Directive: TypeAlias = RelationDirective | EveryRelationDirective | ColumnDirective
Attribute: TypeAlias = InstrumentedAttribute[Any]
"""A mapped attribute; type checkers cannot tell relations from columns, so it is checked when the option is made."""


def prefixed(directive: Directive, path: Path) -> Directive:
    """Return *directive* as seen from where *path* begins."""
    return replace(directive, path=path + directive.path)


class Load(StatementOption):
    """What to load of one entity: immutable, each method returns a new one that says more.

    Methods that name a relation descend: what follows them is about the related entity.
    """

    def __init__(self, entity: object, path: Path = (), directives: tuple[Directive, ...] = ()) -> None:
        self.entity: EntityRef = entity_ref(entity)
        self.path = path
        self.directives = directives

    # Relations

    def selectinload(self, *path: Attribute, recursion_depth: int = 1) -> "Load":
        """Load the relation with one more statement for all owners.

        *recursion_depth* repeats a self-referential relation that many levels down.
        """
        if recursion_depth < 1:
            raise ArgumentError(
                f"recursion_depth is the number of levels to load, 1 or more, not {recursion_depth}; a tree of unknown "
                f"depth is loaded level by level with session.load(), or with a recursive CTE"
            )
        deeper = self._descend(path, Strategy.SELECTIN)
        for _ in range(1, recursion_depth):
            deeper = deeper.selectinload(path[-1])
        return deeper

    def subqueryload(self, *path: Attribute) -> "Load":
        """Load the relation with one more statement for all owners; the same as :meth:`selectinload` here."""
        return self._descend(path, Strategy.SELECTIN)

    def immediateload(self, *path: Attribute, recursion_depth: int = 1) -> "Load":
        """Load the relation before the result is handed out; the same as :meth:`selectinload` here."""
        return self.selectinload(*path, recursion_depth=recursion_depth)

    def joinedload(self, *path: Attribute, innerjoin: bool | None = None) -> "Load":
        """Load the relation in the same statement, by a join that does not change which owners are found."""
        return self._descend(path, Strategy.JOINED, innerjoin=innerjoin)

    def contains_eager(self, *path: Attribute, alias: object = None) -> "Load":
        """Take the relation from a join that the statement itself has; *alias* if it joined an alias."""
        return self._descend(path, Strategy.CONTAINED, alias=alias)

    def defaultload(self, *path: Attribute) -> "Load":
        """Leave the relation as it is and say something about what is behind it."""
        return self._descend(path, Strategy.DEFAULT)

    def raiseload(self, *path: Attribute | str, sql_only: bool = False) -> "Load":
        """Do not load the relation with this query (``"*"``: no relation that is not named); reading it raises."""
        del sql_only  # reading never does I/O, whatever is said
        return self._leave(path)

    def lazyload(self, *path: Attribute | str) -> "Load":
        """Do not load the relation with this query, even if its mapping says so; load it later by an awaited call."""
        return self._leave(path)

    # Columns

    def load_only(self, *attributes: Attribute) -> "Load":
        """Load these columns only (and the primary key); the others can be loaded later."""
        return self._columns(ColumnRule.ONLY, attributes)

    def defer(self, *attributes: Attribute) -> "Load":
        """Leave these columns out; they can be loaded later."""
        return self._columns(ColumnRule.DEFER, attributes)

    def undefer(self, *attributes: Attribute) -> "Load":
        """Load these columns although their mapping defers them."""
        return self._columns(ColumnRule.UNDEFER, attributes)

    def undefer_group(self, name: str) -> "Load":
        """Load the columns of the deferred group *name*."""
        groups = {column.deferred_group for column in self.current.mapper.column_attributes.values()}
        if name not in groups:
            known = sorted(group for group in groups if group)
            raise ArgumentError(f"{self.current.mapper.name} has no deferred group {name!r}{near(name, known)}")
        return self._with(ColumnDirective(self.path, ColumnRule.UNDEFER_GROUP, frozenset((name,))))

    # Several

    def options(self, *options: "Load") -> "Load":
        """Add options for the entity reached so far, several of them beside one another."""
        directives: list[Directive] = []
        for option in options:
            _expect_load(option)
            if option.entity != self.current:
                raise ArgumentError(
                    f"options() expects options of {shown(self.current)} here, not of {shown(option.entity)}"
                )
            directives.extend(prefixed(directive, self.path) for directive in option.directives)
        return self._with(*directives)

    @override
    def cache_facts(self) -> tuple[object, ...]:
        facts: list[object] = [self.entity]
        for directive in self.directives:
            facts.extend(_facts(directive))
        return tuple(facts)

    @property
    def current(self) -> EntityRef:
        """The entity that methods are about."""
        return self.path[-1].target if self.path else self.entity

    def _with(self, *directives: Directive) -> "Load":
        return Load(self.entity, self.path, (*self.directives, *directives))

    def _descend(
        self,
        attributes: tuple[Attribute, ...],
        strategy: Strategy,
        *,
        innerjoin: bool | None = None,
        alias: object = None,
    ) -> "Load":
        _expect_some(attributes, strategy.value)
        *leading, last = attributes
        found = self.defaultload(*leading) if leading else self
        path = (*found.path, relation_step(found.current, last, strategy.value, alias))
        directives = (*found.directives, RelationDirective(path, strategy, innerjoin))
        return Load(self.entity, path, directives)

    def _leave(self, attributes: tuple[Attribute | str, ...]) -> "Load":
        if _is_wildcard(attributes):
            return self._with(EveryRelationDirective(self.path, Strategy.NOT))
        relations = tuple(attribute for attribute in attributes if not isinstance(attribute, str))
        if len(relations) != len(attributes):
            raise ArgumentError(f'raiseload() expects relations such as User.books, or "*", not {attributes!r}')
        return self._descend(relations, Strategy.NOT)

    def _columns(self, rule: ColumnRule, attributes: tuple[Attribute, ...]) -> "Load":
        _expect_some(attributes, rule.value)
        names = frozenset(_column_name(self.current, attribute, rule.value) for attribute in attributes)
        return self._with(ColumnDirective(self.path, rule, names))


def selectinload(*path: Attribute, recursion_depth: int = 1) -> Load:
    """Load a relation with one more statement for all owners of the result."""
    return _start(path, "selectinload").selectinload(*path, recursion_depth=recursion_depth)


def subqueryload(*path: Attribute) -> Load:
    """Load a relation with one more statement for all owners; the same as :func:`selectinload` here."""
    return _start(path, "subqueryload").subqueryload(*path)


def immediateload(*path: Attribute, recursion_depth: int = 1) -> Load:
    """Load a relation before the result is handed out; the same as :func:`selectinload` here."""
    return _start(path, "immediateload").immediateload(*path, recursion_depth=recursion_depth)


def joinedload(*path: Attribute, innerjoin: bool | None = None) -> Load:
    """Load a relation in the same statement, by a join that does not change which owners are found.

    Owners appear once each, however many related rows there are: no ``unique()`` is needed. A collection whose join
    would change the rows of the result (LIMIT, DISTINCT, GROUP BY, row locks, other joins or entities beside the
    owner) is loaded by one more statement instead.
    """
    return _start(path, "joinedload").joinedload(*path, innerjoin=innerjoin)


def contains_eager(*path: Attribute, alias: object = None) -> Load:
    """Take a relation from a join that the statement itself has; *alias* if it joined an alias."""
    return _start(path, "contains_eager").contains_eager(*path, alias=alias)


def defaultload(*path: Attribute) -> Load:
    """Leave a relation as it is and say something about what is behind it."""
    return _start(path, "defaultload").defaultload(*path)


def raiseload(*path: Attribute | str, sql_only: bool = False) -> "Load | EveryEntity":
    """Do not load a relation with this query, even if its mapping says so; ``"*"`` stands for all of them."""
    return EveryEntity() if _is_wildcard(path) else _start(path, "raiseload").raiseload(*path, sql_only=sql_only)


def lazyload(*path: Attribute | str) -> "Load | EveryEntity":
    """Do not load a relation with this query; load it later by an awaited call. ``"*"`` stands for all of them."""
    return EveryEntity() if _is_wildcard(path) else _start(path, "lazyload").lazyload(*path)


def load_only(*attributes: Attribute) -> Load:
    """Load these columns of an entity only (and the primary key)."""
    return _start(attributes, "load_only").load_only(*attributes)


def defer(*attributes: Attribute) -> Load:
    """Leave these columns out; they can be loaded later."""
    return _start(attributes, "defer").defer(*attributes)


def undefer(*attributes: Attribute) -> Load:
    """Load these columns although their mapping defers them."""
    return _start(attributes, "undefer").undefer(*attributes)


class EveryEntity(StatementOption):
    """``raiseload("*")``: no relation of any entity of the statement is loaded unless another option names it."""

    directives: tuple[Directive, ...] = (EveryRelationDirective((), Strategy.NOT),)

    @override
    def cache_facts(self) -> tuple[object, ...]:
        return ()


class UndeferGroup(StatementOption):
    """``undefer_group("name")``: every entity of the statement that has such a group loads it."""

    def __init__(self, name: str) -> None:
        self.directives: tuple[Directive, ...] = (ColumnDirective((), ColumnRule.UNDEFER_GROUP, frozenset((name,))),)
        self.name = name

    @override
    def cache_facts(self) -> tuple[object, ...]:
        return (self.name,)


def undefer_group(name: str) -> UndeferGroup:
    """Load the columns of the deferred group *name* of every entity that has one."""
    return UndeferGroup(name)


def relation_step(entity: EntityRef, attribute: object, option: str, alias: object = None) -> Step:
    """Return the step that *attribute* makes from *entity*; anything but a relation of it is an error."""
    if not isinstance(attribute, RelationshipExpression):
        raise ArgumentError(
            f"{option}() expects relations of {shown(entity)} such as User.books, not {_shown(attribute)}"
        )
    relationship = attribute.relationship
    if not _belongs(attribute.entity, entity):
        raise ArgumentError(
            f"{option}() expects relations of {shown(entity)} here; {_shown(attribute)} belongs to "
            f"{shown(attribute.entity)}"
        )
    target = attribute.target if alias is None else entity_ref(alias)
    return Step(relationship, target, attribute.extra_criteria)


def _is_wildcard(attributes: tuple[object, ...]) -> bool:
    return len(attributes) == 1 and isinstance(attributes[0], str) and attributes[0] == "*"


def _belongs(found: EntityRef, expected: EntityRef) -> bool:
    return found == expected or (found.mapper is expected.mapper and not found.is_alias)


def _column_name(entity: EntityRef, attribute: object, option: str) -> str:
    if not isinstance(attribute, ColumnExpression):
        raise ArgumentError(f"{option}() expects columns of {shown(entity)} such as User.name, not {_shown(attribute)}")
    if not _belongs(attribute.entity, entity):
        raise ArgumentError(
            f"{option}() expects columns of {shown(entity)} here; {_shown(attribute)} belongs to "
            f"{shown(attribute.entity)}"
        )
    return attribute.key


def _start(attributes: tuple[object, ...], option: str) -> Load:
    _expect_some(attributes, option)
    first = attributes[0]
    if not isinstance(first, ColumnExpression | RelationshipExpression):
        raise ArgumentError(f"{option}() expects mapped attributes such as User.name, not {_shown(first)}")
    return Load(first.entity)


def _expect_some(attributes: tuple[object, ...], option: str) -> None:
    if not attributes:
        raise ArgumentError(f"{option}() expects at least one mapped attribute")


def _expect_load(option: object) -> None:
    if not isinstance(option, Load):
        raise ArgumentError(f"options() expects loader options such as selectinload(User.books), not {option!r}")


def shown(entity: EntityRef) -> str:
    """Return how messages call an entity."""
    return f"an alias of {entity.mapper.name}" if entity.is_alias else entity.mapper.name


def _shown(attribute: object) -> str:
    if isinstance(attribute, ColumnExpression | RelationshipExpression):
        return str(attribute)
    return repr(attribute)


def _facts(directive: Directive) -> Iterator[object]:
    yield type(directive)
    for step in directive.path:
        yield step.relationship
        yield step.target
        yield from step.criteria
    if isinstance(directive, ColumnDirective):
        yield directive.rule
        yield directive.names
    else:
        yield directive.strategy
    if isinstance(directive, RelationDirective):
        yield directive.innerjoin


LoadOption: TypeAlias = Load | EveryEntity | UndeferGroup
__all__ = [
    "Load",
    "contains_eager",
    "defaultload",
    "defer",
    "immediateload",
    "joinedload",
    "lazyload",
    "load_only",
    "raiseload",
    "selectinload",
    "subqueryload",
    "undefer",
    "undefer_group",
]


@runtime_checkable
class PlaceOption(Protocol):
    """An option of a statement that says which of several databases it is for."""

    @property
    def identity_token(self) -> object:
        """The identity token of what it loads."""
        ...
