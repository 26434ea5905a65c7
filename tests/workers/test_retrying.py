"""Units of work that are repeated: after which errors, how often, what the next attempt finds, who is told."""

import asyncio
import logging

import pytest
from sqlalchemy import select, text, update

from aiosession import (
    AsyncEngine,
    AsyncSession,
    Attempt,
    DeadlockError,
    DisconnectError,
    FailedAttempt,
    LockNotAvailableError,
    SerializationError,
    StaleDataError,
    async_scoped_session,
    async_sessionmaker,
)
from tests.workers.retrying_model import Counter, Versioned, refusal, repeated, value

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
