"""Bring objects into line with what was written: keys, values that the database made, what counts as saved.

Pure, and only done when everything was written. A change that somebody made while the flush was waiting stays a change.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiosession.errors import FlushError
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind
from aiosession.state.contents import members
from aiosession.state.group import LoadGroup
from aiosession.state.state import EntityState
from aiosession.state.workspace import Workspace
from aiosession.unit_of_work.columns import NULL
from aiosession.unit_of_work.execute import Outcome, Written
from aiosession.unit_of_work.plan import Batch, FlushPlan
from aiosession.unit_of_work.worklist import Worklist

Seen = Mapping[EntityState, Mapping[str, object]]


def changes_seen(work: Worklist) -> Seen:
    """Return what a flush is about to write of changed objects, to tell it from what changes later."""
    return {state: work.workspace.changes_of(state) for state in work.updates}


def settle(work: Worklist, plan: FlushPlan, outcome: Outcome, seen: Seen) -> None:
    """Record that *plan* was carried out with *outcome*."""
    workspace = work.workspace
    workspace.purge()
    _settle_known(work, seen)
    for state, values in plan.followed.items():
        _follow(workspace, state, values, outcome, seen.get(state, {}))
    for old in plan.replaced.values():
        workspace.make_deleted(old)
    for written in outcome.written:
        if written.batch.mapper is not None:
            _settle_written(workspace, written)
    for state in plan.followed:
        _rekey(workspace, state)
    for new, old in plan.replaced.items():
        _take_over(workspace, new, old)


def _settle_known(work: Worklist, seen: Seen) -> None:
    """Record what was to be done, whatever came back."""
    for state in work.dropped:
        work.workspace.drop_pending(state)
    for state, changes in seen.items():
        work.workspace.record_written(state, changes)


def _settle_written(workspace: Workspace, written: Written) -> None:
    _SETTLERS[written.batch.kind](workspace, written)
    if written.batch.unknown:
        _group(written.batch.states)


def _rekey(workspace: Workspace, state: EntityState) -> None:
    if workspace.has(state):
        workspace.rekey(state, identity_of(state))


def _take_over(workspace: Workspace, new: EntityState, old: EntityState) -> None:
    """Give a new object the row of a deleted one."""
    if old.key is not None:
        names = (attribute.key for attribute in new.mapper.primary_key_attributes)
        workspace.record_generated(new, dict(zip(names, old.key[1], strict=True)))
        workspace.make_persistent(new, old.key)


def _follow(
    workspace: Workspace, state: EntityState, values: Mapping[str, Any], outcome: Outcome, seen: Mapping[str, object]
) -> None:
    """Give an object what the database gave its row; not what it gets from this flush itself."""
    names = [name for name in values if name not in seen]
    if workspace.has(state):
        given = outcome.resolve([values[name] for name in names])
        workspace.record_generated(state, dict(zip(names, given, strict=True)))


def _group(states: Sequence[EntityState]) -> None:
    """Have what is unknown of new objects loaded for all of them at once."""
    group = LoadGroup([state for state in states if state.group is None])
    for state in group.states:
        state.group = group


def _settle_inserts(workspace: Workspace, written: Written) -> None:
    changed = _changed_meanwhile(written)
    values = decided_rows(written)
    is_plain = not (changed or written.batch.unknown or None in written.returned)
    if is_plain and all(state in workspace.new for state in written.batch.states):
        workspace.record_inserted(written.batch.states, _identities(written), values)
        return
    for number, row in enumerate(values):
        if written.batch.states[number] in workspace.new:  # somebody may have expunged it meanwhile
            _settle_insert(workspace, written, number, changed.get(number), row)


def _settle_insert(
    workspace: Workspace, written: Written, number: int, changed: Mapping[str, Any] | None, values: dict[str, Any]
) -> None:
    """Settle one row by itself: somebody changed the object meanwhile, or some values are not known."""
    batch, state = written.batch, written.batch.states[number]
    if changed:
        decided = {key: value for key, value in values.items() if key in changed and not _is_key(state, key)}
        for key in decided:
            del values[key]
        workspace.record_written(state, {**changed, **decided})
    workspace.record_generated(state, values)
    workspace.make_persistent(state, identity_of(state))
    is_known = not written.returned or written.returned[number] is not None
    unknown = batch.unknown if is_known else (*batch.unknown, *batch.returned)
    if unknown:
        workspace.record_unknown(state, _besides_key(state, unknown))


def _is_key(state: EntityState, name: str) -> bool:
    return any(attribute.key == name for attribute in state.mapper.primary_key_attributes)


def _identities(written: Written) -> list[Any]:
    """Return the identity keys of inserted rows."""
    batch = written.batch
    mapper = batch.mapper
    if mapper is None:
        return []
    returned = {name: place for place, name in enumerate(batch.returned)}
    sent = dict(zip(batch.shape.columns, written.values, strict=False))
    columns = [
        [row[returned[attribute.key]] for row in written.returned if row is not None]
        if attribute.key in returned
        else sent[attribute.column]
        for attribute in mapper.primary_key_attributes
    ]
    class_ = mapper.class_
    if any(value is None for column in columns for value in column):
        raise FlushError(f"the database made no value for the primary key of a new {mapper.name}")
    return [(class_, key, batch.token) for key in zip(*columns, strict=True)]


def identity_of(state: EntityState) -> Any:
    """Return the identity key that an object's values give."""
    mapper = state.mapper
    values = state.values()
    key = tuple([values.get(attribute.key) for attribute in mapper.primary_key_attributes])
    if None in key:
        raise FlushError(f"the database made no value for the primary key of a new {mapper.name}: {key}")
    return (mapper.class_, key, state.place)


