"""Describe entities: a mapper, its columns, its relations, and references to it in statements, as data.

They refer to one another, so they share this file. Nothing here
resolves or checks anything: :mod:`aiosession.mapping.configure` fills in what follows from the arguments.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from sqlalchemy import Column, ColumnElement, FromClause, MetaData, Table
from sqlalchemy.sql.util import ClauseAdapter
from typing_extensions import override

from aiosession.core import ENTITY_ANNOTATION, CacheKeyed, annotate
from aiosession.errors import ArgumentError, InvalidRequestError, near
from aiosession.events.dispatch import Dispatch, mapped_classes
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.relationships import CollectionFactory, Direction, LazyStrategy, RelationshipArguments

T = TypeVar("T")
IdentityKey: TypeAlias = tuple[type[Any], tuple[object, ...], object | None]
ColumnPairs: TypeAlias = tuple[tuple[Column[Any], Column[Any]], ...]


class RegistryOfMappers(Protocol):
    """What mappers need of the registry they belong to."""

    metadata: MetaData

    @property
    def is_configured(self) -> bool:
        """Whether every relation of every mapper is worked out."""
        ...

    def configure(self) -> None:
        """Work out all relations; raises one MappingError for everything that is wrong."""
        ...


@dataclass(slots=True, eq=False)
class ColumnAttribute:
    """An attribute that holds the value of a column, or of a SQL expression (``expression``, then read-only)."""

    key: str
    column: Column[Any]
    mapper: "AnyMapper"
    is_primary_key: bool = False
    deferred: bool = False
    deferred_group: str | None = None
    deferred_raiseload: bool = False
    active_history: bool = False
    expression: ColumnElement[Any] | None = None
    info: Mapping[Any, Any] = field(default_factory=dict)
    doc: str | None = None
    events: Dispatch | None = None
    """Handlers of changes of the attribute; None as long as nobody has listened."""

    @property
    def element(self) -> ColumnElement[Any]:
        """What is selected to get the value: the column, or the expression."""
        return self.column if self.expression is None else self.expression

    @property
    def is_read_only(self) -> bool:
        """Whether the value comes from an expression and is never written."""
        return self.expression is not None

    @override
    def __repr__(self) -> str:
        return f"<ColumnAttribute {self.mapper.class_.__name__}.{self.key}>"


@dataclass(slots=True, eq=False)
class Relationship:
    """A relation between two mapped classes.

    ``reverse_of`` is the relation whose ``backref`` made this one. What follows it is worked out when mappers are
    configured; reading one of those fields earlier configures them.
    """

    key: str
    parent: "AnyMapper"
    arguments: RelationshipArguments
    cascade: Cascade
    reverse_of: "Relationship | None" = None
    target: "AnyMapper" = field(init=False)
    direction: Direction = field(init=False)
    uselist: bool = field(init=False)
    collection_class: CollectionFactory = field(init=False)
    secondary: Table | None = field(init=False)
    primaryjoin: ColumnElement[bool] = field(init=False)
    secondaryjoin: ColumnElement[bool] | None = field(init=False)
    synchronize_pairs: ColumnPairs = field(init=False)
    secondary_synchronize_pairs: ColumnPairs = field(init=False)
    local_remote_pairs: ColumnPairs = field(init=False)
    local_columns: frozenset[Column[Any]] = field(init=False)
    remote_side: frozenset[Column[Any]] = field(init=False)
    order_by: tuple[ColumnElement[Any], ...] = field(init=False)
    uses_get: bool = field(init=False)
    get_columns: tuple[Column[Any], ...] = field(init=False)
    back: "Relationship | None" = field(init=False)
    events: Dispatch | None = None
    """Handlers of changes of the relation; None as long as nobody has listened."""

    def __getattr__(self, name: str) -> Any:  # only reached for fields that are not worked out yet
        if name in _LATE and not self.parent.registry.is_configured:
            self.parent.registry.configure()
            return object.__getattribute__(self, name)
        raise AttributeError(f"{self!r} has no {name!r}")

    @property
    def viewonly(self) -> bool:
        """Whether the relation is only read, never written."""
        return self.arguments.viewonly

    @property
    def lazy(self) -> LazyStrategy:
        """How the relation is loaded when nothing else is said."""
        return self.arguments.lazy

    @property
    def passive_deletes(self) -> bool | Literal["all"]:
        """Whether the database takes care of children that are not loaded ("all": of loaded ones too)."""
        return self.arguments.passive_deletes

    @property
    def passive_updates(self) -> bool:
        """Whether the database carries changes of primary keys to foreign keys (ON UPDATE CASCADE)."""
        return self.arguments.passive_updates

    @property
    def post_update(self) -> bool:
        """Whether foreign keys are written by an UPDATE of their own, after inserts and before deletes."""
        return self.arguments.post_update

    @property
    def single_parent(self) -> bool:
        """Whether an object may be held by one parent only."""
        return self.arguments.single_parent

    @property
    def innerjoin(self) -> bool:
        """Whether joined loading may use an inner join: the related row always exists."""
        return self.arguments.innerjoin

    @property
    def active_history(self) -> bool:
        """Whether the previous value has to be known when a scalar relation is set."""
        return self.arguments.active_history

    @property
    def info(self) -> Mapping[Any, Any]:
        """Whatever the user attached."""
        return self.arguments.info

    @property
    def doc(self) -> str | None:
        """The user's description."""
        return self.arguments.doc

    @override
    def __repr__(self) -> str:
        return f"<Relationship {self.parent.class_.__name__}.{self.key}>"


