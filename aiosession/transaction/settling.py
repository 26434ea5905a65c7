"""How is a unit of work brought to its end that was left alone? By its decision; without one it is undone.

Everything here may be done by any process at any time, also while the one that began the unit of work is still alive:
then the first to write the decision wins, and the other abides by it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiosession import aio
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import LockNotAvailableError
from aiosession.transaction.decisions import KEPT_COMMITS, Decision, Decisions

_NOTE: Final = "recovery of a commit in two phases"
_PAUSES: Final = (0.02, 0.1, 0.5)
"""Seconds to wait, again and again, for somebody else who is just finishing the same transaction."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A prepared transaction, and the engine of its database."""

    engine: AsyncEngine
    name: str


async def abort_unless_decided(decisions: Decisions, engine: AsyncEngine, global_id: str) -> Decision:
    """Return the decision in the database of *engine*; there is one from now on."""
    wire = await engine.acquire(_NOTE)
    try:
        return await decisions.abort_unless_decided(engine, wire, global_id)
    finally:
        await engine.release(wire)


async def read(decisions: Decisions, engine: AsyncEngine, global_id: str) -> Decision | None:
    """Return the decision in the database of *engine*; None if there is none."""
    wire = await engine.acquire(_NOTE)
    try:
        return await decisions.read(engine, wire, global_id)
    finally:
        await engine.release(wire)


async def finish(branch: Branch, decision: Decision) -> bool:
    """Carry out the decision; False if nothing is prepared under the name any more: somebody else has done it."""
    for pause in _PAUSES:
        try:
            return await _finish(branch, decision)
        except LockNotAvailableError:
            await aio.pause(pause)
    return await _finish(branch, decision)


async def _finish(branch: Branch, decision: Decision) -> bool:
    wire = await branch.engine.acquire(_NOTE)
    try:
        if decision is Decision.COMMIT:
            return await wire.commit_prepared(branch.name)
        return await wire.rollback_prepared(branch.name)
    finally:
        await branch.engine.release(wire)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Settles one unit of work; called, it answers whether it is committed."""

    decisions: Decisions
    decider: AsyncEngine
    global_id: str
    branches: Sequence[Branch]
    since: float = field(default_factory=time.monotonic)

    async def __call__(self) -> bool | None:
        """Read or make the decision and carry it out; what cannot be reached is left to recovery.

        None if that comes so late that nothing is left to tell: no branch, and no decision, which may have been deleted
        when it was carried out.
        """
        is_late = time.monotonic() - self.since > KEPT_COMMITS.total_seconds() / 2
        known = await read(self.decisions, self.decider, self.global_id) if is_late else None
        decision = await abort_unless_decided(self.decisions, self.decider, self.global_id)
        outcomes = await aio.settled([finish(branch, decision) for branch in self.branches])
        if is_late and known is None and decision is Decision.ABORT and True not in outcomes:
            return None
        return decision is Decision.COMMIT
