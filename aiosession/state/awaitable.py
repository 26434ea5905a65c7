"""Give attributes that may have to be loaded: ``await obj.awaitable_attrs.books``.

Loading itself is done by whoever set ``workspace.load_attribute``; what is in memory is given without it.
"""

from collections.abc import Awaitable, Generator
from typing import Any

from typing_extensions import override

from aiosession.errors import near
from aiosession.state.history import History, history_of
from aiosession.state.reading import read
from aiosession.state.relations import is_known_empty
from aiosession.state.state import EntityState, is_stale, state_of
from aiosession.state.workspace import workspace_of


class Ready:
    """An awaitable that has its value already."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._value
        yield


class Loading:
    """An awaitable that keeps the object alive while its attribute is loaded."""

    __slots__ = ("_loading", "_obj")

    def __init__(self, obj: object, loading: Awaitable[object]) -> None:
        self._obj = obj
        self._loading = loading

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._loading.__await__())


class LoadedHistory:
    """An awaitable that loads an attribute and gives its history."""

    __slots__ = ("_key", "_obj", "_state")

    def __init__(self, state: EntityState, obj: object, key: str) -> None:
        self._state = state
        self._obj = obj
        self._key = key

    def __await__(self) -> Generator[Any, Any, History]:
        yield from _awaitable(self._state, self._obj, self._key).__await__()
        return history_of(self._state, self._key)


class AwaitableAttributes:
    """The mapped attributes of one object, each as an awaitable; awaiting loads what is missing or stale."""

    __slots__ = ("_obj",)

    def __init__(self, obj: object) -> None:
        self._obj = obj

    def __getattr__(self, name: str) -> Awaitable[Any]:
        state = state_of(self._obj)
        if name not in state.mapper.attributes:
            raise AttributeError(
                f"{state.mapper.name} has no mapped attribute {name!r}{near(name, state.mapper.attributes)}"
            )
        return _awaitable(state, self._obj, name)

    @override
    def __dir__(self) -> list[str]:
        return sorted(state_of(self._obj).mapper.attributes)


def awaitable_attrs(obj: object) -> AwaitableAttributes:
    """Return the attributes of a mapped object as awaitables."""
    return AwaitableAttributes(obj)


def awaited_history(state: EntityState, obj: object, key: str) -> Awaitable[History]:
    """Return the history of an attribute as an awaitable that loads the attribute first if it has to."""
    return LoadedHistory(state, obj, key)


def _awaitable(state: EntityState, obj: object, name: str) -> Awaitable[Any]:
    workspace = workspace_of(obj)
    if workspace is None or workspace.load_attribute is None or state.key is None or _is_known(state, name):
        return Ready(read(state, name))
    return Loading(obj, workspace.load_attribute(state, name))


def _is_known(state: EntityState, name: str) -> bool:
    if is_stale(state, name):
        return False
    if name in state.values() or (state.committed is not None and name in state.committed):
        return True
    return name in state.mapper.relationships and is_known_empty(state, name)
