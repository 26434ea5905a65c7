"""What is never repeated, and uses of retrying() that are refused."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial, wraps
from typing import Any

import pytest
from sqlalchemy import insert

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    Attempt,
    CommitOutcomeUnknownError,
    InDoubtError,
    InvalidRequestError,
    PartialCommitError,
    SerializationError,
    StatementTimeoutError,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from tests.without_loop import scripted, to_the_end
from tests.workers.retrying_model import Counter, refusal, repeated, unknown, value

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


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(ValueError("not saved"), id="raised while the unknown outcome was handled"),
        pytest.param(refusal(), id="an error of something else"),
    ],
)
def test_what_the_block_makes_of_an_unknown_outcome_is_not_repeated(then: Exception) -> None:
    engine, driver = scripted("postgresql")
    numbers = []

    async def run() -> None:
        async for attempt in async_sessionmaker(engine).retrying(wait=0, on=ValueError):
            async with attempt as session:
                numbers.append(attempt.number)
                session.add(Counter(id=1, value=1))
                await session.flush()
                driver.drop_at(len(driver.calls) + 1)
                with suppress(CommitOutcomeUnknownError):
                    await session.commit()
                raise then

    with pytest.raises(type(then)) as caught:
        to_the_end(run())
    assert numbers == [1]
    assert "nobody knows what was committed" in caught.value.__notes__[-1]
    then.__notes__.clear()


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
        ({"attempts": "3"}, "attempts is a whole number from 1, or None for no limit; got '3'"),
        ({"attempts": True}, "attempts is a whole number from 1"),
        ({"attempts": None}, "needs a limit"),
        ({"timeout": "5"}, "timeout is a number of seconds"),
        ({"wait": -1}, "wait is a number of seconds from 0, not -1"),
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


class Functions:
    def plain(session: Any) -> None: ...
    def generator(session: Any) -> Any:
        yield session

    async def stream(session: Any) -> Any:
        yield session

    async def nothing() -> None: ...  # type: ignore[misc]
    async def named(*, session: Any) -> None: ...
    async def method(self, session: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (5, "repeats an `async def` function that takes the session first; 5 is none"),
        (Functions.plain, "plain is an ordinary one: write `async def`"),
        (Functions.generator, "generator is a generator.*return a list"),
        (Functions.stream, "stream is a generator"),
        (
            Functions.nothing,
            r"nothing has no parameter for the session: write `async def .*nothing\(session, \.\.\.\)`",
        ),
        (Functions.named, "named has no parameter for the session"),
        (Functions.method, r"method is a method.*a function within the method, `async def work\(session\)"),
    ],
)
def test_what_cannot_be_repeated_is_refused_when_it_is_decorated(function: Any, message: str) -> None:
    sessions = async_sessionmaker(create_async_engine("postgresql+scripted://"))

    with pytest.raises(ArgumentError, match=message):
        sessions.retrying()(function)


async def test_what_the_decorator_and_the_loop_are_written_like_is_said_where_they_are_not() -> None:
    sessions: Any = async_sessionmaker(create_async_engine("sqlite://"))
    registry: Any = async_scoped_session(sessions)

    for owner in (sessions, sessions(), registry):
        with pytest.raises(ArgumentError, match=r"written with parentheses: @Session.retrying\(\)"):
            owner.retrying(Functions.named)
        with pytest.raises(InvalidRequestError, match="a block alone cannot be run again; write `async for"):
            async with owner.retrying():
                pass
        with pytest.raises(InvalidRequestError, match="`for` does not wait for anything; write `async for"):
            for _ in owner.retrying():
                pass
    with pytest.raises(ArgumentError, match=r"takes options by name, such as attempts=5.*got 5"):
        sessions.retrying(5)


async def test_what_wraps_an_async_function_can_be_repeated(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async def add(amount: int, session: AsyncSession) -> None:
        (await session.get_one(Counter, 1)).value += amount

    @wraps(add)
    def wrapper(session: AsyncSession) -> Coroutine[Any, Any, None]:
        return add(1, session)

    class Service:
        async def work(self, session: AsyncSession) -> None:
            await add(1, session)

    @wraps(Service.work)
    async def bound(session: AsyncSession) -> None:
        await Service().work(session)

    await maker.retrying()(partial(add, 1))()
    await maker.retrying()(wrapper)()
    await maker.retrying()(bound)()
    await maker.retrying()(lambda session: add(1, session))()

    assert await value(observer) == 4


async def test_a_function_that_cannot_be_awaited_is_refused_and_what_it_did_is_not_written(
    maker: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    def adding(session: AsyncSession, key: int) -> Any:
        session.add(Counter(id=key, value=0))

    add = maker.retrying()(lambda session: adding(session, 2))

    with pytest.raises(ArgumentError, match="is an ordinary one"):
        await add()

    async with AsyncSession(observer) as session:
        assert await session.get(Counter, 2) is None
