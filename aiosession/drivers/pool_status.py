"""What is known of a pool right now? Numbers, and who holds what; a snapshot that prints as a few lines."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from typing_extensions import override

_LONGEST: int = 160


@runtime_checkable
class Noted(Protocol):
    """A note on who holds a connection that also knows what was asked last."""

    @property
    def last(self) -> str:
        """The last statement; empty if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a connection."""

    task: str
    note: str
    """What the holder says of itself."""
    age: float
    """Seconds since the connection was handed out."""
    state: str = ""
    """What the connection is doing, as its driver reports: ``idle``, ``active``, ``in transaction`` ..."""
    last: str = ""
    """The last statement; empty if nobody has noted any."""
    connection: int = 0
    """The number of the connection, as in the log of statements."""

    @override
    def __str__(self) -> str:
        said = f" for {self.note}" if self.note else ""
        return f"{self.task}{said}, {self.age:.1f} s ago"


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A snapshot of a pool."""

    size: int
    open: int
    """Connections that exist or are being opened, cleaned or closed."""
    idle: int
    waiting: int
    """Tasks that wait for a connection."""
    holders: tuple[Holder, ...]
    capacity: int | None = None
    """The most connections that can be open at a time; None if there is no limit."""
    longest_wait: float = 0.0
    """Seconds for which the task at the head of the line has waited."""

    @override
    def __str__(self) -> str:
        limit = "no limit" if self.capacity is None else f"at most {self.capacity}"
        waiting = f"{self.waiting} waiting"
        if self.waiting:
            waiting += f", the longest for {self.longest_wait:.1f} s"
        lines = [f"{self.open} connections ({limit}): {len(self.holders)} held, {self.idle} idle; {waiting}"]
        return "\n".join([*lines, *_table(self.holders)])


def _table(holders: tuple[Holder, ...]) -> list[str]:
    """Return a line for each holder, the longest first, with its columns below each other."""
    if not holders:
        return []
    rows = [("connection", "held for", "state", "by", "last statement")]
    rows += [
        (str(each.connection), f"{each.age:.1f} s", each.state, f"{each.task} {each.note}".strip(), _short(each.last))
        for each in sorted(holders, key=lambda holder: -holder.age)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
