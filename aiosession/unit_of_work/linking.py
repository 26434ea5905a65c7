"""Carry relations into rows: foreign keys from referred rows, and rows of tables that only connect."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.exc import SAWarning

from aiosession.errors import FlushError
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.relationships import Direction
from aiosession.state.contents import members
from aiosession.state.state import EntityState, state_of
from aiosession.unit_of_work.plan import Reason, Why
from aiosession.unit_of_work.relations import Association, ForeignKey, relations_of
from aiosession.unit_of_work.worklist import Worklist, added, current, has_new_key, removed

KeyColumns = tuple[Column[Any], ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A foreign key to be written because of a relation: rows of *state* refer to *target* (None: to nothing)."""

    state: EntityState
    foreign_key: ForeignKey
    target: EntityState | None
    reason: Reason


@dataclass(slots=True, eq=False)
class Links:
    """What the relations of one flush come to, besides many-to-one relations, which rows read themselves."""

    by_state: dict[EntityState, list[Link]] = field(default_factory=dict)
    late: list[Link] = field(default_factory=list)
    """Foreign keys written by UPDATEs of their own, after all rows are there."""
    connected: dict[Association, list[tuple[EntityState, EntityState]]] = field(default_factory=dict)
    disconnected: dict[Association, list[tuple[EntityState, EntityState]]] = field(default_factory=dict)
    moved: dict[Association, list[tuple[EntityState, EntityState]]] = field(default_factory=dict)
    """Pairs that stay and one of which gets another key."""

    def take(self, link: Link) -> None:
        """Take in a foreign key, to be written with its row or, if that would be a circle, after all rows."""
        if link.foreign_key.is_late:
            self.late.append(link)
        else:
            self.add(link)

    def add(self, link: Link) -> None:
        """Take in a foreign key; a later one for the same column wins, and what refers again is not released."""
        held = self.by_state.setdefault(link.state, [])
        if held and link.target is not None:
            held[:] = [each for each in held if each.target is not None or each.foreign_key is not link.foreign_key]
        held.append(link)


def find_links(work: Worklist) -> Links:
    """Return what has to be written on other rows than those whose relations changed."""
    links = Links()
    for state, child in work.released:
        _release(links, state, child)
    mappers = {state.mapper for held in (work.inserts, work.updates, work.deletes) for state in held}
    relations = {mapper: relations_of(mapper) for mapper in mappers}
    linking = {mapper: each.linking for mapper, each in relations.items() if each.linking}
    changed = [state for state in (*work.inserts, *work.updates) if linking and _links_others(state, linking)]
    for state in changed:
        _remove(work, links, state)
    for state in changed:
        _add(work, links, state)
    _adopt_members(work, links)
    if any(each.associations for each in relations.values()):
        _disconnect_deleted(work, links)
    if any(each.following or each.associations for each in relations.values()):
        for state in work.updates:
            if has_new_key(state):
                _follow_key(work, links, state)
    return links


def _links_others(state: EntityState, linking: Mapping[AnyMapper, frozenset[str]]) -> bool:
    """Whether relations of *state* may have changed that are written on other rows."""
    names = linking.get(state.mapper)
    if names is None:
        return False
    if state.key is None:
        return not names.isdisjoint(state.values())
    return bool(state.pending) or not names.isdisjoint(state.committed or ())


def _remove(work: Worklist, links: Links, state: EntityState) -> None:
    relations = relations_of(state.mapper)
    for child in relations.collections:
        for member in removed(state, child.relationship):
            other = state_of(member)
            if work.is_present(other) and other not in work.deletes:
                _release(links, other, child)
    for association in relations.associations:
        pairs = [(state, state_of(member)) for member in removed(state, association.relationship)]
        links.disconnected.setdefault(association, []).extend(
            (owner, other) for owner, other in pairs if other.key is not None
        )


def _add(work: Worklist, links: Links, state: EntityState) -> None:
    relations = relations_of(state.mapper)
    for child in relations.collections:
        reason = Reason(Why.FOREIGN_KEY, (_name(child.relationship),))
        for member in added(state, child.relationship):
            other = state_of(member)
            if check_present(work, state, child.relationship, other) and other not in work.deletes:
                links.take(Link(other, child, state, reason))
    for association in relations.associations:
        members = [state_of(member) for member in added(state, association.relationship)]
        links.connected.setdefault(association, []).extend(
            (state, other)
            for other in members
            if check_present(work, state, association.relationship, other) and other not in work.deletes
        )


def _adopt_members(work: Worklist, links: Links) -> None:
    for state in work.inserts:
        for child in relations_of(state.mapper).mirrored:
            _adopt(work, links, state, child)


