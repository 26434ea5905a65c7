"""Who is told that a session flushes, prepares or commits, and for how long? Whoever measures; it changes nothing.

Other than handlers of ``before_flush`` and the like, these are told of every session, take no part in its work, and
have no influence on how it is done.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from aiosession.events.hooks import Hook

_LOG: Final = logging.getLogger("aiosession.events")


@dataclass(slots=True)
class OperationEvent:
    """Something that a session does, and afterwards how it went."""

    name: str
    """``flush``, ``prepare`` or ``commit``."""
    session: Any
    duration: float | None = None
    """Seconds; None before the end."""
    error: BaseException | None = None
    memo: dict[object, Any] = field(default_factory=dict)
    """For handlers, to find at the end what they made at the beginning."""


class OperationHooks:
    """What all sessions tell about their operations; handlers are plain functions."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Hook[[OperationEvent]] = Hook("before operation")
        self.after: Hook[[OperationEvent]] = Hook("after operation")

    def __bool__(self) -> bool:
        return bool(self.before) or bool(self.after)


session_operations: Final = OperationHooks()
"""Of all sessions of this process."""


@contextmanager
def told(name: str, session: object, heard: Callable[[OperationEvent], None] | None) -> Iterator[None]:
    """Tell the handlers, and at the end *heard*, of an operation that is the block."""
    event = OperationEvent(name, session)
    _tell(session_operations.before, event)
    started = perf_counter()
    try:
        yield
    except BaseException as error:
        event.error = error
        raise
    finally:
        event.duration = perf_counter() - started
        if heard is not None:
            heard(event)
        _tell(session_operations.after, event)


def _tell(hook: Hook[[OperationEvent]], event: OperationEvent) -> None:
    try:
        hook.now(event)
    except Exception:  # who looks on does not stop the work
        _LOG.exception("a handler failed that was told of a %s", event.name)