_LATE = frozenset(item.name for item in fields(Relationship) if not item.init)

Attribute: TypeAlias = ColumnAttribute | Relationship


@dataclass(slots=True, eq=False, weakref_slot=True)
class Mapper(Generic[T]):
    """How a class corresponds to a table.

    ``column_attributes`` are those with a column of the table, in stable order; ``expression_attributes`` are
    read-only SQL expressions; ``attributes`` has both and the relations.
    """

    class_: type[T]
    table: Table
    registry: RegistryOfMappers
    attributes: dict[str, Attribute] = field(default_factory=dict)
    column_attributes: dict[str, ColumnAttribute] = field(default_factory=dict)
    expression_attributes: dict[str, ColumnAttribute] = field(default_factory=dict)
    relationships: dict[str, Relationship] = field(default_factory=dict)
    primary_key: tuple[Column[Any], ...] = ()
    primary_key_attributes: tuple[ColumnAttribute, ...] = ()
    version_id: ColumnAttribute | None = None
    version_id_generator: Callable[[Any], Any] | Literal[False] | None = None
    eager_defaults: bool | Literal["auto"] = "auto"
    confirm_deleted_rows: bool = True
    batch: bool = True
    """Whether rows share statements; if not, each is sent by itself."""
    incoming: tuple[Relationship, ...] = ()
    by_column: dict[Column[Any], ColumnAttribute] = field(default_factory=dict)
    entity: "EntityRef" = field(init=False)
    events: Dispatch = field(init=False, repr=False)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What higher layers have worked out about the class; emptied whenever its mapping grows."""

    def __post_init__(self) -> None:
        self.entity = EntityRef(self, self.table)
        self.events = mapped_classes.of(self.class_)

    @property
    def local_table(self) -> Table:
        """The table of this class."""
        return self.table

    @property
    def name(self) -> str:
        """The name of the class, for messages."""
        return self.class_.__name__

    def attribute_of(self, column: Column[Any]) -> ColumnAttribute:
        """Return the attribute that holds *column*."""
        try:
            return self.by_column[column]
        except KeyError:
            raise InvalidRequestError(
                f"column {column} is not mapped by an attribute of {self.name}; leave it out of exclude_properties, or "
                f"map it"
            ) from None

    def attribute(self, key: str) -> Attribute:
        """Return the attribute called *key*; the error names near matches."""
        try:
            return self.attributes[key]
        except KeyError:
            raise ArgumentError(f"{self.name} has no mapped attribute {key!r}{near(key, self.attributes)}") from None

    def identity_key(self, primary_key: Sequence[object], token: object | None = None) -> IdentityKey:
        """Return what the row with this primary key is called in an identity map."""
        return (self.class_, tuple(primary_key), token)

    def __clause_element__(self) -> Any:
        """Return what Core takes a mapper for in a statement: its class."""
        if not self.registry.is_configured:
            self.registry.configure()
        return self.entity.element

    @override
    def __repr__(self) -> str:
        return f"<Mapper {self.name} on {self.table.fullname}>"


AnyMapper: TypeAlias = Mapper[Any]


class EntityRef:
    """An entity as it appears in a statement: a mapped class, that is, its table.

    ``element`` is what Core sees of it; ``column(attribute)`` an attribute of it. Aliases are :class:`AliasRef`.
    """

    __slots__ = ("columns", "element", "entity_namespace", "mapper", "selectable")
    alias_name: str | None = None

    def __init__(self, mapper: AnyMapper, selectable: FromClause, namespace: object = None) -> None:
        self.mapper = mapper
        self.selectable = selectable
        self.entity_namespace = mapper.class_ if namespace is None else namespace  # where filter_by() looks for names
        self.element: FromClause = annotate(selectable, {ENTITY_ANNOTATION: self, "entity_namespace": self})
        self.columns: dict[str, ColumnElement[Any]] = {}

    @property
    def is_alias(self) -> bool:
        """Whether this is an alias, not the class itself."""
        return self.selectable is not self.mapper.table

    def column(self, attribute: ColumnAttribute) -> ColumnElement[Any]:
        """Return the column or expression of *attribute* in this entity, annotated with it."""
        found = self.columns.get(attribute.key)
        if found is None:
            found = self.columns[attribute.key] = self._annotated(attribute)
        return found

    def clause_element(self) -> FromClause:
        """Return what Core takes the entity for in a statement."""
        return self.element

    def adapt(self, element: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return *element*, written for the mapped table, for the selectable of this entity."""
        return ClauseAdapter(self.selectable).traverse(element) if self.is_alias else element

    def column_of(self, column: Column[Any]) -> ColumnElement[Any]:
        """Return the column of the selectable that corresponds to *column* of the mapped table."""
        if not self.is_alias:
            return column
        found = self.selectable.corresponding_column(column)
        if found is None:
            raise ArgumentError(f"{self.selectable!r} has no column for {column}, which {self.mapper.name} needs")
        return found

    def _annotated(self, attribute: ColumnAttribute) -> ColumnElement[Any]:
        plain = self.column_of(attribute.column) if attribute.expression is None else self.adapt(attribute.expression)
        copy = annotate(
            plain,
            {
                ENTITY_ANNOTATION: self,
                "entity_namespace": self,
                "proxy_key": attribute.key,
            },
        )
        if attribute.expression is None:
            # filter_by() looks for names in the FROM objects of columns: let it find the entity, not its table
            copy.table = self.element  # type: ignore[attr-defined]  # columns have it
        return copy

    @override
    def __repr__(self) -> str:
        return f"<EntityRef {self.mapper.name}>"


class AliasRef(EntityRef, CacheKeyed):
    """An alias of an entity as it appears in a statement."""

    __slots__ = ("alias_name",)
    is_anonymous = True

    def __init__(self, mapper: AnyMapper, selectable: FromClause, namespace: object, alias_name: str | None) -> None:
        super().__init__(mapper, selectable, namespace)
        self.alias_name = alias_name

    @override
    def cache_facts(self) -> tuple[object, ...]:
        """Return what distinguishes this alias besides its place in the statement."""
        return (self.mapper,)

    @override
    def __repr__(self) -> str:
        return f"<AliasRef {self.mapper.name} as {self.alias_name or 'anonymous'}>"
