"""What is an engine doing right now? Its pool, who holds connections and who waits, its replicas; a snapshot."""

from dataclasses import dataclass

from typing_extensions import override

from aiosession.drivers.pool_status import PoolStatus


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A snapshot of what is known of a replica."""

    url: str
    is_up: bool
    """Whether it is asked; it is not for a while after it could not be reached."""
    failures: int
    """How often in a row it could not be reached."""
    retry_in: float
    """Seconds until it is tried again."""
    error: str | None
    """Why it could not be reached the last time."""
    pool: PoolStatus
    """Its connections."""

    @override
    def __str__(self) -> str:
        state = "up" if not self.failures else f"down, {self.failures} failures in a row, {self.error}"
        if self.failures:
            state += f", tried again in {self.retry_in:.1f} s"
        return f"replica {self.url}, {state}: {self.pool}"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """A snapshot of an engine; ``print()`` shows it as a table."""

    url: str
    """Without the password."""
    pool: PoolStatus
    """Its connections: how many are open, idle, waited for, and who holds them since when."""
    replicas: tuple[ReplicaStatus, ...] = ()
    """What is known of each replica of a `ReplicatedEngine`."""

    @override
    def __str__(self) -> str:
        return "\n".join([f"{self.url}: {self.pool}", *map(str, self.replicas)])
