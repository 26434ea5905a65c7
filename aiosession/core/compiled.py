"""Compile statements, and read what came of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Column, Dialect, Table
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.type_api import TypeEngine

from aiosession.core.statements import CacheKey, with_value
from aiosession.core.types import Processor


def compile_statement(
    dialect: Dialect,
    statement: ClauseElement,
    *,
    key: CacheKey | None = None,
    column_keys: Sequence[str] | None = None,
    many: bool = False,
    schema_translate_map: Mapping[str | None, str | None] | None = None,
) -> SQLCompiler:
    """Compile *statement*; with *key*, the values in other statements of the same key can take the place of its own.

    With *schema_translate_map* there are symbols in place of schemas, the same ones whatever the names in it.
    """
    if many and getattr(statement, "_sort_by_parameter_order", False):
        # each row of parameters is sent by itself, so what it returns comes in their order
        statement = statement._generate()  # type: ignore[attr-defined]  # private in Core
        statement._sort_by_parameter_order = False  # type: ignore[attr-defined]  # as above
    return cast("Callable[..., SQLCompiler]", dialect.statement_compiler)(
        dialect,
        statement,
        cache_key=None if key is None else key.original,
        column_keys=None if column_keys is None else list(column_keys),
        for_executemany=many,
        schema_translate_map=schema_translate_map,
    )


def compile_ddl(
    dialect: Dialect,
    statement: ClauseElement,
    schema_translate_map: Mapping[str | None, str | None] | None = None,
    *,
    symbolic: bool = False,
) -> str:
    """Return the text of a DDL statement; if it is *symbolic*, with symbols in place of schemas."""
    compiled = cast("Callable[..., Compiled]", dialect.ddl_compiler)(
        dialect,
        statement,
        schema_translate_map=schema_translate_map,
        render_schema_translate=bool(schema_translate_map) and not symbolic,
    )
    return compiled.string or ""


def positions(compiled: SQLCompiler) -> tuple[str, ...]:
    """Return the names of the parameters in the order in which the driver takes them."""
    return tuple(compiled.positiontup or ())


def own_parameters(compiled: SQLCompiler) -> dict[str, BindParameter[object]]:
    """Return the parameters of the statement that was compiled, by name."""
    values = compiled._collected_params if compiled._collect_params else {}
    return {name: with_value(bind, values) if values else bind for bind, name in compiled.bind_names.items()}


def extracted_positions(compiled: SQLCompiler) -> dict[str, int]:
    """Return, for each parameter that comes from the cache key, its place among the key's parameters."""
    if compiled.cache_key is None or compiled._cache_key_bind_match is None:
        return {}
    matches = compiled._cache_key_bind_match[0]
    found: dict[str, int] = {}
    for place, original in enumerate(compiled.cache_key[1]):
        for bind in matches[original]:
            name = compiled.bind_names.get(bind)
            if name is not None:
                found[name] = place
    return found


def bind_processors(compiled: SQLCompiler) -> Mapping[str, Processor | Sequence[Processor | None]]:
    """Return what turns values into what the driver takes, by parameter name, where that is needed."""
    return cast("Mapping[str, Processor | Sequence[Processor | None]]", compiled._bind_processors)


def late_parameters(compiled: SQLCompiler) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the parameters that are expanded, and of those rendered as literals, at execution."""
    names = compiled.bind_names
    literal = frozenset(names[bind] for bind in compiled.literal_execute_params if bind in names)
    expanding = frozenset(names[bind] for bind in compiled.post_compile_params if bind in names)
    return expanding - literal, literal | {name for name in expanding if compiled.binds[name].literal_execute}


@dataclass(frozen=True, slots=True)
class Expansion:
    """The final form of a statement with expanding parameters, for one set of values."""

    sql: str
    positions: tuple[str, ...]
    expanded: Mapping[str, Sequence[str]]
    values: Mapping[str, object]
    processors: Mapping[str, Processor]


def expand(compiled: SQLCompiler, values: Mapping[str, object]) -> Expansion:
    """Render the expanding and literal parameters of *compiled* for *values* (by parameter name)."""
    escaped = compiled.escaped_bind_names
    given = {escaped.get(name, name): value for name, value in values.items()} if escaped else dict(values)
    state = compiled._process_parameters_for_postcompile(given)
    return Expansion(
        state.statement,
        tuple(state.positiontup or ()),
        state.parameter_expansion,
        state.parameters,
        cast("Mapping[str, Processor]", state.processors),
    )


@dataclass(frozen=True, slots=True)
class ResultEntry:
    """One column of a compiled statement's rows."""

    name: str
    objects: tuple[object, ...]
    type: TypeEngine[object]


def result_entries(compiled: SQLCompiler) -> tuple[bool, tuple[ResultEntry, ...]]:
    """Return the columns that *compiled* knows of its rows, and whether these are all of them and in this order."""
    entries = (ResultEntry(entry.keyname, entry.objects, entry.type) for entry in compiled._result_columns)
    return compiled._ordered_columns, tuple(entry for entry in entries if entry.name)


@dataclass(frozen=True, slots=True)
class ClientDefault:
    """A default that Python computes: the parameter it fills, the column, and the value or callable."""

    parameter: str
    column: Column[object]
    default: object
    on_update: bool


def client_defaults(compiled: SQLCompiler) -> tuple[ClientDefault, ...]:
    """Return the defaults that have to be computed before *compiled* is executed."""
    found = [(column, column.default, False) for column in compiled.insert_prefetch]
    found += [(column, column.onupdate, True) for column in compiled.update_prefetch]
    if not found:
        return ()
    name_of = compiled._within_exec_param_key_getter
    return tuple(ClientDefault(name_of(column), column, default, update) for column, default, update in found)


def insert_keys(compiled: SQLCompiler) -> tuple[tuple[Column[Any], str], ...]:
    """Return the primary key columns of the table that *compiled* inserts into, each with its parameter's name."""
    table = getattr(compiled.statement, "table", None)
    if not isinstance(table, Table):
        return ()
    name_of = compiled._within_exec_param_key_getter
    return tuple((column, name_of(column)) for column in table.primary_key)


def returns_rows(compiled: SQLCompiler) -> bool:
    """Tell whether the caller asked for rows (not only the database for generated keys)."""
    is_write = compiled.isinsert or compiled.isupdate or compiled.isdelete
    return not is_write or bool(getattr(compiled.statement, "_returning", ()))


def is_executable(statement: object) -> bool:
    """Tell whether *statement* can be sent to a database."""
    return bool(getattr(statement, "supports_execution", False))


def autoincrement_column(table: Table) -> Column[Any] | None:
    """Return the column that the database numbers by itself, if the table has one."""
    return table._autoincrement_column
