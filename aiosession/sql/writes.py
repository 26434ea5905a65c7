"""Build the statements with which a flush writes rows: INSERT, UPDATE, DELETE for one table and column set.

Core builds and compiles each statement once per dialect; afterwards a write is only parameters. A statement exists in
two forms: for one row, with one parameter per column, and (where the database has arrays) for any number of rows, with
one array per column, so that one text serves every size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnClause,
    ColumnElement,
    Delete,
    Dialect,
    Float,
    Insert,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Update,
    any_,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy import Enum as EnumType
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.sql.elements import Null
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.sql.type_api import TypeEngine
from sqlalchemy.types import NullType

from aiosession import core
from aiosession.sql.schemas import SchemaMap, symbols
from aiosession.sql.types import Processor, bind_processor, result_processor

Columns: TypeAlias = tuple[Column[Any], ...]
Write: TypeAlias = Insert | Update | Delete
Guard: TypeAlias = ColumnElement[bool] | None
"""A condition for writing anything at all."""


class WriteKind(Enum):
    """What is done to a row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"

    __hash__ = object.__hash__  # Enum's own is written in Python; shapes are looked up for every batch


@dataclass(frozen=True, slots=True)
class WriteShape:
    """What distinguishes one write statement from another, apart from values.

    ``columns`` get new values, ``match`` are compared in WHERE; parameters are given in that order, columns first.
    """

    kind: WriteKind
    table: Table
    columns: Columns = ()
    match: Columns = ()
    returning: Columns = ()


@dataclass(frozen=True, slots=True)
class WriteStatement:
    """A compiled write: its text and how values become its parameters.

    ``order[i]`` is the place of the driver's i-th parameter among the columns of the shape; a *constant* is a parameter
    that the statement brings along itself (part of a SQL default).
    """

    sql: str
    inputs: Columns
    order: tuple[int | None, ...]
    constants: tuple[object, ...]
    processors: tuple[Processor | None, ...]
    result_processors: tuple[Processor | None, ...]

    def process(self, place: int, values: list[Any]) -> list[Any]:
        """Turn the values of the column at *place* into what the driver takes."""
        processor = self.processors[place]
        return values if processor is None else [processor(value) for value in values]

    def of_row(self, values: Sequence[Sequence[object]]) -> list[object]:
        """Return the parameters for one row from processed columns of one value each."""
        return [
            constant if place is None else values[place][0]
            for place, constant in zip(self.order, self.constants, strict=True)
        ]

    def of_columns(self, values: Sequence[Sequence[object]]) -> list[object]:
        """Return the parameters of the array form: the processed columns themselves."""
        return [
            constant if place is None else values[place]
            for place, constant in zip(self.order, self.constants, strict=True)
        ]

    def of_rows(self, values: Sequence[Sequence[object]], count: int) -> list[tuple[object, ...]]:
        """Return the parameters for *count* rows, one tuple each, from processed columns."""
        if not self.order:
            return [()] * count
        ordered = [
            [constant] * count if place is None else values[place]
            for place, constant in zip(self.order, self.constants, strict=True)
        ]
        return list(zip(*ordered, strict=True))

    def results(self, rows: Sequence[Sequence[object]]) -> list[tuple[object, ...]]:
        """Turn returned rows into Python values."""
        processors = self.result_processors
        if not any(processors):
            return [tuple(row) for row in rows]
        return [
            tuple(
                value if processor is None else processor(value)
                for processor, value in zip(processors, row, strict=True)
            )
            for row in rows
        ]


