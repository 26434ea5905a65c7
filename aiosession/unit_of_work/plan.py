"""What a flush is going to send, as data: ordered batches of rows, each row with its reason.

A plan is made without I/O and changes nothing, so it can be shown instead of executed. Values that only the database
can give stand in it as :class:`Generated`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from sqlalchemy import ClauseElement, Column, Table
from typing_extensions import override

from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import Write, WriteKind, WriteShape
from aiosession.state.state import EntityState
from aiosession.state.values import is_expression


class Why(Enum):
    """Why a row is written."""

    NEW = "new"
    CHANGED = "changed"
    FOREIGN_KEY = "foreign key"
    ASSOCIATION = "association"
    DELETED = "deleted"
    CASCADE = "cascade"
    ORPHAN = "orphan"
    REPLACED = "replaces a deleted object"
    POST_UPDATE = "post update"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a row is written, and which attributes or relation brought it about."""

    why: Why
    names: tuple[str, ...] = ()

    @override
    def __str__(self) -> str:
        return f"{self.why.value}: {', '.join(self.names)}" if self.names else self.why.value


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A value that the database makes when the row of *state* is inserted; stands in for it until then."""

    state: EntityState
    attribute: str
    number: int
    """Counts the objects of a plan whose keys are not known yet, to tell them apart."""

    @override
    def __repr__(self) -> str:
        return f"<{self.state.mapper.name}#{self.number}.{self.attribute}>"


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One row of a plan: what is written, by column name; what identifies the row; and why it is written."""

    kind: WriteKind
    table: Table
    values: Mapping[str, object]
    match: Mapping[str, object]
    reason: Reason
    obj: Any
    """The object whose row it is; None for rows of a table that only connects, and once the object is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows that are written by one statement: same table, same columns.

    ``values`` has one list per column, in the order of the shape's ``columns`` and then ``match``.
    """

    shape: WriteShape
    mapper: AnyMapper | None
    """None for the rows of a table that only connects two others."""
    values: tuple[list[Any], ...]
    count: int
    states: Sequence[EntityState] = ()
    """The objects of the rows, in order; empty for connecting rows."""
    reasons: Sequence[Reason] = ()
    """One per row, or one for all."""
    statement: Write | None = None
    """For one row some of whose values are SQL expressions: a statement with these, which gets the others added."""
    expressions: Mapping[Column[Any], Any] = field(default_factory=dict)
    """The SQL expressions in that statement."""
    deferred: frozenset[int] = frozenset()
    """Places of ``values`` in which a :class:`Generated` has to be resolved."""
    is_counted: bool = True
    """Whether each row has to be met exactly once."""
    decided: tuple[tuple[str, int], ...] = ()
    """Attributes that get the value at a place of ``values`` when the rows are written."""
    returned: tuple[str, ...] = ()
    """Attributes that get the values of the shape's ``returning``, in order."""
    unknown: tuple[str, ...] = ()
    """Attributes whose values only the database knows afterwards."""
    seen: tuple[tuple[str, Sequence[Any]], ...] = ()
    """What attributes of new objects held when the plan was made, members for collections: what differs later is a
    change that came while the flush was waiting."""
    token: object | None = None
    """Which of several databases the rows are in; None if their class has one place."""

    @property
    def kind(self) -> WriteKind:
        """Whether rows are inserted, updated or deleted."""
        return self.shape.kind

    @property
    def table(self) -> Table:
        """The table that is written."""
        return self.shape.table

    def split(self) -> list["Batch"]:
        """Return one batch per row."""
        if self.count == 1:
            return [self]
        return [
            replace(
                self,
                values=tuple([column[number]] for column in self.values),
                count=1,
                states=self.states[number : number + 1],
                reasons=self.reasons[number : number + 1] if len(self.reasons) > 1 else self.reasons,
                seen=tuple((key, column[number : number + 1]) for key, column in self.seen),
            )
            for number in range(self.count)
        ]

    @property
    def rows(self) -> Iterator[PlannedRow]:
        """The rows one by one, for people."""
        split = len(self.shape.columns)
        names = [column.name for column in (*self.shape.columns, *self.shape.match)]
        special = {column.name: value for column, value in self.expressions.items()}
        for number in range(self.count):
            row = [values[number] for values in self.values]
            yield PlannedRow(
                kind=self.kind,
                table=self.table,
                values=dict(zip(names[:split], row[:split], strict=True)) | special,
                match=dict(zip(names[split:], row[split:], strict=True)),
                reason=self.reasons[number if len(self.reasons) > 1 else 0],
                obj=self.states[number]() if self.states else None,
            )


