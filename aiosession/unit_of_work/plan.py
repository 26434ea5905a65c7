"""What a flush is going to send, as data: ordered batches of rows, each row with its reason.

A plan is made without I/O and changes nothing, so it can be shown instead of executed. Values that only the database
can give stand in it as :class:`Generated`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import ClauseElement, Table
from typing_extensions import override

from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import Write, WriteKind, WriteShape
from aiosession.state.state import EntityState


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
class Row:
    """One row of a batch: values by column name, what identifies it, and why it is written."""

    values: Mapping[str, object]
    match: Mapping[str, object]
    reason: Reason
    state: EntityState | None


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

    @property
    def kind(self) -> WriteKind:
        """Whether rows are inserted, updated or deleted."""
        return self.shape.kind

    @property
    def table(self) -> Table:
        """The table that is written."""
        return self.shape.table

    @property
    def rows(self) -> Iterator[Row]:
        """The rows one by one, for people."""
        split = len(self.shape.columns)
        names = [column.name for column in (*self.shape.columns, *self.shape.match)]
        for number in range(self.count):
            row = [values[number] for values in self.values]
            yield Row(
                values=dict(zip(names[:split], row[:split], strict=True)),
                match=dict(zip(names[split:], row[split:], strict=True)),
                reason=self.reasons[number if len(self.reasons) > 1 else 0],
                state=self.states[number] if self.states else None,
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

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.batches

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
        lines += [self._line(number, batch) for number, batch in enumerate(self.batches, 1)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
        lines.insert(1, tuple("-" * width for width in widths))
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    @property
    def _is_split(self) -> bool:
        return len(set(self.binds)) > 1

    def _line(self, number: int, batch: Batch) -> tuple[str, ...]:
        return (
            str(number),
            f"{batch.kind.value} {batch.table.fullname}",
            str(batch.count),
            _columns(batch),
            _because(batch),
            *([self.binds[number - 1]] if self._is_split else ()),
        )


def _columns(batch: Batch) -> str:
    split = len(batch.shape.columns)
    inputs = (*batch.shape.columns, *batch.shape.match)
    shown = [
        f"{column.name}={_sample(values)}" if batch.count == 1 else column.name
        for column, values in zip(inputs, batch.values, strict=True)
    ]
    where = f"WHERE {', '.join(shown[split:])}" if shown[split:] else ""
    return " ".join(filter(None, (", ".join(shown[:split]), where)))


def _sample(values: Sequence[object]) -> str:
    value = values[0]
    text = str(value) if isinstance(value, ClauseElement) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


_LONGEST_VALUE = 24


def _because(batch: Batch) -> str:
    return "; ".join(dict.fromkeys(map(str, batch.reasons)))
