"""Tell handlers what objects have been through in a session.

Noted while it happens and told when it is done, so that a handler sees objects that are whole, and one that raises
leaves nothing half done.
"""

from collections.abc import Iterable
from typing import Final, Protocol, TypeAlias

from aiosession.events.dispatch import Dispatch
from aiosession.state.lifecycle import DELETED, PENDING, PERSISTENT
from aiosession.state.state import EntityState

Move: TypeAlias = tuple[str, object]
"""The name of an event, and the object that it happened to."""

NOBODY: Final = Dispatch()
"""The handlers of what belongs to no session."""

_DEPARTURES: Final = {
    PENDING: "pending_to_transient",
    PERSISTENT: "persistent_to_detached",
    DELETED: "deleted_to_detached",
}


class Watched(Protocol):
    """What is needed of a workspace."""

    dispatch: Dispatch
    moves: list[Move]

    @property
    def owner(self) -> object | None:
        """The session."""
        ...


def before_attach(workspace: Watched, obj: object) -> None:
    """Tell that an object is about to come into a session; a handler that raises keeps it out."""
    hook = workspace.dispatch.hooks.get("before_attach")
    if hook is not None:
        hook.now(workspace.owner, obj)


def note_arrival(workspace: Watched, obj: object, name: str) -> None:
    """Tell that an object has come into a session."""
    workspace.moves += (("after_attach", obj), (name, obj))
    announce(workspace)


def note_departures(workspace: Watched, states: Iterable[EntityState]) -> None:
    """Note that objects are about to leave a session."""
    for state in states:
        name = _DEPARTURES.get(state.lifecycle)
        obj = state()
        if name is not None and obj is not None:
            workspace.moves.append((name, obj))


def announce(workspace: Watched) -> None:
    """Call the handlers for all that was noted."""
    while workspace.moves:
        name, obj = workspace.moves.pop(0)
        hook = workspace.dispatch.hooks.get(name)
        if hook is not None and obj is not None:
            hook.now(workspace.owner, obj)
