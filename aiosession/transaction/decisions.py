"""Where is it written whether a unit of work over several databases is committed? In a table of one of them.

The decision is a row that is inserted by the very transaction that it is about: once that is committed, so is the unit
of work, and until then any recoverer may insert the opposite decision under the same key. The table also holds the id
of its database, by which branches say where their decision is.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
)

from aiosession.drivers.pool import Pool
from aiosession.engine import ddl
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.execution import AnyResult, prepare, send
from aiosession.engine.wire import EngineConnection
from aiosession.errors import DatabaseError, ProgrammingError, UniqueViolationError
from aiosession.transaction.branches import new_database_id

DECISION_TABLE: Final = "aiosession_decision"
KEPT_COMMITS: Final = timedelta(hours=1)
KEPT_ABORTS: Final = timedelta(days=1)
"""How long "rolled back" stays in the table: longer than any coordinator can live that has not decided yet."""
_IDENTITY: Final = "database"
"""The key of the row that holds the id of the database."""
_WAITING_FOR_THE_DISK: Final[ColumnElement[str]] = literal_column(
    "CASE current_setting('synchronous_commit') WHEN 'off' "
    "THEN left(set_config('synchronous_commit', 'local', true), 0) ELSE '' END",
    Text(),
)
"""Nothing; but a decision must survive a crash, also where PostgreSQL is set not to wait for its disk at COMMIT."""


class Decision(Enum):
    """What becomes of a unit of work."""

    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """A decision that was taken."""

    global_id: str
    decision: Decision
    participants: tuple[str, ...]
    """The branches as ``number@database id``."""
    age: timedelta


def decision_table(metadata: MetaData, name: str = DECISION_TABLE, *, schema: str | None = None) -> Table:
    """Add the table of decisions to *metadata*, so that ``create_all()`` and migrations know of it.

    Without it, the table is created when the first unit of work needs it.
    """
    return Table(
        name,
        metadata,
        Column("global_id", String(64), primary_key=True),
        Column("outcome", String(16), nullable=False),
        Column("participants", Text, nullable=False),
        Column("decided_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        schema=schema,
    )


class Decisions:
    """The table of decisions, in whichever database it is asked for."""

    __slots__ = ("_ages", "_durable_insert", "_insert_row", "_table")

    def __init__(self, name: str = DECISION_TABLE, schema: str | None = None) -> None:
        self._table: Final = decision_table(MetaData(), name, schema=schema)
        columns = self._table.c
        self._ages: Final = select(
            columns.global_id, columns.outcome, columns.participants, columns.decided_at, func.now()
        ).where(columns.global_id != _IDENTITY)
        self._insert_row: Final = insert(self._table).inline()
        self._durable_insert: Final = self._insert_row.values(
            participants=func.concat(bindparam("participants", type_=Text()), _WAITING_FOR_THE_DISK),
            decided_at=func.clock_timestamp(),  # now() is when the transaction began
        )

    # The id of a database

    async def identify(self, engine: AsyncEngine, wire: EngineConnection) -> str:
        """Return the id of a database, which gets table and id if it has none; outside of a transaction."""
        known = _identities.setdefault(engine.pool, {})
        found = known.get(self._table.fullname)
        if found is None:
            found = await self.identity(engine, wire)
            if found is None:
                found = await self._introduce(engine, wire)
            known[self._table.fullname] = found
        return found

    async def identity(self, engine: AsyncEngine, wire: EngineConnection) -> str | None:
        """Return the id of a database; None if it has none, because nothing was ever decided there."""
        asked = select(self._table.c.outcome).where(self._table.c.global_id == _IDENTITY)
        try:
            return str((await _send(engine, wire, asked)).scalar_one_or_none() or "") or None
        except ProgrammingError:
            return None

    async def _introduce(self, engine: AsyncEngine, wire: EngineConnection) -> str:
        await self._create(engine, wire)
        with suppress(UniqueViolationError):  # another process was faster
            await self._insert(engine, wire, _IDENTITY, new_database_id(), ())
        found = await self.identity(engine, wire)
        if found is None:
            raise ProgrammingError(None, None, LookupError(f"table {self._table.fullname} does not keep its rows"))
        return found

    async def _create(self, engine: AsyncEngine, wire: EngineConnection) -> None:
        try:
            await ddl.create_all(wire, engine.dialect, self._table.metadata, [self._table], checkfirst=True, schemas={})
        except DatabaseError as error:
            try:  # two processes may create it at the same time
                await _send(engine, wire, select(self._table.c.outcome).limit(1))
            except ProgrammingError:
                error.add_note(
                    f"two-phase commit keeps its decisions in the table {self._table.fullname!r}, which could not be "
                    f"created; create it yourself: aiosession.decision_table(metadata) adds it to your schema"
                )
                raise error from None

    # Decisions

    async def record(
        self, engine: AsyncEngine, wire: EngineConnection, global_id: str, participants: Iterable[str]
    ) -> None:
        """Write that a unit of work is committed, as part of the transaction on *wire*.

        `UniqueViolationError` if somebody has decided otherwise.
        """
        await self._insert(engine, wire, global_id, Decision.COMMIT.value, participants)

    async def abort_unless_decided(self, engine: AsyncEngine, wire: EngineConnection, global_id: str) -> Decision:
        """Return the decision about a unit of work; from now on it is to be rolled back if there was none.

        Waits for a transaction that has written its decision and not committed yet. Outside of a transaction.
        """
        try:
            await self._insert(engine, wire, global_id, Decision.ABORT.value, ())
        except UniqueViolationError:
            found = await self.read(engine, wire, global_id)
            if found is None:  # it was carried out everywhere, and deleted, between the two statements
                return await self.abort_unless_decided(engine, wire, global_id)
            return found
        return Decision.ABORT

    async def read(self, engine: AsyncEngine, wire: EngineConnection, global_id: str) -> Decision | None:
        """Return the decision about a unit of work; None if there is none that can be seen."""
        asked = select(self._table.c.outcome).where(self._table.c.global_id == global_id)
        found = (await _send(engine, wire, asked)).scalar_one_or_none()
        return None if found is None else Decision(found)

    async def rows(self, engine: AsyncEngine, wire: EngineConnection) -> list[DecisionRow]:
        """Return all decisions of a database."""
        return [
            DecisionRow(global_id, Decision(outcome), tuple(participants.split()), now - decided_at)
            for global_id, outcome, participants, decided_at, now in await _send(engine, wire, self._ages)
        ]

    async def done(self, engine: AsyncEngine, global_id: str) -> None:
        """Note that a decision is carried out everywhere: some time its row is deleted, together with others."""
        remembered = _done.setdefault(engine.pool, {}).setdefault(self._table.fullname, [])
        remembered.append(global_id)
        if len(remembered) < _MOST_REMEMBERED:
            return
        chosen, remembered[:] = list(remembered), []
        with suppress(Exception):  # the rows do no harm, and recovery deletes them too
            wire = await engine.acquire("deleting decisions that are carried out")
            try:
                await self.forget(engine, wire, chosen)
            finally:
                await engine.release(wire)

    async def forget(self, engine: AsyncEngine, wire: EngineConnection, global_ids: Sequence[str]) -> None:
        """Delete decisions that nobody is going to ask for any more."""
        await _send(engine, wire, delete(self._table).where(self._table.c.global_id.in_(global_ids)))

    async def _insert(
        self, engine: AsyncEngine, wire: EngineConnection, global_id: str, outcome: str, participants: Iterable[str]
    ) -> None:
        row = {"global_id": global_id, "outcome": outcome, "participants": " ".join(participants)}
        await _send(engine, wire, self._durable_insert if engine.name == "postgresql" else self._insert_row, row)


@lru_cache(maxsize=64)
def decisions_in(name: str = DECISION_TABLE, schema: str | None = None) -> Decisions:
    """Return the table of decisions of this name: the same one each time, so that its statements are compiled once."""
    return Decisions(name, schema)


_identities: Final[WeakKeyDictionary[Pool, dict[str, str]]] = WeakKeyDictionary()
"""The ids of databases by the pools of engines and the names of tables."""
_done: Final[WeakKeyDictionary[Pool, dict[str, list[str]]]] = WeakKeyDictionary()
"""Decisions that are carried out, likewise."""
_MOST_REMEMBERED: Final = 50


async def _send(
    engine: AsyncEngine, wire: EngineConnection, statement: object, row: dict[str, str] | None = None
) -> AnyResult:
    # There is one table for a database, wherever an engine's schema_translate_map puts those of the application.
    return await send(wire, prepare(engine.statements.for_schemas(None), statement, row))
