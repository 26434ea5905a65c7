"""Map classes: declaratively, by decorator, or onto tables made elsewhere."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Column, MetaData, Table

from aiosession.declarative.columns import declared_column
from aiosession.declarative.constructor import construct
from aiosession.declarative.dataclass_fields import DATACLASS_OPTIONS, make_dataclass
from aiosession.declarative.mapped import Declaration
from aiosession.declarative.mappers import MapperOptions, check_class, make_attribute, make_mapper
from aiosession.declarative.scan import Scan
from aiosession.declarative.tables import table_for
from aiosession.declarative.types import TypeMap
from aiosession.errors import MappingError
from aiosession.mapping.expressions import ClassInStatements
from aiosession.mapping.mapper import ColumnAttribute, Mapper
from aiosession.mapping.registry import MapperRegistry, mapper_of_class
from aiosession.state.attribute_events import check_validators
from aiosession.state.instrumentation import instrument, instrument_attribute, uninstrument

T = TypeVar("T")


class registry(MapperRegistry):  # noqa: N801 - the name that people know
    """Mapped classes that know of each other by name, their tables, and the SQL types of their annotations."""

    def __init__(
        self,
        *,
        metadata: MetaData | None = None,
        type_annotation_map: TypeMap | None = None,
        constructor: Callable[..., None] = construct,
    ) -> None:
        super().__init__(MetaData() if metadata is None else metadata, instrument_attribute, check_validators)
        self.type_annotation_map: dict[Any, Any] = dict(type_annotation_map or {})
        self.constructor = constructor

    def update_type_annotation_map(self, type_annotation_map: TypeMap) -> None:
        """Add SQL types for annotations of classes that are mapped from now on."""
        self.type_annotation_map.update(type_annotation_map)

    def mapped(self, cls: type[T]) -> type[T]:
        """Map a class declaratively; to be used as a decorator."""
        self.map_declaratively(cls)
        return cls

    def map_declaratively(self, cls: type[T]) -> Mapper[T]:
        """Map a class by what its body declares."""
        _check_unmapped(cls)
        scan = Scan(cls, self.type_annotation_map)
        scan.run()
        check_class(cls)
        metadata = self._metadata_for(cls)
        table = table_for(cls, scan.attributes, metadata)
        is_new = cls.__dict__.get("__table__") is not table
        try:
            options = MapperOptions.of(cls, getattr(cls, "__mapper_args__", {}))
            mapper = make_mapper(self, cls, table, scan.attributes, options)
            dataclass_options = getattr(cls, DATACLASS_OPTIONS, None)
            if dataclass_options is not None:
                make_dataclass(cls, scan, dataclass_options)
        except BaseException:
            if is_new and getattr(cls, "__table__", None) is not table:
                metadata.remove(table)
            raise
        if cls.__init__ is object.__init__:
            _set(cls, "__init__", self.constructor)
        return self._install_mapper(mapper)

    def map_imperatively(
        self,
        class_: type[T],
        local_table: Table | None = None,
        properties: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Mapper[T]:
        """Map a class onto a table; *properties* names relations, and columns whose attribute is called otherwise."""
        _check_unmapped(class_)
        if not isinstance(local_table, Table):
            raise MappingError(
                f"class {class_.__name__}: map_imperatively() takes a Table to map onto, not {local_table!r}"
            )
        declared = MapperOptions.of(class_, {**options, "properties": properties})
        return self._install_mapper(make_mapper(self, class_, local_table, {}, declared))

    def generate_base(self, cls: type[Any] = object, name: str = "Base") -> Any:
        """Return a base class whose subclasses are mapped declaratively in this registry."""
        return type(
            name,
            (cls,),
            {
                "__init_subclass__": classmethod(self._map_subclass),
                "registry": self,
                "metadata": self.metadata,
                "__init__": self.constructor,
            },
        )

    def add_declaration(self, mapper: Mapper[Any], key: str, value: object) -> None:
        """Map one more attribute of a class that is mapped already."""
        declaration = declared_column(value) if isinstance(value, Column) else value
        if not isinstance(declaration, Declaration):
            raise MappingError(f"{mapper.name}.{key}: {value!r} cannot be mapped")
        attribute = make_attribute(mapper, key, declaration)
        if isinstance(attribute, ColumnAttribute) and attribute.expression is None:
            column = attribute.column
            if column.name is None:
                column.name = column.key = key
            if column not in mapper.by_column and mapper.table.c.get(column.key) is not column:
                mapper.table.append_column(column)
        self.add_attribute(mapper, attribute)

    def dispose(self) -> None:
        """Undo all mappings of this registry; the classes can be mapped again."""
        for mapper in self.mappers:
            uninstrument(mapper)
            for name in ("__mapper__", "__clause_element__"):
                type.__delattr__(mapper.class_, name)
        self.forget()

    def _metadata_for(self, cls: type[Any]) -> MetaData:
        """Return what the class, or the nearest of its bases that says so, has as ``metadata``."""
        chosen = getattr(cls, "metadata", None)
        return chosen if isinstance(chosen, MetaData) else self.metadata

    def _install_mapper(self, mapper: Mapper[T]) -> Mapper[T]:
        class_ = mapper.class_
        _set(class_, "__mapper__", mapper)
        _set(class_, "__table__", mapper.table)
        _set(class_, "__clause_element__", ClassInStatements())
        instrument(mapper)
        self.add(mapper)
        return mapper

    def _map_subclass(self, cls: type[Any]) -> None:
        if not cls.__dict__.get("__abstract__", False):
            self.map_declaratively(cls)


def _check_unmapped(class_: type[Any]) -> None:
    if mapper_of_class(class_) is not None:
        raise MappingError(f"class {class_.__name__} is mapped already")
    for base in class_.__mro__[1:]:
        if mapper_of_class(base) is not None:
            raise MappingError(
                f"class {class_.__name__} derives from the mapped class {base.__name__}; table inheritance is "
                f"not available yet: share what is common through a mixin, or a base that says __abstract__ = True"
            )


def _set(class_: type[Any], name: str, value: object) -> None:
    type.__setattr__(class_, name, value)