@dataclass(frozen=True, slots=True)
class FlushPlan:
    """The statements of a flush in the order in which they are sent; prints as a table."""

    batches: tuple[Batch, ...]
    binds: tuple[str, ...] = field(default=())
    """Where each batch goes."""
    awaited: Mapping[EntityState, Sequence[Generated]] = field(default_factory=dict)
    """What stands for values that the database is going to make, by object."""
    replaced: Mapping[EntityState, EntityState] = field(default_factory=dict)
    """New objects whose rows are those of deleted objects with the same key."""
    followed: Mapping[EntityState, Mapping[str, Any]] = field(default_factory=dict)
    """Objects whose foreign keys the database changes, with what they get, because they refer to a key that changes."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.batches

    @property
    def rows(self) -> Iterator[PlannedRow]:
        """All rows, in the order in which they are written."""
        for batch in self.batches:
            yield from batch.rows

    @property
    def by_bind(self) -> dict[str, list[Batch]]:
        """The batches of each database, by its URL (without password)."""
        found: dict[str, list[Batch]] = {}
        for batch, bind in zip(self.batches, self.binds, strict=True):
            found.setdefault(bind, []).append(batch)
        return found

    @property
    def needs_transaction(self) -> bool:
        """Whether something might have to be undone: several statements, or counted rows of which one may be gone."""
        if len(self.batches) > 1:
            return True
        return any(batch.count > 1 and batch.kind is not WriteKind.INSERT for batch in self.batches)

    @property
    def row_count(self) -> int:
        """The number of rows that are written."""
        return sum(batch.count for batch in self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    @override
    def __str__(self) -> str:
        if not self.batches:
            return "nothing to write"
        lines: list[tuple[str, ...]] = [("#", "statement", "rows", "columns", "because", *(["bind"] * self._is_split))]
        chosen, left_out = self._shown()
        lines += [self._line(number) for number in chosen]
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        lines.insert(1, tuple("-" * width for width in widths))
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        if left_out:
            shown.insert(2 + _FIRST_LINES, left_out)
        return "\n".join(shown)

    @property
    def _is_split(self) -> bool:
        return len(set(self.binds)) > 1

    def _shown(self) -> tuple[Sequence[int], str]:
        """Return the batches to print, and what stands for the others in the middle of a long plan."""
        count = len(self.batches)
        if count <= _FIRST_LINES + _LAST_LINES + 1:
            return range(count), ""
        middle = range(_FIRST_LINES, count - _LAST_LINES)
        rows = sum(self.batches[number].count for number in middle)
        return [*range(_FIRST_LINES), *range(middle.stop, count)], f"…  {len(middle)} more statements with {rows} rows"

    def _line(self, number: int) -> tuple[str, ...]:
        batch = self.batches[number]
        return (
            str(number + 1),
            f"{batch.kind.value} {batch.table.fullname}",
            str(batch.count),
            _shortened(_columns(batch), _LONGEST_CELL),
            _shortened(_because(batch), _LONGEST_CELL),
            *([self.binds[number]] if self._is_split else ()),
        )


def _columns(batch: Batch) -> str:
    split = len(batch.shape.columns)
    inputs = (*batch.shape.columns, *batch.shape.match)
    shown = [
        f"{column.name}={_sample(values[0])}" if batch.count == 1 else column.name
        for column, values in zip(inputs, batch.values, strict=True)
    ]
    written = shown[:split] + [f"{column.name}={_sample(value)}" for column, value in batch.expressions.items()]
    where = f"WHERE {', '.join(shown[split:])}" if shown[split:] else ""
    return " ".join(filter(None, (", ".join(written), where)))


def _sample(value: Any) -> str:
    if is_expression(value):
        return _shortened(str(value if isinstance(value, ClauseElement) else value.__clause_element__()), _LONGEST_SQL)
    return _shortened(repr(value), _LONGEST_VALUE)


def _shortened(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _because(batch: Batch) -> str:
    return "; ".join(dict.fromkeys(map(str, batch.reasons)))


_LONGEST_VALUE: Final = 24
_LONGEST_SQL: Final = 60
_LONGEST_CELL: Final = 160
_FIRST_LINES: Final = 20
_LAST_LINES: Final = 5
