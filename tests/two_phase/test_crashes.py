"""A process dies at any step; another one recovers; all databases have the unit of work, or none has it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from aiosession import AsyncEngine
from tests.two_phase.checks import is_everywhere, no_victim_works
from tests.two_phase.crashing import ABORTS, COMMITS, RECOVER, Ending, Job
from tests.two_phase.model import APP, prepared

Engines = list[AsyncEngine]
ROOT = Path(__file__).parents[2]
MOST = 400


class Processes:
    """Starts processes that die."""

    def __init__(self) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.two_phase.crashing"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, job: Job) -> Ending:
        """Run one until it has ended."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write(json.dumps(asdict(job)) + "\n")
        self._forker.stdin.flush()
        return Ending(**json.loads(self._forker.stdout.readline()))

    def end(self) -> None:
        self._forker.communicate()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.end()


TWO = ["postgresql", "postgresql2"]
LOCAL = ["postgresql", "sqlite"]


async def survive(processes: Processes, urls: list[str], observers: Engines, job: Job) -> tuple[Ending, bool]:
    """Have a process do a job that it may die of, then recover; say whether the unit of work is committed."""
    ending = processes.run(job)
    await no_victim_works(observers)
    if await prepared(observers):
        recovery = processes.run(Job(RECOVER, urls))
        assert recovery.status == 0, (ending.steps, recovery.steps)
        assert await prepared(observers) == []
    assert ending.has_died or ending.status == 0, ending
    return ending, await is_everywhere(observers, job.unit)


async def check_every_step(processes: Processes, urls: list[str], observers: Engines, task: str) -> None:
    """Have processes die at one step after the other, until one comes to its end."""
    outcomes = []
    for step in range(1, MOST):
        ending, is_committed = await survive(processes, urls, observers, Job(task, urls, str(uuid4()), step))
        outcomes.append(is_committed)
        if not ending.has_died:
            break
    assert outcomes[-1] is (task in COMMITS)
    assert outcomes == sorted(outcomes)  # undone up to some step, committed from then on
    print(f"{task}: died at {len(outcomes) - 1} steps, committed after {sum(outcomes) - outcomes[-1]}")  # noqa: T201


@pytest.mark.slow
async def test_a_process_that_dies_at_any_step_leaves_all_or_nothing(
    processes: Processes, urls: list[str], observers: Engines
) -> None:
    await survive(processes, urls, observers, Job("commit", urls, "first"))  # which makes the tables
    await check_every_step(processes, urls, observers, "commit")


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TWO])
@pytest.mark.parametrize("task", ABORTS)
async def test_so_does_one_that_prepares_by_hand_or_gives_up(
    processes: Processes, urls: list[str], observers: Engines, task: str
) -> None:
    await survive(processes, urls, observers, Job("commit", urls, "first"))
    await check_every_step(processes, urls, observers, task)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TWO, LOCAL], ids="+".join)
async def test_so_does_one_that_makes_the_tables_of_decisions(
    processes: Processes, urls: list[str], observers: Engines
) -> None:
    for step in range(1, MOST):
        for observer in observers:
            async with observer.begin() as connection:
                await connection.execute(text("DROP TABLE IF EXISTS aiosession_decision"))
        ending, _ = await survive(processes, urls, observers, Job("commit", urls, str(uuid4()), step))
        if not ending.has_died or "after begin" in ending.steps[:-1]:
            break
    assert step > 10
    print(f"first use: died at {step - 1} steps")  # noqa: T201


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TWO, LOCAL], ids="+".join)
@pytest.mark.parametrize("is_decided", [True, False], ids=["decided", "undecided"])
async def test_a_recovery_that_dies_at_any_step_is_finished_by_the_next(
    processes: Processes, urls: list[str], observers: Engines, is_decided: bool
) -> None:
    """The next one may die too, a step later."""
    crash = crash_at_decision(processes, urls, is_decided=is_decided)
    unit, ending = "", None
    for step in range(1, MOST):
        if not await prepared(observers):
            unit = str(uuid4())
            assert processes.run(Job("commit", urls, unit, crash)).has_died
            await no_victim_works(observers)
            assert await prepared(observers) != []
        ending = processes.run(Job(RECOVER, urls, step=step))
        await no_victim_works(observers)
        if not await prepared(observers):
            assert await is_everywhere(observers, unit) is is_decided
        if not ending.has_died:
            break
    assert ending is not None
    assert (ending.status, await prepared(observers)) == (0, [])
    print(f"recovery: died at {step - 1} steps")  # noqa: T201


def crash_at_decision(processes: Processes, urls: list[str], *, is_decided: bool) -> int:
    """Return the step right before the decider commits, or right after."""
    processes.run(Job("commit", urls, "first"))
    steps = processes.run(Job("commit", urls, "second")).steps
    wanted = "after commit" if is_decided else "before commit"
    return max(number for number, step in enumerate(steps, 1) if step == wanted)


@pytest.mark.parametrize("kinds", [TWO], ids="+".join)
@pytest.mark.parametrize("is_decided", [True, False], ids=["decided", "undecided"])
async def test_the_command_recovers(
    processes: Processes, urls: list[str], observers: Engines, is_decided: bool
) -> None:
    """As the others here do it in forks."""
    crash = crash_at_decision(processes, urls, is_decided=is_decided)
    unit = str(uuid4())
    processes.run(Job("commit", urls, unit, crash))
    await no_victim_works(observers)

    command = [sys.executable, "-m", "aiosession.recover", "--app", APP, *urls]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: ASYNC221 - alone

    assert done.stdout.rstrip().endswith("committed" if is_decided else "rolled back")
    assert await prepared(observers) == []
    assert await is_everywhere(observers, unit) is is_decided
