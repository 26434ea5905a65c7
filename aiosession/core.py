"""Our one contact with the private names of SQLAlchemy Core.

Everything that starts with an underscore in Core is used here and nowhere else, so that a new release of Core has one
page to check against.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Column, Dialect, MetaData, Select, Table
from sqlalchemy.sql.base import CompileState, ExecutableOption, Generative
from sqlalchemy.sql.cache_key import CacheKey as CoreCacheKey
from sqlalchemy.sql.cache_key import HasCacheKey
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.sql.ddl import SchemaDropper, SchemaGenerator
from sqlalchemy.sql.elements import BindParameter, ClauseElement, ColumnElement
from sqlalchemy.sql.selectable import ExecutableReturnsRows, SelectState
from sqlalchemy.sql.type_api import TypeEngine
from typing_extensions import override

ENTITY_ANNOTATION: Final = "aiosession_entity"
ENTITY_PLUGIN: Final = "aiosession"  # Core's name for who compiles statements that mention entities

C = TypeVar("C", bound=ClauseElement)
S = TypeVar("S", bound=ClauseElement)

Processor = Callable[[object], object]


# Annotations ----------------------------------------------------------------------------------------------------------


def annotate(clause: C, annotations: Mapping[str, object]) -> C:
    """Return a copy of *clause* that carries *annotations*; it compares and compiles like the original."""
    copy = clause._annotate(annotations)
    if ENTITY_ANNOTATION in annotations:
        copy._set_propagate_attrs({"compile_state_plugin": ENTITY_PLUGIN, "plugin_subject": None})
    return copy


def annotations_of(clause: object) -> Mapping[str, object]:
    """Return what :func:`annotate` attached to *clause*."""
    return cast("Mapping[str, object]", getattr(clause, "_annotations", {}))


def deannotate(clause: C) -> C:
    """Return *clause* without annotations."""
    return clause._deannotate()


def entity_of(clause: object) -> object | None:
    """Return the entity reference that *clause* (a table or column in a statement) belongs to, if any."""
    found = getattr(clause, "_annotations", None)
    return None if not found else found.get(ENTITY_ANNOTATION)


def proxy_key(clause: object) -> str | None:
    """Return the attribute name under which a column expression appears in results."""
    return cast("str | None", getattr(clause, "_proxy_key", None))


class CacheKeyed(HasCacheKey):
    """Something that appears in statements (as an annotation or join target) and takes part in their cache keys.

    With ``is_anonymous`` two instances count as the same if they sit in the same places of two statements.
    """

    __slots__ = ()
    is_anonymous = False

    def cache_facts(self) -> tuple[object, ...]:
        """Return what distinguishes this from others of its class: hashable values, clauses, other CacheKeyed."""
        raise NotImplementedError

    @override
    def _gen_cache_key(self, am: Any, bindparams: list[BindParameter[Any]]) -> tuple[object, ...]:
        place = am[id(self)] if self.is_anonymous else None
        return type(self), place, *_facts_key(self.cache_facts(), am, bindparams)


def _facts_key(facts: Iterable[object], anon_map: Any, bindparams: list[BindParameter[Any]]) -> Iterator[object]:
    for fact in facts:
        yield fact._gen_cache_key(anon_map, bindparams) if isinstance(fact, HasCacheKey) else fact


# Columns --------------------------------------------------------------------------------------------------------------


def copy_column(column: Column[Any]) -> Column[Any]:
    """Return a copy of *column* that belongs to no table."""
    return column._copy()


def complete_column(column: Column[Any], template: Column[Any]) -> None:
    """Give *column* everything that *template* says and *column* itself does not."""
    template._merge(column)


# Statements -----------------------------------------------------------------------------------------------------------


class CacheKey:
    """What makes two statements the same SQL, and the parameters in which they may differ."""

    __slots__ = ("key", "original", "parameters")

    def __init__(self, original: CoreCacheKey) -> None:
        self.key: Final[tuple[object, ...]] = original.key
        self.original: Final = original
        values = original.params
        self.parameters: Final[Sequence[BindParameter[object]]] = (
            original.bindparams if not values else [_with_value(bind, values) for bind in original.bindparams]
        )


def cache_key(statement: ClauseElement) -> CacheKey | None:
    """Return the cache key of *statement*, or None if part of it cannot be cached."""
    found = statement._generate_cache_key()
    return None if found is None else CacheKey(found)


def _with_value(bind: BindParameter[Any], values: Mapping[str, object]) -> BindParameter[object]:
    """Return *bind* with the value that ``statement.params()`` gave it."""
    if bind.key not in values:
        return bind
    replace = cast("Callable[..., BindParameter[object]]", bind._with_value)
    return replace(values[bind.key], maintain_key=True, required=False)


def raw_columns(select: Select[*tuple[object, ...]]) -> list[ClauseElement]:
    """Return what was given to ``select()``: columns, tables, entities."""
    return cast("list[ClauseElement]", list(select._raw_columns))


def with_options(statement: object) -> tuple[object, ...]:
    """Return what was given to ``options()``."""
    return cast("tuple[object, ...]", getattr(statement, "_with_options", ()))


def setup_joins(select: object) -> tuple[tuple[object, object, object, Mapping[str, bool]], ...]:
    """Return the joins of *select* as (target, on clause, left side, {"isouter", "full"})."""
    return cast("tuple[tuple[object, object, object, Mapping[str, bool]], ...]", getattr(select, "_setup_joins", ()))


def memoized_entities(select: Select[*tuple[object, ...]]) -> tuple[object, ...]:
    """Return the earlier column lists of a select whose columns were replaced after joins were added."""
    return cast("tuple[object, ...]", select._memoized_select_entities)


def from_objects(select: Select[*tuple[object, ...]]) -> tuple[object, ...]:
    """Return what was given to ``select_from()``."""
    return cast("tuple[object, ...]", select._from_obj)


def order_by_clauses(select: Select[*tuple[object, ...]]) -> tuple[ColumnElement[object], ...]:
    """Return the ORDER BY expressions."""
    return cast("tuple[ColumnElement[object], ...]", select._order_by_clauses)


def is_limited(select: Select[*tuple[object, ...]]) -> bool:
    """Tell whether *select* has LIMIT, OFFSET, FETCH or DISTINCT, so that joining collections changes its meaning."""
    return (
        select._limit_clause is not None
        or select._offset_clause is not None
        or select._fetch_clause is not None
        or bool(select._distinct)
        or bool(select._distinct_on)
    )


def is_grouped(select: Select[*tuple[object, ...]]) -> bool:
    """Tell whether *select* has GROUP BY or HAVING."""
    return bool(select._group_by_clauses) or bool(select._having_criteria)


def rewritten(
    select: S,
    *,
    columns: Sequence[object] | None = None,
    joins: Sequence[object] | None = None,
    order_by: Sequence[object] | None = None,
) -> S:
    """Return a copy of *select* in which the given parts are replaced as they are, without coercion."""
    copy = select._generate()  # type: ignore[attr-defined]  # private in Core
    if columns is not None:
        copy._raw_columns = list(columns)
    if joins is not None:
        copy._setup_joins = tuple(joins)
        copy._memoized_select_entities = ()
    if order_by is not None:
        copy._order_by_clauses = tuple(order_by)
    return cast(S, copy)


def statement_options(statement: object) -> Mapping[str, object]:
    """Return the execution options of *statement*."""
    return cast("Mapping[str, object]", getattr(statement, "_execution_options", {}))


def for_update(statement: object) -> object | None:
    """Return the FOR UPDATE argument of *statement*, if it locks rows."""
    return cast("object | None", getattr(statement, "_for_update_arg", None))


# Types ----------------------------------------------------------------------------------------------------------------


def bind_processor(type_: TypeEngine[object], dialect: Dialect) -> Processor | None:
    """Return what turns a Python value into what the driver takes, or None if nothing need be done."""
    return type_._cached_bind_processor(dialect)


def result_processor(type_: TypeEngine[object], dialect: Dialect, driver_type: object = None) -> Processor | None:
    """Return what turns a driver's value into the Python value, or None if nothing need be done."""
    return type_._cached_result_processor(dialect, driver_type)


