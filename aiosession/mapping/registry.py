"""Hold the mappers that belong together: names, tables, and what is still to be worked out."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

from sqlalchemy import MetaData, Table

from aiosession.errors import MappingError
from aiosession.events.dispatch import EVERY_MAPPER, Dispatch
from aiosession.mapping.backrefs import existing_reverse, make_reverse
from aiosession.mapping.configure import Configuration
from aiosession.mapping.mapper import AnyMapper, Attribute, Relationship
from aiosession.mapping.names import ClassNames, NameResolver, TargetName
from aiosession.mapping.overlaps import Writers

Install = Callable[[AnyMapper, Attribute], None]
Check = Callable[[AnyMapper], None]


class MapperRegistry:
    """Mappers whose relations find each other by name.

    *install* puts a new attribute on its class; *check* is called once all attributes of a class are known.
    """

    def __init__(self, metadata: MetaData, install: Install, check: Check | None = None) -> None:
        self.metadata = metadata
        self._install = install
        self._check = check
        self._mappers: dict[type[Any], AnyMapper] = {}
        self._classes = ClassNames()
        self._pending: list[Relationship] = []
        self._new: list[AnyMapper] = []
        self._writers: Writers = {}
        self._is_configuring = False
        _registries.add(self)

    @property
    def mappers(self) -> frozenset[AnyMapper]:
        """All mappers of this registry."""
        return frozenset(self._mappers.values())

    @property
    def is_configured(self) -> bool:
        """Whether every relation of every mapper is worked out."""
        return not (self._pending or self._new)

    def add(self, mapper: AnyMapper) -> None:
        """Take in *mapper*; its relations are worked out with the next :meth:`configure`."""
        self._mappers[mapper.class_] = mapper
        self._new.append(mapper)
        self._classes.add(mapper.class_)
        self._pending.extend(mapper.relationships.values())
        self._make_reverses()

    def add_attribute(self, mapper: AnyMapper, attribute: Attribute) -> None:
        """Add *attribute* to a mapper that is in use already."""
        mapper.attributes[attribute.key] = attribute
        if isinstance(attribute, Relationship):
            mapper.relationships[attribute.key] = attribute
            self._pending.append(attribute)
        elif attribute.expression is None:
            mapper.column_attributes[attribute.key] = attribute
            mapper.by_column[attribute.column] = attribute
        else:
            mapper.expression_attributes[attribute.key] = attribute
        self._install(mapper, attribute)

    def configure(self) -> None:
        """Work out all relations that are new; raises one MappingError for everything that is wrong."""
        if self.is_configured or self._is_configuring:
            return
        self._is_configuring = True
        try:
            _announce(EVERY_MAPPER, "before_configured")
            self._work_out_relations()
            if self._check is not None:
                for mapper in self._new:
                    self._check(mapper)
            configured, self._new = self._new, []
        finally:
            self._is_configuring = False
        for mapper in configured:
            _announce(mapper.events, "mapper_configured", mapper, mapper.class_)
        _announce(EVERY_MAPPER, "after_configured")

    def _work_out_relations(self) -> None:
        if not self._pending:
            return
        resolvers: dict[MetaData, NameResolver] = {}

        def names_for(mapper: AnyMapper) -> NameResolver:
            metadata = mapper.table.metadata
            if metadata not in resolvers:
                resolvers[metadata] = NameResolver(self._classes, self._tables(metadata))
            return resolvers[metadata]

        configuration = Configuration(
            names_for, mapper_of_class, lambda relationship: self.add_attribute(relationship.parent, relationship)
        )
        configuration.run(tuple(self._pending), self._writers)
        self._pending.clear()

    def _tables(self, metadata: MetaData) -> Mapping[str, Table]:
        """Return the tables that a relation may name: those beside its own first, then all others of the registry."""
        found = {metadata: None, self.metadata: None, **{each.table.metadata: None for each in self._mappers.values()}}
        return ChainMap(*(each.tables for each in found))

    def forget(self) -> None:
        """Drop all mappers; their classes can be mapped again."""
        for class_ in self._mappers:
            self._classes.discard(class_)
        self._mappers.clear()
        self._pending.clear()
        self._new.clear()
        self._writers.clear()

    def _make_reverses(self) -> None:
        # An attribute made by a backref has to be there as soon as both classes are: setting it before would be lost.
        for relationship in tuple(self._pending):
            target = None if relationship.arguments.backref is None else self._peek(relationship.arguments.argument)
            if target is None or existing_reverse(relationship, target) is not None:
                continue
            try:
                reverse = make_reverse(relationship, target)
            except MappingError:
                continue  # reported with everything else by configure()
            self.add_attribute(target, reverse)

    def _peek(self, argument: object) -> AnyMapper | None:
        if isinstance(argument, TargetName):
            return self._peek(argument.name) or self._peek(argument.fallback)
        if isinstance(argument, str):
            found = self._classes.find(argument)
            return self._mappers.get(found[0]) if len(found) == 1 else None
        return mapper_of_class(argument) if isinstance(argument, type) else None


def _announce(dispatch: Dispatch, name: str, *args: object) -> None:
    hook = dispatch.hooks.get(name)
    if hook is not None:
        hook.now(*args)


_registries: WeakSet[MapperRegistry] = WeakSet()


def all_registries() -> Iterator[MapperRegistry]:
    """Yield the registries that are in use."""
    yield from tuple(_registries)


def all_mappers() -> Iterator[AnyMapper]:
    """Yield the mappers of all registries."""
    for registry in all_registries():
        yield from registry.mappers


def mapper_of_class(class_: type[Any]) -> AnyMapper | None:
    """Return the mapper of *class_* itself, None if it is not mapped."""
    return class_.__dict__.get("__mapper__")
