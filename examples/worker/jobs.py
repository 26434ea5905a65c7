"""How is a job done? Taken, carried out and marked in one transaction: all of it is there, or nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from sqlalchemy import select

from aiosession import CommitOutcomeUnknownError, DatabaseError, DisconnectError, PartialCommitError
from aiosession.ext.outbox import OutboxSession
from examples.worker.models import Entry, Job, Sessions, State, milliseconds

LONGEST = 30.0
"""Seconds that one job may take; the server stops it too (statement_deadlines), should this process be dead by then."""
_LOST = (DisconnectError, CommitOutcomeUnknownError, PartialCommitError)


class TransientError(Exception):
    """Somebody else's service is away."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that somebody is at work on, and how often it had failed before."""

    id: int
    attempts: int


async def add(session: OutboxSession, job: Job) -> None:
    """Do what a job is there for."""
    session.add(Entry(job_id=job.id, amount=job.amount))


async def add_at_the_third_attempt(session: OutboxSession, job: Job) -> None:
    """Do half of it, and fail twice."""
    session.add(Entry(job_id=job.id, amount=job.amount))
    await session.flush()
    if job.attempts < 2:
        raise TransientError(f"attempt {job.attempts + 1}")


async def never_works(session: OutboxSession, job: Job) -> None:
    """Do half of it, and fail."""
    session.add(Entry(job_id=job.id, amount=job.amount))
    await session.flush()
    raise ValueError("no one can do this")


Handler = Callable[[OutboxSession, Job], Awaitable[None]]
HANDLERS: dict[str, Handler] = {
    "add": add,
    "flaky": add_at_the_third_attempt,
    "poison": never_works,
}


async def do_next(sessions: Sessions, longest: float = LONGEST) -> bool:
    """Do the job whose turn it is; False if there is none. Two workers never get the same one.

    A job that takes longer than *longest* seconds is undone, and has failed.
    """
    taken: list[Taken] = []

    @sessions.retrying(attempts=50, wait=0.01, max_wait=0.5)
    async def in_a_transaction(session: OutboxSession) -> bool:
        job = await take(session)
        if job is not None:
            taken[:] = [Taken(job.id, job.attempts)]
            await carry_out(session, job)
        return job is not None

    with anyio.move_on_after(longest):
        return await in_a_transaction()
    if not taken:
        raise TimeoutError(f"there was no job to be had within {longest:g} seconds")
    await give_back(sessions, taken[0], TimeoutError(f"it took longer than {longest:g} seconds"))
    return True


async def give_back(sessions: Sessions, taken: Taken, error: Exception) -> None:
    """Note that a job has failed whose transaction is gone, unless somebody else has had it since."""

    @sessions.retrying(attempts=50, wait=0.01, max_wait=0.5)
    async def in_a_transaction(session: OutboxSession) -> None:
        job = await session.get_one(Job, taken.id, with_for_update=True)
        if job.state == State.WAITING and job.attempts == taken.attempts:
            job.failed(error)
            tell_of_the_end(session, job)

    await in_a_transaction()


async def take(session: OutboxSession) -> Job | None:
    """Return the first job that nobody works on, locked until the transaction ends, however it ends."""
    return await session.scalar(
        select(Job)
        .where(Job.state == State.WAITING, Job.run_at <= milliseconds())
        .order_by(Job.run_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


async def carry_out(session: OutboxSession, job: Job) -> None:
    """Run a job's handler in a savepoint, so that what a failed one has done is undone and its failure is kept."""
    try:
        async with session.begin_nested():
            await HANDLERS[job.kind](session, job)
    except Exception as error:
        if is_of_the_transaction(error):
            raise  # retrying() knows what to do
        job.failed(error)
    else:
        job.state = State.DONE
    tell_of_the_end(session, job)


def tell_of_the_end(session: OutboxSession, job: Job) -> None:
    """Publish that a job is done, or is a dead letter; nothing if it is to be tried again."""
    if job.state != State.WAITING:
        session.publish({"job": job.id, "state": str(job.state)}, topic="job ended", key=f"job {job.id}")


def is_of_the_transaction(error: Exception) -> bool:
    """Whether the whole transaction is lost, through no fault of the job; a constraint, for one, is the job's own."""
    return isinstance(error, _LOST) or (isinstance(error, DatabaseError) and error.retryable)
