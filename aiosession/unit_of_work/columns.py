"""How does each column of a mapper get its value when a row is written? Worked out once per mapper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnDefault,
    ColumnElement,
    FetchedValue,
    Identity,
    Integer,
    literal,
    literal_column,
    null,
)
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.sql.type_api import TypeEngine

from aiosession import core
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute

NULL: Final = null()
"""SQL NULL where None would mean something else (JSON null)."""


class Source(Enum):
    """Where the value of a column comes from if the object has none."""

    NOWHERE = "nowhere"
    """It is NULL."""
    CLIENT = "client"
    """A default that Python computes."""
    SERVER = "server"
    """The database makes it."""
    ALWAYS_SERVER = "always server"
    """The database makes it and takes no other."""


@dataclass(frozen=True, slots=True, eq=False)
class RowSoFar:
    """What a default's callable may ask about the row that it computes a value for."""

    columns: Sequence["ColumnRole"]
    values: Sequence[Sequence[object]]
    number: int
    current_column: Column[Any]

    @property
    def current_parameters(self) -> dict[str, object]:
        """The other values of the row, by column key."""
        return {
            role.column.key: values[self.number]
            for role, values in zip(self.columns, self.values, strict=False)
            if values[self.number] is not None
        }

    def get_current_parameters(self, *, isolate_multiinsert_groups: bool = True) -> dict[str, object]:
        """Return the other values of the row, by column key."""
        return self.current_parameters if isolate_multiinsert_groups else dict(self.current_parameters)


Compute = Callable[[RowSoFar], object]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnRole:
    """How one column is written."""

    key: str
    """The attribute's name; empty for a column that is not mapped."""
    column: Column[Any]
    source: Source
    is_primary_key: bool
    absent: object
    """What is written if the object has no value: None, or SQL NULL for types in which None is a value."""
    given_none: ColumnElement[Any] | None = None
    """What is written for None that was given, where it is a value and a default stands for what was not given."""
    constant: object = None
    compute: Compute | None = None
    compares_plainly: bool = False
    """Whether two values of the type are equal if ``==`` says so."""

    @property
    def takes_none(self) -> bool:
        """Whether None is a value of the type, other than NULL."""
        return self.absent is not None


@dataclass(frozen=True, slots=True, eq=False)
class MapperColumns:
    """The columns of a mapper as a flush sees them."""

    roles: tuple[ColumnRole, ...]
    by_key: dict[str, ColumnRole]
    server: tuple[ColumnRole, ...]
    """Columns that the database fills if no value is given, except those it always fills."""
    required: frozenset[str]
    """Attributes of the primary key that nobody but the user can fill."""
    on_update: tuple[ColumnRole, ...]
    """Columns for which Python computes a value at every UPDATE."""
    unknown_after_update: tuple[str, ...]
    """Attributes that the database changes at every UPDATE."""
    fetched: tuple[ColumnRole, ...]
    """Columns whose values the database makes at INSERT if none is given: all candidates for RETURNING."""
    made_version: ColumnRole | None
    """The version column, if the database counts it."""
    numbered: Column[Any] | None
    """The column whose values the database counts up, if there is one and it can be relied on."""
    collections: tuple[str, ...]
    """Relations to many that are written."""


def columns_of(mapper: AnyMapper) -> MapperColumns:
    """Return the columns of *mapper* as a flush sees them."""
    found: MapperColumns | None = mapper.memo.get(MapperColumns)
    if found is None:
        found = mapper.memo[MapperColumns] = _work_out(mapper)
    return found


