"""Join write statements of several tables into one, which the database carries out as a whole or not at all.

Each write is a member of one WITH clause and, but for the first, waits for the one before it: the condition under which
it writes counts the rows of that one. A wrong count is no false condition but an error, so that nothing at all is
written. PostgreSQL's manual, "Data-Modifying Statements in WITH": members see the same snapshot and run in no
promised order; a condition that reads another member's RETURNING makes the order certain.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Dialect,
    Integer,
    Select,
    String,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)

from aiosession import core
from aiosession.sql.schemas import SchemaMap
from aiosession.sql.writes import (
    Guard,
    Write,
    WriteKind,
    WriteShape,
    WriteStatements,
    array_form,
    constant_of,
    parameter_name,
    row_form,
)

_STALE: Final = re.compile(r"aiosession rows of write (\d+): (\d+)")
_ONE: Final = literal_column("1", Integer)


@dataclass(frozen=True, slots=True)
class Member:
    """One write of a combined statement."""

    shape: WriteShape
    is_array: bool
    """Any number of rows, one array for each column; else one row."""
    is_counted: bool
    """Whether the number of rows has to be right."""


@dataclass(frozen=True, slots=True)
class CombinedStatement:
    """A compiled statement of several writes; rows come back as the columns of all members, side by side."""

    sql: str
    order: tuple[tuple[int, int] | None, ...]
    """For each parameter of the driver the member and the place in it; the last place of a member is the number of rows
    that it has to write. None for a constant."""
    constants: tuple[object, ...]
    splits: tuple[slice, ...]
    """Where the columns of each member are in a row."""

    def parameters(self, values: Sequence[Sequence[object]]) -> list[object]:
        """Return the driver's parameters from those of each member."""
        return [
            constant if place is None else values[place[0]][place[1]]
            for place, constant in zip(self.order, self.constants, strict=True)
        ]


def combined_statement(statements: WriteStatements, members: tuple[Member, ...]) -> CombinedStatement | None:
    """Return the statement of *members*, carried out in this order; None if that could differ from one by one."""
    found: CombinedStatement | None
    try:
        found = statements.memo[members]
    except KeyError:
        found = _combine(members, statements.dialect, statements.schemas) if can_combine(members) else None
        statements.memo[members] = found
    return found


def can_combine(members: Sequence[Member]) -> bool:
    """Whether *members* do the same as one statement as they do one by one.

    All see the tables as they were: so each writes a table of its own, and none changes a key by which foreign keys of
    other tables, and the rows of other members, could be moved along. No two may return a number of rows each. Only
    within one MetaData is it known which tables refer to each other.
    """
    tables = {member.shape.table.fullname for member in members}
    schemas = {member.shape.table.metadata for member in members}
    many = sum(member.is_array and bool(member.shape.returning) for member in members)
    return len(tables) == len(members) and len(schemas) == 1 and many < 2 and all(map(_is_still, members))


def _is_still(member: Member) -> bool:
    """Whether a member leaves alone what other tables refer to; and says which values it writes."""
    shape = member.shape
    if shape.kind is not WriteKind.UPDATE:
        return bool(shape.columns) or shape.kind is WriteKind.DELETE
    table = shape.table
    targets = {key.target_fullname for other in table.metadata.tables.values() for key in other.foreign_keys}
    return not any(column.primary_key or f"{table.fullname}.{column.key}" in targets for column in shape.columns)


def _combine(members: Sequence[Member], dialect: Dialect, schemas: SchemaMap | None) -> CombinedStatement:
    starts = [0, *accumulate(_width(member) for member in members)]
    ctes: list[CTE] = []
    for number, member in enumerate(members):
        guard = _guard(members, ctes, starts) if ctes else None
        ctes.append(_write(member, dialect, starts[number], guard).cte(f"write_{number + 1}"))
    statement = _answer(members, ctes, _guard(members, ctes, starts))
    return _compiled(statement, members, starts, dialect, schemas)


def stale_member(message: str) -> tuple[int, int] | None:
    """Return which member an error's text is about and how many rows it met, if a wrong count caused the error."""
    found = _STALE.search(message)
    return None if found is None else (int(found[1]) - 1, int(found[2]))


def _width(member: Member) -> int:
    """Return how many parameters a member has: its values, and the number of rows to expect."""
    return len(member.shape.columns) + len(member.shape.match) + 1


def _write(member: Member, dialect: Dialect, start: int, guard: Guard) -> Write:
    shape = member.shape
    written = (
        array_form(shape, dialect, start=start, guard=guard)
        if member.is_array
        else row_form(shape, start=start, guard=guard)
    )
    return written.returning(*(shape.returning or [_ONE]))


def _guard(members: Sequence[Member], ctes: Sequence[CTE], starts: Sequence[int]) -> ColumnElement[bool]:
    """Return a condition that is true when the last write was made, and an error if it met a wrong number of rows."""
    number = len(ctes)
    member, met = members[number - 1], func.count()
    if not member.is_counted:
        return select(met >= 0).select_from(ctes[-1]).scalar_subquery()
    expected = bindparam(parameter_name(starts[number] - 1), type_=Integer) if member.is_array else _ONE
    # The cast of such a text to a boolean is the error; being computed, it is not tried beforehand.
    text = func.concat(literal_column(f"'aiosession rows of write {number}: '", String), met)
    return select(case((met == expected, true()), else_=cast(text, Boolean))).select_from(ctes[-1]).scalar_subquery()


def _answer(members: Sequence[Member], ctes: Sequence[CTE], guard: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """Return what is selected in the end: whether all was well, and the columns of the members that return some."""
    checked = select(guard.label("is_written")).subquery("checked")
    source: Any = checked
    columns: list[ColumnElement[Any]] = [checked.c.is_written]
    for member, cte in zip(members, ctes, strict=True):
        if member.shape.returning:
            source = source.outerjoin(cte, true())
            columns += [cte.c[column.key] for column in member.shape.returning]
    return select(*columns).select_from(source).add_cte(*ctes)


def _compiled(
    statement: Select[*tuple[Any, ...]],
    members: Sequence[Member],
    starts: Sequence[int],
    dialect: Dialect,
    schemas: SchemaMap | None,
) -> CombinedStatement:
    compiled = core.compile_statement(dialect, statement, schema_translate_map=schemas)
    places = {
        parameter_name(starts[number] + place): (number, place)
        for number, member in enumerate(members)
        for place in range(_width(member))
    }
    given: Mapping[str, object] = compiled.construct_params(dict.fromkeys(places))
    own = core.bind_processors(compiled)
    names = core.positions(compiled)
    ends = [1, *accumulate((len(member.shape.returning) for member in members), initial=1)][1:]
    return CombinedStatement(
        sql=str(compiled),
        order=tuple(places.get(name) for name in names),
        constants=tuple(None if name in places else constant_of(given[name], own.get(name)) for name in names),
        splits=tuple(slice(start, end) for start, end in pairwise(ends)),
    )
