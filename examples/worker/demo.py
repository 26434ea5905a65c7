"""What does ``make demo-worker`` show? Workers that die in the middle of their work, and jobs that are done once only.

Every worker is told to die after some statement or other, until there were enough deaths; then three of them finish.
Ends with 0 if each job has had its effect exactly once and each event was delivered.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from random import Random, SystemRandom
from time import perf_counter

from rich.console import Console
from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession, create_async_engine
from aiosession.testing.postgres import postgres_cluster
from examples.worker.audit import Seen, look, problems
from examples.worker.models import Base, Job, State, Summary, outbox
from examples.worker.process import Process
from examples.worker.worker import DIES, PAUSE, Life

LONGEST = 180.0
"""Seconds until everything has to be done."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much of it."""

    jobs: int = 400
    workers: int = 3
    kills: int = 20
    statements: int = 250
    """A worker dies after one of its first statements, these at most."""
    seed: int = 0


@dataclass(slots=True)
class Report:
    """What happened."""

    seen: Seen | None = None
    kills: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def fill(engine: AsyncEngine, jobs: int, random: Random) -> None:
    """Make the tables and something to do: of ten jobs one fails twice, and one of twenty always."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    kinds = random.choices(["add", "flaky", "poison"], [17, 2, 1], k=jobs)
    async with AsyncSession(engine) as session, session.begin():
        session.add(Summary(id=1))
        session.add_all(Job(kind=kind, amount=random.randint(1, 100)) for kind in kinds)


async def is_done(engine: AsyncEngine) -> bool:
    """Whether nothing waits, neither jobs nor events."""
    async with AsyncSession(engine) as session:
        if await session.scalar(select(func.count()).select_from(Job).where(Job.state == State.WAITING)):
            return False
        return not await session.scalar(select(func.count()).select_from(outbox.table))


async def torment(engine: AsyncEngine, url: str, options: Options, console: Console) -> Report:
    """Have workers do everything while they die; look at what is there in the end."""
    random, report, began = Random(options.seed), Report(), perf_counter()
    await fill(engine, options.jobs, random)
    lives = new_lives(url, options, random)
    workers = [Process(next(lives)) for _ in range(options.workers)]
    try:
        async with asyncio.timeout(LONGEST):
            while report.kills < options.kills or not await is_done(engine):
                replace_the_dead(workers, lives, report, console)
                await asyncio.sleep(PAUSE)
            await stop(workers, report)
    finally:
        for worker in workers:
            worker.kill()
    report.seen = await look(engine)
    report.problems += problems(report.seen)
    report.seconds = perf_counter() - began
    return report


def new_lives(url: str, options: Options, random: Random) -> Iterator[Life]:
    """Yield what workers are told: the first ones to die, as many as wanted."""
    for number in count(1):
        dies_at = random.randint(1, options.statements) if number <= options.kills else None
        yield Life(url, f"worker {number}", dies_at)


def replace_the_dead(workers: list[Process], lives: Iterator[Life], report: Report, console: Console) -> None:
    """Start a worker for each that has died."""
    for place, worker in enumerate(workers):
        if worker.status is None:
            continue
        if worker.status == DIES:
            report.kills += 1
            console.print(f"  {report.kills:3}. {worker.life.name} died after {worker.life.dies_at} statements")
        else:
            report.problems.append(f"{worker.life.name} ended with {worker.status}")
        workers[place] = Process(next(lives))


async def stop(workers: list[Process], report: Report) -> None:
    """Stop all workers politely."""
    for worker in workers:
        worker.stop()
    for worker in workers:
        await worker.ended()
        if worker.status != 0:
            report.problems.append(f"{worker.life.name} was stopped and ended with {worker.status}")


def tell(report: Report, console: Console) -> None:
    """Print what happened."""
    if report.seen is not None:
        seen, tries = report.seen, sum(job.attempts for job in report.seen.jobs)
        console.print(
            f"  {len(seen.jobs):,} jobs: {seen.states[State.DONE]:,} done, {seen.states[State.DEAD]:,} dead letters, "
            f"{tries:,} failed attempts"
        )
        console.print(f"  {seen.entries.total():,} entries in the ledger, one for each job that is done")
        console.print(f"  {len(seen.letters):,} events delivered, {seen.repeated:,} of them again after a death")
        console.print(f"  the singleton task ran {seen.runs:,} times, never twice at once; {report.kills} workers died")
    for problem in report.problems:
        console.print(f"  [red]wrong:[/red] {problem}", highlight=False)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=usual.jobs)
    parser.add_argument("--workers", type=int, default=usual.workers)
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--statements", type=int, default=usual.statements, help="the most in a life that is cut short")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1000), help="for the same deaths again")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    return parser.parse_args()


async def main(url: str, options: Options, console: Console) -> Report:
    """Run all of it over an engine of our own, which looks from outside."""
    engine = create_async_engine(url)
    try:
        return await torment(engine, url, options, console)
    finally:
        await engine.dispose()


def run() -> int:
    """Run the demonstration and return the exit status."""
    given, console = arguments(), Console()
    options = Options(given.jobs, given.workers, given.kills, given.statements, given.seed)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="worker-"))
        url = f"sqlite+aiosqlite:///{folder}/jobs.db"
        if given.database == "postgresql":
            url = stack.enter_context(postgres_cluster()).url()
        console.rule(f"{options.jobs} jobs in {given.database}, {options.workers} workers, seed {options.seed}")
        report = asyncio.run(main(url, options, console))
        tell(report, console)
        verdict = "Something is wrong" if report.problems else "Every job was done exactly once"
        console.rule(f"{verdict}; {report.seconds:.1f} s")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(run())
