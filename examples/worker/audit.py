"""Was every job done exactly once? Look at the database from outside and compare what has to fit together."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession
from examples.worker.models import MOST_ATTEMPTS, Entry, Job, Letter, Run, State, Summary, outbox


@dataclass(frozen=True, slots=True)
class Seen:
    """What is in the database."""

    jobs: list[Job]
    entries: Counter[int]
    """How many entries each job has made."""
    letters: list[Letter]
    waiting: int
    """Events that are not delivered."""
    runs: int
    counted: int
    """Runs of the singleton task by their rows, and as that task has counted them itself."""

    @property
    def states(self) -> Counter[str]:
        return Counter(job.state for job in self.jobs)

    @property
    def repeated(self) -> int:
        """How many deliveries were repetitions."""
        return sum(letter.times - 1 for letter in self.letters)


async def look(engine: AsyncEngine) -> Seen:
    """Read everything."""
    async with AsyncSession(engine) as session, session.begin():
        summary = await session.get_one(Summary, 1)
        return Seen(
            jobs=list(await session.scalars(select(Job).order_by(Job.id))),
            entries=Counter(await session.scalars(select(Entry.job_id))),
            letters=list(await session.scalars(select(Letter))),
            waiting=int(await session.scalar(select(func.count()).select_from(outbox.table)) or 0),
            runs=int(await session.scalar(select(func.count()).select_from(Run)) or 0),
            counted=summary.runs,
        )


def problems(seen: Seen) -> Iterator[str]:
    """Yield what does not fit together."""
    letters = Counter(letter.job_id for letter in seen.letters)
    for job in seen.jobs:
        entries, wanted = seen.entries[job.id], State.DEAD if job.kind == "poison" else State.DONE
        if job.state != wanted:
            yield f"job {job.id} ({job.kind}) is {job.state}"
        if entries != (job.state == State.DONE):
            yield f"job {job.id} is {job.state} and has made {entries} entries"
        if job.state == State.DEAD and job.attempts != MOST_ATTEMPTS:
            yield f"job {job.id} was given up after {job.attempts} attempts"
        if letters[job.id] != 1:
            yield f"of the end of job {job.id} tell {letters[job.id]} events"
    if seen.waiting:
        yield f"{seen.waiting} events are not delivered"
    if seen.runs != seen.counted:
        yield f"the singleton task has run {seen.runs} times and counted {seen.counted}: there were two of them at once"
