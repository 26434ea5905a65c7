"""Units of work that are repeated: which errors, how often, what the next attempt finds, and who may not."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Integer, insert, select, text, update

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    Attempt,
    CommitOutcomeUnknownError,
    DeadlockError,
    DeclarativeBase,
    DisconnectError,
    FailedAttempt,
    InDoubtError,
    InvalidRequestError,
    LockNotAvailableError,
    Mapped,
    PartialCommitError,
    Retrying,
    SerializationError,
    StaleDataError,
    StatementTimeoutError,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
    mapped_column,
)
from tests.without_loop import scripted, to_the_end


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture
async def maker(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make sessions for a database with a counter at 0."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    made = async_sessionmaker(engine)
    async with made.begin() as session:
        session.add_all([Counter(id=1, value=0), Versioned(id=1, value=0)])
    return made


async def value(engine: AsyncEngine) -> int:
    async with AsyncSession(engine) as session:
        return (await session.get_one(Counter, 1)).value


def refusal(kind: type[Exception] = SerializationError) -> Exception:
    """Make the error of a database that wants the transaction to be repeated."""
    return kind("UPDATE", None, RuntimeError("try again"))


async def unknown() -> bool | None:
    return None


async def repeated(
    retrying: Retrying[AsyncSession], body: Callable[[Attempt[AsyncSession], AsyncSession], Awaitable[None]]
) -> None:
    async for attempt in retrying:
        async with attempt as session:
            await body(attempt, session)


# What is repeated


@pytest.mark.parametrize("kind", [SerializationError, DeadlockError, LockNotAvailableError, DisconnectError])
async def test_a_failed_attempt_is_rolled_back_and_followed_by_another(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine, kind: type[Exception]
) -> None:
    numbers = []

    async for attempt in maker.retrying(wait=0):
        async with attempt as session:
            numbers.append(attempt.number)
            counter = await session.get_one(Counter, 1)
            counter.value += 1
            await session.flush()
            if attempt.number < 3:
                raise refusal(kind)

    assert numbers == [1, 2, 3]
    assert await value(observer) == 1


async def test_an_attempt_on_the_same_session_finds_fresh_rows_and_nothing_of_the_last_one(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    seen = []
    async with maker() as session:
        async for attempt in session.retrying(wait=0):
            async with attempt as same:
                counter = await session.get_one(Counter, 1)
                seen.append((same is session, counter.value, len(session.new)))
                counter.value += 1
                session.add(Counter(id=2, value=0))
                if attempt.number == 1:
                    await session.flush()
                    raise refusal()

    assert seen == [(True, 0, 0), (True, 0, 0)]
    assert await value(observer) == 1


async def test_what_was_loaded_before_is_read_anew_in_an_attempt(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async with maker(expire_on_commit=False) as session:
        counter = await session.get_one(Counter, 1)
        await session.commit()
        async with AsyncSession(observer) as other, other.begin():
            (await other.get_one(Counter, 1)).value = 7
        async for attempt in session.retrying():
            async with attempt:
                await session.get_one(Counter, 1)
                counter.value += 1

    assert await value(observer) == 8


async def test_an_error_of_another_kind_is_raised_at_once(maker: async_sessionmaker[AsyncSession]) -> None:
    calls = []

    @maker.retrying(wait=0)
    async def work(session: AsyncSession) -> None:
        calls.append(session)
        raise LookupError("no such thing")

    with pytest.raises(LookupError) as caught:
        await work()

    assert len(calls) == 1
    assert not getattr(caught.value, "__notes__", [])


async def test_the_last_error_is_raised_as_it_is_and_says_how_many_attempts_there_were(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    errors = [refusal() for _ in range(3)]

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        (await session.get_one(Counter, 1)).value += 1
        raise errors[attempt.number - 1]

    with pytest.raises(SerializationError) as caught:
        await repeated(maker.retrying(attempts=3, wait=0), body)

    assert caught.value is errors[-1]
    assert caught.value.__notes__ == ["3 attempts were made by retrying(); attempts=3"]
    assert await value(observer) == 0


async def test_no_attempt_begins_after_the_timeout(maker: async_sessionmaker[AsyncSession]) -> None:
    numbers = []

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        numbers.append(attempt.number)
        raise refusal()

    with pytest.raises(SerializationError) as caught:
        await repeated(maker.retrying(attempts=None, timeout=10, wait=60, max_wait=60, jitter=False), body)

    assert numbers == [1]
    assert caught.value.__notes__ == [
        "1 attempt was made by retrying(); the next one would have begun after timeout=10 seconds"
    ]


async def test_a_commit_that_fails_is_repeated_too(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    """Two transactions that read the same row: the one that commits last is refused, by the flush or by the commit."""
    numbers = []

    async for attempt in maker.retrying(isolation_level="SERIALIZABLE", wait=0):
        async with attempt as session:
            numbers.append(attempt.number)
            counter = await session.get_one(Counter, 1)
            if attempt.number == 1 and maker.kw["bind"].name == "postgresql":
                async with AsyncSession(observer, isolation_level="SERIALIZABLE") as other, other.begin():
                    (await other.get_one(Counter, 1)).value += 10
            counter.value += 1

    other_wrote = maker.kw["bind"].name == "postgresql"
    assert numbers == ([1, 2] if other_wrote else [1])
    assert await value(observer) == (11 if other_wrote else 1)


@pytest.mark.without("sqlite", "one transaction at a time writes there")
@pytest.mark.without("mariadb", "the victim's error is the same, but which one it is nobody knows")
async def test_the_victim_of_a_deadlock_tries_again(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async with maker.begin() as session:
        session.add(Counter(id=2, value=0))
    both_have_one = asyncio.Barrier(2)
    attempts = []

    @maker.retrying(wait=0)
    async def add(session: AsyncSession, first: int, second: int) -> None:
        await session.execute(update(Counter).where(Counter.id == first).values(value=Counter.value + 1))
        attempts.append(first)
        if len(attempts) <= 2:
            await both_have_one.wait()
        await session.execute(update(Counter).where(Counter.id == second).values(value=Counter.value + 1))

    await asyncio.gather(add(1, 2), add(2, 1))

    assert len(attempts) == 3
    async with AsyncSession(observer) as session:
        assert list(await session.scalars(select(Counter.value))) == [2, 2]


async def test_on_names_more_errors_to_repeat_after(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    numbers = []

    async for attempt in maker.retrying(on=(StaleDataError, LookupError), wait=0):
        async with attempt as session:
            numbers.append(attempt.number)
            row = await session.get_one(Versioned, 1)
            if attempt.number == 1:
                raise LookupError
            row.value += 1

    assert numbers == [1, 2]


async def test_a_block_that_goes_on_after_a_failure_is_repeated(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    """The commit refuses a transaction that has failed; what failed decides whether it is repeated."""
    numbers = []

    async for attempt in maker.retrying(wait=0):
        async with attempt as session:
            numbers.append(attempt.number)
            (await session.get_one(Counter, 1)).value += 1
            await session.flush()
            if attempt.number == 1:
                await swallowed(session)

    assert numbers == [1, 2]
    assert await value(observer) == 1


async def swallowed(session: AsyncSession) -> None:
    """Have a statement of the session's transaction fail, and say nothing of it."""
    (share,) = session.context.root.shares.values()  # type: ignore[union-attr]
    share.cause = refusal()


