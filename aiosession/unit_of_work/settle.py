"""Bring objects into line with what was written: keys, values that the database made, what counts as saved.

Pure, and only done when everything was written. A change that somebody made while the flush was waiting stays a change.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aiosession.errors import FlushError
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind
from aiosession.state.contents import members
from aiosession.state.state import EntityState
from aiosession.state.workspace import Workspace
from aiosession.unit_of_work.columns import NULL
from aiosession.unit_of_work.execute import Outcome, Written
from aiosession.unit_of_work.plan import FlushPlan
from aiosession.unit_of_work.worklist import Worklist

Seen = Mapping[EntityState, Mapping[str, object]]


def changes_seen(work: Worklist) -> Seen:
    """Return what a flush is about to write of changed objects, to tell it from what changes later."""
    return {state: work.workspace.changes_of(state) for state in work.updates}


def settle(work: Worklist, plan: FlushPlan, outcome: Outcome, seen: Seen) -> None:
    """Record that *plan* was carried out with *outcome*."""
    workspace = work.workspace
    for state in work.dropped:
        workspace.drop_pending(state)
    for state, changes in seen.items():
        workspace.record_written(state, changes)
    for old in plan.replaced.values():
        workspace.make_deleted(old)
    for written in outcome.written:
        if written.batch.mapper is not None:
            _SETTLERS[written.batch.kind](workspace, written)
    for new, old in plan.replaced.items():
        if old.key is not None:
            workspace.make_persistent(new, old.key)


def _settle_inserts(workspace: Workspace, written: Written) -> None:
    batch = written.batch
    mapper = batch.mapper
    if mapper is None:
        return
    changed = _changed_meanwhile(written)
    decided = _decided_rows(written)
    for number, state in enumerate(batch.states):
        if number in changed:
            workspace.record_written(state, changed[number])
        values = decided[number]
        row = written.returned[number] if written.returned else None
        if row is not None:
            values.update(zip(batch.returned, row, strict=True))
        workspace.record_generated(state, values)
        unknown = batch.unknown if row is not None else (*batch.unknown, *batch.returned)
        if unknown:
            workspace.record_unknown(state, _still_unknown(mapper, unknown))
        workspace.make_persistent(state, _identity(mapper, state))


def _still_unknown(mapper: AnyMapper, names: Iterable[str]) -> list[str]:
    return [name for name in names if not mapper.column_attributes[name].is_primary_key]


def _identity(mapper: AnyMapper, state: EntityState) -> Any:
    values = state.values()
    key = tuple([values.get(attribute.key) for attribute in mapper.primary_key_attributes])
    if None in key:
        raise FlushError(f"the database made no value for the primary key of a new {mapper.name}: {key}")
    return (mapper.class_, key, None)


def _decided_rows(written: Written) -> list[dict[str, Any]]:
    batch = written.batch
    if not batch.decided:
        return [{} for _ in range(batch.count)]
    names = [name for name, _ in batch.decided]
    columns = [[None if value is NULL else value for value in written.values[place]] for _, place in batch.decided]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _changed_meanwhile(written: Written) -> dict[int, dict[str, Any]]:
    """Return, for new objects that were changed while the flush was waiting, what was written of them."""
    found: dict[int, dict[str, Any]] = {}
    batch = written.batch
    dicts = [state.values() for state in batch.states]
    relations = {} if batch.mapper is None else batch.mapper.relationships
    for key, column in batch.seen:
        differs = _other_members if key in relations and relations[key].uselist else _other_value
        for number, (held, value) in enumerate(zip(dicts, column, strict=True)):
            if held.get(key) is not value and differs(held.get(key), value):
                found.setdefault(number, {})[key] = () if value is None and differs is _other_members else value
    return found


def _other_value(now: object, seen: object) -> bool:
    return seen is not NULL or now is not None


def _other_members(now: Any, seen: Any) -> bool:
    first, second = () if now is None else members(now), seen or ()
    return len(first) != len(second) or any(a is not b for a, b in zip(first, second, strict=True))


def _settle_updates(workspace: Workspace, written: Written) -> None:
    batch = written.batch
    mapper = batch.mapper
    is_moved = mapper is not None and any(column in mapper.primary_key for column in batch.shape.columns)
    decided = _decided_rows(written)
    for number, state in enumerate(batch.states):
        values = decided[number]
        if written.returned and batch.returned:
            values.update(zip(batch.returned, written.returned[number] or (), strict=False))
        if values:
            workspace.record_generated(state, values)
        if batch.unknown:
            workspace.record_unknown(state, batch.unknown)
        if is_moved and mapper is not None and state.key is not None:
            workspace.rekey(state, _identity(mapper, state))


def _settle_deletes(workspace: Workspace, written: Written) -> None:
    for state in written.batch.states:
        workspace.make_deleted(state)


_SETTLERS = {
    WriteKind.INSERT: _settle_inserts,
    WriteKind.UPDATE: _settle_updates,
    WriteKind.DELETE: _settle_deletes,
}