def has_bind_expression(type_: TypeEngine[object]) -> bool:
    """Tell whether parameters of this type are wrapped in a SQL expression."""
    return type_._has_bind_expression


def expressions(clauses: Iterable[object]) -> list[ColumnElement[object]]:
    """Return the columns that *clauses* (tables, columns, subqueries) select."""
    found: list[ColumnElement[object]] = []
    for clause in clauses:
        found.extend(clause._select_iterable)  # type: ignore[attr-defined]  # private in Core
    return found


# Compiled statements --------------------------------------------------------------------------------------------------


def compile_statement(
    dialect: Dialect,
    statement: ClauseElement,
    *,
    key: CacheKey | None = None,
    column_keys: Sequence[str] | None = None,
    many: bool = False,
    schema_translate_map: Mapping[str | None, str | None] | None = None,
) -> SQLCompiler:
    """Compile *statement*; with *key*, the values in other statements of the same key can take the place of its own."""
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
        render_schema_translate=bool(schema_translate_map),
    )


def compile_ddl(
    dialect: Dialect,
    statement: ClauseElement,
    schema_translate_map: Mapping[str | None, str | None] | None = None,
) -> str:
    """Return the text of a DDL statement."""
    compiled = cast("Callable[..., Compiled]", dialect.ddl_compiler)(
        dialect,
        statement,
        schema_translate_map=schema_translate_map,
        render_schema_translate=bool(schema_translate_map),
    )
    return compiled.string or ""


