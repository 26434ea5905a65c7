"""Run one Core statement on a wire: compile, bind, send, shape the result."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aiosession import errors
from aiosession.drivers.protocol import Row as DriverRow
from aiosession.drivers.protocol import Wire
from aiosession.engine.result import NOT_ROWS, Result, Values
from aiosession.engine.row import ResultShape, Row
from aiosession.engine.streaming import AsyncResult, Origin, RowSource
from aiosession.engine.wire import EngineConnection
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import CompiledStatement, StatementKind
from aiosession.sql.schemas import SchemaMap, SchemaNames

OneRow = Mapping[str, Any]
Parameters = OneRow | Sequence[OneRow]

DEFAULT_CHUNK: Final = 1000
"""Rows that a streamed result reads at a time unless told otherwise."""

_KEY_SHAPE: Final = "shape of the primary key"

AnyRow = Row[*tuple[Any, ...]]
AnyResult = Result[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Call:
    """A statement with its values, ready to be sent."""

    compiled: CompiledStatement
    sql: str
    values: tuple[object, ...] = ()
    rows: list[tuple[object, ...]] | None = field(default=None)
    """The values of each execution, if there are several."""


def prepare(
    statements: StatementCache,
    statement: object,
    parameters: Parameters | None = None,
    *,
    schema_translate_map: SchemaMap | None = None,
) -> Call:
    """Return *statement* with its values in the driver's types; wrong ones fail here, before any I/O."""
    call = _bound(statements, statement, parameters, schema_translate_map)
    if not schema_translate_map:
        return call
    return replace(call, sql=SchemaNames(schema_translate_map, statements.dialect).put_into(call.sql))


def _bound(
    statements: StatementCache, statement: object, parameters: Parameters | None, schemas: SchemaMap | None
) -> Call:
    if not parameters:
        compiled, extracted = statements.compile(statement, schema_translate_map=schemas)
        sql, values = compiled.bind(None, extracted)
        return Call(compiled, sql, values)
    if isinstance(parameters, Mapping):
        compiled, extracted = statements.compile(
            statement, column_keys=_names(parameters), schema_translate_map=schemas
        )
        sql, values = compiled.bind(parameters, extracted)
        return Call(compiled, sql, values)
    rows = _checked_rows(parameters)
    compiled, extracted = statements.compile(
        statement, column_keys=_names(rows[0]), many=len(rows) > 1, schema_translate_map=schemas
    )
    sql, bound = compiled.bind_many(rows, extracted)
    return Call(compiled, sql, rows=bound) if len(rows) > 1 else Call(compiled, sql, bound[0])


async def send(wire: Wire, call: Call) -> AnyResult:
    """Send *call* and return its result."""
    compiled = call.compiled
    if call.rows is not None:
        return await _send_many(wire, call, call.rows)
    if compiled.kind is StatementKind.DDL and isinstance(wire, EngineConnection):
        await wire.script(call.sql)
        return Result(NOT_ROWS, (), rowcount=-1, without_rows=call.sql)
    if not compiled.columns and (compiled.returns_rows or compiled.kind is StatementKind.TEXT):
        return await _send_unordered(wire, call)
    if compiled.returns_rows:
        rows = await wire.fetch(call.sql, call.values)
        return Result(shape_of(compiled), compiled.process(rows))
    if compiled.returns_keys:
        returned = await wire.fetch(call.sql, call.values)
        key = _inserted_key(compiled, call.values, returned[0]) if len(returned) == 1 else None
        return Result(NOT_ROWS, (), rowcount=len(returned), inserted_primary_key=key, without_rows=call.sql)
    count = await wire.execute(call.sql, call.values)
    key = _inserted_key(compiled, call.values, ()) if compiled.key_columns else None
    return Result(NOT_ROWS, (), rowcount=count, inserted_primary_key=key, without_rows=call.sql)


async def _send_unordered(wire: Wire, call: Call) -> AnyResult:
    """Send a statement of which only the database knows all columns."""
    reply = await wire.run(call.sql, call.values)
    if reply.columns is None:
        return Result(NOT_ROWS, (), rowcount=reply.count, without_rows=call.sql)
    columns = call.compiled.with_names(reply.columns)
    shape = ResultShape(reply.columns, [column.objects for column in columns])
    return Result(shape, call.compiled.process_as(reply.rows, columns), rowcount=reply.count)


