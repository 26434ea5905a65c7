"""Who finishes what a crash has left prepared? Any process, at any time: `recover` once, `recovery` again and again."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Final

from aiosession import aio
from aiosession.drivers.protocol import PreparedBranch
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.wire import EngineConnection
from aiosession.errors import ArgumentError
from aiosession.transaction.branches import BranchName, checked_app, prefix_of, read_name
from aiosession.transaction.decisions import DECISION_TABLE, Decision, DecisionRow, Decisions
from aiosession.transaction.settling import Branch, abort_unless_decided, finish

_log: Final = logging.getLogger("aiosession.two_phase")
PATIENCE: Final = 5.0
"""Seconds that one unit of work may take, if its coordinator is just deciding, say; the next pass comes back to it."""
KEPT_COMMITS: Final = timedelta(hours=1)
KEPT_ABORTS: Final = timedelta(days=1)
"""How long "rolled back" stays in the table: longer than any coordinator can live that has not decided yet."""


class Action(Enum):
    """What was done about a unit of work."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    NOT_OURS = "left: another user of the database has prepared it"
    TOO_YOUNG = "left: younger than older_than"
    NO_DECIDER = "left: the database that decides is not among those given"
    FAILED = "left: not everything could be reached"
    WOULD_COMMIT = "would be committed"
    WOULD_ROLL_BACK = "would be rolled back"


_FINISHED: Final = {Decision.COMMIT: Action.COMMITTED, Decision.ABORT: Action.ROLLED_BACK}
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
        return self.action in _FINISHED.values()


@dataclass(frozen=True, slots=True)
class Found:
    """What one database tells."""

    engine: AsyncEngine
    database_id: str | None = None
    rows: tuple[DecisionRow, ...] = ()
    branches: tuple[PreparedBranch, ...] = ()


