"""Interruptions of another kind: of a commit to several databases, and of the whole event loop by the keyboard."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import NoReturn

import pytest
from sqlalchemy import delete, insert, select, text

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, create_async_engine, inspect, mapped_column
from aiosession.engine.transaction import TransactionState
from tests.concurrency.sweep import Interrupted, Moment, Run, cancelled_at, sweep


class Base(DeclarativeBase):
    pass


class Left(Base):
    __tablename__ = "on_the_left"
    id: Mapped[int] = mapped_column(primary_key=True)


class Right(Base):
    __tablename__ = "on_the_right"
    id: Mapped[int] = mapped_column(primary_key=True)


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def count(engine: AsyncEngine, entity: type[Base]) -> int:
    async with engine.connect() as connection:
        return len((await connection.execute(select(entity.__table__))).all())


@pytest.fixture
async def other_engine(database_url: str, engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """Open an engine on another file, or on the same server."""
    other = create_async_engine(database_url.replace("test.db", "other.db"))
    await make_tables(engine)
    await make_tables(other)
    yield other
    assert other.pool.status().holders == ()
    await other.dispose()


@pytest.mark.parametrize("moment", Moment)
async def test_a_cancelled_commit_to_two_binds_reaches_both_or_none(
    engine: AsyncEngine, other_engine: AsyncEngine, moment: Moment
) -> None:
    async def attempt(step: int) -> Run:
        async with AsyncSession(binds={Left: engine, Right: other_engine}) as session:
            left, right = Left(), Right()
            session.add_all([left, right])
            run = await cancelled_at(session.commit, step, moment)
            await session.rollback()

            assert not run.was_swallowed
            counts = (await count(engine, Left), await count(other_engine, Right))
            assert counts in {(0, 0), (1, 1)}
            assert (inspect(left).persistent, inspect(right).persistent) == tuple(map(bool, counts))
        for each, entity in ((engine, Left), (other_engine, Right)):
            assert each.pool.status().holders == ()
            async with each.begin() as connection:
                await connection.execute(text(f"DELETE FROM {entity.__tablename__}"))
        return run

    assert await sweep(attempt) >= 4


@pytest.mark.parametrize("moment", Moment)
async def test_the_transaction_of_a_cancelled_commit_knows_whether_it_took_place(
    engine: AsyncEngine, moment: Moment
) -> None:
    await make_tables(engine)

    async def attempt(step: int) -> Run:
        async with engine.connect() as connection:
            transaction = await connection.begin()
            await connection.execute(insert(Left).values(id=1))
            run = await cancelled_at(transaction.commit, step, moment)
            state = transaction.state
        is_there = bool(await count(engine, Left))
        assert is_there == (state is TransactionState.COMMITTED)
        async with engine.begin() as connection:
            await connection.execute(delete(Left))
        return run

    assert await sweep(attempt) >= 1


async def work(url: str) -> None:
    engine = create_async_engine(url)
    try:
        async with AsyncSession(engine) as session, session.begin():
            session.add(Left())
            await session.flush()
            async with session.begin_nested():
                session.add(Right())
    finally:
        await engine.dispose()


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


def interrupted_at(step: int, url: str) -> bool:
    """Run the work on a loop of its own that is interrupted; return whether it was."""

    async def main() -> None:
        await interrupted.run()

    interrupted = Interrupted(work(url), step, Moment.START)
    interrupted.cancel = interrupt
    with suppress(KeyboardInterrupt), asyncio.Runner() as runner:
        runner.run(main())
        return False
    return True


async def check_from_outside(url: str) -> None:
    """All or nothing is there, and nobody holds a lock or a transaction."""
    engine = create_async_engine(url)
    both = text("SELECT (SELECT count(*) FROM on_the_left), (SELECT count(*) FROM on_the_right)")
    async with engine.begin() as connection:
        # One statement: the thread of an interrupted SQLite connection may be committing just now.
        assert (await connection.execute(both)).one() in {(0, 0), (1, 1)}
        if engine.name == "postgresql":
            others = text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND state IN ('active', 'idle in transaction')"
            )
            assert (await connection.execute(others)).scalar_one() == 0
        await connection.execute(text("DELETE FROM on_the_left"))
        await connection.execute(text("DELETE FROM on_the_right"))
    await engine.dispose()


async def prepare(url: str) -> None:
    engine = create_async_engine(url)
    await make_tables(engine)
    await engine.dispose()


def test_an_interrupt_from_the_keyboard_leaves_nothing_open(database_url: str) -> None:
    asyncio.run(prepare(database_url))
    step = 1
    while interrupted_at(step, database_url):
        gc.collect()  # what the dead loop held refers to itself by the traceback of the interrupt
        asyncio.run(check_from_outside(database_url))
        step += 1

    assert step > 4