def _work_out(mapper: AnyMapper) -> MapperColumns:
    attributes = [each for each in mapper.column_attributes.values() if not each.is_read_only]
    mapped = {each.column for each in attributes}
    roles = tuple(
        [_role(each.column, each) for each in attributes]
        + [
            _role(column, None)
            for column in mapper.table.columns
            if column not in mapped
            and isinstance(column.default, ColumnDefault)
            and not column.default.is_clause_element
        ]
    )
    by_key = {role.key: role for role in roles if role.key}
    made_version = _made_version(mapper, by_key)
    return MapperColumns(
        roles=roles,
        by_key=by_key,
        server=tuple(role for role in roles if role.source is Source.SERVER),
        required=frozenset(role.key for role in roles if role.is_primary_key and role.source is Source.NOWHERE),
        on_update=tuple(_update_role(each) for each in attributes if _is_client_default(each.column.onupdate)),
        unknown_after_update=tuple(
            each.key
            for each in attributes
            if _changes_at_update(each.column) or (made_version is not None and each.key == made_version.key)
        ),
        made_version=made_version,
        fetched=tuple(role for role in roles if role.source in {Source.SERVER, Source.ALWAYS_SERVER}),
        numbered=numbered_column(mapper),
        collections=tuple(each.key for each in mapper.relationships.values() if each.uselist and not each.viewonly),
    )


def _made_version(mapper: AnyMapper, by_key: Mapping[str, ColumnRole]) -> ColumnRole | None:
    version = mapper.version_id
    if version is None or mapper.version_id_generator is not False:
        return None
    made_by: Any = version.column.server_default
    is_made = version.column.server_onupdate is not None or type(made_by) is FetchedValue or version.column.system
    return by_key[version.key] if is_made else None


def _role(column: Column[Any], attribute: ColumnAttribute | None) -> ColumnRole:
    default = column.default
    is_client = _is_client_default(default)
    has_none = bool(column.type.should_evaluate_none)
    has_default = default is not None or column.server_default is not None
    return ColumnRole(
        key="" if attribute is None else attribute.key,
        column=column,
        source=Source.CLIENT if is_client else _source(column),
        is_primary_key=attribute is not None and attribute.is_primary_key,
        absent=NULL if has_none and not has_default else None,
        given_none=literal(None, column.type) if has_none and has_default else None,
        constant=_constant(default),
        compute=_compute(default),
        compares_plainly=type(column.type).compare_values is TypeEngine.compare_values,
    )


def client_role(column: Column[Any]) -> ColumnRole | None:
    """Return how Python fills a column of a table that only connects two others; None if it does not."""
    return _role(column, None) if _is_client_default(column.default) else None


def _update_role(attribute: ColumnAttribute) -> ColumnRole:
    default = attribute.column.onupdate
    return ColumnRole(
        key=attribute.key,
        column=attribute.column,
        source=Source.CLIENT,
        is_primary_key=False,
        absent=None,
        constant=_constant(default),
        compute=_compute(default),
    )


def _is_client_default(default: object) -> bool:
    return isinstance(default, ColumnDefault) and not default.is_clause_element


def _constant(default: Any) -> object:
    return default.arg if _is_client_default(default) and default.is_scalar else None


def _compute(default: Any) -> Compute | None:
    return default.arg if _is_client_default(default) and default.is_callable else None


def _source(column: Column[Any]) -> Source:
    if column.computed is not None:
        return Source.ALWAYS_SERVER
    is_made = (
        column.server_default is not None
        or column.default is not None
        or column is core.autoincrement_column(column.table)
    )
    return Source.SERVER if is_made else Source.NOWHERE


def stored_default(column: Column[Any]) -> ColumnElement[Any]:
    """Return as SQL what the database puts into a column that gets no value; the column itself if that is unknown."""
    default: Any = column.default or column.server_default
    if isinstance(default, DatabaseSequence):
        return default.next_value()
    arg = getattr(default, "arg", None)
    if isinstance(arg, str):
        return literal_column("'" + arg.replace("'", "''") + "'")
    return column if arg is None else arg


def _changes_at_update(column: Column[Any]) -> bool:
    onupdate: Any = column.onupdate
    is_sql = onupdate is not None and not _is_client_default(onupdate)
    return is_sql or column.server_onupdate is not None or column.computed is not None


def numbered_column(mapper: AnyMapper) -> Column[Any] | None:
    """Return the key column that the database numbers in ascending order as rows are inserted, if it does."""
    column = core.autoincrement_column(mapper.table)
    if column is None or not isinstance(column.type, Integer) or column not in mapper.by_column:
        return None
    made_by: Any = column.identity or column.default or column.server_default
    if made_by is None:
        return column
    is_counter = isinstance(made_by, Identity | DatabaseSequence)
    return column if is_counter and (made_by.increment or 1) > 0 and not made_by.cycle else None
