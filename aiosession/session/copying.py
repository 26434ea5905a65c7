"""How do very many rows get into a table? As a stream of values, by COPY where the database has it.

Rows are taken in chunks, so that memory stays flat. Each chunk is checked and converted column by column, as a flush
does it; no objects are made.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeAlias

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import ArgumentError, near
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import bulk
from aiosession.sql.types import Processor, bind_processor
from aiosession.transaction.context import SessionContext
from aiosession.unit_of_work.checks import is_expression_type, misfits, refuse, unreadable
from aiosession.unit_of_work.columns import ColumnRole, RowSoFar, Source, columns_of

Rows: TypeAlias = Iterable[Mapping[str, Any] | Sequence[Any]] | AsyncIterable[Mapping[str, Any] | Sequence[Any]]

CHUNK: Final = 5_000
"""Rows that are in memory at a time."""


async def copy_rows(ctx: SessionContext, mapper: AnyMapper, rows: Rows, columns: Iterable[object] | None) -> int:
    """Insert *rows* and return how many there were."""
    target = _Target(mapper, None if columns is None else [_name(mapper, column) for column in columns])
    await ctx.autoflush()
    with ctx.writing():
        engine = await ctx.engine(mapper=mapper, clause=mapper.table)
    count = 0
    async for chunk in _chunks(rows):
        table = target.columns(chunk, count)
        if engine.capabilities.copies and _can_copy(mapper, table):
            await _copy(ctx, engine, target, table)
        else:
            for name, values in table.items():
                _refuse_expressions(mapper, name, values)
            await bulk.insert_mappings(ctx, mapper, target.mappings(table), return_defaults=False, render_nulls=False)
        count += len(chunk)
    return count


@dataclass(slots=True)
class _Target:
    """Where rows go."""

    mapper: AnyMapper
    names: list[str] | None
    """The attributes that rows have values for, in order; taken from the first row if that is a mapping."""
    processors: dict[str, Processor | None] = field(default_factory=dict)

    def columns(self, chunk: Sequence[Any], before: int) -> dict[str, list[Any]]:
        """Return the values of *chunk*, which comes after that many rows, by attribute."""
        if self.names is None:
            self.names = self._names_of(chunk[0])
        names = self.names
        if isinstance(chunk[0], Mapping):
            known = set(names)
            for number, row in enumerate(chunk, before):
                if not isinstance(row, Mapping) or row.keys() != known:
                    raise ArgumentError(
                        f"all rows have the same names, here {', '.join(names)}; row {number} is {row!r}"
                    )
            return {name: [row[name] for row in chunk] for name in names}
        for number, row in enumerate(chunk, before):
            if isinstance(row, Mapping | str) or not isinstance(row, Sequence) or len(row) != len(names):
                raise ArgumentError(f"a row has {len(names)} values, for {', '.join(names)}; row {number} is {row!r}")
        return dict(zip(names, map(list, zip(*chunk, strict=True)), strict=True))

    def _names_of(self, row: Any) -> list[str]:
        if isinstance(row, Mapping) and not row:
            raise ArgumentError("the rows for bulk_copy() have no values; name at least one column")
        if not isinstance(row, Mapping):
            raise ArgumentError(
                f"rows are mappings from names to values; for rows without names, such as {row!r}, say "
                f"columns=[{self.mapper.name}.a, ...]"
            )
        return [_name(self.mapper, name) for name in row]

    def mappings(self, table: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
        """Return the rows of *table* one by one."""
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


async def _chunks(rows: Rows) -> AsyncIterator[list[Any]]:
    if isinstance(rows, AsyncIterable):
        chunk: list[Any] = []
        async for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
        return
    if isinstance(rows, Mapping | str) or not isinstance(rows, Iterable):
        raise ArgumentError(f"bulk_copy() takes several rows, in a list or from a generator; got {rows!r}")
    source = iter(rows)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _name(mapper: AnyMapper, column: object) -> str:
    name = column if isinstance(column, str) else str(getattr(column, "key", column))
    attribute = mapper.column_attributes.get(name)
    if attribute is None or attribute.is_read_only:
        raise ArgumentError(f"{mapper.name} has no column attribute {name!r}{near(name, mapper.column_attributes)}")
    return name


def _refuse_expressions(mapper: AnyMapper, name: str, values: Sequence[Any]) -> None:
    if any(map(is_expression_type, set(map(type, values)))):
        raise ArgumentError(
            f"{mapper.name}.{name} got a SQL expression; bulk_copy() takes values only: use "
            f"session.execute(insert({mapper.name}), rows)"
        )


# COPY -----------------------------------------------------------------------------------------------------------------


def _can_copy(mapper: AnyMapper, table: Mapping[str, list[Any]]) -> bool:
    """Whether all that an INSERT would write can be sent as values, so that COPY does the same."""
    for role in columns_of(mapper).roles:
        column, values = role.column, table.get(role.key)
        default: Any = column.default
        if values is None and default is not None and role.source is not Source.CLIENT:
            return False  # an expression, or a sequence of its own
        if values is not None and role.source is Source.SERVER and None in values:
            return False  # for which INSERT leaves the column to the database
        if core.has_bind_expression(column.type):
            return False
    return mapper.version_id is None or mapper.version_id.key in table


async def _copy(ctx: SessionContext, engine: AsyncEngine, target: _Target, table: dict[str, list[Any]]) -> None:
    mapper = target.mapper
    found = columns_of(mapper)
    written: dict[ColumnRole, list[Any]] = {found.by_key[name]: values for name, values in table.items()}
    _fill_in(found.roles, written)
    for role, values in written.items():
        _check(mapper, role, values)
    processed = [_processed(target, engine, role, values) for role, values in written.items()]
    with ctx.writing():
        share = await ctx.share(mapper=mapper, clause=mapper.table)
    schemas: Mapping[str | None, str | None] = engine.options.get("schema_translate_map") or {}
    await share.copy(
        mapper.table.name,
        schemas.get(mapper.table.schema, mapper.table.schema),
        [role.column.name for role in written],
        list(zip(*processed, strict=True)),
    )


def _fill_in(roles: Sequence[ColumnRole], written: dict[ColumnRole, list[Any]]) -> None:
    """Add the defaults that Python computes, where rows have no value of their own."""
    count = len(next(iter(written.values())))
    for role in roles:
        if role.source is Source.CLIENT:
            before = written.get(role) or [None] * count
            if role.compute is None:
                written[role] = [role.constant if value is None else value for value in before]
            elif None in before:
                so_far = list(written), list(written.values())
                written[role] = [
                    role.compute(RowSoFar(*so_far, number, role.column)) if value is None else value
                    for number, value in enumerate(before)
                ]


def _check(mapper: AnyMapper, role: ColumnRole, values: list[Any]) -> None:
    _refuse_expressions(mapper, role.key, values)
    kinds = set(map(type, values))
    wrong = misfits(role.column.type, kinds)
    if wrong:
        raise refuse(mapper, role, next(value for value in values if type(value) in wrong))
    text = unreadable(role.column.type, values) if str in kinds else None
    if text is not None:
        raise refuse(mapper, role, text)


def _processed(target: _Target, engine: AsyncEngine, role: ColumnRole, values: list[Any]) -> list[Any]:
    name = role.column.name
    if name not in target.processors:
        target.processors[name] = bind_processor(role.column.type, engine.dialect)
    processor = target.processors[name]
    if processor is None:
        return values
    try:
        # None is NULL here, also for types in which it could be a value
        return [None if value is None else processor(value) for value in values]
    except Exception as error:
        raise _unconvertible(target.mapper, role, processor, values) from error


def _unconvertible(mapper: AnyMapper, role: ColumnRole, processor: Processor, values: list[Any]) -> Exception:
    for value in values:
        try:
            processor(value)
        except Exception:
            return refuse(mapper, role, value)
    return refuse(mapper, role, None)