def decided_rows(written: Written) -> list[dict[str, Any]]:
    """Return for each row the values that the flush or the database decided on, by attribute."""
    batch = written.batch
    names = [name for name, _ in batch.decided]
    columns = [[None if value is NULL else value for value in written.values[place]] for _, place in batch.decided]
    if not names:
        rows: list[dict[str, Any]] = [{} for _ in range(batch.count)]
    else:
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if batch.returned:
        for values, row in zip(rows, written.returned, strict=True):
            if row is not None:
                values.update(zip(batch.returned, row, strict=True))
    return rows


def _changed_meanwhile(written: Written) -> dict[int, dict[str, Any]]:
    """Return, for new objects that were changed while the flush was waiting, what was written of them."""
    found: dict[int, dict[str, Any]] = {}
    batch = written.batch
    dicts = [state().__dict__ for state in batch.states]
    relations = {} if batch.mapper is None else batch.mapper.relationships
    for key, column in batch.seen:
        is_collection = key in relations and relations[key].uselist
        differs = _other_members if is_collection else _other_value
        for number, (held, value) in enumerate(zip(dicts, column, strict=True)):
            now = held.get(key)
            if now is not value and differs(now, value):
                found.setdefault(number, {})[key] = () if value is None and is_collection else value
    return found


def _other_value(now: object, seen: object) -> bool:
    return seen is not NULL or now is not None


def _other_members(now: Any, seen: Any) -> bool:
    first, second = () if now is None else members(now), seen or ()
    return len(first) != len(second) or any(a is not b for a, b in zip(first, second, strict=True))


def _settle_updates(workspace: Workspace, written: Written) -> None:
    batch = written.batch
    mapper = batch.mapper
    is_moved = mapper is not None and _writes_key(batch, mapper)
    if not (batch.decided or batch.returned or batch.unknown or is_moved):
        return
    decided = decided_rows(written)
    for number, state in enumerate(batch.states):
        if decided[number]:
            workspace.record_generated(state, decided[number])
        is_known = not written.returned or written.returned[number] is not None
        unknown = batch.unknown if is_known else (*batch.unknown, *_besides_key(state, batch.returned))
        if unknown:
            workspace.record_unknown(state, unknown)
        if is_moved and state.key is not None:
            workspace.rekey(state, identity_of(state))


def _writes_key(batch: Batch, mapper: AnyMapper) -> bool:
    return not set(mapper.primary_key).isdisjoint((*batch.shape.columns, *batch.expressions))


def _besides_key(state: EntityState, names: Iterable[str]) -> list[str]:
    keys = {attribute.key for attribute in state.mapper.primary_key_attributes}
    return [name for name in names if name not in keys]


def _settle_deletes(workspace: Workspace, written: Written) -> None:
    for state in written.batch.states:
        if workspace.has(state):  # somebody may have expunged it meanwhile
            workspace.make_deleted(state)


_SETTLERS = {
    WriteKind.INSERT: _settle_inserts,
    WriteKind.UPDATE: _settle_updates,
    WriteKind.DELETE: _settle_deletes,
}
