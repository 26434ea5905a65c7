"""Who finishes what a crash has left prepared? Any process, at any time: `recover` once, `recovery` again and again."""

import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from aiosession import aio
from aiosession.drivers.protocol import PreparedBranch
from aiosession.drivers.shown_url import shown
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import ArgumentError, OperationalError
from aiosession.transaction.branches import OURS, BranchName, checked_app, read_name
from aiosession.transaction.decisions import (
    DECISION_TABLE,
    KEPT_ABORTS,
    KEPT_COMMITS,
    Decision,
    DecisionRow,
    Decisions,
    decisions_in,
)
from aiosession.transaction.settling import Branch, abort_unless_decided, finish, read

_log: Final = logging.getLogger("aiosession.two_phase")
PATIENCE: Final = 5.0
"""Seconds that a database may take to answer, or a unit of work, if its coordinator is just deciding, say.

The next pass comes back to it.
"""


class Action(Enum):
    """What was done about a unit of work."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    GONE = "settled by somebody else in the meantime"
    TOO_YOUNG = "left: younger than older_than"
    NO_DECIDER = "left: the database that decides is not among those given"
    FAILED = "left: not everything could be reached"
    WOULD_COMMIT = "would be committed"
    WOULD_ROLL_BACK = "would be rolled back"


_FINISHED: Final = {Decision.COMMIT: Action.COMMITTED, Decision.ABORT: Action.ROLLED_BACK}
_SETTLED: Final = frozenset({*_FINISHED.values(), Action.GONE})
_PLANNED: Final = {Decision.COMMIT: Action.WOULD_COMMIT, Decision.ABORT: Action.WOULD_ROLL_BACK}


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A unit of work that was found prepared somewhere, and what was done about it."""

    app: str
    global_id: str
    branches: tuple[str, ...]
    """The prepared transactions, as ``database URL#number``."""
    age: timedelta | None
    """How long ago the oldest of them was prepared; None where the databases do not tell."""
    decision: Decision | None
    """None if nothing is written down: then nobody has committed it."""
    action: Action
    error: Exception | None = None
    """What went wrong, if something did."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.action in _SETTLED


@dataclass(frozen=True, slots=True)
class Found:
    """What one database tells."""

    engine: AsyncEngine
    database_id: str | None = None
    rows: tuple[DecisionRow, ...] = ()
    branches: tuple[tuple[BranchName, PreparedBranch], ...] = ()
    """Those of all applications."""


@dataclass(frozen=True, slots=True)
class Place:
    """A branch of a unit of work and where it is prepared."""

    engine: AsyncEngine
    name: BranchName
    branch: PreparedBranch


@dataclass(slots=True)
class Recoverer:
    """One application's recovery over some databases."""

    engines: Sequence[AsyncEngine]
    app: str
    decisions: Decisions
    older_than: timedelta
    is_dry: bool = False
    seen: dict[str, float] = field(default_factory=dict)
    """When branches were seen first, for databases that do not tell their age."""
    unreached: list[AsyncEngine] = field(default_factory=list)
    """The databases that did not answer in the last pass."""

    async def run(self) -> list[InDoubt]:
        """Make one pass."""
        found = await self._look()
        works: dict[str, dict[str, Place]] = {}
        for each in found:
            for name, branch in each.branches:
                if name.app == self.app:  # once, also if a database was given twice
                    works.setdefault(name.global_id, {})[branch.name] = Place(each.engine, name, branch)
        self._note_seen(branch.name for each in found for _, branch in each.branches)
        results = await aio.settled([self._settle(list(places.values()), found) for places in works.values()])
        if not self.is_dry:
            await aio.settled([aio.within(PATIENCE, self._tidy(each, found)) for each in found])
        for error in results:
            if isinstance(error, Exception):
                raise error
        return [each for each in results if isinstance(each, InDoubt)]

    # Looking

    async def _look(self) -> list[Found]:
        # Decisions before branches, everywhere: all branches of a decision that is read are prepared by then, so that
        # one of which nothing is found is carried out.
        self.unreached = []
        found = await self._reached(self.engines, [self._decided(engine) for engine in self.engines])
        return await self._reached([each.engine for each in found], [self._prepared(each) for each in found])

    async def _reached(
        self, engines: Sequence[AsyncEngine], asking: Sequence[Coroutine[Any, Any, Found]]
    ) -> list[Found]:
        outcomes = await aio.settled([aio.within(PATIENCE, each) for each in asking])
        for engine, outcome in zip(engines, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self.unreached.append(engine)
                _log.warning("recovery cannot reach %s: %s", shown(engine.url), outcome)
        found = [outcome for outcome in outcomes if isinstance(outcome, Found)]
        if not found:
            error = next(outcome for outcome in outcomes if isinstance(outcome, Exception))
            raise error if isinstance(error, OperationalError) else OperationalError("recovery", None, error) from error
        return found

    async def _decided(self, engine: AsyncEngine) -> Found:
        wire = await engine.acquire("looking for decisions")
        try:
            database_id = await self.decisions.identity(engine, wire)
            rows = () if database_id is None else tuple(await self.decisions.rows(engine, wire))
            return Found(engine, database_id, rows)
        finally:
            await engine.release(wire)

    async def _prepared(self, place: Found) -> Found:
        engine = place.engine
        if not engine.capabilities.two_phase:
            return place
        wire = await engine.acquire("looking for prepared transactions")
        try:
            branches = await wire.prepared(OURS)
        finally:
            await engine.release(wire)
        named = [(name, branch) for branch in branches if (name := read_name(branch.name)) is not None]
        return replace(place, branches=tuple(named))

    def _note_seen(self, names: Iterable[str]) -> None:
        now = time.monotonic()
        self.seen = {name: self.seen.get(name, now) for name in names}

    # Settling

    async def _settle(self, places: Sequence[Place], found: Sequence[Found]) -> InDoubt:
        name = places[0].name
        ages = [self._age(place.branch) for place in places]
        decider = next((each.engine for each in found if each.database_id == name.decider), None)
        if decider is None:
            decision, action, error = None, Action.NO_DECIDER, None
        else:
            decision, action, error = await self._acted(name.global_id, places, decider, max(ages))
        return InDoubt(
            app=name.app,
            global_id=name.global_id,
            branches=tuple(f"{shown(place.engine.url)}#{place.name.number}" for place in places),
            age=max(ages) if any(place.branch.age is not None for place in places) else None,
            decision=decision,
            action=action,
            error=error,
        )

    def _age(self, branch: PreparedBranch) -> timedelta:
        if branch.age is not None:
            return branch.age
        return timedelta(seconds=time.monotonic() - self.seen[branch.name])

    async def _acted(
        self, global_id: str, places: Sequence[Place], decider: AsyncEngine, age: timedelta
    ) -> tuple[Decision | None, Action, Exception | None]:
        try:
            if self.is_dry or age < self.older_than:
                known = await aio.within(PATIENCE, read(self.decisions, decider, global_id))
                return known, _PLANNED[known or Decision.ABORT] if self.is_dry else Action.TOO_YOUNG, None
            decision = await aio.within(PATIENCE, abort_unless_decided(self.decisions, decider, global_id))
        except Exception as failure:
            return None, Action.FAILED, failure
        outcomes = await aio.settled(
            [aio.within(PATIENCE, finish(Branch(place.engine, place.branch.name), decision)) for place in places]
        )
        error = next((each for each in outcomes if isinstance(each, Exception)), None)
        if error is not None:
            return decision, Action.FAILED, error
        if decision is Decision.ABORT and True not in outcomes:
            return None, Action.GONE, None  # whoever was faster may have committed it and deleted the decision
        return decision, _FINISHED[decision], None

    # Tidying

    async def _tidy(self, place: Found, found: Sequence[Found]) -> None:
        """Delete decisions for which nobody is going to ask any more."""
        known = {each.database_id for each in found}
        prepared = {name.global_id for each in found for name, _ in each.branches}
        old = [row.global_id for row in place.rows if _is_over(row, known) and row.global_id not in prepared]
        if old:
            wire = await place.engine.acquire("deleting old decisions")
            try:
                await self.decisions.forget(place.engine, wire, old)
            finally:
                await place.engine.release(wire)


def _is_over(row: DecisionRow, known: set[str | None]) -> bool:
    """Whether all databases in which a decision could still be awaited have been looked at."""
    if row.decision is Decision.ABORT:
        return row.age > KEPT_ABORTS
    places = {participant.partition("@")[2] for participant in row.participants}
    return row.age > KEPT_COMMITS and places <= known


async def recover(
    engines: Iterable[AsyncEngine] | AsyncEngine,
    *,
    app: str = "app",
    table: str = DECISION_TABLE,
    schema: str | None = None,
    older_than: float = 0.0,
    dry_run: bool = False,
) -> list[InDoubt]:
    """Finish what sessions with ``twophase=True`` have left prepared, and return what was found and done.

    Safe at any time and from any process, also while units of work are being committed: one that is not decided yet is
    rolled back, and its session gets an error that says it may be repeated. Only prepared transactions of *app*, in the
    given databases, are touched; those of other users can be finished by a superuser only. A unit of work is settled if
    the database that decides about it is among those given. Decisions that nobody needs any more are deleted.

    Args:
        engines: One for each database that takes part.
        app: As in ``TwoPhase(app=...)`` of the sessions.
        table: As there.
        schema: As there.
        older_than: Leave alone what was prepared less than so many seconds ago.
        dry_run: Only tell what would be done.

    Raises:
        OperationalError: No database can be reached; if only some cannot, a warning is logged and the rest is done.

    """
    recoverer = recoverer_of(engines, app, decisions_in(table, schema), older_than)
    recoverer.is_dry = dry_run
    return await recoverer.run()


async def recovery(
    engines: Iterable[AsyncEngine] | AsyncEngine,
    *,
    every: float = 30.0,
    app: str = "app",
    table: str = DECISION_TABLE,
    schema: str | None = None,
    older_than: float = 10.0,
) -> None:
    """Recover at once and then every so many seconds, until cancelled: ``task_group.create_task(recovery(engines))``.

    Any number of processes may do so. What cannot be reached is logged and tried again. *older_than* gives those who
    are just committing the time to do it. The other arguments are those of `recover`.
    """
    if not every > 0:
        raise ArgumentError(f"every is a number of seconds between two passes, not {every!r}")
    recoverer = recoverer_of(engines, app, decisions_in(table, schema), older_than)
    while True:
        try:
            for each in await recoverer.run():
                if each.action not in {Action.TOO_YOUNG, Action.GONE}:
                    _log.warning("recovery: %s %s: %s", each.app, each.global_id, each.action.value)
        except Exception as error:
            _log.warning("recovery failed and is tried again: %s", error)
        await aio.pause(every)


def recoverer_of(
    engines: Iterable[AsyncEngine] | AsyncEngine, app: str, decisions: Decisions, older_than: float
) -> Recoverer:
    """Return what makes passes over the given databases, or say what is wrong with the arguments."""
    given = [engines] if isinstance(engines, AsyncEngine) else list(engines)
    for engine in given:
        if not isinstance(engine, AsyncEngine):
            raise ArgumentError(f"recovery takes engines, made by create_async_engine(), not {engine!r}")
    if not given:
        raise ArgumentError("recovery needs the engines of all databases that take part; none were given")
    if not older_than >= 0:
        raise ArgumentError(f"older_than is a number of seconds, not {older_than!r}")
    return Recoverer(given, checked_app(app), decisions, timedelta(seconds=older_than))


def summary(found: Sequence[InDoubt]) -> str:
    """Return a table of what was found and done, for people."""
    if not found:
        return "nothing is in doubt"
    lines: list[Mapping[str, str]] = [
        {
            "global id": each.global_id,
            "participants": ", ".join(each.branches),
            "age": "?" if each.age is None else f"{each.age.total_seconds():.0f} s",
            "decision": "none" if each.decision is None else each.decision.value,
            "action": each.action.value + (f": {_words(each.error)}" if each.error else ""),
        }
        for each in found
    ]
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in lines[0]}
    rows = [dict(zip(widths, widths, strict=True)), {name: "-" * width for name, width in widths.items()}, *lines]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in rows)


def _words(error: Exception) -> str:
    """Return what an error says, without the statement."""
    return str(getattr(error, "orig", None) or error)
