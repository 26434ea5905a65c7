"""Which schema does a table live in this time? Statements are compiled once, with symbols in place of schemas.

The names are put in when a statement is sent, so that any number of tenants share what was compiled.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from sqlalchemy import Dialect

from aiosession.errors import ArgumentError

SchemaMap: TypeAlias = Mapping[str | None, str | None]
"""The names that stand in for the schemas of tables; None for tables without one, and for the default schema."""

SYMBOLS: Final[SchemaMap] = {"": ""}
"""To compile with: symbols for the schemas of tables that have one."""
SYMBOLS_FOR_ALL: Final[SchemaMap] = {None: None}
"""To compile with: a symbol for the schema of every table, also of those without one."""

# Core's symbols.
_SYMBOL: Final = re.compile(r"__\[SCHEMA_([^\]]+)\]")
_NO_SCHEMA: Final = "_none"


def symbols(schemas: SchemaMap | None) -> SchemaMap | None:
    """Return what statements are compiled with that are sent with *schemas*; None if these say nothing."""
    if not schemas:
        return None
    return SYMBOLS_FOR_ALL if None in schemas else SYMBOLS


def checked_schemas(schemas: object) -> dict[str | None, str | None]:
    """Return a ``schema_translate_map``, if it is one whose names can be put into statements."""
    if not isinstance(schemas, Mapping):
        raise ArgumentError(f"schema_translate_map is a mapping from schemas to schemas, not {schemas!r}")
    for name, other in schemas.items():
        for each in (name, other):
            if each is not None and not (isinstance(each, str) and each):
                raise ArgumentError(f"schemas in schema_translate_map are names or None, not {each!r}")
        if other is not None and not {"'", "\0"}.isdisjoint(other):
            # names of sequences are parts of string literals
            raise ArgumentError(f"a schema cannot be called {other!r}: that has a quotation mark or a NUL in it")
    return dict(schemas)


class SchemaNames:
    """Puts the names of schemas into compiled statements, quoted as their database needs it."""

    __slots__ = ("_dialect", "_names", "_quoted")

    def __init__(self, schemas: SchemaMap, dialect: Dialect) -> None:
        self._dialect: Final = dialect
        self._names: Final = {_NO_SCHEMA if name is None else name: other for name, other in schemas.items()}
        self._quoted: Final[dict[str, str]] = {}

    def put_into(self, sql: str) -> str:
        """Return *sql* with names in place of symbols."""
        return _SYMBOL.sub(self._replace, sql)

    def _replace(self, symbol: "re.Match[str]") -> str:
        name = symbol[1]
        quoted = self._quoted.get(name)
        if quoted is None:
            quoted = self._quoted[name] = self._quote(name)
        return quoted

    def _quote(self, name: str) -> str:
        schema = self._names.get(name, name) or self._dialect.default_schema_name or ""
        longest = self._dialect.max_identifier_length
        if len(schema.encode()) > longest:
            raise ArgumentError(
                f"a schema cannot be called {schema!r}: {self._dialect.name} would cut that after {longest} bytes"
            )
        return self._dialect.identifier_preparer.quote_schema(schema)
