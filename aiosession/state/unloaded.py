"""Explain why an attribute has no value in memory, and what would load it."""

from dataclasses import dataclass

from aiosession.errors import NotLoadedError
from aiosession.mapping.mapper import ColumnAttribute, Relationship
from aiosession.state.lifecycle import DELETED, DETACHED
from aiosession.state.state import EntityState, name_of_key


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a value is missing and what to do about it."""

    reason: str
    remedy: str


def not_loaded(state: EntityState, attribute: ColumnAttribute | Relationship) -> NotLoadedError:
    """Return the error for reading an attribute whose value is not in memory."""
    explanation = _explain(state, attribute)
    return NotLoadedError(
        owner=state.mapper.class_,
        attribute=attribute.key,
        key=state.describe() if state.key is None else name_of_key(state.key),
        reason=explanation.reason,
        remedy=explanation.remedy,
    )


def check_history(state: EntityState, attribute: ColumnAttribute | Relationship) -> None:
    """Refuse to replace a value with ``active_history`` that nobody has loaded, unless it was changed already."""
    if state.committed is not None and attribute.key in state.committed:
        return
    error = not_loaded(state, attribute)
    raise NotLoadedError(
        owner=error.owner,
        attribute=error.attribute,
        key=error.key,
        reason=f"{error.reason}, and it has active_history=True: the value that is replaced has to be known",
        remedy=error.remedy,
    )


def _explain(state: EntityState, attribute: ColumnAttribute | Relationship) -> Explanation:
    path = f"{state.mapper.name}.{attribute.key}"
    variable = state.mapper.name.lower()
    status = state.status
    if status is DETACHED:
        return Explanation(
            "the object is detached, so there is no session that could load it",
            f"Load it while the object is in a session ({_loading_option(attribute, path)}), or add the object to a "
            f"session and call `await session.load({variable}, {path})`",
        )
    if status is DELETED:
        return Explanation("the object's row was deleted", "Read it before the object is deleted and flushed")
    calls = f"Call `await session.load({variable}, {path})` or `await {variable}.awaitable_attrs.{attribute.key}`"
    if state.parked is not None and attribute.key in state.parked:
        return Explanation(
            "its value is stale, and this session refuses to read stale values",
            f"{calls}; `await session.refresh_all()` reads all stale objects again",
        )
    if isinstance(attribute, ColumnAttribute) and _is_made_by_database(state, attribute):
        return Explanation("the database made its value and it was not fetched", calls)
    return Explanation(_reason(attribute), f"{calls}, or add {_loading_option(attribute, path)} to the query")


def _is_made_by_database(state: EntityState, attribute: ColumnAttribute) -> bool:
    """Whether a flush has left the value unknown: it is stale, and nothing is known that could be stale."""
    is_unknown = state.expired is not None and attribute.key in state.expired
    return is_unknown or (state.inserted_here and not attribute.deferred)


def _reason(attribute: ColumnAttribute | Relationship) -> str:
    if isinstance(attribute, Relationship):
        return "the relation was not loaded with the object"
    if attribute.deferred:
        return "the column is deferred"
    return "the column was not loaded with the object"


def _loading_option(attribute: ColumnAttribute | Relationship, path: str) -> str:
    if isinstance(attribute, Relationship):
        return f"selectinload({path})"
    return f"undefer({path})" if attribute.deferred else f"load_only(..., {path})"