@dataclass(slots=True)
class Recoverer:
    """One application's recovery over some databases."""

    engines: Sequence[AsyncEngine]
    decisions: Decisions
    older_than: timedelta
    is_dry: bool = False
    seen: dict[str, float] = field(default_factory=dict)
    """When branches were seen first, for databases that do not tell their age."""

    async def run(self) -> list[InDoubt]:
        """Make one pass."""
        found = await self._ask_all()
        works: dict[str, list[tuple[AsyncEngine, BranchName, PreparedBranch]]] = {}
        for each in found:
            for branch in each.branches:
                name = read_name(branch.name)
                if name is not None:
                    works.setdefault(name.global_id, []).append((each.engine, name, branch))
        self._note_seen(branch.name for each in found for branch in each.branches)
        results = await aio.settled([self._settle(branches, found) for branches in works.values()])
        done = [each for each in results if isinstance(each, InDoubt)]
        if not self.is_dry:
            left = {each.global_id for each in done if not each.is_settled}
            await aio.settled([self._tidy(each, left, found) for each in found])
        for error in results:
            if isinstance(error, Exception):
                raise error
        return done

    # Looking

    async def _ask_all(self) -> list[Found]:
        outcomes = await aio.settled([self._ask(engine) for engine in self.engines])
        found = [outcome for outcome in outcomes if isinstance(outcome, Found)]
        for engine, outcome in zip(self.engines, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _log.warning("recovery cannot reach %s: %s", engine.url.render_as_string(), outcome)
        if not found:
            raise next(outcome for outcome in outcomes if isinstance(outcome, Exception))
        return found

    async def _ask(self, engine: AsyncEngine) -> Found:
        wire = await engine.acquire("looking for prepared transactions")
        try:
            # Rows before branches: a decision that is read has all its branches prepared already.
            database_id = await self.decisions.identity(engine, wire)
            rows = () if database_id is None else tuple(await self.decisions.rows(engine, wire))
            return Found(engine, database_id, rows, await self._prepared(engine, wire))
        finally:
            await engine.release(wire)

    async def _prepared(self, engine: AsyncEngine, wire: EngineConnection) -> tuple[PreparedBranch, ...]:
        if not engine.capabilities.two_phase:
            return ()
        return tuple(await wire.prepared(prefix_of(self.decisions.app)))

    def _note_seen(self, names: Iterable[str]) -> None:
        now = time.monotonic()
        self.seen = {name: self.seen.get(name, now) for name in names}

    # Settling

    async def _settle(
        self, branches: Sequence[tuple[AsyncEngine, BranchName, PreparedBranch]], found: Sequence[Found]
    ) -> InDoubt:
        _, name, _ = branches[0]
        ages = [self._age(branch) for _, _, branch in branches]
        deciders = [each.engine for each in found if each.database_id == name.decider]
        decision, action, error = await self._acted(name, branches, deciders, max(ages))
        return InDoubt(
            app=name.app,
            global_id=name.global_id,
            branches=tuple(f"{engine.url.render_as_string()}#{each.number}" for engine, each, _ in branches),
            age=max(ages) if any(branch.age is not None for _, _, branch in branches) else None,
            decision=decision,
            action=action,
            error=error,
        )

    def _age(self, branch: PreparedBranch) -> timedelta:
        if branch.age is not None:
            return branch.age
        return timedelta(seconds=time.monotonic() - self.seen[branch.name])

    async def _acted(
        self,
        name: BranchName,
        branches: Sequence[tuple[AsyncEngine, BranchName, PreparedBranch]],
        deciders: Sequence[AsyncEngine],
        age: timedelta,
    ) -> tuple[Decision | None, Action, Exception | None]:
        if not all(branch.owned for _, _, branch in branches):
            return None, Action.NOT_OURS, None
        if not deciders:
            return None, Action.NO_DECIDER, None
        if self.is_dry:
            known = await self._read(deciders[0], name.global_id)
            return known, _PLANNED[known or Decision.ABORT], None
        if age < self.older_than:
            return await self._read(deciders[0], name.global_id), Action.TOO_YOUNG, None
        try:
            deciding = abort_unless_decided(self.decisions, deciders[0], name.global_id)
            decision = await aio.within(PATIENCE, deciding)
        except Exception as failure:
            return None, Action.FAILED, failure
        outcomes = await aio.settled(
            [aio.within(PATIENCE, finish(Branch(engine, each.name), decision)) for engine, _, each in branches]
        )
        error = next((each for each in outcomes if isinstance(each, Exception)), None)
        return decision, Action.FAILED if error else _FINISHED[decision], error

    async def _read(self, engine: AsyncEngine, global_id: str) -> Decision | None:
        wire = await engine.acquire("reading a decision")
        try:
            return await self.decisions.read(engine, wire, global_id)
        finally:
            await engine.release(wire)

    # Tidying

    async def _tidy(self, place: Found, left: set[str], found: Sequence[Found]) -> None:
        """Delete decisions for which nobody is going to ask any more."""
        known = {each.database_id for each in found}
        prepared = {name.global_id for each in found for branch in each.branches if (name := read_name(branch.name))}
        old = [
            row.global_id
            for row in place.rows
            if _is_over(row, known) and row.global_id not in left and row.global_id not in prepared
        ]
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
    given databases, of the users that the engines log in as, are touched. A unit of work can be settled only if the
    database that decides about it is among those given. Decisions that nobody needs any more are deleted.

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
    recoverer = _recoverer(engines, Decisions(checked_app(app), table, schema), older_than)
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
    recoverer = _recoverer(engines, Decisions(checked_app(app), table, schema), older_than)
    while True:
        try:
            for each in await recoverer.run():
                if each.action is not Action.TOO_YOUNG:
                    _log.warning("recovery: %s %s: %s", each.app, each.global_id, each.action.value)
        except Exception as error:
            _log.warning("recovery failed and is tried again: %s", error)
        await aio.pause(every)


def _recoverer(engines: Iterable[AsyncEngine] | AsyncEngine, decisions: Decisions, older_than: float) -> Recoverer:
    given = [engines] if isinstance(engines, AsyncEngine) else list(engines)
    for engine in given:
        if not isinstance(engine, AsyncEngine):
            raise ArgumentError(f"recovery takes engines, made by create_async_engine(), not {engine!r}")
    if not given:
        raise ArgumentError("recovery needs the engines of all databases that take part; none were given")
    if not older_than >= 0:
        raise ArgumentError(f"older_than is a number of seconds, not {older_than!r}")
    return Recoverer(given, decisions, timedelta(seconds=older_than))


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
            "action": each.action.value + (f": {each.error}" if each.error else ""),
        }
        for each in found
    ]
    widths = {name: max(len(name), *(len(line[name]) for line in lines)) for name in lines[0]}
    rows = [dict(zip(widths, widths, strict=True)), {name: "-" * width for name, width in widths.items()}, *lines]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in rows)