async def send_text(wire: Wire, sql: str, values: Sequence[object]) -> AnyResult:
    """Send SQL of which nothing is known beforehand and return its result; a list of tuples is many executions."""
    rows = [row for row in values if isinstance(row, tuple)] if isinstance(values, list) else []
    if rows and len(rows) == len(values):
        count = await wire.execute_many(sql, rows)
        return Result(NOT_ROWS, (), rowcount=count, without_rows=sql)
    reply = await wire.run(sql, values)
    if reply.columns is None:
        return Result(NOT_ROWS, (), rowcount=reply.count, without_rows=sql)
    return Result(ResultShape(reply.columns), reply.rows, rowcount=reply.count)


def shape_of(compiled: CompiledStatement) -> ResultShape:
    """Return the shape of a statement's rows, made once."""
    found = compiled.memo.get(ResultShape)
    if isinstance(found, ResultShape):
        return found
    columns = compiled.columns
    shape = ResultShape([column.name for column in columns], [column.objects for column in columns])
    compiled.memo[ResultShape] = shape
    return shape


async def _send_many(wire: Wire, call: Call, rows: list[tuple[object, ...]]) -> AnyResult:
    compiled = call.compiled
    if not compiled.returns_rows:
        count = await wire.execute_many(call.sql, rows)
        return Result(NOT_ROWS, (), rowcount=count, without_rows=call.sql)
    if compiled.kind in (StatementKind.SELECT, StatementKind.TEXT):
        if compiled.kind is StatementKind.TEXT:
            count = await wire.execute_many(call.sql, rows)
            return Result(NOT_ROWS, (), rowcount=count, without_rows=call.sql)
        raise errors.InvalidRequestError("a SELECT is executed with one set of parameters, not with a list of them")
    replies = await wire.fetch_each(call.sql, rows)
    flat = [row for reply in replies for row in reply]
    return Result(shape_of(compiled), compiled.process(flat))


def _inserted_key(compiled: CompiledStatement, values: Sequence[object], returned: DriverRow) -> AnyRow | None:
    """Return the primary key of an inserted row, from what the database returned and what was sent."""
    if not compiled.key_columns:
        return None
    key = []
    for column in compiled.key_columns:
        value = returned[column.returned] if column.returned >= 0 else values[column.bound]
        key.append(value if column.processor is None else column.processor(value))
    shape = compiled.memo.get(_KEY_SHAPE)
    if not isinstance(shape, ResultShape):
        shape = compiled.memo[_KEY_SHAPE] = ResultShape(column.name for column in compiled.key_columns)
    return shape.row_class(key)


def _names(row: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(row)) if len(row) > 1 else tuple(row)


def _checked_rows(parameters: Sequence[OneRow]) -> Sequence[OneRow]:
    """Return a list of parameter sets whose names agree, or say which one does not fit."""
    if not isinstance(parameters, list | tuple):
        raise errors.ArgumentError(f"parameters are a mapping or a list of mappings, not {parameters!r}")
    names: frozenset[str] | None = None
    for number, row in enumerate(parameters):
        if not isinstance(row, Mapping):
            raise errors.ArgumentError(f"parameters are mappings from names to values; number {number} is {row!r}")
        if names is None:
            names = frozenset(row)
        elif row.keys() != names:
            odd = sorted(map(str, names ^ row.keys()))
            raise errors.ArgumentError(
                f"all rows of one execution have the same names; row {number} differs from row 0 in: {', '.join(odd)}"
            )
    return parameters


async def stream(wire: EngineConnection, call: Call, *, size: int | None = None) -> AsyncResult[*tuple[Any, ...]]:
    """Send *call* and return its rows while they arrive, *size* at a time."""
    compiled = call.compiled
    if call.rows is not None:
        raise errors.InvalidRequestError("a query is streamed with one set of parameters, not with a list of them")
    if not compiled.returns_rows:
        raise errors.InvalidRequestError(f"this statement returns no rows to stream: {call.sql}")
    if compiled.kind is StatementKind.TEXT and not compiled.columns:
        raise errors.InvalidRequestError("say which columns a text() has to stream it: text(...).columns(...)")
    origin = Origin(call.sql, lambda: wire.is_held)
    source = RowSource(_processed(wire, call, size or DEFAULT_CHUNK), origin)
    await source.prime()
    return AsyncResult(shape_of(compiled), source)


async def _processed(wire: EngineConnection, call: Call, size: int) -> AsyncGenerator[Sequence[Values], None]:
    chunks = wire.stream(call.sql, call.values, size=size)
    try:
        async for chunk in chunks:
            yield call.compiled.process(chunk)
    finally:
        await chunks.aclose()
