"""The statements that create and drop tables."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from sqlalchemy import Dialect, MetaData, Table
from sqlalchemy.sql.ddl import SchemaDropper, SchemaGenerator
from sqlalchemy.sql.elements import ClauseElement


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
