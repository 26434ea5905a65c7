"""Primary or replica? What one session has written, and has to see, on databases that have replicas.

Replicas answer plain reads outside of the session's own transactions, and everything in read-only transactions. The
position that a commit has reached is asked for when it is needed, not with every commit.
"""

from typing import Final

from aiosession.engine.options import reads_need_transaction
from aiosession.engine.replicated import Need, Reader, ReplicatedEngine
from aiosession.errors import InvalidRequestError
from aiosession.transaction.bind import Bind
from aiosession.transaction.freshness import Freshness
from aiosession.transaction.unit import SessionTransaction

NOTHING: Final = Freshness()
"""What a session has to see that nobody told anything."""
_SERIALIZABLE: Final = "SERIALIZABLE"


class Reads:
    """Where a session reads, and how fresh that has to be."""

    __slots__ = ("_needs", "_readers", "_required", "_written")

    def __init__(self, required: Freshness = NOTHING) -> None:
        self._required = required
        self._needs: Final[dict[str, Need]] = {}
        self._readers: Final[dict[ReplicatedEngine, Reader]] = {}
        self._written: Final[dict[str, ReplicatedEngine]] = {}
        """An engine for each database that was written to."""

    def place(self, engine: ReplicatedEngine, level: SessionTransaction, *, pure: bool, flushing: bool) -> Bind:
        """Return where a statement goes: to the engine itself, which is its primary, or where the session reads."""
        if can_be_copied(engine, level, pure=pure and not flushing):
            return self._reader(engine)
        if not pure:
            self._need(engine).has_written = True
            self._written[engine.replication.name] = engine
        return engine

    def require(self, token: Freshness) -> None:
        """Let later reads see at least what *token* stands for."""
        self._required |= token
        for name, need in self._needs.items():
            need.require(self._required.of(name))

    async def freshness(self, level: SessionTransaction | None) -> Freshness:
        """Return what this session has committed or was told to see."""
        shares = level.shares if level is not None else {}
        for name, engine in self._written.items():
            if any(isinstance(bind, ReplicatedEngine) and bind.replication.name == name for bind in shares):
                raise InvalidRequestError(
                    "what this session has written is not committed yet; call freshness() after commit()"
                )
            need = self._need(engine)
            await engine.update(need)
            self._required |= Freshness({name: need.position})
        return self._required

    def copy(self) -> "Reads":
        """Return the same for another session, which has to see what this one has written."""
        other = Reads(self._required)
        for name, need in self._needs.items():
            other._needs[name] = Need(need.position, need.has_written)
        other._written.update(self._written)
        return other

    def _need(self, engine: ReplicatedEngine) -> Need:
        name = engine.replication.name
        need = self._needs.get(name)
        if need is None:
            need = self._needs[name] = Need(self._required.of(name))
        return need

    def _reader(self, engine: ReplicatedEngine) -> Reader:
        reader = self._readers.get(engine)
        if reader is None:
            reader = self._readers[engine] = Reader(engine, self._need(engine))
        return reader


def can_be_copied(engine: ReplicatedEngine, level: SessionTransaction, *, pure: bool) -> bool:
    """Whether a copy of the database can answer: in read-only transactions, or what is read outside of any."""
    options = level.options
    isolation = options.isolation_level or engine.isolation_level
    if options.read_only or engine.options.get("read_only"):
        return isolation != _SERIALIZABLE  # which no standby of PostgreSQL can do
    return pure and not (level.is_explicit or engine in level.shares or reads_need_transaction(isolation))
