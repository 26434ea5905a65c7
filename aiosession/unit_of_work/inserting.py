"""Turn new objects of one mapper into INSERT batches.

Works column by column: for a thousand objects a column is one list, and what has to be known about its values (are
there SQL expressions, values of a wrong type, anything missing?) is asked of the set of their types.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import insert

from aiosession.errors import FlushError
from aiosession.mapping.mapper import AnyMapper
from aiosession.state.contents import members
from aiosession.state.state import STATE_KEY, EntityState, state_of
from aiosession.state.values import is_expression
from aiosession.unit_of_work.checks import is_expression_type, misfits, refuse, unreadable
from aiosession.unit_of_work.columns import NULL, ColumnRole, RowSoFar, Source, columns_of
from aiosession.unit_of_work.insert_form import InsertForm, insert_form, known_forms
from aiosession.unit_of_work.keys import Keys
from aiosession.unit_of_work.linking import Link, Links, check_present
from aiosession.unit_of_work.plan import Batch, Reason, Why
from aiosession.unit_of_work.relations import ForeignKey, relations_of

_NEW: Final = (Reason(Why.NEW),)
_NONE: Final = type(None)
_NULL: Final = type(NULL)


class Inserting:
    """The INSERTs of one mapper."""

    def __init__(self, mapper: AnyMapper, states: Sequence[EntityState], keys: Keys, links: Links) -> None:
        self.mapper = mapper
        self.states = states
        self.keys = keys
        self.links = links
        self.columns = columns_of(mapper)
        work = keys.work
        self.dicts: list[dict[str, Any]] = [work.inserts[state].__dict__ for state in states]
        self.values: dict[ColumnRole, list[Any]] = {}
        self.kinds: dict[ColumnRole, frozenset[type]] = {}
        self.changed: set[ColumnRole] = set()
        """Columns in which some values are not what the objects have."""
        self.seen: list[tuple[str, list[Any]]] = []

    def batches(self) -> list[Batch]:
        """Return the batches: usually one, more where some objects have values for what the database fills in."""
        self._work_out()
        form = self._common_form()
        if form is not None:
            return [self._batch(form, None)]
        return [batch for rows in self._alike() for batch in self._batches_of(rows)]

    def rows(self) -> list[dict[str, Any]]:
        """Return the values of the rows by attribute, without those that only the database makes."""
        self._work_out()
        self._check()
        columns = [(role, values) for role, values in self.values.items() if role.key]
        return [
            {
                role.key: values[number]
                for role, values in columns
                if role.source is not Source.SERVER or values[number] is not None
            }
            for number in range(len(self.states))
        ]

    def _work_out(self) -> None:
        self._take_values()
        for reference in relations_of(self.mapper).references:
            self._refer(reference)
        if self.links.by_state:
            self._apply_links()
        self._fill_in()

    # Values

    def _take_values(self) -> None:
        dicts = self.dicts
        for role in self.columns.roles:
            if role.source is not Source.ALWAYS_SERVER:
                key, absent = role.key, role.absent
                values = [each.get(key, absent) for each in dicts]
                self.values[role] = values
                if key:
                    self.seen.append((key, values))
                if role.given_none is not None and None in values:
                    self.values[role] = [
                        role.given_none if value is None and key in each else value
                        for value, each in zip(values, dicts, strict=True)
                    ]
                    self.changed.add(role)

    def _own(self, key: str) -> list[Any]:
        """Return the values of a column, ready to be overwritten."""
        role = self.columns.by_key[key]
        if role not in self.changed:
            self.changed.add(role)
            self.values[role] = list(self.values[role])
        return self.values[role]

    def _refer(self, reference: ForeignKey) -> None:
        """Fill in the foreign keys of a many-to-one relation."""
        key = reference.key
        targets = [each.get(key) for each in self.dicts]
        if not any(target is not None for target in targets):
            return
        self.seen.append((key, targets))
        known = {id(target): target for target in targets if target is not None}
        usable = {place: target for place, target in known.items() if self._is_usable(reference, target)}
        if reference.is_late:
            self._defer(reference, targets, usable)
        for source, destination in reference.pairs:
            of_target = {place: self.keys.of_object(target, source) for place, target in usable.items()}
            column = self._own(destination)
            for number, target in enumerate(targets):
                if id(target) in of_target:
                    column[number] = of_target[id(target)]
                    self._note_key(number, destination, column[number])

    def _is_usable(self, reference: ForeignKey, target: Any) -> bool:
        other: EntityState = target.__dict__[STATE_KEY]
        work = self.keys.work
        if not work.is_present(other):
            number = next(n for n, each in enumerate(self.dicts) if each.get(reference.key) is target)
            return check_present(work, self.states[number], reference.relationship, other)
        return True

    def _defer(self, reference: ForeignKey, targets: Sequence[Any], usable: dict[int, Any]) -> None:
        """Leave references to rows that this flush inserts to UPDATEs after it; they are taken out of *usable*."""
        reason = Reason(Why.POST_UPDATE, (f"{self.mapper.name}.{reference.key}",))
        new = {place: state_of(each) for place, each in usable.items() if state_of(each) in self.keys.work.inserts}
        for place in new:
            del usable[place]
        self.links.late += (
            Link(state, reference, new[id(target)], reason)
            for state, target in zip(self.states, targets, strict=True)
            if id(target) in new
        )

    def _note_key(self, number: int, key: str, value: object) -> None:
        if self.columns.by_key[key].is_primary_key:
            self.keys.decide(self.states[number], key, value)

    def _apply_links(self) -> None:
        """Fill in the foreign keys that relations of other objects give."""
        for number, state in enumerate(self.states):
            for link in self.links.by_state.get(state, ()):
                for source, destination in link.foreign_key.pairs:
                    value = None if link.target is None else self.keys.of(link.target, source)
                    self._own(destination)[number] = value
                    self._note_key(number, destination, value)

    def _fill_in(self) -> None:
        for role, values in list(self.values.items()):
            kinds = self.kinds[role] = frozenset(map(type, values))
            if role.source is Source.CLIENT and _NONE in kinds:
                self._default(role)
        version = self.mapper.version_id
        if version is not None and self.mapper.version_id_generator:
            generate = self.mapper.version_id_generator
            values = self._own(version.key)
            for number, value in enumerate(values):
                if value is None:
                    values[number] = generate(None)
            self.kinds[self.columns.by_key[version.key]] = frozenset(map(type, values))

    def _default(self, role: ColumnRole) -> None:
        """Fill in a default that Python computes."""
        self.changed.add(role)
        before = self.values[role]
        if role.compute is None:
            values = [role.constant if value is None else value for value in before]
        else:
            roles, columns = list(self.values), list(self.values.values())
            values = [
                role.compute(RowSoFar(roles, columns, number, role.column)) if value is None else value
                for number, value in enumerate(before)
            ]
        self.values[role] = values
        self.kinds[role] = frozenset(map(type, values))
        if role.key:
            for state, value in zip(self.states, values, strict=True):
                self.keys.decide(state, role.key, value)

    # Checks

    def _check(self) -> None:
        """Refuse values that their columns cannot hold, and primary keys without a value."""
        for role, values in self.values.items():
            kinds = self.kinds[role]
            if _NONE in kinds and role.key in self.columns.required:
                raise FlushError(
                    f"a new {self.mapper.name} has no value for {role.key!r}, which is part of its primary key and "
                    f"which nothing fills in; set it before adding the object, or give the column a default"
                )
            wrong = [kind for kind in misfits(role.column.type, kinds) if not is_expression_type(kind)]
            if wrong:
                raise refuse(self.mapper, role, next(value for value in values if type(value) in wrong))
        self._check_texts([role for role, kinds in self.kinds.items() if str in kinds])

    def _check_texts(self, roles: Iterable[ColumnRole]) -> None:
        for role in roles:
            text = unreadable(role.column.type, self.values[role])
            if text is not None:
                raise refuse(self.mapper, role, text)

    # Batches

    def _common_form(self) -> InsertForm | None:
        """Return the form of all rows; None if some take other columns than others, or SQL expressions."""
        forms = known_forms(self.mapper)
        key = (*self.kinds.values(), frozenset(self.changed))
        form = forms.get(key)
        if form is not None:
            self._check_texts(form.read)
            return form
        self._check()
        written = self._written(0)
        if self._mixed() or self._rows_with_expressions(written):
            return None
        form = forms[key] = self._form(written, None)
        return form

    def _written(self, number: int) -> list[ColumnRole]:
        """Return the columns for which a row has a value."""
        return [
            role
            for role, values in self.values.items()
            if role.source is not Source.SERVER or values[number] is not None
        ]

    def _batches_of(self, rows: list[int] | None) -> list[Batch]:
        every = range(len(self.states))
        chosen = rows if rows is not None else every
        written = self._written(chosen[0])
        special = self._rows_with_expressions(written)
        plain = [number for number in chosen if number not in special] if special else chosen
        found = []
        if plain:
            part = None if len(plain) == len(every) else plain
            found.append(self._batch(self._form(written, part), part))
        return found + [self._expression_batch(written, number) for number in chosen if number in special]

    def _alike(self) -> Iterable[list[int] | None]:
        """Return the rows that take the same columns; None for all of them."""
        mixed = self._mixed()
        if not mixed:
            return (None,)
        columns = [self.values[role] for role in mixed]
        groups: dict[tuple[bool, ...], list[int]] = {}
        for number, row in enumerate(zip(*columns, strict=True)):
            groups.setdefault(tuple([value is None for value in row]), []).append(number)
        return groups.values()

    def _mixed(self) -> list[ColumnRole]:
        """Return the columns that the database fills in some of the rows."""
        return [role for role in self.columns.server if _NONE in self.kinds[role] and len(self.kinds[role]) > 1]

    def _rows_with_expressions(self, written: list[ColumnRole]) -> set[int]:
        found: set[int] = set()
        for role in written:
            kinds = {kind for kind in self.kinds[role] if is_expression_type(kind)}
            if role.takes_none:
                kinds.discard(_NULL)
            if kinds:
                found.update(number for number, value in enumerate(self.values[role]) if type(value) in kinds)
        return found

    def _form(self, written: Sequence[ColumnRole], rows: Sequence[int] | None) -> InsertForm:
        kinds = self.kinds
        if rows is not None:
            own = {role: frozenset(map(type, _chosen(self.values[role], rows))) for role in self.changed}
            kinds = {**kinds, **own}
        return insert_form(self.mapper, written, kinds, self.changed)

    def _batch(self, form: InsertForm, rows: Sequence[int] | None) -> Batch:
        """Return the batch of some rows, or of all."""
        states = _chosen(self.states, rows)
        return Batch(
            shape=form.shape,
            mapper=self.mapper,
            values=tuple([_chosen(self.values[role], rows) for role in form.roles]),
            count=len(states),
            states=states,
            reasons=_NEW,
            deferred=form.deferred,
            decided=form.decided,
            returned=form.returned,
            unknown=form.unknown,
            seen=self._seen(rows),
        )

    def _seen(self, rows: Sequence[int] | None) -> tuple[tuple[str, list[Any]], ...]:
        """Return what the objects had: changes that come while the flush waits are told by it."""
        found = [(key, _chosen(values, rows)) for key, values in self.seen]
        dicts = _chosen(self.dicts, rows)
        for key in self.columns.collections:
            held = [each.get(key) for each in dicts]
            if any(held):
                found.append((key, [None if each is None else members(each) for each in held]))
        return tuple(found)

    def _expression_batch(self, written: Sequence[ColumnRole], number: int) -> Batch:
        """Return the batch of one row that has SQL expressions among its values: a statement of its own."""
        plain = [role for role in written if not is_expression(self.values[role][number])]
        special = {role.column: self.values[role][number] for role in written if role not in plain}
        batch = self._batch(self._form(plain, [number]), [number])
        returned = batch.shape.returning
        returning = (*returned, *(column for column in special if column not in returned))
        return replace(
            batch,
            shape=replace(batch.shape, returning=returning),
            statement=insert(batch.table).values(special).inline(),
            expressions=special,
            returned=tuple(names_of(self.mapper, returning)),
        )


def _chosen(values: Sequence[Any], rows: Sequence[int] | None) -> list[Any]:
    if rows is None:
        return values if isinstance(values, list) else list(values)
    return [values[number] for number in rows]


def names_of(mapper: AnyMapper, columns: Iterable[Any]) -> list[str]:
    """Return the attributes that hold *columns*."""
    return [mapper.attribute_of(column).key for column in columns]
