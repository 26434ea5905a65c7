"""Find the compiled form of a statement: by identity, then by Core's cache key, else compile it."""

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Dialect, select
from sqlalchemy import Sequence as DatabaseSequence
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.dml import ValuesBase
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.functions import FunctionElement

from aiosession import core, errors
from aiosession.sql.compiled import CompiledStatement, ddl, describe
from aiosession.sql.purity import is_pure
from aiosession.sql.schemas import SchemaMap, symbols

Extracted = Sequence[BindParameter[object]]


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier look-up of the very same statement object found."""

    statement: "weakref.ref[object]"
    compiled: CompiledStatement
    extracted: Extracted | None


class StatementCache:
    """Compiled statements of one dialect; bounded, the least recently used shape goes first.

    With *schemas* everything compiled here has symbols in place of schemas.
    """

    def __init__(
        self, dialect: Dialect, size: int = 500, *, hide_parameters: bool = False, schemas: SchemaMap | None = None
    ) -> None:
        self.dialect: Final = dialect
        self.size: Final = size
        self.hide_parameters: Final = hide_parameters
        self.schemas: Final = schemas
        self._variants: dict[bool | None, StatementCache] = {_kind(schemas): self}
        self._shapes: Final[OrderedDict[tuple[object, ...], CompiledStatement]] = OrderedDict()
        self._known: Final[dict[tuple[object, ...] | int, _Known]] = {}

    def __len__(self) -> int:
        return len(self._shapes)

    def for_schemas(self, schemas: SchemaMap | None) -> "StatementCache":
        """Return the cache for statements into which names of schemas are put: one for all names."""
        kind = _kind(schemas)
        found = self._variants.get(kind)
        if found is None:
            chosen = symbols(schemas)
            found = StatementCache(self.dialect, self.size, hide_parameters=self.hide_parameters, schemas=chosen)
            found._variants = self._variants
            self._variants[kind] = found
        return found

    def clear(self) -> None:
        """Forget every compiled statement."""
        self._shapes.clear()
        self._known.clear()

    def compile(
        self,
        statement: object,
        *,
        column_keys: Sequence[str] | None = None,
        many: bool = False,
        schema_translate_map: SchemaMap | None = None,
    ) -> tuple[CompiledStatement, Extracted | None]:
        """Return the compiled form of *statement* and the parameters of its own that go into ``bind()``.

        *column_keys* names the columns that values will be given for (only INSERT and UPDATE look at it); *many* says
        that it will be executed once per row of a list. With *schema_translate_map* the text has symbols in place of
        schemas, for which names are put in when it is sent.
        """
        if not isinstance(statement, ValuesBase):
            column_keys = None
        elif column_keys is None:
            column_keys = ()  # only what the statement itself gives values for: perhaps DEFAULT VALUES
        schema_translate_map = self.schemas if schema_translate_map is None else symbols(schema_translate_map)
        identity: tuple[object, ...] | int = id(statement)
        if column_keys is not None or many or schema_translate_map:
            identity = (identity, *_variant(column_keys, many, schema_translate_map))
        known = self._known.get(identity)
        if known is not None and known.statement() is statement:
            return known.compiled, known.extracted
        compiled, extracted = self._find(_executable(statement), column_keys, many, schema_translate_map)
        self._remember(identity, statement, compiled, extracted)
        return compiled, extracted

    def _find(
        self,
        statement: ClauseElement,
        column_keys: Sequence[str] | None,
        many: bool,  # noqa: FBT001 - private, always passed by position
        schema_translate_map: SchemaMap | None,
    ) -> tuple[CompiledStatement, Extracted | None]:
        if isinstance(statement, ExecutableDDLElement):
            return ddl(self._ddl(statement, schema_translate_map)), None
        key = core.cache_key(statement)
        if key is None:
            return self._compile(statement, None, column_keys, many, schema_translate_map), None
        shape = (key.key, *_variant(column_keys, many, schema_translate_map))
        found = self._shapes.get(shape)
        if found is None:
            found = self._shapes[shape] = self._compile(statement, key, column_keys, many, schema_translate_map)
            if len(self._shapes) > self.size:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(shape)
        return found, key.parameters

    def _compile(
        self,
        statement: ClauseElement,
        key: core.CacheKey | None,
        column_keys: Sequence[str] | None,
        many: bool,  # noqa: FBT001 - private, always passed by position
        schema_translate_map: SchemaMap | None,
    ) -> CompiledStatement:
        try:
            compiled = core.compile_statement(
                self.dialect,
                statement,
                key=key,
                column_keys=column_keys,
                many=many,
                schema_translate_map=schema_translate_map,
            )
        except errors.AioSessionError:
            raise
        except SQLAlchemyError as error:
            raise errors.ArgumentError(f"this statement cannot be compiled: {error}") from error
        found = describe(
            compiled, self.dialect, pure=is_pure(statement), many=many, hide_parameters=self.hide_parameters
        )
        if column_keys:
            found.check_names(column_keys)
        return found

    def _ddl(self, statement: ExecutableDDLElement, schema_translate_map: SchemaMap | None) -> str:
        try:
            return core.compile_ddl(self.dialect, statement, schema_translate_map, symbolic=True)
        except SQLAlchemyError as error:
            raise errors.ArgumentError(f"this DDL cannot be compiled: {error}") from error

    def _remember(
        self,
        identity: tuple[object, ...] | int,
        statement: object,
        compiled: CompiledStatement,
        extracted: Extracted | None,
    ) -> None:
        known = self._known

        def forget(gone: "weakref.ref[object]") -> None:
            entry = known.get(identity)
            if entry is not None and entry.statement is gone:
                del known[identity]

        known[identity] = _Known(weakref.ref(statement, forget), compiled, extracted)


def _variant(
    column_keys: Sequence[str] | None,
    many: bool,  # noqa: FBT001 - private, always passed by position
    schema_translate_map: SchemaMap | None,
) -> tuple[object, ...]:
    """Return what else than the statement itself decides about its text."""
    keys = None if column_keys is None else tuple(column_keys)
    return keys, many, _kind(schema_translate_map)


def _kind(schemas: SchemaMap | None) -> bool | None:
    """Return whether tables without a schema get a symbol; None if no table does."""
    return None in schemas if schemas else None


def _executable(statement: object) -> ClauseElement:
    """Return *statement* as something that compiles, or say why it does not."""
    if isinstance(statement, DatabaseSequence):
        return select(statement.next_value())
    if isinstance(statement, FunctionElement):
        return select(statement)
    if isinstance(statement, ClauseElement) and (
        statement.is_selectable or getattr(statement, "is_text", False) or core.is_executable(statement)
    ):
        return statement
    if isinstance(statement, str):
        raise errors.ArgumentError(f"a plain string is not executed as SQL; wrap it: text({statement[:60]!r})")
    raise errors.ArgumentError(f"not an executable statement: {statement!r}")