class WriteStatements:
    """The write statements of one dialect, each compiled at its first use."""

    def __init__(self, dialect: Dialect, schemas: SchemaMap | None = None) -> None:
        self.dialect: Final = dialect
        self.schemas: Final = schemas
        self.memo: Final[dict[object, Any]] = {}
        """What others have worked out for this dialect, by keys of their own."""
        self._rows: Final[dict[WriteShape, WriteStatement]] = {}
        self._arrays: Final[dict[WriteShape, WriteStatement | None]] = {}

    def for_row(self, shape: WriteShape) -> WriteStatement:
        """Return the form that writes one row."""
        found = self._rows.get(shape)
        if found is None:
            found = self._rows[shape] = self._compile(row_form(shape), shape)
        return found

    def for_arrays(self, shape: WriteShape) -> WriteStatement | None:
        """Return the form that takes one array per column; None if a type cannot travel in an array."""
        if shape not in self._arrays:
            inputs = shape.columns + shape.match
            possible = bool(inputs) and all(_fits_array(item.type, self.dialect) for item in inputs)
            self._arrays[shape] = self._compile(array_form(shape, self.dialect), shape) if possible else None
        return self._arrays[shape]

    def _compile(self, statement: Write, shape: WriteShape) -> WriteStatement:
        if shape.returning:
            statement = statement.returning(*shape.returning)
        compiled = core.compile_statement(self.dialect, statement, schema_translate_map=self.schemas)
        inputs = shape.columns + shape.match
        places = {parameter_name(place): place for place in range(len(inputs))}
        order = tuple(places.get(name) for name in core.positions(compiled))
        processed = compiled.construct_params(dict.fromkeys(places))
        own = core.bind_processors(compiled)
        return WriteStatement(
            sql=str(compiled),
            inputs=inputs,
            order=order,
            constants=tuple(
                None if name in places else constant_of(processed[name], own.get(name))
                for name in core.positions(compiled)
            ),
            processors=tuple(_input_processor(item.type, self.dialect) for item in inputs),
            result_processors=tuple(result_processor(item.type, self.dialect) for item in shape.returning),
        )


_known: Final[WeakKeyDictionary[Dialect, dict[object, WriteStatements]]] = WeakKeyDictionary()


def write_statements(dialect: Dialect, schemas: SchemaMap | None = None) -> WriteStatements:
    """Return the write statements of *dialect*, the same ones for as long as it lives; *schemas* are put in later."""
    by_schemas = _known.get(dialect)
    if by_schemas is None:
        by_schemas = _known[dialect] = {}
    key = None in schemas if schemas else None
    found = by_schemas.get(key)
    if found is None:
        found = by_schemas[key] = WriteStatements(dialect, symbols(schemas))
    return found


def parameter_name(place: int) -> str:
    """Return the name of a parameter of a write statement."""
    # Core reserves the names of columns in INSERT and UPDATE
    return f"aio_{place}"


def _input_processor(type_: TypeEngine[Any], dialect: Dialect) -> Processor | None:
    """Return how values of a column are converted; for types in which None is a value, ``null()`` is NULL."""
    processor = bind_processor(type_, dialect)
    if dialect.name == "sqlite" and isinstance(type_, Numeric | Float):
        return _without_nan(processor)
    if not type_.should_evaluate_none:
        return processor
    return lambda value: None if isinstance(value, Null) else value if processor is None else processor(value)


def _without_nan(processor: Processor | None) -> Processor:
    """Refuse NaN, which SQLite makes NULL without a word."""

    def process(value: Any) -> object:
        if value is not None and value != value:
            raise ValueError("SQLite has no NaN and would store NULL")
        return value if processor is None else processor(value)

    return process


def constant_of(value: object, processor: object) -> object:
    """Return what the driver gets for a value that a statement brings along itself."""
    return processor(value) if callable(processor) else value


# One row --------------------------------------------------------------------------------------------------------------


def row_form(shape: WriteShape, *, start: int = 0, guard: Guard = None) -> Write:
    """Return the statement that writes one row, if *guard* is true; parameters are numbered from *start*."""
    values = [bindparam(parameter_name(start + place), type_=item.type) for place, item in enumerate(_inputs(shape))]
    return _ROW[shape.kind](shape, values, guard)


def _inputs(shape: WriteShape) -> Columns:
    return shape.columns + shape.match


def _criteria(shape: WriteShape, values: Sequence[ColumnElement[Any]], guard: Guard) -> list[ColumnElement[bool]]:
    """Return the conditions for the rows that are written, whose values come last in *values*."""
    matched = values[len(shape.columns) :]
    criteria = [item == value for item, value in zip(shape.match, matched, strict=True)]
    return criteria if guard is None else [*criteria, guard]


