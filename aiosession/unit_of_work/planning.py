"""Make the plan of a flush: what goes into which batch, and in which order.

Rows that others refer to are inserted before them and deleted after them. Order is decided between tables; only within
groups of tables that refer to each other (or to themselves) it is decided between rows.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from aiosession.errors import CircularDependencyError, FlushError
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind, WriteShape
from aiosession.state.state import EntityState, state_of
from aiosession.unit_of_work.columns import RowSoFar, client_role
from aiosession.unit_of_work.inserting import Inserting
from aiosession.unit_of_work.keys import Keys
from aiosession.unit_of_work.linking import ConnectingRows, Link, Links, connecting_rows, find_links, referred_states
from aiosession.unit_of_work.ordering import components, layered
from aiosession.unit_of_work.plan import Batch, FlushPlan, Generated, Reason, Why
from aiosession.unit_of_work.relations import Association, relations_of
from aiosession.unit_of_work.updating import RowUpdate, Updating, match_of
from aiosession.unit_of_work.worklist import Worklist, has_new_key


def make_plan(work: Worklist) -> FlushPlan:
    """Return what has to be sent for *work*, in order."""
    planning = _Planning(work)
    batches = tuple(planning.batches())
    keys = planning.keys
    return FlushPlan(batches, awaited=keys.awaited, replaced=planning.replaced, followed=keys.followed)


class _Planning:
    """The making of one plan."""

    def __init__(self, work: Worklist) -> None:
        self.work = work
        self.keys = Keys(work)
        self.links: Links = find_links(work)
        self.replaced = self._replaced() if work.deletes and work.inserts else {}
        self.updating: dict[AnyMapper, Updating] = {}

    def batches(self) -> list[Batch]:
        """Return all batches in order."""
        saves = list(self._saves())
        connect = connecting_rows(self.links.connected, self.keys.of)
        return [
            *saves,
            *self._late_updates(),
            *self._moving(),
            *self._disconnecting(),
            *self._emptying(),
            *map(_connecting, connect),
            *self._deletes(),
        ]

    def _updating(self, mapper: AnyMapper) -> Updating:
        found = self.updating.get(mapper)
        if found is None:
            found = self.updating[mapper] = Updating(mapper, self.keys, self.links)
        return found

    # Inserts and updates

    def _saves(self) -> Iterable[Batch]:
        work = self.work
        states = dict.fromkeys(chain(work.inserts, work.updates))
        states.update((state, None) for state in self.links.by_state if state not in work.deletes)
        by_mapper = _by_mapper(states)
        for group in _in_order(by_mapper):
            if len(group) == 1 and not _is_self_referring(group[0]):
                yield from _apart(group[0], self._save(group[0], by_mapper[group[0]]))
            else:
                members = set(group)
                chosen = [state for state in states if state.mapper in members]
                for layer in self._layers(chosen, self._referred, is_deleting=False):
                    for mapper, found in _by_mapper(layer).items():
                        yield from _apart(mapper, self._save(mapper, found))

    def _save(self, mapper: AnyMapper, states: Sequence[EntityState]) -> Iterable[Batch]:
        inserts = self.work.inserts
        new = [state for state in states if state in inserts]
        if self.replaced:
            yield from self._replacements(mapper, [state for state in new if state in self.replaced])
            new = [state for state in new if state not in self.replaced]
        if new:
            batches = Inserting(mapper, new, self.keys, self.links).batches()
            _check_identities(self.work, mapper, batches)
            yield from batches
        if len(new) < len(states):
            yield from self._updating(mapper).batches([state for state in states if state not in inserts])

    def _replacements(self, mapper: AnyMapper, states: Sequence[EntityState]) -> list[Batch]:
        if not states:
            return []
        updating = self._updating(mapper)
        rows = Inserting(mapper, states, self.keys, self.links).rows()
        found = [
            updating.replacement(state, self.replaced[state], row) for state, row in zip(states, rows, strict=True)
        ]
        return updating.batches_of([row for row in found if row.values])

    def _replaced(self) -> dict[EntityState, EntityState]:
        """Return the new objects that have the primary key of a deleted one: their rows are updated instead."""
        deleted = {state.key[:2]: state for state in self.work.deletes if state.key is not None}
        mappers = {state.mapper for state in deleted.values()}
        found: dict[EntityState, EntityState] = {}
        for state in self.work.inserts:
            if state.mapper in mappers:
                other = deleted.get((state.mapper.class_, self._key_to_be(state)))
                if other is not None:
                    found[state] = other
        return found

    def _key_to_be(self, state: EntityState) -> tuple[object, ...]:
        """Return the primary key that the row of a new object will have, None where it is not known yet."""
        values = state.values()
        referred = [(each, values.get(each.key)) for each in relations_of(state.mapper).references]
        targets = [(each.pairs, state_of(target)) for each, target in referred if target is not None]
        links = self.links.by_state.get(state, ())
        targets += [(link.foreign_key.pairs, link.target) for link in links if link.target is not None]
        key = {each.key: values.get(each.key) for each in state.mapper.primary_key_attributes}
        for pairs, target in targets:
            key.update((name, target.values().get(source)) for source, name in pairs if name in key)
        return tuple(key.values())

    def _referred(self, state: EntityState) -> list[EntityState]:
        """Return the objects whose rows have to be saved before that of *state*."""
        references = [each for each in relations_of(state.mapper).references if not each.is_late]
        links = self.links.by_state.get(state, ())
        targets = (
            *referred_states(state, references),
            *(link.target for link in links if not link.foreign_key.is_late),
        )
        return [other for other in targets if other is not None and self._is_awaited(state, other)]

    def _is_awaited(self, state: EntityState, other: EntityState) -> bool:
        """Whether the row of *state* can only refer to that of *other* after this flush has saved it."""
        work = self.work
        if other is state:
            return state in work.inserts and any(
                isinstance(self.keys.of(state, each.key), Generated) for each in state.mapper.primary_key_attributes
            )
        return other in work.inserts or (other in work.updates and has_new_key(other))

    def _layers(
        self,
        states: Sequence[EntityState],
        required: Callable[[EntityState], list[EntityState]],
        *,
        is_deleting: bool,
    ) -> list[list[EntityState]]:
        result = layered(states, {state: required(state) for state in states})
        if result.cycle:
            raise _circular(result.cycle, is_deleting=is_deleting)
        return result.layers

    def _late_updates(self) -> Iterable[Batch]:
        """Return the UPDATEs of foreign keys that wait until both rows are there."""
        rows: dict[EntityState, RowUpdate] = {}
        for link in self.links.late:
            row = rows.setdefault(link.state, RowUpdate(link.state, why=Why.POST_UPDATE))
            self._refer_late(row, link)
        for mapper, states in _by_mapper(rows).items():
            yield from self._updating(mapper).batches_of([rows[state] for state in states])

    def _refer_late(self, row: RowUpdate, link: Link) -> None:
        for source, destination in link.foreign_key.pairs:
            row.values[destination] = None if link.target is None else self.keys.of(link.target, source)
            row.decided[destination] = None

    # Deletes

    def _moving(self) -> Iterable[Batch]:
        """Return the UPDATEs of connecting rows that follow a key, where the database does not see to it."""
        moved = self.links.moved
        return map(_moving, connecting_rows(moved, self.keys.of), connecting_rows(moved, self.keys.of_stored))

    def _disconnecting(self) -> Iterable[Batch]:
        found = self.links.disconnected
        followed = {association: pairs for association, pairs in found.items() if association.is_followed}
        carried = {association: pairs for association, pairs in found.items() if association not in followed}
        yield from map(_disconnecting, connecting_rows(carried, self.keys.of_saved))
        yield from map(_disconnecting, connecting_rows(followed, self.keys.of_stored))

    def _emptying(self) -> Iterable[Batch]:
        """Return the deletion of connecting rows that nobody has loaded."""
        for association, states in self.work.emptied:
            yield _emptying(association, states, self.keys)

    def _deletes(self) -> Iterable[Batch]:
        work = self.work
        if not work.deletes:
            return []
        gone = set(self.replaced.values())
        states = [state for state in work.deletes if state not in gone]
        by_mapper = _by_mapper(states)
        batches = self._cut_late(states)
        for group in reversed(_in_order(by_mapper)):
            if len(group) == 1 and not _is_self_referring(group[0]):
                batches += _apart(group[0], [self._delete(group[0], by_mapper[group[0]])])
                continue
            members = set(group)
            chosen = [state for state in states if state.mapper in members]
            referring = _Referring(chosen, self.keys)
            for layer in self._layers(chosen, referring.holders, is_deleting=True):
                for mapper, found in _by_mapper(layer).items():
                    batches += _apart(mapper, [self._delete(mapper, found)])
        return batches

    def _cut_late(self, states: Sequence[EntityState]) -> list[Batch]:
        """Return the UPDATEs that cut cycles among rows to be deleted, along relations with post_update."""
        batches: list[Batch] = []
        by_mapper = _by_mapper(states)
        for mapper, found in by_mapper.items():
            references = relations_of(mapper).references
            late = [each for each in references if each.is_late and each.relationship.target in by_mapper]
            if not late:
                continue
            deleted = {(state.mapper, state.key[1]) for state in states if state.key is not None}
            rows = []
            for state in found:
                row = RowUpdate(state, why=Why.POST_UPDATE)
                for reference in late:
                    stored = [self.keys.of_stored(state, destination) for _, destination in reference.pairs]
                    if (reference.relationship.target, tuple(stored)) in deleted:
                        row.values.update(dict.fromkeys([destination for _, destination in reference.pairs]))
                if row.values:
                    rows.append(row)
            if rows:
                batches += self._updating(mapper).batches_of(rows)
        return batches

    def _delete(self, mapper: AnyMapper, states: Sequence[EntityState]) -> Batch:
        match, values = match_of(mapper, states, self.keys)
        return Batch(
            shape=WriteShape(WriteKind.DELETE, mapper.table, match=match),
            mapper=mapper,
            values=values,
            count=len(states),
            states=states,
            reasons=[self.work.deletes[state] for state in states],
            is_counted=mapper.confirm_deleted_rows or mapper.version_id is not None,
        )


class _Referring:
    """Which rows to be deleted are still referred to by which others."""

    def __init__(self, states: Sequence[EntityState], keys: Keys) -> None:
        self.requires: dict[EntityState, list[EntityState]] = {}
        by_key = {state.key[:2]: state for state in states if state.key is not None}
        mappers = {state.mapper for state in states}
        for state in states:
            for target, foreign_key in relations_of(state.mapper).held:
                if foreign_key.is_late or target not in mappers:
                    continue
                other = by_key.get(_stored_target(state, target, foreign_key.pairs, keys))
                if other is not None and other is not state:
                    self.requires.setdefault(other, []).append(state)

    def holders(self, state: EntityState) -> list[EntityState]:
        """Return the objects whose rows have to be deleted before that of *state*."""
        return self.requires.get(state, [])


def _stored_target(
    state: EntityState, target: AnyMapper, pairs: Iterable[tuple[str, str]], keys: Keys
) -> tuple[type, tuple[object, ...]]:
    values = {source: keys.of_stored_or_none(state, destination) for source, destination in pairs}
    return target.class_, tuple(values.get(each.key) for each in target.primary_key_attributes)


def _apart(mapper: AnyMapper, batches: Iterable[Batch]) -> Iterable[Batch]:
    """Return *batches*, row by row if the mapper says batch=False."""
    return batches if mapper.batch else [one for batch in batches for one in batch.split()]


def _by_mapper(states: Iterable[EntityState]) -> dict[AnyMapper, list[EntityState]]:
    grouped: dict[AnyMapper, list[EntityState]] = {}
    for state in states:
        grouped.setdefault(state.mapper, []).append(state)
    return grouped


# Order between mappers ------------------------------------------------------------------------------------------------


def _in_order(mappers: Iterable[AnyMapper]) -> list[tuple[AnyMapper, ...]]:
    """Return mappers in the order in which their rows are saved, those together that refer to each other."""
    chosen = list(mappers)
    return components(chosen, _requirements(chosen)) if len(chosen) > 1 else [tuple(chosen)] if chosen else []


def _requirements(mappers: Iterable[AnyMapper]) -> dict[AnyMapper, set[AnyMapper]]:
    """Return for each mapper those whose rows come first: by its relations, else by its foreign keys."""
    chosen = list(mappers)
    requires = {mapper: set(relations_of(mapper).requires) for mapper in chosen}
    for mapper in chosen:
        referred = {key.column.table for key in mapper.table.foreign_keys if _is_resolved(key)}
        for other in chosen:
            if other.table in referred and other is not mapper and not _reaches(other, mapper, requires):
                requires[mapper].add(other)
    return requires


def _is_resolved(key: Any) -> bool:
    return key.constraint is None or key.constraint.referred_table is not None


def _reaches(start: AnyMapper, goal: AnyMapper, requires: dict[AnyMapper, set[AnyMapper]]) -> bool:
    """Whether *start* requires *goal*, directly or not."""
    todo, seen = [start], {start}
    while todo:
        for other in requires.get(todo.pop(), ()):
            if other is goal:
                return True
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return False


def _is_self_referring(mapper: AnyMapper) -> bool:
    return mapper in relations_of(mapper).requires


def _circular(cycle: Sequence[EntityState], *, is_deleting: bool) -> CircularDependencyError:
    names = [state.describe() for state in cycle]
    relations = dict.fromkeys(
        f"{state.mapper.name}.{each.key}"
        for state, other in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        for each in relations_of(state.mapper).references
        if each.relationship.target is other.mapper and not each.is_late
    )
    what = "deleted after" if is_deleting else "saved before"
    return CircularDependencyError(
        f"{' → '.join([*names, names[0]])}: each row would have to be {what} the next one refers to it; say "
        f"post_update=True on one of the relations {', '.join(relations)}",
        tuple(state() for state in cycle),
    )


# Rows that take the place of others -----------------------------------------------------------------------------------


def _check_identities(work: Worklist, mapper: AnyMapper, batches: Sequence[Batch]) -> None:
    """Refuse new objects whose primary key another object in the session has."""
    known = work.workspace.identity_map.states
    if not known:
        return
    for batch in batches:
        written = dict(zip(batch.shape.columns, batch.values, strict=False))
        columns = [written[each] for each in mapper.primary_key if each in written]
        if len(columns) < len(mapper.primary_key):
            continue
        for key in zip(*columns, strict=True):
            other = None if _has_generated(key) else known.get((mapper.class_, key, work.token))
            if other is not None and other() is not None and other not in work.deletes:
                raise FlushError(
                    f"a new {mapper.name} has the primary key {key}, but {other.describe()} is already in this "
                    f"session; change that object instead"
                )


def _has_generated(key: Iterable[object]) -> bool:
    return any(isinstance(value, Generated) for value in key)


# Connecting rows ------------------------------------------------------------------------------------------------------


def _connecting(found: ConnectingRows) -> Batch:
    table: Any = found.association.relationship.secondary
    values = [list(column) for column in zip(*found.rows, strict=True)]
    columns = list(found.columns)
    for column in table.columns:
        role = client_role(column) if column not in columns else None
        if role is not None:
            columns.append(column)
            compute = role.compute
            values.append(
                [
                    role.constant if compute is None else compute(RowSoFar((), (), number, column))
                    for number in range(len(found.rows))
                ]
            )
    return Batch(
        shape=WriteShape(WriteKind.INSERT, table, columns=tuple(columns)),
        mapper=None,
        values=tuple(values),
        count=len(found.rows),
        reasons=(_reason(found.association),),
        deferred=frozenset(place for place, column in enumerate(values) if Generated in set(map(type, column))),
    )


def _disconnecting(found: ConnectingRows) -> Batch:
    table: Any = found.association.relationship.secondary
    return _connected(found, WriteShape(WriteKind.DELETE, table, match=found.columns), _columns_of(found))


def _moving(new: ConnectingRows, old: ConnectingRows) -> Batch:
    table: Any = new.association.relationship.secondary
    shape = WriteShape(WriteKind.UPDATE, table, columns=new.columns, match=old.columns)
    return _connected(new, shape, (*_columns_of(new), *_columns_of(old)))


def _columns_of(found: ConnectingRows) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*found.rows, strict=True))


def _connected(found: ConnectingRows, shape: WriteShape, values: tuple[list[Any], ...]) -> Batch:
    return Batch(
        shape=shape,
        mapper=None,
        values=values,
        count=len(found.rows),
        reasons=(_reason(found.association),),
        deferred=frozenset(place for place, column in enumerate(values) if Generated in set(map(type, column))),
    )


def _emptying(association: Association, states: Sequence[EntityState], keys: Keys) -> Batch:
    table: Any = association.relationship.secondary
    own = [
        (column, attribute)
        for column, (is_parent, attribute) in zip(association.columns, association.sources, strict=True)
        if is_parent
    ]
    return Batch(
        shape=WriteShape(WriteKind.DELETE, table, match=tuple(column for column, _ in own)),
        mapper=None,
        values=tuple([keys.of_stored(state, attribute) for state in states] for _, attribute in own),
        count=len(states),
        reasons=(_reason(association),),
        is_counted=False,
    )


def _reason(association: Association) -> Reason:
    return Reason(Why.ASSOCIATION, (f"{association.relationship.parent.name}.{association.key}",))
