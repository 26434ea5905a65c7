"""Make objects what they are not: rows forgotten, or taken for granted. Both leave the session of the object."""

from aiosession.errors import InvalidRequestError
from aiosession.state.lifecycle import DELETED, DETACHED, TRANSIENT
from aiosession.state.reading import unloaded_names
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace


def make_transient(instance: object) -> None:
    """Have an object forget its row and its session: ``add()`` then inserts it anew.

    It keeps the values it has, the primary key too; set that to None to get a new one. Unloaded attributes read as
    None from then on.
    """
    state = state_of(instance)
    workspace = state.workspace
    if isinstance(workspace, Workspace):
        workspace.let_go(state)
    state.release()
    if state.lifecycle is not TRANSIENT:
        state.move(TRANSIENT)
    _restore_parked(state)
    state.key = None
    state.inserted_here = state.was_deleted = False
    state.committed = state.pending = state.expired = state.parents = state.group = None
    state.epoch = 0


def _restore_parked(state: EntityState) -> None:
    values = state.values()
    for key, value in (state.parked or {}).items():
        values.setdefault(key, value)
    state.parked = None


def make_transient_to_detached(instance: object) -> None:
    """Have a transient object pass for one that was loaded: it needs its primary key, and nothing is looked up.

    The values it has count as what is in the database; what it lacks is stale, and read when ``add()`` has put it into
    a session and something awaited touches it.
    """
    state = state_of(instance)
    if state.status is not TRANSIENT or state.key is not None:
        raise InvalidRequestError(
            f"{state.describe()} is {state.status.value}; only a transient object can be detached"
        )
    values = state.values()
    primary_key = [values.get(attribute.key) for attribute in state.mapper.primary_key_attributes]
    if None in primary_key:
        lacking = [each.key for each in state.mapper.primary_key_attributes if values.get(each.key) is None]
        raise InvalidRequestError(
            f"{state.describe()} has no value for {', '.join(lacking)}: without its primary key nobody can find its row"
        )
    state.workspace_ref = None
    state.key = state.mapper.identity_key(primary_key)
    state.lifecycle = DETACHED
    state.committed = state.pending = state.parents = None
    state.was_deleted = state.inserted_here = False
    state.expired = unloaded_names(state) or None


def was_deleted(instance: object) -> bool:
    """Whether a flush has deleted an object's row, in the transaction in progress or in one that was committed."""
    state = state_of(instance)
    return state.status is DELETED or state.was_deleted
