"""How is a unit of work committed on several databases as one? In two phases, with the decision in one of them.

All participants but one prepare: they promise that they can commit. The remaining one, the decider, writes the decision
in its own transaction and commits that: this is the moment in which the unit of work is committed. Then the others
follow. Whoever finds a prepared transaction reads the decision and acts on it (`aiosession.transaction.recovery`).
After the protocol of "presumed abort" (Mohan, Lindsay, Obermarck 1986), with the last participant's commit as the
decision (Gray 1978, "the last agent").
"""

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from aiosession import aio
from aiosession.drivers.shown_url import shown
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.wire import EngineConnection
from aiosession.errors import (
    ArgumentError,
    CommitOutcomeUnknownError,
    DatabaseError,
    InDoubtError,
    InvalidRequestError,
    SerializationError,
    UniqueViolationError,
)
from aiosession.transaction.bind import BindTransaction
from aiosession.transaction.branches import BranchName, checked_app, new_global_id
from aiosession.transaction.decisions import DECISION_TABLE, KEPT_ABORTS, Decision, decisions_in
from aiosession.transaction.settling import Branch, Resolution, finish

_log: Final = logging.getLogger("aiosession.two_phase")
_LONGEST_PREPARED: Final = KEPT_ABORTS.total_seconds() / 2


@dataclass(frozen=True, slots=True)
class TwoPhase:
    """How a session commits on several databases as one: ``AsyncSession(..., twophase=TwoPhase(app="shop"))``.

    Args:
        app: A name for the applications that recover one another's work; part of the name of all that they prepare.
        table: The table of decisions, which is created in every database that takes part if it is not there.
        schema: The schema of that table.
        decider: The engine whose database always decides; by default one that prepares no transactions, else the one
            that was used last.

    """

    app: str = "app"
    table: str = DECISION_TABLE
    schema: str | None = None
    decider: AsyncEngine | None = None

    def __post_init__(self) -> None:
        checked_app(self.app)
        for name, value in (("table", self.table), ("schema", self.schema)):
            if (value is not None or name == "table") and (not isinstance(value, str) or not value):
                raise ArgumentError(f"{name} is the name of a {name}, not {value!r}")
        if self.decider is not None and not isinstance(self.decider, AsyncEngine):
            raise ArgumentError(f"the decider is an engine, not {self.decider!r}")


def two_phase_options(given: object) -> TwoPhase | None:
    """Return what the option ``twophase`` of a session means."""
    if isinstance(given, TwoPhase):
        return given
    if isinstance(given, bool):
        return TwoPhase() if given else None
    raise ArgumentError(f"twophase is True, False or TwoPhase(app=...), not {given!r}")


class Phase(Enum):
    """How far a commit has come."""

    OPEN = "open"
    PREPARING = "preparing"
    PREPARED = "prepared"
    """All have promised; nothing is decided."""
    DECIDING = "deciding"
    """The decision is on its way: nobody can say whether it was taken."""
    DECIDED = "decided"
    """The unit of work is committed, whatever happens."""


@dataclass(frozen=True, slots=True, eq=False)
class Participant:
    """A database that takes part."""

    share: BindTransaction
    number: int
    database_id: str
    can_prepare: bool