def positions(compiled: SQLCompiler) -> tuple[str, ...]:
    """Return the names of the parameters in the order in which the driver takes them."""
    return tuple(compiled.positiontup or ())


def own_parameters(compiled: SQLCompiler) -> dict[str, BindParameter[object]]:
    """Return the parameters of the statement that was compiled, by name."""
    values = compiled._collected_params if compiled._collect_params else {}
    return {name: _with_value(bind, values) if values else bind for bind, name in compiled.bind_names.items()}


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


# Schema ---------------------------------------------------------------------------------------------------------------


class _DDLRecorder:
    """Stands in for a connection while Core works out the statements for a schema; it keeps them."""

    def __init__(self, dialect: Dialect, schema_translate_map: Mapping[str | None, str | None]) -> None:
        self.dialect: Final = dialect
        self.name: Final = dialect.name
        self.statements: Final[list[ClauseElement]] = []
        self._schemas: Final = schema_translate_map

    @property
    def engine(self) -> "_DDLRecorder":
        return self

    def schema_for_object(self, element: Any) -> str | None:
        schema = cast("str | None", element.schema)
        return self._schemas.get(schema, schema)

    def execute(self, statement: ClauseElement, *_parameters: object, **_options: object) -> None:
        self.statements.append(statement)

    def _run_ddl_visitor(self, visitor: Callable[..., Any], element: object, **options: Any) -> None:
        options["checkfirst"] = False
        visitor(dialect=self.dialect, connection=self, **options).traverse_single(element)


def schema_statements(
    dialect: Dialect,
    metadata: MetaData,
    tables: Sequence[Table],
    *,
    drop: bool = False,
    schema_translate_map: Mapping[str | None, str | None] | None = None,
) -> list[ClauseElement]:
    """Return the DDL, in order, that creates or drops *tables* and the types and sequences of *metadata*."""
    recorder = _DDLRecorder(dialect, schema_translate_map or {})
    visitor = SchemaDropper if drop else SchemaGenerator
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Can't sort tables for DROP")
        recorder._run_ddl_visitor(visitor, metadata, tables=list(tables))
    return recorder.statements


# SELECTs that mention entities ----------------------------------------------------------------------------------------

AnySelect = Select[*tuple[Any, ...]]
_expansions: Final[list[Callable[[AnySelect], AnySelect]]] = []


def expand_selects_with(expansion: Callable[[AnySelect], AnySelect]) -> None:
    """Pass every SELECT that mentions an entity through *expansion* when it is compiled, wherever it is nested."""
    _expansions.append(expansion)


def mentions_entity(statement: object) -> bool:
    """Tell whether something annotated as an entity was given to *statement*."""
    return bool(getattr(statement, "_propagate_attrs", None))


@CompileState.plugin_for(ENTITY_PLUGIN, "select")
class EntitySelectState(SelectState):
    """What Core compiles in place of a SELECT that mentions entities."""

    def __init__(self, statement: AnySelect, compiler: SQLCompiler, **options: Any) -> None:
        for expansion in _expansions:
            statement = expansion(statement)
        super().__init__(statement, compiler, **options)

    @classmethod
    @override
    def from_statement(cls, statement: AnySelect, from_statement: Any) -> "EntitiesFrom":
        return EntitiesFrom(statement, from_statement)


class EntitiesFrom(ExecutableReturnsRows, Generative, ClauseElement):
    """``select(User).from_statement(text(...))``: the entities of one statement from the rows of another."""

    __visit_name__ = "aiosession_entities_from"

    def __init__(self, entities: AnySelect, rows: ClauseElement) -> None:
        self.entities: Final = entities
        self.rows: Final = rows


def returning_columns(statement: object) -> list[ClauseElement]:
    """Return what was given to ``returning()``: columns, tables, entities."""
    return list(getattr(statement, "_returning", ()))


class StatementOption(ExecutableOption):
    """Something for ``statement.options()`` that is part of the statement's cache key."""

    _is_has_cache_key = True

    def cache_facts(self) -> tuple[object, ...]:
        """Return what distinguishes this option from others: hashable values, clauses, CacheKeyed."""
        raise NotImplementedError

    def _gen_cache_key(self, anon_map: Any, bindparams: list[BindParameter[Any]]) -> tuple[object, ...]:
        return type(self), *_facts_key(self.cache_facts(), anon_map, bindparams)