def _adopt(work: Worklist, links: Links, state: EntityState, child: ForeignKey) -> None:
    """Carry the key of a new row to members that have rows and were not told of it: the object had another row once."""
    held, back = state.values().get(child.key), child.relationship.back
    if held is None or back is None:
        return
    for member in members(held) if child.relationship.uselist else (held,):
        other = state_of(member)
        is_told = other.key is None or (other.committed is not None and back.key in other.committed)
        if not is_told and work.is_present(other) and other not in work.deletes:
            reason = Reason(Why.FOREIGN_KEY, (_name(child.relationship),))
            links.take(Link(other, child, state, reason))


def _release(links: Links, state: EntityState, child: ForeignKey) -> None:
    """Have the row of *state* refer to nothing any more."""
    links.add(Link(state, child, None, Reason(Why.FOREIGN_KEY, (_name(child.relationship),))))


def cannot_blank(state: EntityState, relationship: Relationship, attribute: str) -> FlushError:
    """Return the error for a row that would lose a part of its primary key together with its reference."""
    back = relationship.back
    owner = back if relationship.direction is Direction.MANY_TO_ONE and back is not None else relationship
    return FlushError(
        f"{state.describe()} lost its {_name(relationship)}, but its foreign key {state.mapper.name}.{attribute} is "
        f'part of its primary key and cannot become NULL; delete the object, say cascade="all, delete-orphan" on '
        f'{_name(owner)}, or passive_deletes="all" there if the database takes care of it'
    )


def _disconnect_deleted(work: Worklist, links: Links) -> None:
    """Have the connecting rows of deleted objects deleted, as far as they are known."""
    emptied = {(association, other) for association, states in work.emptied for other in states}
    for state in work.deletes:
        for association in relations_of(state.mapper).associations:
            if (association, state) in emptied:
                continue
            relationship = association.relationship
            came = {id(member) for member in added(state, relationship)}
            stored = [member for member in current(state, relationship) if id(member) not in came]
            members = [state_of(member) for member in (*stored, *removed(state, relationship))]
            links.disconnected.setdefault(association, []).extend((state, other) for other in members)


def _follow_key(work: Worklist, links: Links, state: EntityState) -> None:
    """Have the members of collections follow a changed primary key, where the database does not do it."""
    for child in relations_of(state.mapper).following:
        reason = Reason(Why.FOREIGN_KEY, (_name(child.relationship),))
        for member in current(state, child.relationship):
            other = state_of(member)
            if work.is_present(other) and other not in work.deletes:
                links.add(Link(other, child, state, reason))
    for association in relations_of(state.mapper).associations:
        if association.is_followed:
            came = {id(member) for member in added(state, association.relationship)}
            kept = [each for each in current(state, association.relationship) if id(each) not in came]
            links.moved.setdefault(association, []).extend((state, state_of(member)) for member in kept)


def check_present(work: Worklist, state: EntityState, relationship: Relationship, other: EntityState) -> bool:
    """Whether the object at the other end of a relation is in the session; a warning says so if not."""
    if work.is_present(other):
        return True
    warnings.warn(
        f"{other.describe()} is not in the session, so that nothing is written for it along {_name(relationship)} of "
        f"{state.describe()}; add() it, or let the relation cascade save-update",
        SAWarning,
        stacklevel=2,
    )
    return False


def _name(relationship: Relationship) -> str:
    return f"{relationship.parent.name}.{relationship.key}"


# Connecting rows ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectingRows:
    """Rows of a table that only connects, as values in the order of *columns*."""

    association: Association
    columns: KeyColumns
    rows: list[tuple[object, ...]]


def connecting_rows(
    pairs: dict[Association, list[tuple[EntityState, EntityState]]], value_of: Callable[[EntityState, str], object]
) -> list[ConnectingRows]:
    """Return one row per pair and table; a pair that both sides of a relation report counts once."""
    if not pairs:
        return []
    tables: dict[tuple[Table | None, KeyColumns], ConnectingRows] = {}
    seen: dict[tuple[Table | None, KeyColumns], dict[tuple[object, ...], None]] = {}
    for association, found in pairs.items():
        place = (association.relationship.secondary, association.columns)
        rows = seen.setdefault(place, {})
        tables.setdefault(place, ConnectingRows(association, association.columns, []))
        for owner, member in found:
            rows[_row(association, owner, member, value_of)] = None
    for place, rows in seen.items():
        tables[place].rows.extend(rows)
    return [each for each in tables.values() if each.rows]


def _row(
    association: Association, owner: EntityState, member: EntityState, value_of: Callable[[EntityState, str], object]
) -> tuple[object, ...]:
    return tuple(value_of(owner if is_parent else member, attribute) for is_parent, attribute in association.sources)


# Requirements between rows --------------------------------------------------------------------------------------------


def referred_states(state: EntityState, references: Iterable[ForeignKey]) -> list[EntityState]:
    """Return the objects that the row of *state* refers to by its own relations."""
    values = state.values()
    targets = [values.get(reference.key) for reference in references]
    return [state_of(target) for target in targets if target is not None]
