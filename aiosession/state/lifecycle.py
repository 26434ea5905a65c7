"""Name the five states of an object and the legal moves between them."""

from enum import Enum
from typing import Final

from aiosession.errors import InvalidRequestError


class Lifecycle(Enum):
    """Where an object stands between memory, session and database."""

    TRANSIENT = "transient"
    """Only in memory: in no session, without a row."""
    PENDING = "pending"
    """Added to a session; its row is inserted by the next flush."""
    PERSISTENT = "persistent"
    """In a session, with a row."""
    DELETED = "deleted"
    """In a session, its row deleted by a flush, the transaction not yet ended."""
    DETACHED = "detached"
    """In no session, with a row (or with one that was, for a deleted object)."""

    __hash__ = object.__hash__  # Enum's own is written in Python and hashes the name


# Enum members are found by descriptors; plain globals are several times faster.
TRANSIENT: Final = Lifecycle.TRANSIENT
PENDING: Final = Lifecycle.PENDING
PERSISTENT: Final = Lifecycle.PERSISTENT
DELETED: Final = Lifecycle.DELETED
DETACHED: Final = Lifecycle.DETACHED

LEGAL_MOVES: Final = {
    TRANSIENT: frozenset({PENDING, PERSISTENT, DETACHED}),  # persistent: made by a loader; detached: by hand
    PENDING: frozenset({TRANSIENT, PERSISTENT}),
    PERSISTENT: frozenset({TRANSIENT, PENDING, DELETED, DETACHED}),  # back to the first two: its INSERT was undone
    DELETED: frozenset({PERSISTENT, DETACHED, TRANSIENT, PENDING}),  # its DELETE was undone, or its INSERT too
    DETACHED: frozenset({PERSISTENT, TRANSIENT}),
}


class IllegalMoveError(InvalidRequestError):
    """An object cannot go from one state to another."""

    def __init__(self, current: Lifecycle, wanted: Lifecycle) -> None:
        super().__init__(f"an object that is {current.value} cannot become {wanted.value}")
        self.current: Final = current
        self.wanted: Final = wanted


def advance(current: Lifecycle, wanted: Lifecycle) -> Lifecycle:
    """Return *wanted* if an object that is *current* may become it."""
    if wanted not in LEGAL_MOVES[current]:
        raise IllegalMoveError(current, wanted)
    return wanted
