"""How do objects enter, leave and renew themselves in a session? In memory, and with `aiosession.loading`."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from aiosession.errors import ArgumentError, InvalidRequestError, near
from aiosession.loading import load as loading
from aiosession.mapping.cascade import Cascade
from aiosession.state.cascade import reachable
from aiosession.state.history import history_of
from aiosession.state.lifecycle import DELETED, PERSISTENT
from aiosession.state.reading import is_modified as has_changes
from aiosession.state.state import EntityState, state_of
from aiosession.transaction.context import SessionContext

Lock: TypeAlias = bool | Mapping[str, Any] | None
"""What ``with_for_update`` takes: True, or the arguments of Core's ``with_for_update()``."""

_LOCK_ARGUMENTS: Final = ("nowait", "read", "of", "skip_locked", "key_share")


def lock_arguments(lock: Lock) -> Mapping[str, Any] | None:
    """Return the arguments of Core's ``with_for_update()``; None for no lock."""
    if lock is None or lock is False:
        return None
    if lock is True:
        return {}
    if isinstance(lock, Mapping):
        for name in lock:
            if name not in _LOCK_ARGUMENTS:
                raise ArgumentError(
                    f"with_for_update has no argument {name!r}{near(str(name), _LOCK_ARGUMENTS)}; it has "
                    f"{', '.join(_LOCK_ARGUMENTS)}"
                )
        return lock
    raise ArgumentError(f"with_for_update is True or a mapping such as {{'nowait': True}}; got {lock!r}")


def state_in(ctx: SessionContext, obj: object) -> EntityState:
    """Return the state of a persistent object of this session."""
    state = state_of(obj)
    if state.workspace is ctx.workspace and state.lifecycle is PERSISTENT:
        return state
    if state.workspace is not None and state.workspace is not ctx.workspace:
        raise InvalidRequestError(
            f"{state.describe()} belongs to another session ({state.workspace.describe()}); use that session, or "
            f"expunge the object there and add() it here"
        )
    raise InvalidRequestError(
        f"{state.describe()} is {state.status.value}: only persistent objects of this session can be expired, "
        f"refreshed or loaded; add() it and flush first"
    )


def add_all(ctx: SessionContext, objects: Iterable[object]) -> None:
    """Take in objects with what the save-update cascade reaches; nothing of them if one is not mapped."""
    ctx.check_open()
    if not isinstance(objects, Iterable):
        raise ArgumentError(f"add_all() takes several objects, in a list for example, not {objects!r}; see add()")
    each = list(objects)
    for obj in each:
        state_of(obj)
    for obj in each:
        ctx.workspace.add(obj)


def delete(ctx: SessionContext, obj: object) -> None:
    """Have the row of *obj* deleted by the next flush, which also finds what the delete cascade reaches."""
    ctx.check_open()
    state = state_of(obj)
    if state.workspace is not None and state.workspace is not ctx.workspace:
        state_in(ctx, obj)
    ctx.workspace.mark_deleted(state)


def expire(ctx: SessionContext, obj: object, names: Iterable[str] | None) -> None:
    """Throw away unflushed changes of *obj* and mark it stale, and what the refresh-expire cascade reaches."""
    state = state_in(ctx, obj)
    if names is not None:
        ctx.workspace.expire(state, _listed(names))
        return
    reached = [each.state for each in reachable(state, Cascade.REFRESH_EXPIRE)]
    ctx.workspace.expire(state)
    _expire_reached(ctx, reached)


def _expire_reached(ctx: SessionContext, reached: Iterable[EntityState]) -> None:
    """Expire what the refresh-expire cascade came to; what is pending there was never in the database and leaves."""
    for state in reached:
        if state.workspace is not ctx.workspace:
            continue
        if state.lifecycle is PERSISTENT:
            ctx.workspace.expire(state)
        else:
            ctx.workspace.drop_pending(state)


async def refresh(ctx: SessionContext, obj: object, names: Iterable[str] | None, lock: Lock) -> None:
    """Read an object again, throwing away what is not flushed; a row that is gone is an error.

    What else the session has to write is flushed before, after the object has forgotten its changes.
    """
    ctx.check_open()
    state = state_in(ctx, obj)
    arguments = lock_arguments(lock)
    chosen = None if names is None else _checked_names(state, names)
    ctx.enter().check()
    expire(ctx, obj, chosen)
    await ctx.autoflush()
    await loading.reload(ctx, [obj], chosen, lock=arguments)


def _listed(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise ArgumentError(f"attribute_names is a list of names; write [{names!r}]")
    return list(names)


def _checked_names(state: EntityState, names: Iterable[str]) -> list[str]:
    chosen = _listed(names)
    for name in chosen:
        state.mapper.attribute(name)
    return chosen


async def refresh_all(ctx: SessionContext) -> None:
    """Read every stale object again, one statement per class; those whose rows are gone stay stale."""
    ctx.check_open()
    await ctx.autoflush()
    await loading.reload_stale(ctx)


def is_in(ctx: SessionContext, obj: object) -> bool:
    """Whether an object is pending or persistent in this session."""
    state = state_of(obj)
    return state.workspace is ctx.workspace and state.lifecycle is not DELETED


def is_modified(obj: object, *, include_collections: bool) -> bool:
    """Whether a flush would find a change of *obj* to write."""
    state = state_of(obj)
    if state.key is None or include_collections:
        return has_changes(obj)
    relations = state.mapper.relationships
    names = [name for name in state.committed or () if name not in relations or not relations[name].uselist]
    return any(history_of(state, name) for name in names)


@contextmanager
def without_autoflush(ctx: SessionContext) -> Iterator[None]:
    """Have queries not flush before, for the length of a block."""
    before, ctx.autoflushes = ctx.autoflushes, False
    try:
        yield
    finally:
        ctx.autoflushes = before
