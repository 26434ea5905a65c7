"""What does a worker do? Jobs in several tasks, the singleton task now and then, and the relay of the outbox.

A database that is away, a timeout, or a commit whose outcome nobody knows is no reason to end: the job is still there,
or it is done.
"""

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiosession import OperationalError, PoolTimeoutError, UniqueViolationError
from aiosession.events import StatementEvent
from aiosession.ext.outbox import OutboxEvent, OutboxSession
from examples.worker.jobs import do_next
from examples.worker.models import Letter, Sessions, make_sessions, outbox
from examples.worker.singleton import summarise

TASKS: Final = 2
PAUSE: Final = 0.05
"""Seconds until it is looked for work again where there was none."""
PAUSE_AFTER_ERRORS: Final = 1.0
"""Seconds until it is tried again after an error that is not of a job."""
LEASE: Final = 4.0
"""Seconds after which another relay delivers what a dead one had taken."""
BATCH: Final = 20
"""Events that a relay takes at once, and the most that are delivered again when it dies."""
DIES: Final = 9
"""The exit status of a worker that was told to die."""
_PASSING: Final = (OperationalError, PoolTimeoutError, TimeoutError)
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Life:
    """What a worker process is told."""

    url: str
    name: str
    dies_at: int | None = None
    """The number of the statement after which it dies, in the middle of whatever it does."""


class Worker:
    """Works until it is stopped; what it has begun is brought to its end."""

    def __init__(self, sessions: Sessions, name: str) -> None:
        self._sessions: Final = sessions
        self._name: Final = name
        self._is_over: Final = asyncio.Event()
        self._relay: Final = outbox.relay(sessions, self._deliver, every=PAUSE, lease=LEASE, batch=BATCH)

    def stop(self) -> None:
        """Have everything end that is in progress, and begin nothing."""
        self._is_over.set()
        self._relay.stop()

    async def run(self) -> None:
        """Work until `stop`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(self._repeat(self._work))
            group.create_task(self._repeat(self._summarise))
            group.create_task(self._relay.run())

    async def _repeat(self, act: Callable[[], Awaitable[bool]]) -> None:
        """Do something again and again, after a pause where it says that there was nothing to do, or where it fails."""
        while not self._is_over.is_set():
            try:
                pause = 0.0 if await act() else PAUSE
            except _PASSING as error:
                _log.warning("worker %s has met an error which passes: %r", self._name, error)
                pause = PAUSE_AFTER_ERRORS
            if pause:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._is_over.wait()

    async def _work(self) -> bool:
        return await do_next(self._sessions)

    async def _summarise(self) -> bool:
        await summarise(self._sessions, self._name)
        return False

    async def _deliver(self, event: OutboxEvent) -> None:
        """Be who gets the events: the id of one that has been here before tells that it is to be done once only."""

        @self._sessions.retrying(attempts=50, wait=0.01, max_wait=0.5, on=UniqueViolationError)
        async def receive(session: OutboxSession) -> None:
            letter = await session.get(Letter, event.id, with_for_update=True)
            if letter is None:
                session.add(Letter(event_id=event.id, job_id=event.payload["job"]))
            else:
                letter.times += 1

        await receive()


async def work(life: Life) -> None:
    """Be a worker process: until SIGTERM, or until it dies."""
    sessions = make_sessions(life.url)
    engine = sessions.kw["bind"]
    worker = Worker(sessions, life.name)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    if life.dies_at is not None:
        numbers = itertools.count(1)

        def die(_event: StatementEvent) -> None:
            if next(numbers) == life.dies_at:
                os._exit(DIES)

        engine.events.after.add(die)
    try:
        await worker.run()
    finally:
        await engine.dispose()
