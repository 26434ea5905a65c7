"""Hold what one statement shape looks like on the wire: text, parameter order, conversions, result columns.

Pure and immutable once built; filling in values is a loop over slots prepared here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, cast

from sqlalchemy import CompoundSelect, Dialect, Select, TextClause, TextualSelect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter
from sqlalchemy.sql.sqltypes import NULLTYPE
from sqlalchemy.sql.type_api import TypeEngine

from aiosession import core, errors
from aiosession.sql import types
from aiosession.sql.defaults import DefaultValues
from aiosession.sql.expanding import ExpandingParameters

Processor = Callable[[object], object]
Parameters = Mapping[str, object]
Extracted = Sequence[BindParameter[object]]


class StatementKind(Enum):
    """What a statement does, as far as its construct tells."""

    SELECT = "SELECT"
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"
    DDL = "DDL"
    TEXT = "TEXT"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a statement's rows: its name, the objects that find it, and how its values are converted."""

    name: str
    objects: tuple[object, ...]
    type: TypeEngine[Any]
    processor: Processor | None


@dataclass(frozen=True, slots=True)
class ParameterSlot:
    """One parameter in the driver's order: where its value is found and how it is converted."""

    name: str
    key: str
    place: int  # among the cache key's parameters; -1 if it is not one of them
    own: BindParameter[object]
    processor: Processor | None
    is_required: bool


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Where one column of an inserted row's primary key is found: in the returned row, or among the bound values."""

    name: str
    returned: int
    bound: int
    processor: Processor | None


