"""Create and drop what a `MetaData` describes: tables, indexes, enum types, sequences, comments.

Core works out the statements and their order; what exists already is asked here, in one query.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Dialect, MetaData, Table
from sqlalchemy.exc import CircularDependencyError as CoreCircularDependencyError
from sqlalchemy.schema import CreateSequence, DropSequence, ExecutableDDLElement
from sqlalchemy.sql.elements import ClauseElement

from aiosession import core, errors
from aiosession.engine.wire import EngineConnection
from aiosession.sql.schemas import SchemaMap

_POSTGRESQL: Final = """
SELECT 'relation', n.nspname, c.relname, pg_catalog.pg_table_is_visible(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relname = ANY ($1::text[])
UNION ALL
SELECT 'type', n.nspname, t.typname, pg_catalog.pg_type_is_visible(t.oid)
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'c') AND t.typname = ANY ($1::text[])
"""
_MARIADB: Final = """
SELECT table_schema, table_name, table_schema = DATABASE()
FROM information_schema.tables WHERE table_schema IN ({})
"""


@dataclass(frozen=True, slots=True)
class _Existing:
    """The names that are taken in a database: (schema, name), schema None for what is found without one."""

    relations: set[tuple[str | None, str]] = field(default_factory=set)
    types: set[tuple[str | None, str]] = field(default_factory=set)


async def create_all(
    wire: EngineConnection,
    dialect: Dialect,
    metadata: MetaData,
    tables: Sequence[Table] | None,
    *,
    checkfirst: bool,
    schemas: SchemaMap,
) -> None:
    """Create the tables of *metadata* (or only some) with all that belongs to them; skip what exists if asked to."""
    chosen = _chosen(metadata, tables)
    existing = await _existing(wire, dialect, metadata, chosen, schemas) if checkfirst else _Existing()
    missing = [table for table in chosen if _name(table, schemas) not in existing.relations]
    statements = core.schema_statements(dialect, metadata, missing, schema_translate_map=schemas)
    for statement in statements:
        if not _is_there(statement, existing, schemas):
            await wire.script(_text(dialect, statement, schemas))


async def drop_all(
    wire: EngineConnection,
    dialect: Dialect,
    metadata: MetaData,
    tables: Sequence[Table] | None,
    *,
    checkfirst: bool,
    schemas: SchemaMap,
) -> None:
    """Drop the tables of *metadata* (or only some) with their types and sequences; skip what is not there if asked."""
    chosen = _chosen(metadata, tables)
    existing = await _existing(wire, dialect, metadata, chosen, schemas) if checkfirst else _Existing()
    present = [table for table in chosen if not checkfirst or _name(table, schemas) in existing.relations]
    try:
        statements = core.schema_statements(dialect, metadata, present, drop=True, schema_translate_map=schemas)
    except CoreCircularDependencyError as error:
        raise errors.CircularDependencyError(
            f"tables that refer to each other are dropped by dropping their foreign keys first, which need names "
            f"for that: {error}"
        ) from error
    if dialect.name == "sqlite":
        await wire.script("PRAGMA defer_foreign_keys = ON")
    needed = _types_of_others(dialect, metadata, chosen)
    for statement in statements:
        if _type_name(statement) in needed or (checkfirst and _is_there(statement, existing, schemas) is False):
            continue
        await wire.script(_text(dialect, statement, schemas))


def _chosen(metadata: MetaData, tables: Sequence[Table] | None) -> list[Table]:
    if tables is None:
        return list(metadata.tables.values())
    for table in tables:
        if not isinstance(table, Table):
            raise errors.ArgumentError(f"tables are Table objects, not {table!r}; of a mapped class take `.__table__`")
        if table.metadata is not metadata:
            raise errors.ArgumentError(f"table {table.fullname!r} belongs to other metadata")
    return list(tables)


def _text(dialect: Dialect, statement: ClauseElement, schemas: SchemaMap) -> str:
    text = core.compile_ddl(dialect, statement, schemas or None).strip()
    # a script has no places for parameters, for whose sake Core doubles percent signs
    return text % () if dialect.paramstyle == "format" else text


def _is_there(statement: ClauseElement, existing: _Existing, schemas: SchemaMap) -> bool | None:
    """Tell whether the type or sequence that *statement* is about exists; None if it is about something else."""
    element = getattr(statement, "element", None)
    if element is None or not isinstance(statement, ExecutableDDLElement):
        return None
    if isinstance(statement, CreateSequence | DropSequence):
        return _name(element, schemas) in existing.relations
    return None if _type_name(statement) is None else _name(element, schemas) in existing.types


def _type_name(statement: ClauseElement) -> tuple[str | None, str] | None:
    """Return the schema and name of the type that *statement* creates or drops; None if it is about something else."""
    if type(statement).__name__ not in _TYPE_STATEMENTS:
        return None
    return _name(getattr(statement, "element", None), {})


def _types_of_others(dialect: Dialect, metadata: MetaData, dropped: Sequence[Table]) -> set[tuple[str | None, str]]:
    """Return the types that tables other than those *dropped* go on using."""
    others = [table for table in metadata.tables.values() if table not in dropped]
    if not others:
        return set()
    return {
        name
        for statement in core.schema_statements(dialect, metadata, others)
        if (name := _type_name(statement)) is not None
    }


_TYPE_STATEMENTS: Final = frozenset({"CreateEnumType", "DropEnumType", "CreateDomainType", "DropDomainType"})


def _name(element: object, schemas: SchemaMap) -> tuple[str | None, str]:
    schema = getattr(element, "schema", None)
    return schemas.get(schema, schema), str(getattr(element, "name", ""))


async def _existing(
    wire: EngineConnection, dialect: Dialect, metadata: MetaData, tables: Iterable[Table], schemas: SchemaMap
) -> _Existing:
    """Return which of the names that matter are taken."""
    if dialect.name == "postgresql":
        return await _existing_in_postgresql(wire, _names(dialect, metadata, list(tables)))
    used = {_name(table, schemas)[0] for table in tables}
    if dialect.name in ("mariadb", "mysql"):
        return await _existing_in_mariadb(wire, used)
    return await _existing_in_sqlite(wire, used)


def _names(dialect: Dialect, metadata: MetaData, tables: Sequence[Table]) -> list[str]:
    """Return the names of everything that creating *tables* would make."""
    names = {table.name for table in tables}
    for statement in core.schema_statements(dialect, metadata, tables):
        element = getattr(statement, "element", None)
        names.add(str(getattr(element, "name", "")))
    return sorted(names)


async def _existing_in_postgresql(wire: EngineConnection, names: list[str]) -> _Existing:
    found = _Existing()
    for kind, schema, name, is_visible in await wire.fetch(_POSTGRESQL, (names,)):
        taken = found.relations if kind == "relation" else found.types
        taken.add((str(schema), str(name)))
        if is_visible:
            taken.add((None, str(name)))
    return found


async def _existing_in_mariadb(wire: EngineConnection, schemas: Iterable[str | None]) -> _Existing:
    found = _Existing()
    named = [schema for schema in schemas if schema is not None]
    places = ", ".join(["DATABASE()", *("%s" for _ in named)])
    for schema, name, is_visible in await wire.fetch(_MARIADB.format(places), named):
        found.relations.add((str(schema), str(name)))
        if is_visible:
            found.relations.add((None, str(name)))
    return found


async def _existing_in_sqlite(wire: EngineConnection, schemas: Iterable[str | None]) -> _Existing:
    found = _Existing()
    for schema in schemas:
        prefix = "" if schema is None else '"{}".'.format(schema.replace('"', '""'))
        sql = f"SELECT name FROM {prefix}sqlite_master WHERE type IN ('table', 'view')"
        for (name,) in await wire.fetch(sql):
            found.relations.add((schema, str(name)))
    return found
