"""A process that forks others, which die at a chosen step: ``python -m tests.two_phase.crashing``.

Each line that it reads is a `Job` as JSON; for each it forks, waits for the end, and writes an `Ending` as JSON.
Nothing lives in it when it forks, neither event loop nor thread nor connection, so that a fork is as good as a new
process, but does not take the time that Python takes to start. A step is a moment at a message to a database: before
it is sent, when it is on its way, and after the answer has been heard.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Final

from aiosession import AsyncEngine, AsyncSession, TwoPhase, create_async_engine
from aiosession.command import main as recover_main
from aiosession.engine.wire import EngineConnection
from aiosession.errors import IntegrityError
from tests.two_phase.model import APP, Line, add_unit, binds_of

DIED: Final = 9
NEVER: Final = 0
_MESSAGES: Final = (
    *("fetch", "execute", "execute_many", "fetch_each", "run", "script", "begin", "commit", "rollback"),
    *("can_prepare", "prepare", "commit_prepared", "rollback_prepared", "prepared"),
)
"""The methods of a connection that say something to a database."""


@dataclass(frozen=True)
class Job:
    """What a process is to do, and at which step it dies."""

    task: str
    urls: Sequence[str]
    unit: str = ""
    step: int = NEVER


@dataclass(frozen=True)
class Ending:
    """How a process ended, and the steps that it came through."""

    status: int
    steps: Sequence[str]

    @property
    def has_died(self) -> bool:
        return self.status == DIED


# In the process that dies ---------------------------------------------------------------------------------------------


class _OnItsWay:
    """Awaits a coroutine, and says when it waits for the first time: then its message has been sent."""

    def __init__(self, coroutine: Any, say: Callable[[], None]) -> None:
        self._coroutine = coroutine
        self._say = say

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        try:
            waits_for = coroutine.send(None)
            self._say()
            while True:
                try:
                    answer = yield waits_for
                except BaseException as error:
                    waits_for = coroutine.throw(error)
                else:
                    waits_for = coroutine.send(answer)
        except StopIteration as end:
            return end.value


def die_at(step: int, tell: Callable[[str], None]) -> None:
    """Have this process die at its *step*-th step."""
    count = 0

    def pass_by(moment: str) -> None:
        nonlocal count
        count += 1
        tell(moment)
        if count == step:
            os._exit(DIED)

    for name in _MESSAGES:
        setattr(EngineConnection, name, _with_steps(name, getattr(EngineConnection, name), pass_by))


def _with_steps(name: str, method: Any, pass_by: Callable[[str], None]) -> Any:
    @wraps(method)
    async def send(*args: Any, **kwargs: Any) -> Any:
        pass_by(f"before {name}")
        try:
            return await _OnItsWay(method(*args, **kwargs), lambda: pass_by(f"on its way: {name}"))
        finally:
            pass_by(f"after {name}")

    return send


def _session(engines: Sequence[AsyncEngine]) -> AsyncSession:
    return AsyncSession(binds=binds_of(engines), twophase=TwoPhase(app=APP))


async def commit(engines: Sequence[AsyncEngine], unit: str) -> None:
    async with _session(engines) as session:
        add_unit(session, engines, unit)
        await session.commit()


async def prepare_and_roll_back(engines: Sequence[AsyncEngine], unit: str) -> None:
    async with _session(engines) as session:
        add_unit(session, engines, unit)
        await session.prepare()
        await session.rollback()


async def be_refused(engines: Sequence[AsyncEngine], unit: str) -> None:
    """Write something that one of the databases looks at, and refuses, in the first phase or when it decides."""
    async with _session(engines) as session:
        add_unit(session, engines, unit)
        session.add(Line(order_id=77))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()


COMMITS: Final[dict[str, Callable[[Sequence[AsyncEngine], str], Awaitable[None]]]] = {
    "commit": commit,
}
ABORTS: Final[dict[str, Callable[[Sequence[AsyncEngine], str], Awaitable[None]]]] = {
    "prepare and roll back": prepare_and_roll_back,
    "be refused": be_refused,
}
RECOVER: Final = "recover"


def do(job: Job, tell: Callable[[str], None]) -> int:
    """Do a job in this process; return its exit status."""
    die_at(job.step, tell)
    if job.task == RECOVER:
        return recover_main(["--app", APP, *job.urls])
    task = (COMMITS | ABORTS)[job.task]

    async def run() -> None:
        await task([create_async_engine(url) for url in job.urls], job.unit)

    asyncio.run(run())
    return 0


# In the process that forks --------------------------------------------------------------------------------------------


def forked(job: Job) -> Ending:
    """Do a job in a process of its own and wait for the end of that."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(source)
        status = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, sys.stdout.fileno())
            status = do(job, lambda step: _write(sink, step))
        except BaseException as error:
            _write(sink, repr(error))
            raise
        finally:
            os._exit(status)
    os.close(sink)
    with os.fdopen(source) as told:
        steps = told.read().splitlines()
    _, ended = os.waitpid(child, 0)
    return Ending(os.waitstatus_to_exitcode(ended), steps)


def _write(sink: int, line: str) -> None:
    os.write(sink, f"{line}\n".encode())


def main() -> None:
    """Do jobs until the standard input ends."""
    gc.freeze()  # so that forks share what is here
    for line in sys.stdin:
        print(json.dumps(asdict(forked(Job(**json.loads(line))))), flush=True)  # noqa: T201 - how it answers


if __name__ == "__main__":
    main()
