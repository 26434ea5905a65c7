"""Who is examined? A database, by one borrowed connection, and what the application means to do with it."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from aiosession.doctor.report import Finding, fail, ok, warn
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.wire import EngineConnection
from aiosession.transaction.branches import OURS

OLD = timedelta(minutes=1)
"""A prepared transaction that is older is none that is just being committed."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Plans:
    """What the application means to do."""

    processes: int = 1
    """How many processes have a pool like the engine's."""
    twophase: bool = False
    """Whether it has sessions with ``twophase=True`` on this database."""
    pooler: str | None = None
    """How its engines are made: ``pooler="transaction"``, or None."""
    connections: int | None = None
    """The most connections that each pool opens; None for what the engine's pool does."""


@dataclass(frozen=True, slots=True)
class Patient:
    """A database that can be reached."""

    engine: AsyncEngine
    connection: EngineConnection
    plans: Plans

    async def rows(self, sql: str) -> list[Sequence[Any]]:
        """Return the rows of a query."""
        return await self.connection.fetch(sql)

    async def value(self, sql: str) -> Any:
        """Return the one value of a query."""
        ((value,),) = await self.rows(sql)
        return value

    @property
    def wanted(self) -> int | None:
        """The most connections that the application opens; None if there is no limit."""
        each = self.plans.connections
        if each is None:
            each = self.engine.pool.status().capacity
        return None if each is None else each * self.plans.processes


Check: TypeAlias = Callable[[Patient], Awaitable[list[Finding]]]


def connections_fit(patient: Patient, room: int, others: int, limits: str) -> Finding:
    """Compare the connections that the application may open with those that the server has *room* for."""
    wanted, processes = patient.wanted, patient.plans.processes
    if wanted is None:
        return warn("connections", f"the pool has no limit, there is room for {room} ({limits}); set max_overflow")
    said = f"{processes} x {wanted // max(processes, 1)} = {wanted} at most, room for {room} ({limits})"
    if wanted > room:
        return fail(
            "connections", f"{said}; make pool_size + max_overflow smaller, run fewer processes, or use a pooler"
        )
    if wanted + others > room:
        return warn("connections", f"{said}, but others hold {others} right now: some may be refused under load")
    return ok("connections", f"{said}, others hold {others}")


def in_doubt(found: Sequence[tuple[str, timedelta | None, str]]) -> list[Finding]:
    """Judge prepared transactions, given by name, age and whereabouts: ours, and others'."""
    ours = [each for each in found if each[0].startswith(OURS)]
    others = [each for each in found if not each[0].startswith(OURS)]
    findings = []
    if ours and any(age is None or age > OLD for _, age, _ in ours):
        findings.append(
            warn("in doubt", f"{_listed(ours)}; they hold locks: run `python -m aiosession recover` with all databases")
        )
    elif ours:
        findings.append(ok("in doubt", f"{_listed(ours)}; young enough to be just about to be committed"))
    if others:
        findings.append(
            warn("in doubt", f"{_listed(others)}, not of aiosession; whoever prepared them has to finish them")
        )
    return findings or [ok("in doubt", "no prepared transactions")]


def _listed(found: Sequence[tuple[str, timedelta | None, str]]) -> str:
    shown = [f"{name}{where}{'' if age is None else f', {age_of(age)} old'}" for name, age, where in found[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} prepared transactions: {'; '.join(shown)}{more}"


def age_of(age: timedelta) -> str:
    """Return an age in words."""
    seconds = int(age.total_seconds())
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version."""
    return tuple(int(each) for each in re.findall(r"\d+", version)[:3])
