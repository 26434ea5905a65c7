"""Put the objects of a session back to how they were when its innermost transaction or savepoint began."""

from collections.abc import Callable
from typing import Any, Protocol

from aiosession.events.dispatch import Dispatch
from aiosession.state import undo
from aiosession.state.identity import IdentityMap
from aiosession.state.lifecycle import DELETED, PENDING, PERSISTENT, TRANSIENT
from aiosession.state.state import EntityState
from aiosession.state.undo import Frame


class Unwindable(Protocol):
    """What unwinding needs of a workspace."""

    identity_map: IdentityMap
    new: dict[EntityState, object]
    dirty: dict[EntityState, object]
    deleted: dict[EntityState, object]
    frames: list[Frame]
    ref: Callable[[], Any]
    dispatch: Dispatch
    moves: list[tuple[str, Any]]

    def detach(self, state: EntityState) -> None:
        """Let one object go."""
        ...


def undo_innermost(workspace: Unwindable) -> set[EntityState]:
    """End the innermost frame, with objects and collections as they were when it began; return what it concerned."""
    frame = workspace.frames[-1]
    unflushed = changed(workspace)
    touched: set[EntityState] = {*unflushed, *frame.deleted}
    for state, obj in unflushed.items():
        undo.undo_unflushed(state, obj)
    workspace.dirty.clear()
    _undo_arrivals(workspace, frame)
    _undo_keys(workspace, frame)
    for state, old in frame.values.items():
        obj = state()
        if obj is not None:
            undo.put_back(state, obj, old)
            touched.add(state)
    _redo_unflushed(workspace, frame)
    workspace.frames.pop()
    if not workspace.frames:
        workspace.frames.append(Frame())
    return touched


def changed(workspace: Unwindable) -> dict[EntityState, object]:
    """Return everything with unflushed changes, deleted objects too: their DELETE may be undone."""
    found = dict(workspace.dirty)
    for frame in workspace.frames:
        found.update((state, obj) for state, obj in frame.deleted.items() if state.committed or state.pending)
    return found


def _undo_arrivals(workspace: Unwindable, frame: Frame) -> None:
    for state in frame.inserted:
        if state.key is not None and state.workspace_ref is workspace.ref:
            workspace.identity_map.discard(state.key, state)
    for state, held in frame.inserted.items():
        obj = state()
        if obj is not None and state.workspace_ref is workspace.ref:
            undo.forget_added_attributes(state, obj, held)
            _undo_insert(workspace, state, is_pending=state in frame.pending)
    for state in [state for state in workspace.new if state not in frame.pending]:
        workspace.detach(state)


def _undo_insert(workspace: Unwindable, state: EntityState, *, is_pending: bool) -> None:
    state.key = None
    state.inserted_here = False
    state.expired = state.parked = state.parents = None
    wanted = PENDING if is_pending else TRANSIENT
    if workspace.dispatch.hooks and not is_pending and state.lifecycle is PERSISTENT:
        workspace.moves.append(("persistent_to_transient", state()))
    if state.lifecycle is not wanted:
        state.move(wanted)
    if not is_pending:
        state.workspace_ref = None


def _undo_keys(workspace: Unwindable, frame: Frame) -> None:
    for state in frame.rekeyed:
        if state.key is not None:
            workspace.identity_map.discard(state.key, state)
    for state, key in frame.rekeyed.items():
        if state not in frame.inserted and state.workspace_ref is workspace.ref:
            state.key = key
            _reenter(workspace, state)
    for state in frame.deleted:
        if state.lifecycle is DELETED and state.workspace_ref is workspace.ref:
            state.move(PERSISTENT)
            _reenter(workspace, state)
            if workspace.dispatch.hooks:
                workspace.moves.append(("deleted_to_persistent", state()))


def _reenter(workspace: Unwindable, state: EntityState) -> None:
    if state.key is not None and state() is not None and state.lifecycle is PERSISTENT:
        workspace.identity_map.states[state.key] = state


def _redo_unflushed(workspace: Unwindable, frame: Frame) -> None:
    workspace.new.clear()
    for state, saved in frame.pending.items():
        if state.workspace_ref is workspace.ref and state.lifecycle is PENDING:
            workspace.new[state] = saved.obj
            undo.restore_pending(state, saved)
    for state, saved in frame.dirty.items():
        if state.workspace_ref is workspace.ref:
            undo.redo_unflushed(state, saved)
            if state.lifecycle is PERSISTENT:
                workspace.dirty[state] = saved.obj
    workspace.deleted.clear()
    workspace.deleted.update(
        (state, obj) for state, obj in frame.marked.items() if state.workspace_ref is workspace.ref
    )