@dataclass(frozen=True, slots=True, eq=False)
class CompiledStatement:
    """A statement ready for one dialect; values are filled in by :meth:`bind` and :meth:`bind_many`.

    ``pure`` means that it only reads and needs no BEGIN. ``columns`` is empty where only the database knows them;
    ``named`` are then the columns of known type, which are found by their names.
    ``key_columns`` tell where an INSERT's primary key is found, and ``returns_keys`` that the database returns some of
    it although the caller did not ask for rows.
    """

    sql: str
    kind: StatementKind
    pure: bool
    returns_rows: bool
    columns: tuple[ResultColumn, ...]
    named: tuple[ResultColumn, ...] = ()
    slots: tuple[ParameterSlot, ...] = ()
    key_columns: tuple[KeyColumn, ...] = ()
    returns_keys: bool = False
    defaults: DefaultValues | None = None
    expanding: ExpandingParameters | None = None
    hide_parameters: bool = False
    memo: dict[object, object] = field(default_factory=dict, repr=False)
    """What higher layers derive from this statement and keep with it."""

    def bind(
        self, parameters: Parameters | None = None, extracted: Extracted | None = None
    ) -> tuple[str, tuple[object, ...]]:
        """Return the final text and the values in the driver's order; wrong values fail here, before any I/O."""
        if self.defaults is not None or self.expanding is not None:
            return self._bind_late(parameters, extracted)
        values: list[object] = []
        append = values.append
        for slot in self.slots:
            if parameters and (slot.key in parameters or slot.name in parameters):
                value = parameters[slot.key] if slot.key in parameters else parameters[slot.name]
            else:
                source = slot.own if extracted is None or slot.place < 0 else extracted[slot.place]
                value = source.value
                if value is None or slot.is_required:
                    value = self._absent(source)
            if slot.processor is None:
                append(value)
            else:
                try:
                    append(slot.processor(value))
                except Exception as error:
                    raise self._refused(slot, value, error) from error
        return self.sql, tuple(values)

    def bind_many(
        self, rows: Iterable[Parameters], extracted: Extracted | None = None
    ) -> tuple[str, list[tuple[object, ...]]]:
        """Return the text and, for each of *rows*, the values in the driver's order."""
        if self.expanding is not None:
            raise errors.InvalidRequestError("an IN list cannot be used in a statement that is executed for many rows")
        bound = []
        for number, row in enumerate(rows):
            try:
                bound.append(self.bind(row, extracted)[1])
            except errors.InvalidRequestError as error:
                raise errors.InvalidRequestError(f"row {number}: {error}") from error
        return self.sql, bound

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse values for columns that the statement does not have."""
        known = {slot.key for slot in self.slots} | {slot.name for slot in self.slots}
        for name in names:
            if name not in known:
                hint = errors.near(str(name), known)
                raise errors.ArgumentError(f"{name!r} is not a column or parameter of: {self.sql}{hint}")

    def process(self, rows: Sequence[Sequence[object]]) -> list[tuple[Any, ...]]:
        """Return *rows* from the driver with Python values.

        If nothing has to be converted these are the driver's own rows, which need not be tuples but behave like them.
        """
        return self.process_as(rows, self.columns)

    def with_names(self, names: Sequence[str]) -> tuple[ResultColumn, ...]:
        """Return the columns of rows that the database calls *names*; what nobody knows has no type of its own."""
        known = {column.name: column for column in self.named}
        return tuple(known.get(name) or ResultColumn(name, (), NULLTYPE, None) for name in names)

    def process_as(self, rows: Sequence[Sequence[object]], columns: Sequence[ResultColumn]) -> list[tuple[Any, ...]]:
        """Return *rows* of these *columns* from the driver with Python values, as `process` does."""
        busy = [(index, column.processor) for index, column in enumerate(columns) if column.processor is not None]
        if not busy:
            return cast("list[tuple[Any, ...]]", rows)
        processed = []
        index, value = 0, None
        try:
            for row in rows:
                values = list(row)
                for index, processor in busy:
                    value = values[index]
                    values[index] = processor(value)
                processed.append(tuple(values))
        except Exception as error:
            raise self._unreadable(columns[index].name, value, error) from error
        return processed

    def _unreadable(self, column: str, value: object, error: Exception) -> errors.DataError:
        """Return the error for a value in the database that its column's type cannot turn into Python's."""
        shown = f"a value of type {type(value).__name__}" if self.hide_parameters else repr(value)
        reason = ValueError(f"column {column!r} holds {shown}, which its type cannot read: {error}")
        return errors.DataError(self.sql, None, reason, hide_parameters=self.hide_parameters)

    def _bind_late(self, parameters: Parameters | None, extracted: Extracted | None) -> tuple[str, tuple[object, ...]]:
        """Bind a statement with client-side defaults or with parameters that change its text."""
        values = self._resolve(parameters or {}, extracted)
        if self.defaults is not None:
            self.defaults.apply(values)
        if self.expanding is not None:
            return self.expanding.bind(values, self._refuse)
        return self.sql, tuple([self._convert(slot, values[slot.name]) for slot in self.slots])

    def _resolve(self, parameters: Parameters, extracted: Extracted | None) -> dict[str, object]:
        values: dict[str, object] = {}
        for slot in self.slots:
            if slot.key in parameters:
                values[slot.name] = parameters[slot.key]
            elif slot.name in parameters:
                values[slot.name] = parameters[slot.name]
            else:
                source = slot.own if extracted is None or slot.place < 0 else extracted[slot.place]
                value = source.value
                values[slot.name] = self._absent(source) if value is None or slot.is_required else value
        return values

    def _convert(self, slot: ParameterSlot, value: object) -> object:
        if slot.processor is None:
            return value
        try:
            return slot.processor(value)
        except Exception as error:
            raise self._refused(slot, value, error) from error

    def _absent(self, bind: BindParameter[object]) -> object:
        """Return the value of a parameter whose stored value is None: NULL, computed, or missing."""
        if bind.required:
            wanted = ", ".join(sorted(repr(slot.key) for slot in self.slots if slot.own.required))
            raise errors.InvalidRequestError(
                f"no value was given for parameter {bind.key!r} of: {self.sql} (parameters without a value: {wanted})"
            )
        return bind.effective_value

    def _refused(self, slot: ParameterSlot, value: object, error: Exception) -> errors.DataError:
        return self._refuse(slot.name, value, error)

    def _refuse(self, key: str, value: object, error: Exception) -> errors.DataError:
        """Return the error for a value that its type does not take."""
        kind = type(value).__name__
        shown = f"a value of type {kind}" if self.hide_parameters else f"{value!r} ({kind}): {error}"
        reason = TypeError(f"parameter {key!r} cannot take {shown}")
        return errors.DataError(self.sql, (value,), reason, hide_parameters=self.hide_parameters)


def describe(
    compiled: SQLCompiler, dialect: Dialect, *, pure: bool, many: bool, hide_parameters: bool = False
) -> CompiledStatement:
    """Return what *compiled* looks like on the wire."""
    expanding, literal = core.late_parameters(compiled)
    is_ordered, entries = core.result_entries(compiled)
    columns = tuple(
        ResultColumn(entry.name, entry.objects, entry.type, types.result_processor(entry.type, dialect))
        for entry in entries
    )
    defaults = core.client_defaults(compiled)
    return CompiledStatement(
        sql=compiled.string or "",
        kind=_kind(compiled),
        pure=pure,
        returns_rows=core.returns_rows(compiled),
        columns=columns if is_ordered else (),
        named=() if is_ordered else columns,
        slots=_slots(compiled),
        key_columns=() if many else _key_columns(compiled, dialect),
        returns_keys=bool(compiled.implicit_returning) and not core.returns_rows(compiled),
        defaults=DefaultValues(defaults) if defaults else None,
        expanding=ExpandingParameters(compiled, literal) if expanding or literal else None,
        hide_parameters=hide_parameters,
    )


def ddl(sql: str) -> CompiledStatement:
    """Return a DDL statement."""
    return CompiledStatement(sql=sql, kind=StatementKind.DDL, pure=False, returns_rows=False, columns=())


def _slots(compiled: SQLCompiler) -> tuple[ParameterSlot, ...]:
    own = core.own_parameters(compiled)
    places = core.extracted_positions(compiled)
    processors = core.bind_processors(compiled)
    slots = []
    for name in core.positions(compiled):
        processor = processors.get(name)
        slots.append(
            ParameterSlot(
                name=name,
                key=own[name].key,
                place=places.get(name, -1),
                own=own[name],
                processor=processor if callable(processor) else None,
                is_required=own[name].required and name not in places,
            )
        )
    return tuple(slots)


def _key_columns(compiled: SQLCompiler, dialect: Dialect) -> tuple[KeyColumn, ...]:
    """Return where the primary key of the row that an INSERT writes is found."""
    if not compiled.isinsert or core.returns_rows(compiled):
        return ()
    returned = list(compiled.implicit_returning or ())
    positions = core.positions(compiled)
    found = []
    for column, parameter in core.insert_keys(compiled):
        place = next((i for i, each in enumerate(returned) if each is column), -1)
        bound = positions.index(parameter) if parameter in positions else -1
        found.append(KeyColumn(column.key, place, bound, types.result_processor(column.type, dialect)))
    return tuple(found) if all(key.returned >= 0 or key.bound >= 0 for key in found) else ()


_KINDS: Final[tuple[tuple[type, StatementKind], ...]] = (
    (TextClause, StatementKind.TEXT),
    (TextualSelect, StatementKind.TEXT),
    (Select, StatementKind.SELECT),
    (CompoundSelect, StatementKind.SELECT),
)


def _kind(compiled: SQLCompiler) -> StatementKind:
    if compiled.isinsert:
        return StatementKind.INSERT
    if compiled.isupdate:
        return StatementKind.UPDATE
    if compiled.isdelete:
        return StatementKind.DELETE
    return next((kind for type_, kind in _KINDS if isinstance(compiled.statement, type_)), StatementKind.OTHER)
