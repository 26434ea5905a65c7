"""The workers: what a job does, what becomes of one that fails, and that no death makes anything happen twice."""

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import insert, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    CommitOutcomeUnknownError,
    DatabaseError,
    DisconnectError,
    SerializationError,
    create_async_engine,
)
from aiosession.events import StatementEvent
from aiosession.ext.outbox import OutboxEvent, OutboxSession
from examples.worker.audit import look, problems
from examples.worker.demo import Options, tell, torment
from examples.worker.jobs import HANDLERS, Handler, Taken, do_next, give_back, take
from examples.worker.models import Base, Entry, Job, Run, Sessions, State, Summary, make_sessions, outbox
from examples.worker.singleton import is_only_one, summarise
from examples.worker.worker import Worker

DATABASES = [
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Name an empty database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def sessions(database_url: str, engine: AsyncEngine) -> AsyncIterator[Sessions]:
    """Make the sessions of a worker, over empty tables."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    made = make_sessions(database_url)
    async with made.begin() as session:
        session.add(Summary(id=1))
    yield made
    await made.kw["bind"].dispose()


async def given(sessions: Sessions, *kinds: str) -> None:
    async with sessions.begin() as session:
        session.add_all(Job(kind=kind, amount=5) for kind in kinds)


async def let_time_pass(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        for job in await session.scalars(select(Job)):
            job.run_at = 0


async def states(engine: AsyncEngine) -> list[tuple[str, int, int]]:
    """Return state, failures and effects of each job."""
    async with AsyncSession(engine) as session:
        entries = list(await session.scalars(select(Entry.job_id)))
        jobs = await session.scalars(select(Job).order_by(Job.id))
        return [(job.state, job.attempts, entries.count(job.id)) for job in jobs]


async def test_a_job_is_done_once_and_told_of(sessions: Sessions, engine: AsyncEngine) -> None:
    heard: list[OutboxEvent] = []

    async def hear(event: OutboxEvent) -> None:
        heard.append(event)

    await given(sessions, "add")

    assert [await do_next(sessions), await do_next(sessions)] == [True, False]
    assert await states(engine) == [(State.DONE, 0, 1)]
    assert await outbox.relay(engine, hear).drain() == 1
    assert [event.payload for event in heard] == [{"job": 1, "state": "done"}]


async def test_a_job_that_fails_waits_and_is_done_in_the_end(sessions: Sessions, engine: AsyncEngine) -> None:
    await given(sessions, "flaky")

    seen = []
    for _ in range(3):
        await do_next(sessions)
        seen += await states(engine)
        await let_time_pass(sessions)

    assert seen == [(State.WAITING, 1, 0), (State.WAITING, 2, 0), (State.DONE, 2, 1)]


async def test_a_job_that_never_works_is_a_dead_letter(sessions: Sessions, engine: AsyncEngine) -> None:
    await given(sessions, "poison")

    for _ in range(5):
        await do_next(sessions)
        await let_time_pass(sessions)

    assert await states(engine) == [(State.DEAD, 4, 0)]


async def violates_a_constraint(session: OutboxSession, job: Job) -> None:
    session.add_all([Entry(id=7, job_id=job.id, amount=job.amount), Run(id=7, worker="it")])
    await session.flush()
    await session.execute(insert(Run).values(id=7, worker="again"))


async def takes_what_does_not_fit(session: OutboxSession, job: Job) -> None:
    session.add(Entry(job_id=job.id, amount=job.amount))
    await session.flush()
    await session.execute(insert(Entry).values(job_id=job.id, amount=2**80))


async def asks_for_what_is_not_there(session: OutboxSession, job: Job) -> None:
    session.add(Entry(job_id=job.id, amount=job.amount))
    await session.flush()
    await session.execute(text("SELECT * FROM nowhere"))


@pytest.mark.parametrize("handler", [violates_a_constraint, takes_what_does_not_fit, asks_for_what_is_not_there])
async def test_a_job_that_the_database_refuses_is_a_dead_letter_and_the_others_are_done(
    sessions: Sessions, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, handler: Handler
) -> None:
    monkeypatch.setitem(HANDLERS, "refused", handler)
    await given(sessions, "refused", "add")

    for _ in range(6):
        await do_next(sessions)
        await let_time_pass(sessions)

    assert await states(engine) == [(State.DEAD, 4, 0), (State.DONE, 0, 1)]


async def test_a_job_that_always_takes_too_long_is_a_dead_letter_and_leaves_nothing_behind(
    sessions: Sessions, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never_ends(session: OutboxSession, job: Job) -> None:
        session.add(Entry(job_id=job.id, amount=job.amount))
        await session.flush()
        await asyncio.Event().wait()

    monkeypatch.setitem(HANDLERS, "endless", never_ends)
    await given(sessions, "endless")

    seen = []
    for _ in range(4):
        assert await do_next(sessions, longest=0.3)
        seen += await states(engine)
        await let_time_pass(sessions)

    assert seen == [(State.WAITING, 1, 0), (State.WAITING, 2, 0), (State.WAITING, 3, 0), (State.DEAD, 4, 0)]
    assert not await do_next(sessions)


async def test_a_job_that_was_late_is_not_counted_twice(sessions: Sessions, engine: AsyncEngine) -> None:
    await given(sessions, "add")

    for _ in range(2):
        await give_back(sessions, Taken(1, attempts=0), TimeoutError("late"))

    assert await states(engine) == [(State.WAITING, 1, 0)]


@pytest.mark.parametrize("lost", [SerializationError, DisconnectError])
async def test_a_transaction_that_is_lost_is_repeated_and_no_failure_of_its_job(
    sessions: Sessions, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, lost: type[DatabaseError]
) -> None:
    errors = [lost("INSERT", None, RuntimeError("lost"))]

    async def unlucky(session: OutboxSession, job: Job) -> None:
        if errors:
            raise errors.pop()
        session.add(Entry(job_id=job.id, amount=job.amount))

    monkeypatch.setitem(HANDLERS, "unlucky", unlucky)
    await given(sessions, "unlucky")

    assert await do_next(sessions)
    assert await states(engine) == [(State.DONE, 0, 1)]


async def unresolved() -> bool | None:
    return None


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        DisconnectError("SELECT", None, RuntimeError("away")),
        CommitOutcomeUnknownError(RuntimeError("no reply"), unresolved),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_worker_goes_on_after_errors_that_pass(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    errors, done = [error], asyncio.Event()

    async def once_unlucky(makes: Sessions) -> bool:
        if errors:
            raise errors.pop()
        is_done = await do_next(makes)
        if is_done:
            done.set()
        return is_done

    monkeypatch.setattr("examples.worker.worker.do_next", once_unlucky)
    await given(sessions, "add")
    worker = Worker(sessions, "only")
    task = asyncio.create_task(worker.run())
    await asyncio.wait([task, asyncio.ensure_future(done.wait())], return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    await task

    assert done.is_set()
    assert f"which passes: {error!r}" in caplog.text


@pytest.mark.without("sqlite", "one transaction at a time writes there, so there is nothing to skip")
async def test_two_workers_never_get_the_same_job(sessions: Sessions) -> None:
    await given(sessions, "add", "add")

    async with sessions.begin() as one, sessions.begin() as two, sessions.begin() as three:
        taken = [await take(each) for each in (one, two, three)]

    assert [job and job.id for job in taken] == [1, 2, None]


@pytest.mark.without("sqlite", "it has no advisory locks and needs none")
async def test_a_singleton_task_is_left_alone_while_somebody_is_at_it(sessions: Sessions, engine: AsyncEngine) -> None:
    async with sessions.begin() as session:
        assert await is_only_one(session, "summary")
        await summarise(sessions, "another")
        assert (await look(engine)).runs == 0
    await summarise(sessions, "another")

    assert ((await look(engine)).runs, (await look(engine)).counted) == (1, 1)


async def test_a_worker_that_is_stopped_brings_its_work_to_an_end(sessions: Sessions, engine: AsyncEngine) -> None:
    await given(sessions, *["add"] * 10)
    worker, arrived = Worker(sessions, "only"), asyncio.Event()

    def listen(event: StatementEvent) -> None:
        if event.sql.startswith("INSERT INTO letter"):
            arrived.set()

    sessions.kw["bind"].events.after.add(listen)
    task = asyncio.create_task(worker.run())
    await arrived.wait()
    worker.stop()
    await task

    assert all(entries == (state == State.DONE) for state, _, entries in await states(engine))


async def test_the_audit_finds_what_is_wrong(sessions: Sessions, engine: AsyncEngine) -> None:
    await given(sessions, "add", "poison")
    async with sessions.begin() as session:
        session.add_all([Entry(job_id=1, amount=5), Entry(job_id=1, amount=5)])
        (await session.get_one(Job, 1)).state = State.DONE
        (await session.get_one(Summary, 1)).runs = 3

    assert list(problems(await look(engine))) == [
        "job 1 is done and has made 2 entries",
        "of the end of job 1 tell 0 events",
        "job 2 (poison) is waiting",
        "of the end of job 2 tell 0 events",
        "the singleton task has run 0 times and counted 3: there were two of them at once",
    ]


@pytest.mark.slow
async def test_every_job_is_done_once_although_workers_die(database_url: str) -> None:
    """A short `make demo-worker`: real processes that die in the middle of their work."""
    engine, output = create_async_engine(database_url), io.StringIO()
    options = Options(jobs=40, workers=2, kills=4, statements=60, seed=5)
    try:
        report = await torment(engine, database_url, options, Console(file=output))
    finally:
        await engine.dispose()
    tell(report, Console(file=output))

    seen: Any = report.seen
    assert report.problems == []
    assert report.kills == 4
    assert seen.states[State.DONE] + seen.states[State.DEAD] == 40
    assert "40 jobs" in output.getvalue()
