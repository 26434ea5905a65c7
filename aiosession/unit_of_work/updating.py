"""Turn changes of objects of one mapper into UPDATE batches.

Compares values: an attribute that was set to what it was before writes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import update

from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind, WriteShape
from aiosession.state.state import EntityState, state_of
from aiosession.state.values import NO_VALUE, is_expression
from aiosession.unit_of_work.checks import is_expression_type, misfits, refuse, unreadable
from aiosession.unit_of_work.columns import NULL, ColumnRole, RowSoFar, Source, columns_of, stored_default
from aiosession.unit_of_work.following import carry
from aiosession.unit_of_work.keys import Keys
from aiosession.unit_of_work.linking import Link, Links, cannot_blank, check_present
from aiosession.unit_of_work.plan import Batch, Generated, Reason, Why
from aiosession.unit_of_work.relations import ForeignKey, relations_of

_NULL: Final = type(NULL)
_PLAIN: Final = frozenset({bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, UUID})


@dataclass(slots=True, eq=False)
class RowUpdate:
    """What is to be written to the row of one object."""

    state: EntityState
    values: dict[str, Any] = field(default_factory=dict)
    decided: dict[str, None] = field(default_factory=dict)
    """Attributes whose values are not (or not only) in the object."""
    why: Why = Why.CHANGED
    row_of: EntityState | None = None
    """The deleted object whose row this is by now."""

    @property
    def stored(self) -> EntityState:
        """The object whose values the row has by now."""
        return self.state if self.row_of is None else self.row_of


class Updating:
    """The UPDATEs of one mapper."""

    def __init__(self, mapper: AnyMapper, keys: Keys, links: Links) -> None:
        self.mapper = mapper
        self.keys = keys
        self.links = links
        self.columns = columns_of(mapper)
        self.references = relations_of(mapper).references
        self.carried = relations_of(mapper).carried_names
        self.referring = frozenset(each.key for each in self.references)

    def batches(self, states: Iterable[EntityState]) -> list[Batch]:
        """Return the batches for what was changed on the rows of *states*; none where nothing was."""
        changed = [row for row in map(self.row, states) if row.values]
        return self.batches_of(changed)

    def row(self, state: EntityState) -> RowUpdate:
        """Return what is to be written to one row."""
        row = RowUpdate(state)
        committed = state.committed
        if committed:
            self._compare(row, committed, state.values())
        if self.links.by_state:
            for link in self.links.by_state.get(state, ()):
                self._link(row, link.foreign_key, link.target)
        if self.carried and not self.carried.isdisjoint(row.values):
            carry(self.keys, state, [name for name in row.values if name in self.carried])
        return row

    def replacement(self, state: EntityState, old: EntityState, values: Mapping[str, Any]) -> RowUpdate:
        """Return what is to be written where the row of a deleted object becomes that of *state*: everything."""
        row = RowUpdate(state, why=Why.REPLACED, row_of=old)
        version = self.mapper.version_id
        row.values = {
            key: values[key] if key in values else stored_default(role.column)
            for key, role in self.columns.by_key.items()
            if not role.is_primary_key and (key in values or role.source is Source.SERVER)
        }
        if version is not None and self.mapper.version_id_generator:
            del row.values[version.key]
        row.decided = dict.fromkeys(row.values)
        return row

    # One row

    def _compare(self, row: RowUpdate, committed: Mapping[str, object], values: Mapping[str, Any]) -> None:
        by_key = self.columns.by_key
        for key, old in committed.items():
            role = by_key.get(key)
            if role is not None:
                new = values.get(key)
                if new is not old and not _is_equal(role, new, old):
                    row.values[key] = new
        if self.referring.isdisjoint(committed):
            return
        for reference in self.references:
            if reference.key in committed:
                new = values.get(reference.key)
                if new is not committed[reference.key]:
                    self._refer(row, reference, new)

    def _refer(self, row: RowUpdate, reference: ForeignKey, target: Any) -> None:
        if target is None:
            self._link(row, reference, None)
            return
        other = state_of(target)
        if not check_present(self.keys.work, row.state, reference.relationship, other):
            return
        if reference.is_late and other in self.keys.work.inserts:
            reason = Reason(Why.POST_UPDATE, (f"{self.mapper.name}.{reference.key}",))
            self.links.late.append(Link(row.state, reference, other, reason))
            return
        self._link(row, reference, other)

    def _link(self, row: RowUpdate, foreign_key: ForeignKey, target: EntityState | None) -> None:
        state = row.state
        committed = state.committed or {}
        followed = self.keys.followed.get(state, {})
        for source, destination in foreign_key.pairs:
            value = None if target is None else self.keys.of(target, source)
            stored = NO_VALUE if destination in committed else state.values().get(destination, NO_VALUE)
            stored = followed.get(destination, stored)
            if _is_equal(self.columns.by_key[destination], value, stored):
                row.values.pop(destination, None)
                continue
            if self.columns.by_key[destination].is_primary_key:
                self._move_key(state, foreign_key, destination, value)
            row.values[destination] = value
            row.decided[destination] = None
            if not committed:
                row.why = Why.FOREIGN_KEY

    def _move_key(self, state: EntityState, foreign_key: ForeignKey, destination: str, value: object) -> None:
        if value is None:
            raise cannot_blank(state, foreign_key.relationship, destination)
        self.keys.decide(state, destination, value)

    # Batches

    def batches_of(self, rows: Sequence[RowUpdate]) -> list[Batch]:
        """Return one batch per set of columns, in the order of their first rows."""
        if self.columns.on_update or self.mapper.version_id is not None:
            for row in rows:
                self._complete(row)
        groups: dict[tuple[str, ...], list[RowUpdate]] = {}
        for row in rows:
            groups.setdefault(tuple(row.values), []).append(row)
        alike: dict[tuple[str, ...], list[RowUpdate]] = {}
        special: list[RowUpdate] = []
        for names, group in groups.items():
            columns = tuple(key for key in self.columns.by_key if key in names)
            kinds = {name: {type(row.values[name]) for row in group} for name in columns}
            self._check(kinds, group)
            _note_nulls(kinds, group)
            plain = self._without_expressions(set().union(*kinds.values()), group, special)
            if plain:
                alike.setdefault(columns, []).extend(plain)
        found = [self._batch(columns, group) for columns, group in alike.items()]
        return found + [self._expression_batch(row) for row in special]

    def _check(self, kinds: Mapping[str, set[type]], rows: Sequence[RowUpdate]) -> None:
        """Refuse values that their columns cannot hold."""
        for name, found in kinds.items():
            role = self.columns.by_key[name]
            wrong = [kind for kind in misfits(role.column.type, found) if not is_expression_type(kind)]
            if wrong:
                values = (row.values[name] for row in rows)
                raise refuse(self.mapper, role, next(value for value in values if type(value) in wrong))
            text = unreadable(role.column.type, [row.values[name] for row in rows]) if str in found else None
            if text is not None:
                raise refuse(self.mapper, role, text)

    def _without_expressions(
        self, kinds: set[type], rows: list[RowUpdate], special: list[RowUpdate]
    ) -> list[RowUpdate]:
        """Return the rows without SQL expressions; the others go to *special*."""
        if not any(map(is_expression_type, kinds)):
            return rows
        plain: list[RowUpdate] = []
        for row in rows:
            is_special = any(self._is_special(key, value) for key, value in row.values.items())
            (special if is_special else plain).append(row)
        return plain

    def _is_special(self, key: str, value: object) -> bool:
        return is_expression(value) and not (
            self.columns.by_key[key].takes_none and value is self.columns.by_key[key].absent
        )

    def _complete(self, row: RowUpdate) -> None:
        """Add what every UPDATE writes: values computed by Python, the next version."""
        mapper = self.mapper
        for role in self.columns.on_update:
            if role.key not in row.values:
                so_far = RowSoFar(
                    [self.columns.by_key[key] for key in row.values],
                    [[value] for value in row.values.values()],
                    0,
                    role.column,
                )
                row.values[role.key] = role.constant if role.compute is None else role.compute(so_far)
                row.decided[role.key] = None
        if mapper.version_id is not None and mapper.version_id_generator and row.why is not Why.POST_UPDATE:
            key = mapper.version_id.key
            if key not in row.values:
                row.values[key] = mapper.version_id_generator(self.keys.of_stored(row.stored, key))
                row.decided[key] = None

    def _batch(self, names: tuple[str, ...], rows: list[RowUpdate], special: Iterable[str] = ()) -> Batch:
        """Return the batch of rows that write *names*, and *special* by SQL expressions."""
        columns = self.columns
        values = [[row.values[name] for row in rows] for name in names]
        is_late = rows[0].why is Why.POST_UPDATE
        match, matched = match_of(self.mapper, [row.stored for row in rows], self.keys, is_versioned=not is_late)
        decided = {name for row in rows for name in row.decided}
        made = dict.fromkeys([*(each for each in columns.unknown_after_update if each not in names), *special])
        fetched = self._fetched(made, special)
        returned = (*fetched, *self._row_keys(fetched, len(rows)))
        return Batch(
            shape=WriteShape(
                WriteKind.UPDATE,
                self.mapper.table,
                columns=tuple(columns.by_key[name].column for name in names),
                match=match,
                returning=tuple(columns.by_key[name].column for name in returned),
            ),
            mapper=self.mapper,
            values=(*values, *matched),
            count=len(rows),
            states=[row.state for row in rows],
            reasons=_reasons(rows, (*names, *special)),
            deferred=frozenset(
                place for place, column in enumerate((*values, *matched)) if Generated in set(map(type, column))
            ),
            decided=tuple((name, place) for place, name in enumerate(names) if name in decided),
            returned=returned,
            unknown=tuple(name for name in made if name not in fetched),
        )

    def _fetched(self, made: Iterable[str], special: Iterable[str]) -> tuple[str, ...]:
        """Return which of the values that the database makes come back with the UPDATE."""
        mode = self.mapper.eager_defaults
        keys = tuple(name for name in special if self.columns.by_key[name].is_primary_key)
        version = self.columns.made_version
        if version is not None and version.key in made:
            keys = (*keys, version.key)
        wanted = set(made) if mode is True else {*special, *keys} if mode == "auto" else set(keys)
        return tuple(name for name in made if name in wanted)

    def _row_keys(self, fetched: Sequence[str], count: int) -> tuple[str, ...]:
        """Return what tells the rows apart that come back, if there are several."""
        if not fetched or count == 1:
            return ()
        return tuple(each.key for each in self.mapper.primary_key_attributes if each.key not in fetched)

    def _expression_batch(self, row: RowUpdate) -> Batch:
        """Return the batch of one row some of whose values are SQL expressions: a statement of its own."""
        by_key = self.columns.by_key
        special = {key: value for key, value in row.values.items() if self._is_special(key, value)}
        names = tuple(key for key in by_key if key in row.values and key not in special)
        expressions = {by_key[key].column: value for key, value in special.items()}
        return replace(
            self._batch(names, [row], special),
            statement=update(self.mapper.table).values(expressions).inline(),
            expressions=expressions,
        )


def _note_nulls(kinds: Mapping[str, set[type]], rows: Sequence[RowUpdate]) -> None:
    """Have attributes that were set to ``null()`` be None from then on."""
    for name, found in kinds.items():
        if _NULL in found:
            for row in rows:
                if type(row.values[name]) is _NULL:
                    row.decided[name] = None


def _reasons(rows: Sequence[RowUpdate], names: tuple[str, ...]) -> list[Reason]:
    known = {why: Reason(why, names) for why in {row.why for row in rows}}
    return list(known.values()) if len(known) == 1 else [known[row.why] for row in rows]


def match_of(
    mapper: AnyMapper, states: Sequence[EntityState], keys: Keys, *, is_versioned: bool = True
) -> tuple[tuple[Any, ...], tuple[list[Any], ...]]:
    """Return the columns that identify rows in WHERE, and their values: the key, and the version if there is one."""
    values = [list(column) for column in zip(*map(keys.of_match, states), strict=True)]
    columns = mapper.primary_key
    if mapper.version_id is not None and is_versioned:
        key = mapper.version_id.key
        columns = (*columns, mapper.version_id.column)
        values.append([keys.of_stored(state, key) for state in states])
    return columns, tuple(values)


def _is_equal(role: ColumnRole, new: Any, old: Any) -> bool:
    if role.compares_plainly and type(new) in _PLAIN and type(old) is type(new):
        return bool(new == old)
    if old is NO_VALUE or is_expression(new) or is_expression(old) or isinstance(new, Generated):
        return False
    if new is None or old is None:
        return new is old
    try:
        return bool(role.column.type.compare_values(new, old))
    except Exception:  # a user's __eq__ may raise anything; then the value is written
        return False