@pytest.mark.without("sqlite", "it has no connections that could be lost")
async def test_a_lost_connection_is_replaced_and_the_work_repeated(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    numbers = []

    async for attempt in maker.retrying(wait=0):
        async with attempt as session:
            numbers.append(attempt.number)
            counter = await session.get_one(Counter, 1, with_for_update=True)
            counter.value += 1
            await session.flush()
            if attempt.number == 1:
                own = "pg_backend_pid()" if observer.name == "postgresql" else "connection_id()"
                kill = "SELECT pg_terminate_backend({})" if observer.name == "postgresql" else "KILL {}"
                number = await session.scalar(text(f"SELECT {own}"))
                async with observer.connect() as connection:
                    await connection.execute(text(kill.format(number)))
            counter.value += 10

    assert numbers == [1, 2]
    assert await value(observer) == 11


# What is never repeated


@pytest.mark.parametrize(
    "error",
    [
        CommitOutcomeUnknownError(RuntimeError("no reply"), unknown),
        InDoubtError(RuntimeError("no reply"), unknown, "1"),
        PartialCommitError(RuntimeError("refused"), ["a"], ["b"]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_outcome_that_nobody_knows_is_never_repeated(
    maker: async_sessionmaker[AsyncSession], error: Exception
) -> None:
    numbers = []

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        numbers.append(attempt.number)
        raise error

    with pytest.raises(type(error)):
        await repeated(maker.retrying(wait=0, on=Exception), body)

    assert numbers == [1]


def test_a_commit_whose_reply_is_lost_is_not_repeated() -> None:
    """Over a line that breaks as the COMMIT is under way, whatever has become of that."""
    engine, driver = scripted("postgresql")
    numbers = []

    async def run() -> None:
        async for attempt in async_sessionmaker(engine).retrying(wait=0, on=Exception):
            async with attempt as session:
                numbers.append(attempt.number)
                session.add(Counter(id=1, value=1))
                await session.flush()
                driver.drop_at(len(driver.calls) + 1)

    with pytest.raises(CommitOutcomeUnknownError):
        to_the_end(run())
    assert numbers == [1]
    assert driver.verbs.count("begin") == driver.verbs.count("commit") == 1


def test_a_line_that_breaks_before_the_commit_is_repeated() -> None:
    engine, driver = scripted("postgresql")
    numbers = []

    async def run() -> None:
        async for attempt in async_sessionmaker(engine).retrying(wait=0):
            async with attempt as session:
                numbers.append(attempt.number)
                session.add(Counter(id=1, value=1))
                if attempt.number == 1:
                    driver.drop_at(len(driver.calls) + 3)
                await session.flush()

    asyncio.run(run())

    assert numbers == [1, 2]
    assert driver.verbs.count("commit") == 1


async def test_an_error_raised_from_an_unknown_outcome_is_not_repeated(maker: async_sessionmaker[AsyncSession]) -> None:
    numbers = []

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        numbers.append(attempt.number)
        raise LookupError from CommitOutcomeUnknownError(RuntimeError("no reply"), unknown)

    with pytest.raises(LookupError):
        await repeated(maker.retrying(wait=0, on=Exception), body)

    assert numbers == [1]


async def test_work_that_was_committed_in_the_block_is_not_done_again(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        (await session.get_one(Counter, 1)).value += 1
        await session.commit()
        raise refusal()

    with pytest.raises(SerializationError) as caught:
        await repeated(maker.retrying(wait=0), body)

    assert caught.value.__notes__ == ["not repeated: the transaction had been committed before the error"]
    assert await value(observer) == 1


async def test_statements_that_commit_themselves_are_not_repeated(
    maker: async_sessionmaker[AsyncSession], engine: AsyncEngine, observer: AsyncEngine
) -> None:
    loose = async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"))

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        (await session.get_one(Counter, 1)).value += 1
        await session.flush()
        raise refusal()

    with pytest.raises(SerializationError) as caught:
        await repeated(loose.retrying(wait=0), body)

    assert caught.value.__notes__ == [
        "not repeated: statements on an engine with AUTOCOMMIT are not undone by a rollback"
    ]
    assert await value(observer) == 1


async def test_a_statement_that_took_too_long_is_not_repeated(maker: async_sessionmaker[AsyncSession]) -> None:
    numbers = []

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        numbers.append(attempt.number)
        raise refusal(StatementTimeoutError)

    with pytest.raises(StatementTimeoutError):
        await repeated(maker.retrying(wait=0), body)

    assert numbers == [1]


@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint", "control_fully"])
async def test_a_transaction_that_was_there_before_is_not_repeated_from_within(
    maker: async_sessionmaker[AsyncSession], engine: AsyncEngine, mode: str
) -> None:
    numbers = []
    async with engine.connect() as connection:
        await connection.begin()
        await connection.execute(insert(Counter).values(id=2, value=0))
        inner = async_sessionmaker(connection, join_transaction_mode=mode)

        async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
            numbers.append(attempt.number)
            await session.connection()
            raise refusal()

        with pytest.raises(SerializationError) as caught:
            await repeated(inner.retrying(wait=0), body)

    assert numbers == [1]
    assert "that has to be repeated from its beginning" in caught.value.__notes__[0]


async def test_a_savepoint_is_enough_to_repeat_after_errors_of_ones_own(
    maker: async_sessionmaker[AsyncSession], engine: AsyncEngine, observer: AsyncEngine
) -> None:
    """As in tests that undo everything in the end, by a transaction around it."""
    async with engine.connect() as connection, connection.begin():
        inner = async_sessionmaker(connection, join_transaction_mode="create_savepoint")
        async for attempt in inner.retrying(wait=0, on=LookupError):
            async with attempt as session:
                (await session.get_one(Counter, 1)).value += 1
                await session.flush()
                if attempt.number < 3:
                    raise LookupError

    assert await value(observer) == 1


async def test_a_cancellation_ends_the_block_and_the_loop(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    entered = asyncio.Event()

    @maker.retrying()
    async def work(session: AsyncSession) -> None:
        (await session.get_one(Counter, 1)).value += 1
        await session.flush()
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert await value(observer) == 0


async def test_a_cancellation_ends_the_wait_between_attempts(maker: async_sessionmaker[AsyncSession]) -> None:
    waits = asyncio.Event()

    @maker.retrying(wait=3600, max_wait=3600, jitter=False, before_sleep=lambda _failed: waits.set())
    async def work(session: AsyncSession) -> None:
        raise refusal()

    task = asyncio.create_task(work())
    await waits.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


# Around the attempts


async def test_a_decorated_function_gets_a_session_and_returns_what_it_returned(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    @maker.retrying(attempts=3, wait=0)
    async def add(session: AsyncSession, amount: int, *, fails: int) -> int:
        """Add to the counter."""
        counter = await session.get_one(Counter, 1)
        counter.value += amount
        calls.append(session)
        if len(calls) <= fails:
            raise refusal()
        return counter.value

    calls: list[AsyncSession] = []

    assert await add(5, fails=2) == 5
    assert len(set(map(id, calls))) == 3
    assert await add(2, fails=0) == 7
    assert add.__name__ == "add"
    assert await value(observer) == 7


async def test_a_function_can_be_repeated_on_one_session(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async def add(session: AsyncSession, amount: int) -> int:
        counter = await session.get_one(Counter, 1)
        counter.value += amount
        return counter.value

    async with maker() as session:
        assert await session.retrying()(add)(3) == 3
        assert await session.retrying()(add)(3) == 6

    assert await value(observer) == 6


async def test_a_registry_repeats_on_the_session_that_is_current_then(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    registry = async_scoped_session(maker)
    calls = []

    @registry.retrying(wait=0)
    async def add(session: AsyncSession) -> None:
        calls.append(session)
        (await registry.get_one(Counter, 1)).value += 1
        if len(calls) == 1:
            raise refusal()

    async with registry.scope() as session:
        await add()
        assert calls == [session, session]
    async with registry.scope() as session:
        await add()
        assert calls[-1] is session

    assert await value(observer) == 2


async def test_before_sleep_hears_of_every_attempt_that_is_repeated(
    maker: async_sessionmaker[AsyncSession], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[FailedAttempt] = []

    async def hear(failed: FailedAttempt) -> None:
        heard.append(failed)

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        raise refusal(DeadlockError)

    with caplog.at_level(logging.INFO, "aiosession.retrying"), pytest.raises(DeadlockError):
        await repeated(maker.retrying(attempts=3, wait=0.001, max_wait=0.002, jitter=False, before_sleep=hear), body)

    assert [(failed.number, failed.reason, failed.pause) for failed in heard] == [
        (1, "DeadlockError", 0.001),
        (2, "DeadlockError", 0.002),
    ]
    assert [(record.levelname, record.message.split(" with")[0]) for record in caplog.records] == [
        ("INFO", "attempt 1 failed"),
        ("INFO", "attempt 2 failed"),
        ("WARNING", "given up after 3 attempts: DeadlockError"),
    ]


async def test_waits_are_random_up_to_twice_as_long_each_time(maker: async_sessionmaker[AsyncSession]) -> None:
    pauses: list[float] = []

    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        raise refusal()

    with pytest.raises(SerializationError):
        await repeated(
            maker.retrying(
                attempts=5, wait=0.001, max_wait=0.004, before_sleep=lambda failed: pauses.append(failed.pause)
            ),
            body,
        )

    assert all(pause <= longest for pause, longest in zip(pauses, [0.001, 0.002, 0.004, 0.004], strict=True))


# Wrong uses


async def test_a_transaction_in_progress_is_an_error(maker: async_sessionmaker[AsyncSession]) -> None:
    async with maker() as session:
        await session.get_one(Counter, 1)

        async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
            pass

        with pytest.raises(InvalidRequestError, match="one is in progress on this session"):
            await repeated(session.retrying(), body)


@pytest.mark.parametrize(
    "change",
    [
        lambda session, counter: session.add(Counter(id=9, value=0)),
        lambda session, counter: setattr(counter, "value", 9),
    ],
    ids=["new", "changed"],
)
async def test_changes_from_before_the_attempts_are_an_error(
    maker: async_sessionmaker[AsyncSession], change: Callable[[AsyncSession, Counter], None]
) -> None:
    async with maker() as session:
        counter = await session.get_one(Counter, 1)
        await session.commit()
        change(session, counter)

        async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
            pass

        with pytest.raises(InvalidRequestError, match="make these changes within the attempt, or commit"):
            await repeated(session.retrying(), body)

        assert session.context.has_changes


async def test_an_attempt_is_made_once(maker: async_sessionmaker[AsyncSession]) -> None:
    async for attempt in maker.retrying():
        async with attempt:
            pass
        with pytest.raises(InvalidRequestError, match="an attempt can be made once"):
            async with attempt:
                pass


async def test_an_attempt_has_to_be_made(maker: async_sessionmaker[AsyncSession]) -> None:
    with pytest.raises(InvalidRequestError, match="this attempt was not made"):
        async for _attempt in maker.retrying():
            pass


async def test_a_transaction_cannot_be_begun_in_the_transaction_of_an_attempt(
    maker: async_sessionmaker[AsyncSession],
) -> None:
    async def body(attempt: Attempt[AsyncSession], session: AsyncSession) -> None:
        async with session.begin():
            pass

    with pytest.raises(InvalidRequestError, match="already in progress"):
        await repeated(maker.retrying(), body)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attempts": 0}, "attempts is a whole number from 1"),
        ({"attempts": True}, "attempts is a whole number from 1"),
        ({"attempts": None}, "needs a limit"),
        ({"timeout": "5"}, "timeout is a number of seconds"),
        ({"wait": -1}, "wait is a number of seconds"),
        ({"wait": 3}, r"max_wait \(2 s\) is less than wait \(3 s\)"),
        ({"jitter": 0.5}, "jitter is True or False"),
        ({"on": "StaleDataError"}, "on is an exception class"),
        ({"on": asyncio.CancelledError}, "on is an exception class"),
        ({"on": (LookupError, InDoubtError)}, "InDoubtError is never repeated"),
        ({"before_sleep": 5}, "before_sleep is called"),
        ({"isolation_level": "AUTOCOMMIT"}, "there are none to roll back"),
        ({"isolation_level": "SERIALISABLE"}, "did you mean 'SERIALIZABLE'"),
        ({"attempt": 5}, "did you mean 'attempts'"),
    ],
)
def test_options_that_mean_nothing_are_refused_at_once(options: dict[str, object], message: str) -> None:
    engine = create_async_engine("postgresql+scripted://")

    with pytest.raises(ArgumentError, match=message):
        async_sessionmaker(engine).retrying(**options)  # type: ignore[arg-type]


def test_only_a_function_can_be_repeated() -> None:
    with pytest.raises(ArgumentError, match="repeats an `async def` function"):
        async_sessionmaker(create_async_engine("postgresql+scripted://")).retrying()(5)  # type: ignore[arg-type]


async def test_a_plain_function_cannot_be_repeated_and_what_it_did_is_not_written(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    @maker.retrying()  # type: ignore[arg-type]
    def add(session: AsyncSession) -> None:
        session.add(Counter(id=2, value=0))

    with pytest.raises(ArgumentError, match="is an ordinary one"):
        await add()

    async with AsyncSession(observer) as session:
        assert await session.get(Counter, 2) is None
