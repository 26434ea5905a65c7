"""Hook points: places where handlers, plain or ``async``, can be attached.

A hook costs one falsy check while it has no handlers: guard the call with ``if hook:``.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Generic, ParamSpec, Protocol, TypeVar

_P = ParamSpec("_P")
_H = TypeVar("_H", bound=Callable[..., object])


class Hook(Generic[_P]):
    """One place where something happens; handlers are called in the order in which they were attached."""

    __slots__ = ("_handlers", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._handlers: tuple[Callable[_P, object], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def __iter__(self) -> Iterator[Callable[_P, object]]:
        return iter(self._handlers)

    def add(self, handler: Callable[_P, object], *, first: bool = False) -> None:
        """Attach *handler*, a function or a coroutine function."""
        self._handlers = (handler, *self._handlers) if first else (*self._handlers, handler)

    def remove(self, handler: Callable[_P, object]) -> None:
        """Detach *handler*; a call under way still reaches it."""
        self._handlers = tuple(known for known in self._handlers if known != handler)

    @contextmanager
    def listening(self, handler: Callable[_P, object]) -> Iterator[None]:
        """Attach *handler* for the length of a ``with`` block."""
        self.add(handler)
        try:
            yield
        finally:
            self.remove(handler)

    async def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Call every handler and await those that are ``async``; the first error ends it."""
        for handler in self._handlers:
            answer = handler(*args, **kwargs)
            if inspect.isawaitable(answer):
                await answer

    async def tell_all(self, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Call every handler, whatever the others raise; the first error is raised when all have been called."""
        failure: Exception | None = None
        for handler in self._handlers:
            try:
                answer = handler(*args, **kwargs)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def now(self, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Call every handler, all of which are plain functions; the first error ends it."""
        for handler in self._handlers:
            handler(*args, **kwargs)


@dataclass(slots=True)
class StatementEvent:
    """A statement on its way to the database and, afterwards, what became of it."""

    sql: str
    parameters: object
    """A sequence of values; for `many` a sequence of such sequences."""
    kind: str
    """The statement's verb in capitals (SELECT, INSERT, BEGIN, COMMIT, SAVEPOINT, ...)."""
    many: bool = False
    """It is run once for each row of parameters."""
    duration: float | None = None
    """Seconds until the answer; None before the statement. Of a stream, those that its reader waited; of
    statements that went out together, the first has them all, the others 0."""
    row_count: int | None = None
    error: BaseException | None = None
    connection: int | None = None
    """The number of the connection, in this process."""
    round_trips: int = 1
    """How often the database was waited for: 0 for what went out together with another statement."""
    returns_rows: bool = False
    """Whether `row_count` is the number of rows that came back, not of those that were written."""


class Listening(Protocol):
    """Whoever is told of statements; false if that is nobody."""

    def __bool__(self) -> bool: ...

    async def tell_before(self, event: StatementEvent) -> None:
        """Tell of a statement that is about to be sent."""
        ...

    async def tell_after(self, event: StatementEvent) -> None:
        """Tell what became of a statement."""
        ...


class StatementHooks:
    """What an engine tells about its statements."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Hook[[StatementEvent]] = Hook("before statement")
        self.after: Hook[[StatementEvent]] = Hook("after statement")

    def __bool__(self) -> bool:
        return bool(self.before) or bool(self.after)

    async def tell_before(self, event: StatementEvent) -> None:
        """Call those who want to know beforehand."""
        await self.before(event)

    async def tell_after(self, event: StatementEvent) -> None:
        """Call those who want to know what came of it, all of them even if some fail."""
        await self.after.tell_all(event)


class AlsoTold:
    """The listeners of an engine, and a plain function that is told too what comes of each statement."""

    __slots__ = ("_heard", "_hooks")

    def __init__(self, hooks: StatementHooks, heard: Callable[[StatementEvent], None]) -> None:
        self._hooks: Final = hooks
        self._heard: Final = heard

    def __bool__(self) -> bool:
        return True

    async def tell_before(self, event: StatementEvent) -> None:
        """Call the listeners."""
        await self._hooks.before(event)

    async def tell_after(self, event: StatementEvent) -> None:
        """Call the function, and the listeners."""
        self._heard(event)
        await self._hooks.after.tell_all(event)


statements_heard_by: Final[ContextVar[Callable[[StatementEvent], None] | None]] = ContextVar(
    "aiosession statements heard by", default=None
)
"""Who hears of the statements on connections that are borrowed in this context, besides the engine's listeners."""


def listeners(hooks: StatementHooks) -> Listening:
    """Return who is told of the statements on a connection that is borrowed here from the engine with these hooks."""
    heard = statements_heard_by.get()
    return hooks if heard is None else AlsoTold(hooks, heard)
