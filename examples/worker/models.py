"""What is kept? Jobs, what they have done, and events that wait for delivery; all in one database."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Index, Integer, String, Uuid

from aiosession import DeclarativeBase, Mapped, async_sessionmaker, create_async_engine, mapped_column
from aiosession.ext.outbox import Outbox, OutboxSession

MOST_ATTEMPTS = 4
"""A job that has failed so often is a dead letter."""
BACKOFF = 0.05
"""Seconds before the second attempt, doubled after each."""


def milliseconds(later: timedelta = timedelta()) -> int:
    """Return the time, or one that is *later*."""
    return int((datetime.now(UTC) + later).timestamp() * 1000)


class Base(DeclarativeBase):
    pass


class State(StrEnum):
    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


class Job(Base):
    """Something to do, once."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    amount: Mapped[int]
    state: Mapped[str] = mapped_column(String(10), default=State.WAITING)
    run_at: Mapped[int] = mapped_column(BigInteger, default=milliseconds)
    """Not before; milliseconds since 1970, which every database can compare."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Those that failed."""
    error: Mapped[str | None] = mapped_column(String(500))

    __table_args__ = (Index("job_waiting", "state", "run_at", "id"),)

    def failed(self, error: Exception) -> None:
        """Have it tried again later, or never if it has failed too often."""
        self.attempts += 1
        self.error = repr(error)[:500]
        self.run_at = milliseconds(timedelta(seconds=BACKOFF * 2 ** (self.attempts - 1)))
        if self.attempts >= MOST_ATTEMPTS:
            self.state = State.DEAD


class Entry(Base):
    """What a job does: an entry in a ledger. Nothing in the schema keeps a job from making two of them."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int]
    amount: Mapped[int]


class Summary(Base):
    """What the singleton task keeps; it reads, adds 1 and writes, so two of them at once would lose a run."""

    __tablename__ = "summary"

    id: Mapped[int] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(default=0)
    total: Mapped[int] = mapped_column(BigInteger, default=0)


class Run(Base):
    """A run of the singleton task."""

    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str] = mapped_column(String(40))


class Letter(Base):
    """What has arrived where events are sent to; it would be somewhere else."""

    __tablename__ = "letter"

    event_id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    job_id: Mapped[int]
    times: Mapped[int] = mapped_column(Integer, default=1)
    """How often the event was delivered: once, and again if a relay died before it could note that."""


outbox = Outbox(Base.metadata)
Sessions = async_sessionmaker[OutboxSession]


def make_sessions(url: str) -> Sessions:
    """Return what makes the sessions of a process."""
    engine = create_async_engine(url, statement_deadlines=True)
    return async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)
