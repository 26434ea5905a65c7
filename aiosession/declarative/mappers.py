"""Make the mapper of a class from its table and declarations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

from sqlalchemy import Column, Table

from aiosession.declarative.columns import ExpressionDeclaration, MappedColumn, declared_column
from aiosession.declarative.mapped import Declaration
from aiosession.declarative.relations import RelationshipDeclaration
from aiosession.errors import MappingError, near
from aiosession.mapping.backrefs import default_cascade
from aiosession.mapping.mapper import Attribute, ColumnAttribute, Mapper, RegistryOfMappers, Relationship
from aiosession.mapping.sides import as_column, plain

_INHERITANCE = frozenset(
    {"inherits", "polymorphic_on", "polymorphic_identity", "polymorphic_load", "with_polymorphic", "concrete"}
)


@dataclass(frozen=True, slots=True)
class MapperOptions:
    """What ``__mapper_args__`` and ``map_imperatively()`` take."""

    properties: Mapping[str, Any] | None = None
    include_properties: Any = None
    exclude_properties: Any = None
    primary_key: Any = None
    version_id_col: Any = None
    version_id_generator: Callable[[Any], Any] | Literal[False] | None = None
    eager_defaults: bool | Literal["auto"] = "auto"
    confirm_deleted_rows: bool = True
    batch: bool = True
    column_prefix: str = ""

    @classmethod
    def of(cls, class_: type[Any], options: Mapping[str, Any]) -> "MapperOptions":
        """Return the options; unknown ones are refused."""
        known = [item.name for item in fields(cls)]
        for name in options:
            if name in _INHERITANCE:
                raise MappingError(
                    f"class {class_.__name__}: {name} belongs to table inheritance, which is not available yet; share "
                    f"columns through a mixin"
                )
            if name not in known:
                raise MappingError(f"class {class_.__name__}: unknown mapper argument {name!r}{near(name, known)}")
        return cls(**options)


def make_mapper(
    registry: RegistryOfMappers,
    class_: type[Any],
    table: Table,
    declarations: Mapping[str, Declaration[Any]],
    options: MapperOptions,
) -> Mapper[Any]:
    """Return the mapper of *class_* on *table*, not yet installed on the class."""
    check_class(class_)
    mapper: Mapper[Any] = Mapper(class_, table, registry)
    declared = dict(declarations)
    for key, value in (options.properties or {}).items():
        declared[key] = _as_declaration(class_, key, value)
    _add_columns(mapper, declared, options)
    for key, declaration in declared.items():
        if not isinstance(declaration, MappedColumn):
            _add(mapper, make_attribute(mapper, key, declaration))
    _set_primary_key(mapper, options)
    _set_version(mapper, options)
    mapper.eager_defaults = options.eager_defaults
    mapper.confirm_deleted_rows = options.confirm_deleted_rows
    mapper.batch = options.batch
    return mapper


def make_attribute(mapper: Mapper[Any], key: str, declaration: Declaration[Any]) -> Attribute:
    """Return the attribute that *declaration* promises."""
    if isinstance(declaration, RelationshipDeclaration):
        arguments = declaration.arguments
        return Relationship(key, mapper, arguments, default_cascade(arguments))
    if isinstance(declaration, ExpressionDeclaration):
        return ColumnAttribute(
            key,
            Column(key, declaration.expression.type),
            mapper,
            deferred=declaration.deferred,
            deferred_group=declaration.deferred_group,
            deferred_raiseload=declaration.deferred_raiseload,
            expression=declaration.expression,
            info=declaration.info,
            doc=declaration.doc,
        )
    if isinstance(declaration, MappedColumn):
        return ColumnAttribute(
            key,
            declaration.column,
            mapper,
            deferred=declaration.deferred,
            deferred_group=declaration.deferred_group,
            deferred_raiseload=declaration.deferred_raiseload,
            active_history=declaration.active_history,
            info=declaration.column.info,
            doc=declaration.column.doc,
        )
    raise MappingError(f"{mapper.name}.{key}: {declaration!r} cannot be mapped")


def check_class(class_: type[Any]) -> None:
    """Refuse classes whose objects cannot be tracked."""
    if not class_.__dictoffset__ or not class_.__weakrefoffset__:
        raise MappingError(
            f"class {class_.__name__} has __slots__ and no __dict__ (or __weakref__), so its objects cannot be "
            f"tracked; remove __slots__, or derive it from a base without"
        )


def _as_declaration(class_: type[Any], key: str, value: object) -> Declaration[Any]:
    if isinstance(value, Declaration):
        return value
    if isinstance(value, Column):
        return declared_column(value)
    raise MappingError(
        f"{class_.__name__}.{key}: properties takes relationship(), column_property(), deferred() and columns, not "
        f"{value!r}"
    )


def _add(mapper: Mapper[Any], attribute: Attribute) -> None:
    mapper.attributes[attribute.key] = attribute
    if isinstance(attribute, Relationship):
        mapper.relationships[attribute.key] = attribute
    elif attribute.expression is not None:
        mapper.expression_attributes[attribute.key] = attribute
    else:
        mapper.column_attributes[attribute.key] = attribute
        mapper.by_column[attribute.column] = attribute


def _add_columns(mapper: Mapper[Any], declared: Mapping[str, Declaration[Any]], options: MapperOptions) -> None:
    named = {item.column: (key, item) for key, item in declared.items() if isinstance(item, MappedColumn)}
    for column in mapper.table.columns:
        if column in named:
            key, declaration = named.pop(column)
            _add(mapper, make_attribute(mapper, key, declaration))
        elif _is_wanted(column, options):
            _add(mapper, make_attribute(mapper, options.column_prefix + column.key, declared_column(column)))
    for column, (key, _) in named.items():
        raise MappingError(
            f"{mapper.name}.{key}: column {column.name!r} is not a column of table {mapper.table.name!r}"
        )


def _is_wanted(column: Column[Any], options: MapperOptions) -> bool:
    included, excluded = options.include_properties, options.exclude_properties
    if included is not None and not any(item is column or item == column.key for item in _each(included)):
        return False
    return excluded is None or not any(item is column or item == column.key for item in _each(excluded))


def _each(items: Any) -> list[object]:
    # compared by identity and text only: == of two columns is a SQL expression
    return [item if isinstance(item, str) else _column(item) for item in items]


def _column(item: object) -> Column[Any]:
    return plain(cast("Column[Any]", as_column(item)))


def _set_primary_key(mapper: Mapper[Any], options: MapperOptions) -> None:
    given = options.primary_key
    items = list(mapper.table.primary_key.columns) if given is None else given
    items = items if isinstance(items, list | tuple) else [items]
    columns = tuple(_named_column(mapper, item, "primary_key") for item in items)
    if not columns:
        raise MappingError(
            f"class {mapper.name}: table {mapper.table.name!r} has no primary key, so its rows cannot be told apart; "
            f"mark a column with primary_key=True, or name columns in __mapper_args__ = {{'primary_key': [...]}}"
        )
    for column in columns:
        if column not in mapper.by_column:
            raise MappingError(f"class {mapper.name}: the primary key column {column.name!r} has no attribute")
        mapper.by_column[column].is_primary_key = True
    mapper.primary_key = columns
    mapper.primary_key_attributes = tuple(mapper.by_column[column] for column in columns)


def _set_version(mapper: Mapper[Any], options: MapperOptions) -> None:
    if options.version_id_col is None:
        return
    column = _named_column(mapper, options.version_id_col, "version_id_col")
    mapper.version_id = mapper.attribute_of(column)
    generator = options.version_id_generator
    mapper.version_id_generator = _next_version if generator is None else generator


def _named_column(mapper: Mapper[Any], item: object, option: str) -> Column[Any]:
    if not isinstance(item, str):
        return _column(item)
    attribute = mapper.column_attributes.get(item)
    if attribute is not None:
        return attribute.column
    if item in mapper.table.c:
        return mapper.table.c[item]
    raise MappingError(
        f"class {mapper.name}: {option} names {item!r}, which is no column{near(item, mapper.column_attributes)}"
    )


def _next_version(version: int | None) -> int:
    return (version or 0) + 1
