"""Where does a registry keep the session of a request, a job or a task? In a context variable, or under a key.

A `Scope` holds the session; contexts share it as they share all context variables, and it goes with the last of them.
Nothing is kept in a place of its own, so there is nothing that could be forgotten there.
"""

import sys
import warnings
import weakref
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Final, Generic, Protocol, TypeVar

from aiosession import aio
from aiosession.errors import ArgumentError, ResourceClosedError, near
from aiosession.session.session import AsyncSession

S = TypeVar("S", bound=AsyncSession)


class Scope(Generic[S]):
    """A request, a job, a task, or whatever else has one session."""

    __slots__ = (
        "__weakref__",
        "_owner",
        "_place",
        "_task",
        "_task_name",
        "has_committed",
        "is_explicit",
        "is_over",
        "session",
    )

    def __init__(self, place: aio.Place, *, is_explicit: bool, owner: str = "") -> None:
        self.session: S | None = None
        self.is_explicit: Final = is_explicit
        """Opened as a block, which closes the session at its end."""
        self.is_over = False
        self.has_committed = False
        """Whether a session that was taken from here had committed something that it wrote."""
        self._place: Final = place
        self._owner: Final = owner
        task = aio.current_task()
        self._task: Final = None if task is None else weakref.ref(task)
        self._task_name: Final = aio.task_name()

    @property
    def is_own(self) -> bool:
        """Whether the running task has opened it."""
        task = aio.current_task()
        return task is (None if self._task is None else self._task())

    def take(self) -> S | None:
        """Return the session and forget it."""
        session, self.session = self.session, None
        if session is not None and session.context.has_committed:
            self.has_committed = True
        return session

    def check(self) -> None:
        """Raise `ResourceClosedError` if the block has ended."""
        if self.is_over:
            opened = self._owner or f"the scope that was opened at {self._place.describe()} in {self._task_name}"
            raise ResourceClosedError(
                f"{opened} has ended, and its session is closed; a task that outlives it opens one of its own: "
                f"`async with Session.scope():`"
            )

    def __del__(self) -> None:
        session = self.session
        if session is None or session.context.closed or sys.is_finalizing():
            return
        warnings.warn(
            f"the session made at {self._place.describe()} in {self._task_name} was left open; its last statement was "
            f"{session.context.last_statement}. Call `await Session.remove()`, or open it by `async with "
            f"Session.scope():`",
            ResourceWarning,
            source=session,
            stacklevel=2,
        )


class Storage(Protocol[S]):
    """Knows the current scope."""

    def get(self) -> Scope[S] | None:
        """Return the current scope."""
        ...

    def put(self, scope: Scope[S] | None) -> None:
        """Make *scope* the current one; None ends it."""
        ...


class InContext(Generic[S]):
    """One scope for a context and the tasks that it starts; or with *of_task*, for one task only."""

    __slots__ = ("_variable", "is_of_task")

    def __init__(self, *, of_task: bool) -> None:
        self._variable: Final[ContextVar[Scope[S] | None]] = ContextVar("aiosession scope", default=None)
        self.is_of_task: Final = of_task

    def get(self) -> Scope[S] | None:
        """Return the scope of this context."""
        scope = self._variable.get()
        if scope is not None and self.is_of_task and not scope.is_own:
            return None
        return scope

    def put(self, scope: Scope[S] | None) -> None:
        """Make *scope* that of this context."""
        self._variable.set(scope)


class ByKey(Generic[S]):
    """One scope for each key that *scopefunc* returns; keys are held weakly where Python can do that."""

    __slots__ = ("_scopefunc", "_strong", "_weak")

    def __init__(self, scopefunc: Callable[[], Hashable]) -> None:
        self._scopefunc: Final = scopefunc
        self._weak: Final[weakref.WeakKeyDictionary[Any, Scope[S]]] = weakref.WeakKeyDictionary()
        self._strong: Final[dict[Hashable, Scope[S]]] = {}

    def get(self) -> Scope[S] | None:
        """Return the scope of the current key."""
        key = self._scopefunc()
        found: Scope[S] | None = self._place(key).get(key)
        return found

    def put(self, scope: Scope[S] | None) -> None:
        """Make *scope* that of the current key."""
        key = self._scopefunc()
        if scope is None:
            self._place(key).pop(key, None)
        else:
            self._place(key)[key] = scope

    def _place(self, key: Hashable) -> Any:
        try:
            weakref.ref(key)
        except TypeError:
            return self._strong
        return self._weak


def storage(scope: str, scopefunc: Callable[[], Hashable] | None) -> Storage[Any]:
    """Return where sessions are kept."""
    if scope not in _SCOPES:
        raise ArgumentError(f"scope is one of {', '.join(_SCOPES)}, not {scope!r}{near(str(scope), _SCOPES)}")
    if scopefunc is None:
        return InContext(of_task=scope == "task")
    if not callable(scopefunc):
        raise ArgumentError(f"scopefunc is called for the key of the current scope; {scopefunc!r} cannot be called")
    if scope != "context":
        raise ArgumentError(f"scopefunc says what a scope is; scope={scope!r} says it too: give one of them")
    return ByKey(scopefunc)


_SCOPES: Final = ("context", "task")
