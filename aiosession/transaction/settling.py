"""How is a unit of work brought to its end that was left alone? By its decision; without one it is undone.

Everything here may be done by any process at any time, also while the one that began the unit of work is still alive:
then the first to write the decision wins, and the other abides by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiosession import aio
from aiosession.engine.engine import AsyncEngine
from aiosession.transaction.decisions import Decision, Decisions

_NOTE: Final = "recovery of a commit in two phases"


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


async def finish(branch: Branch, decision: Decision) -> bool:
    """Carry out the decision; False if nothing is prepared under the name any more: somebody else has done it."""
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

    async def __call__(self) -> bool:
        """Read or make the decision and carry it out; what cannot be reached is left to recovery."""
        decision = await abort_unless_decided(self.decisions, self.decider, self.global_id)
        await aio.settled([finish(branch, decision) for branch in self.branches])
        return decision is Decision.COMMIT
