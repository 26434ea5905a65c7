"""Work out relations from their arguments, and report all mistakes at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Column, ColumnElement
from sqlalchemy.sql import coercions, roles

from aiosession.errors import ArgumentError, MappingError, near
from aiosession.mapping.backrefs import existing_reverse, inherits_join, make_reverse
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.directions import ColumnSet, Join, JoinRequest, work_out, work_out_reverse
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.names import NameResolver
from aiosession.mapping.overlaps import Writers, warn_of_overlaps
from aiosession.mapping.relationships import Direction
from aiosession.mapping.sides import as_column, plain, replace_columns

_WRITING = Cascade.SAVE_UPDATE | Cascade.DELETE | Cascade.DELETE_ORPHAN | Cascade.EXPUNGE | Cascade.REFRESH_EXPIRE


@dataclass(slots=True)
class Configuration:
    """One run over the relations that are not worked out yet."""

    names_for: Callable[[AnyMapper], NameResolver]
    mapper_of_class: Callable[[type[Any]], AnyMapper | None]
    add_relationship: Callable[[Relationship], None]
    problems: list[str] = field(default_factory=list)
    names: NameResolver = field(init=False)
    """What names mean in the relation that is being worked out."""

    def run(self, relationships: Sequence[Relationship], writers: Writers) -> None:
        """Work out *relationships*; raises one MappingError with everything that is wrong with them."""
        targeted = self._each(relationships, self._find_target)
        reverses = self._each(targeted, self._make_reverse)
        everything = [*targeted, *(made for made in self._reverses(reverses) if made not in targeted)]
        joined = self._each(sorted(everything, key=lambda item: item.reverse_of is not None), self._join)
        for step in (self._order, self._link_back, check_cascade):
            joined = self._each(joined, step)
        if self.problems:
            raise MappingError(*self.problems)
        for relationship in joined:
            if relationship not in relationship.target.incoming:
                relationship.target.incoming += (relationship,)
                relationship.target.memo.clear()
        warn_of_overlaps(joined, writers)

    def _each(self, relationships: Iterable[Relationship], step: Callable[[Relationship], None]) -> list[Relationship]:
        done = []
        for relationship in relationships:
            self.names = self.names_for(relationship.parent)
            try:
                step(relationship)
            except ArgumentError as error:
                where = f"relationship {relationship.parent.name}.{relationship.key}"
                texts = error.problems if isinstance(error, MappingError) else (str(error),)
                self.problems += (f"{where}: {text}" for text in texts)
            else:
                done.append(relationship)
        return done

    # Steps ------------------------------------------------------------------------------------------------------------

    def _find_target(self, relationship: Relationship) -> None:
        arguments = relationship.arguments
        if arguments.argument is None:
            raise MappingError('no target class; annotate the attribute (Mapped["Address"]) or name the class first')
        class_ = self.names.class_(arguments.argument)
        target = self.mapper_of_class(class_)
        if target is None:
            raise MappingError(f"its target {class_.__qualname__} is not a mapped class")
        relationship.target = target
        relationship.secondary = None if arguments.secondary is None else self.names.table(arguments.secondary)

    def _make_reverse(self, relationship: Relationship) -> None:
        if relationship.arguments.backref is None:
            return
        if relationship.arguments.back_populates is not None:
            raise MappingError("says both backref and back_populates; use back_populates on both sides")
        if existing_reverse(relationship, relationship.target) is None:
            self.add_relationship(make_reverse(relationship, relationship.target))

    def _reverses(self, relationships: Iterable[Relationship]) -> list[Relationship]:
        found = [existing_reverse(relationship, relationship.target) for relationship in relationships]
        made = [relationship for relationship in found if relationship is not None]
        return self._each(made, self._find_target)

    def _join(self, relationship: Relationship) -> None:
        _settle(relationship, self._worked_out(relationship))
        _set_uselist(relationship)

    def _worked_out(self, relationship: Relationship) -> Join:
        origin = relationship.reverse_of
        if origin is None or not inherits_join(relationship):
            return work_out(self._request(relationship, relationship.arguments.primaryjoin))
        if not hasattr(origin, "primaryjoin"):
            raise MappingError(f"it is the backref of {origin.parent.name}.{origin.key}, which cannot be worked out")
        if origin.secondary is None:
            return work_out_reverse(self._request(relationship, None), origin.primaryjoin)
        return work_out(self._request(relationship, origin.secondaryjoin, origin.primaryjoin))

    def _request(self, relationship: Relationship, primary: object, secondary: object = None) -> JoinRequest:
        arguments = relationship.arguments
        secondary = arguments.secondaryjoin if secondary is None else secondary
        if secondary is not None and relationship.secondary is None:
            raise MappingError("says secondaryjoin without secondary; name the table between the two in secondary=")
        return JoinRequest(
            parent=relationship.parent.table,
            target=relationship.target.table,
            target_key=relationship.target.primary_key,
            secondary=relationship.secondary,
            primaryjoin=self._condition(primary, "primaryjoin"),
            secondaryjoin=self._condition(secondary, "secondaryjoin"),
            foreign_keys=self._columns(arguments.foreign_keys, "foreign_keys"),
            remote_side=self._columns(arguments.remote_side, "remote_side"),
            viewonly=arguments.viewonly,
        )

    def _condition(self, argument: object, option: str) -> ColumnElement[bool] | None:
        if argument is None:
            return None
        found = self.names.expression(argument)
        if isinstance(found, ColumnElement):
            return found
        raise MappingError(f"{option}= has to be a SQL expression, not {found!r}")

    def _columns(self, argument: object, option: str) -> ColumnSet | None:
        if argument is None:
            return None
        columns = [plain(cast("Column[Any]", as_column(item))) for item in self._items(argument)]
        for column in columns:
            if not isinstance(column, Column):
                raise MappingError(f"{option}= takes columns, not {column!r}")
        return frozenset(columns)

    def _items(self, argument: object) -> list[object]:
        found = self.names.expression(argument)
        items = found if isinstance(found, list | tuple | set | frozenset) else [found]
        return [self.names.expression(item) for item in items]

    def _order(self, relationship: Relationship) -> None:
        argument = relationship.arguments.order_by
        items = [] if argument is None or argument is False else self._items(argument)
        relationship.order_by = tuple(
            replace_columns(coercions.expect(roles.OrderByRole, item), plain) for item in items
        )

    def _link_back(self, relationship: Relationship) -> None:
        key = relationship.arguments.back_populates
        if key is None:
            if not hasattr(relationship, "back"):
                relationship.back = None
            return
        other = _other_side(relationship, key)
        if relationship.viewonly or other.viewonly:
            relationship.back = None
            return
        relationship.back = other
        if other.arguments.back_populates is None:
            other.back = relationship


def _settle(relationship: Relationship, join: Join) -> None:
    relationship.direction = join.direction
    relationship.primaryjoin = join.primaryjoin
    relationship.secondaryjoin = join.secondaryjoin
    relationship.synchronize_pairs = join.synchronize_pairs
    relationship.secondary_synchronize_pairs = join.secondary_synchronize_pairs
    relationship.local_remote_pairs = join.local_remote_pairs
    relationship.remote_side = join.remote_side
    relationship.local_columns = join.local_columns
    relationship.get_columns = join.get_columns
    relationship.uses_get = bool(join.get_columns)


def _set_uselist(relationship: Relationship) -> None:
    arguments = relationship.arguments
    is_single = relationship.direction is Direction.MANY_TO_ONE
    if is_single and arguments.uselist:
        hint = (
            "; for the children of a tree leave out remote_side"
            if relationship.parent is relationship.target
            else f"; to hold many, put the foreign key into table {relationship.target.table.name!r}"
        )
        raise MappingError(
            f"it is many-to-one (the foreign key is in table {relationship.parent.table.name!r}) and holds one object, "
            f"not a collection; annotate it Mapped[{relationship.target.name}]{hint}"
        )
    relationship.uselist = not is_single if arguments.uselist is None else arguments.uselist
    if arguments.collection_class is not None and not relationship.uselist:
        raise MappingError("says collection_class but holds one object, not a collection")
    factory = list if arguments.collection_class is None else arguments.collection_class
    if not callable(factory):
        raise MappingError(f"collection_class= has to be a class or callable that makes a collection, not {factory!r}")
    relationship.collection_class = factory


def _other_side(relationship: Relationship, key: str) -> Relationship:
    target = relationship.target
    other = target.attributes.get(key)
    if not isinstance(other, Relationship):
        kind = "no relationship" if other is None else "a column, not a relationship,"
        hint = near(key, target.relationships) if other is None else ""
        raise MappingError(f"back_populates names {target.name}.{key}, but {target.name} has {kind} {key!r}{hint}")
    named = other.arguments.back_populates
    if named is not None and named != relationship.key:
        raise MappingError(
            f"back_populates names {target.name}.{key}, which in turn names {named!r}; say "
            f"back_populates={relationship.key!r} there"
        )
    if not hasattr(other, "target") or not hasattr(other, "direction"):
        raise MappingError(f"its other side {target.name}.{key} cannot be worked out")
    if other.target is not relationship.parent:
        raise MappingError(
            f"back_populates names {target.name}.{key}, but that leads to {other.target.name}, not to "
            f"{relationship.parent.name}"
        )
    _check_directions(relationship, other)
    return other


def _check_directions(relationship: Relationship, other: Relationship) -> None:
    if relationship.direction is not other.direction or relationship.direction is Direction.MANY_TO_MANY:
        return
    remedy = (
        "say remote_side= with the primary key on the many-to-one side"
        if relationship.parent is relationship.target
        else "check foreign_keys= and primaryjoin= of both"
    )
    raise MappingError(
        f"it and {other.parent.name}.{other.key} are both {relationship.direction.value}, so they cannot be the two "
        f"sides of one relation; {remedy}"
    )


def check_cascade(relationship: Relationship) -> None:
    """Refuse cascades that contradict the rest of the relation."""
    cascade, arguments = relationship.cascade, relationship.arguments
    if arguments.viewonly and cascade & _WRITING:
        raise MappingError("is viewonly, so it cannot cascade writes; leave out cascade=")
    if Cascade.DELETE_ORPHAN in cascade:
        _check_orphans(relationship)
    if arguments.passive_deletes == "all" and cascade & (Cascade.DELETE | Cascade.DELETE_ORPHAN):
        raise MappingError('passive_deletes="all" leaves children to the database; leave delete out of cascade=')


def _check_orphans(relationship: Relationship) -> None:
    if Cascade.DELETE not in relationship.cascade:
        raise MappingError('delete-orphan needs delete as well; say cascade="all, delete-orphan"')
    if relationship.direction is not Direction.ONE_TO_MANY and not relationship.single_parent:
        raise MappingError(
            f"delete-orphan on the {relationship.direction.value} side needs single_parent=True (each "
            f"{relationship.target.name} has one {relationship.parent.name} at most); otherwise set the cascade on the "
            f"one-to-many side"
        )