def _insert_row(shape: WriteShape, values: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    given = dict(zip(shape.columns, values, strict=True))
    if guard is not None:
        given.update(_sql_defaults(shape))
        return insert(shape.table).from_select(
            list(given), select(*given.values()).where(guard), include_defaults=False
        )
    # inline: no key is fetched but what the shape asks for
    return insert(shape.table).values(given).inline()


def _update_row(shape: WriteShape, values: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    given = dict(zip(shape.columns, values, strict=False))
    return update(shape.table).values(given).where(*_criteria(shape, values, guard)).inline()


def _delete_row(shape: WriteShape, values: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    return delete(shape.table).where(*_criteria(shape, values, guard))


_ROW: Final[dict[WriteKind, Callable[[WriteShape, Sequence[ColumnElement[Any]], Guard], Write]]] = {
    WriteKind.INSERT: _insert_row,
    WriteKind.UPDATE: _update_row,
    WriteKind.DELETE: _delete_row,
}


# Any number of rows ---------------------------------------------------------------------------------------------------


def array_form(shape: WriteShape, dialect: Dialect, *, start: int = 0, guard: Guard = None) -> Write:
    """Return the statement that writes rows given as one array for each column, if *guard* is true."""
    arrays = [
        bindparam(parameter_name(start + place), type_=ARRAY(_element_type(item.type, dialect)))
        for place, item in enumerate(_inputs(shape))
    ]
    return _ARRAY[shape.kind](shape, arrays, guard)


def _rows_of(arrays: Sequence[ColumnElement[Any]], *, ordinality: str | None = None) -> NamedFromClause:
    names: list[ColumnClause[Any]] = [column(parameter_name(place)) for place in range(len(arrays))]
    return func.unnest(*arrays).table_valued(*names, with_ordinality=ordinality).render_derived(name="given")


def _insert_arrays(shape: WriteShape, arrays: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    # Rows are numbered and inserted in the order in which they were given: numbers that the database makes then follow
    # that order too, whatever the order in which RETURNING reports them.
    given = _rows_of(arrays, ordinality="aio_ordinality")
    values: dict[Column[Any], ColumnElement[Any]] = dict(zip(shape.columns, given.c, strict=False))
    values.update(_sql_defaults(shape))
    rows = select(*values.values()).order_by(given.c.aio_ordinality)
    if guard is not None:
        rows = rows.where(guard)
    return insert(shape.table).from_select(list(values), rows, include_defaults=False)


def _update_arrays(shape: WriteShape, arrays: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    columns = list(_rows_of(arrays).c)
    given = dict(zip(shape.columns, columns, strict=False))
    return update(shape.table).values(given).where(*_criteria(shape, columns, guard)).inline()


def _delete_arrays(shape: WriteShape, arrays: Sequence[ColumnElement[Any]], guard: Guard) -> Write:
    if len(shape.match) == 1:
        criteria = [shape.match[0] == any_(arrays[0])]
        return delete(shape.table).where(*(criteria if guard is None else [*criteria, guard]))
    return delete(shape.table).where(*_criteria(shape, list(_rows_of(arrays).c), guard))


_ARRAY: Final[dict[WriteKind, Callable[[WriteShape, Sequence[ColumnElement[Any]], Guard], Write]]] = {
    WriteKind.INSERT: _insert_arrays,
    WriteKind.UPDATE: _update_arrays,
    WriteKind.DELETE: _delete_arrays,
}


def _sql_defaults(shape: WriteShape) -> dict[Column[Any], ColumnElement[Any]]:
    """Return the SQL that Core would put in for the columns of the table that get no value."""
    found: dict[Column[Any], ColumnElement[Any]] = {}
    for item in shape.table.columns:
        default = item.default
        if item in shape.columns or default is None:
            continue
        if isinstance(default, DatabaseSequence):
            found[item] = default.next_value()
        elif default.is_clause_element:
            found[item] = default.arg  # type: ignore[attr-defined]  # that kind of default has it
    return found


# Types ----------------------------------------------------------------------------------------------------------------


def _plain(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type below any decorators."""
    while isinstance(type_, TypeDecorator):
        type_ = type_.load_dialect_impl(dialect)
    return type_.dialect_impl(dialect)


def _fits_array(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Tell whether values of *type_* can be the elements of one array parameter."""
    plain = _plain(type_, dialect)
    if core.has_bind_expression(type_) or isinstance(plain, NullType | ARRAY):
        return False
    # a cast to bit(n) cuts a value to its length without a word
    return not isinstance(plain, BIT) or plain.varying


def _element_type(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type to cast array elements to."""
    plain = _plain(type_, dialect)
    if isinstance(plain, EnumType):
        return type_ if plain.native_enum else String()
    if isinstance(plain, String) and plain.length is not None:
        # a cast to varchar(n) cuts a value to its length without a word; the column itself refuses it
        return String()
    return type_