class Coordinator:
    """The commit of one unit of work over all databases that it has changed."""

    __slots__ = (
        "_decider",
        "_decisions",
        "_global_id",
        "_likely",
        "_open",
        "_options",
        "_others",
        "_participants",
        "_prepared_at",
        "_untold",
        "phase",
    )

    def __init__(
        self,
        options: TwoPhase,
        likely: AsyncEngine | None,
        open_share: Callable[[AsyncEngine], Awaitable[BindTransaction]],
    ) -> None:
        self._options: Final = options
        self._likely: Final = likely
        """An engine that may be used and cannot prepare: a good decider where one has to be chosen early."""
        self._open: Final = open_share
        self._decisions: Final = decisions_in(options.table, options.schema)
        self._participants: Final[dict[BindTransaction, Participant]] = {}
        self._global_id: str | None = None
        self._decider: AsyncEngine | None = options.decider
        self._others: list[Participant] = []
        self._prepared_at = (0.0, 0.0)
        self._untold: list[Participant] = []
        """Those that are prepared, while and after they are told to commit."""
        self.phase = Phase.OPEN

    # Taking part

    async def enlist(self, share: BindTransaction, wire: EngineConnection) -> str | None:
        """Take in a database before its BEGIN; return the name of its branch where it has to begin with that."""
        engine = share.engine
        can_prepare = engine.capabilities.two_phase and await wire.can_prepare()
        if not can_prepare:
            self._check_alone(share)
        database_id = await self._decisions.identify(engine, wire)
        known = self._participants.get(share)
        number = len(self._participants) + 1 if known is None else known.number
        participant = self._participants[share] = Participant(share, number, database_id, can_prepare)
        if not (can_prepare and engine.capabilities.names_branches_early):
            return None
        decider = await self._chosen_early()
        return None if decider.pool is engine.pool else self._name(participant)

    def _check_alone(self, share: BindTransaction) -> None:
        """Refuse a second database that cannot prepare: at most one can, and it decides."""
        url = shown(share.engine.url)
        other = next((each for each in self._participants.values() if not each.can_prepare), None)
        if other is not None and other.share is not share:
            raise InvalidRequestError(
                f"{url} prepares no transactions, and neither does {shown(other.share.engine.url)}, which "
                f"takes part already: two such databases cannot commit as one. SQLite never does, PostgreSQL not if "
                f"max_prepared_transactions is 0, its default"
            )
        if self._decider is not None and self._decider.pool is not share.engine.pool:
            raise InvalidRequestError(
                f"{url} prepares no transactions, so it would have to be the one that decides, but that is "
                f"{shown(self._decider.url)} already; say twophase=TwoPhase(decider=engine) with the "
                f"engine of {url}"
            )

    async def _chosen_early(self) -> AsyncEngine:
        """Return the engine of the decider, chosen now: the names of branches tell it."""
        if self._decider is None:
            unable = (each.share.engine for each in self._participants.values() if not each.can_prepare)
            first = next(iter(self._participants.values())).share.engine
            self._decider = next(unable, None) or self._likely or first
        if self._global_id is None:
            self._global_id = new_global_id(await self._id_of(self._decider))
        return self._decider

    async def _id_of(self, engine: AsyncEngine) -> str:
        known = self._participant_of(engine, self._participants.values())
        if known is not None:
            return known.database_id
        wire = await engine.acquire("the id of a database")
        try:
            return await self._decisions.identify(engine, wire)
        finally:
            await engine.release(wire)

    def _participant_of(self, engine: AsyncEngine, among: Iterable[Participant]) -> Participant | None:
        return next((each for each in among if each.share.engine.pool is engine.pool), None)

    def _name(self, participant: Participant) -> str:
        return str(BranchName(self._options.app, str(self._global_id), participant.number))

    # The first phase

    async def prepare(self, held: Sequence[BindTransaction]) -> None:
        """Commit where nothing was changed, and prepare all other databases but the one that decides."""
        changed = [each for share, each in self._participants.items() if share in held and share.is_changed]
        if len(changed) > 1:
            decider = await self._decider_among(changed)
            self._others = [each for each in changed if each is not decider]
        busy = {each.share for each in changed} | {each.share for each in self._deciding()}
        await aio.together([share.commit() for share in held if share not in busy])
        if self._others:
            self.phase = Phase.PREPARING
            self._prepared_at = (time.time(), time.monotonic())
            await aio.together([each.share.prepare(self._name(each)) for each in self._others])
            self.phase = Phase.PREPARED

    async def _decider_among(self, changed: Sequence[Participant]) -> Participant:
        """Return the participant that decides; its database may not have been used at all so far."""
        if self._decider is None:
            unable = [each for each in changed if not each.can_prepare]
            self._decider = (unable or changed)[-1].share.engine
        found = self._participant_of(self._decider, self._participants.values())
        if found is None or found.share.connection is None:
            found = self._participants[await self._open(self._decider)]
        if self._global_id is None:
            self._global_id = new_global_id(found.database_id)
        return found

    def _deciding(self) -> list[Participant]:
        """Return the participant that decides, if there is anything to decide."""
        if not self._others or self._decider is None:
            return []
        found = self._participant_of(self._decider, self._participants.values())
        return [] if found is None else [found]

    # The second phase

    async def commit(self, held: Sequence[BindTransaction]) -> None:
        """Decide, and have all others follow; where a single database was changed, commit that."""
        deciding = self._deciding()
        if not deciding:
            for share in held:
                if share.connection is not None:
                    await share.commit()
            return
        self._check_age()
        await self._decide(deciding[0])
        self.phase = Phase.DECIDED
        if await self._follow():
            await self._decisions.done(deciding[0].share.engine, str(self._global_id))

    def _check_age(self) -> None:
        """Refuse to decide what was prepared so long ago that recovery may have forgotten that it rolled it back."""
        wall, monotonic = self._prepared_at
        if max(time.time() - wall, time.monotonic() - monotonic) > _LONGEST_PREPARED:
            raise SerializationError(
                None, None, RuntimeError(f"this unit of work was prepared more than {_LONGEST_PREPARED:.0f} s ago")
            )

    async def _decide(self, decider: Participant) -> None:
        share = decider.share
        participants = [f"{each.number}@{each.database_id}" for each in self._others]
        try:
            await self._decisions.record(share.engine, share.held(), str(self._global_id), participants)
        except UniqueViolationError as error:
            raise SerializationError(
                error.statement, None, RuntimeError("recovery has rolled this unit of work back before it was decided")
            ) from error
        self.phase = Phase.DECIDING
        try:
            await share.commit()
        except CommitOutcomeUnknownError as error:
            raise self.in_doubt(error.orig or error) from error
        except DatabaseError:
            self.phase = Phase.PREPARED  # the database has refused: nothing is decided
            raise
        except Exception as error:  # whatever it is, it is no answer of the database
            raise self.in_doubt(error) from error

    async def _follow(self) -> bool:
        """Commit what is prepared; what cannot be reached is left to recovery. Return whether everything is done."""
        self._untold = list(self._others)
        await aio.settled([self._tell(each, each.share.commit_prepared()) for each in self._others])
        again = [(each, finish(self._branch(each), Decision.COMMIT)) for each in self._untold]
        outcomes = await aio.settled([self._tell(*each) for each in again])
        self.leave_to_recovery(next((each for each in outcomes if isinstance(each, Exception)), None))
        return not self._untold

    async def _tell(self, participant: Participant, telling: Coroutine[Any, Any, object]) -> None:
        await telling
        self._untold.remove(participant)

    def leave_to_recovery(self, error: BaseException | None) -> None:
        """Say which databases have not been told to commit, or have not answered."""
        for each in self._untold:
            _log.warning(
                "committed, but %s could not be told: %s waits there for recovery (%s)",
                shown(each.share.engine.url),
                self._name(each),
                error,
            )

    # When something fails

    @property
    def is_open(self) -> bool:
        """Whether nothing is prepared."""
        return self.phase is Phase.OPEN

    @property
    def is_decided(self) -> bool:
        """Whether the unit of work is committed."""
        return self.phase is Phase.DECIDED

    @property
    def may_be_decided(self) -> bool:
        """Whether nobody can say whether it is."""
        return self.phase is Phase.DECIDING

    def in_doubt(self, error: BaseException) -> CommitOutcomeUnknownError:
        """Return the error for a commit of which nobody knows whether it was decided."""
        (decider,) = self._deciding()
        branches = [self._branch(each) for each in self._others]
        resolution = Resolution(self._decisions, decider.share.engine, str(self._global_id), branches)
        return InDoubtError(error, resolution, str(self._global_id))

    async def clean_up(self) -> None:
        """Roll back what may be prepared on connections that are lost; recovery does it if that fails too."""
        if self.phase in {Phase.PREPARING, Phase.PREPARED}:
            await aio.settled([finish(self._branch(each), Decision.ABORT) for each in self._others])

    def _branch(self, participant: Participant) -> Branch:
        return Branch(participant.share.engine, self._name(participant))
