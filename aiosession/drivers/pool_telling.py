"""Who is told how long a pool's work takes? One listener, a part of whatever measures."""

from typing import Protocol


class PoolListener(Protocol):
    """Is told what a pool does, with seconds; it never raises and never waits."""

    def waited(self, seconds: float) -> None:
        """Take note that somebody got a connection, so long after asking."""
        ...

    def created(self, seconds: float) -> None:
        """Take note that a connection was opened."""
        ...

    def used(self, seconds: float) -> None:
        """Take note that a connection was given back."""
        ...

    def timed_out(self) -> None:
        """Take note that somebody did not get a connection in time."""
        ...
