"""Any call of a session can be driven to its end with ``coroutine.send(None)`` if the driver never waits."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select, text, update

from aiosession import AsyncSession
from aiosession.errors import CommitOutcomeUnknownError, PartialCommitError, PendingRollbackError
from tests.session_model import Author, Book
from tests.without_loop import scripted, to_the_end


async def add_and_commit(session: AsyncSession) -> None:
    session.add(Author(id=1, name="Ann", books=[Book(id=1, title="One")]))
    await session.commit()


async def block(session: AsyncSession) -> None:
    async with session.begin():
        session.add(Author(id=1, name="Ann"))
        async with session.begin_nested():
            session.add(Book(id=1, title="One"))


async def undo(session: AsyncSession) -> None:
    session.add(Author(id=1, name="Ann"))
    await session.flush()
    savepoint = await session.begin_nested()
    await savepoint.rollback()
    await session.rollback()


async def stream(session: AsyncSession) -> None:
    result = await session.stream(select(Author))
    async for _ in result:
        pass


CALLS: dict[str, Callable[[AsyncSession], Coroutine[Any, Any, Any]]] = {
    "get": lambda session: session.get(Author, 1),
    "execute": lambda session: session.execute(select(Author)),
    "execute text": lambda session: session.execute(text("SELECT 1")),
    "execute update": lambda session: session.execute(update(Author).values(note="x")),
    "scalar": lambda session: session.scalar(select(Author.id)),
    "scalars": lambda session: session.scalars(select(Author)),
    "stream": stream,
    "flush": lambda session: session.flush(),
    "add and commit": add_and_commit,
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "block": block,
    "undo": undo,
    "plan": lambda session: session.plan(),
    "refresh_all": lambda session: session.refresh_all(),
    "connection": lambda session: session.connection(),
    "merge": lambda session: session.merge(Author(id=1, name="Ann", books=[Book(id=1, title="One")])),
    "merge_all": lambda session: session.merge_all([Author(id=1, name="Ann"), Author(id=2, name="Bea")]),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "close": lambda session: session.close(),
}


@pytest.mark.parametrize("backend", ["postgresql", "sqlite"])
@pytest.mark.parametrize("call", CALLS)
def test_no_call_waits_for_anything_but_the_driver(call: str, backend: str) -> None:
    engine, _ = scripted(backend)

    async def run() -> None:
        async with AsyncSession(engine) as session:
            await CALLS[call](session)

    to_the_end(run())

    assert engine.pool.status().holders == ()


def test_every_statement_may_fail_and_nothing_stays_behind() -> None:
    for step in range(2, 30):  # the first call is the connect
        engine, driver = scripted("postgresql")
        driver.drop_at(step)

        async def run(engine: Any = engine) -> None:
            async with AsyncSession(engine) as session:
                await block(session)

        try:
            to_the_end(run())
        except ConnectionError:
            raise AssertionError("the driver's error was not translated") from None
        except Exception:
            pass
        assert engine.pool.status().holders == ()
        if len(driver.calls) < step:
            return
    raise AssertionError("the block never ends")


def test_a_commit_whose_reply_is_lost_has_an_unknown_outcome() -> None:
    engine, driver = scripted("postgresql")

    async def run() -> bool | None:
        async with AsyncSession(engine) as session:
            session.add(Author(id=1, name="Ann"))
            await session.flush()
            driver.drop_at(len(driver.calls) + 1)
            with pytest.raises(CommitOutcomeUnknownError) as caught:
                await session.commit()
            with pytest.raises(PendingRollbackError):
                await session.get(Author, 2)
            await session.rollback()
            return await caught.value.resolve()

    assert to_the_end(run()) is None


def test_a_lone_write_whose_reply_is_lost_has_an_unknown_outcome() -> None:
    engine, driver = scripted("postgresql")
    driver.drop_at(2)

    async def run() -> None:
        async with AsyncSession(engine) as session:
            session.add(Author(id=1, name="Ann"))
            with pytest.raises(CommitOutcomeUnknownError):
                await session.commit()
            await session.rollback()

    to_the_end(run())
    assert driver.verbs[:2] == ["connect", "execute"] or driver.verbs[:2] == ["connect", "fetch"]


def test_binds_commit_in_the_order_of_their_first_use_and_the_rest_is_rolled_back_after_a_failure() -> None:
    first, one = scripted("postgresql")
    second, two = scripted("postgresql")
    third, three = scripted("sqlite")

    async def run() -> None:
        async with AsyncSession() as session:
            for engine in (first, second, third):
                await session.execute(text("SELECT f()"), bind_arguments={"bind": engine})
            two.fail_at(len(two.calls) + 1, ValueError("no"))
            with pytest.raises(PartialCommitError, match="no") as caught:
                await session.commit()
            assert isinstance(caught.value.__cause__, ValueError)
            await session.rollback()

    to_the_end(run())

    assert one.verbs[-1] == "commit"
    assert two.verbs[-2:] == ["commit", "rollback"]
    assert three.verbs[-1] == "rollback"


def test_a_lost_commit_on_one_of_several_binds_says_what_became_of_the_others_and_promises_nothing() -> None:
    first, one = scripted("postgresql")
    second, two = scripted("postgresql")
    third, three = scripted("sqlite")

    async def run() -> None:
        async with AsyncSession() as session:
            for engine in (first, second, third):
                await session.execute(text("SELECT f()"), bind_arguments={"bind": engine})
            two.drop_at(len(two.calls) + 1)
            with pytest.raises(CommitOutcomeUnknownError) as caught:
                await session.commit()
            assert await caught.value.resolve() is None
            (note,) = caught.value.__notes__
            assert f"committed: {first.url.render_as_string()}; rolled back: {third.url.render_as_string()}" in note
            await session.rollback()

    to_the_end(run())

    assert one.verbs[-1] == "commit"
    assert three.verbs[-1] == "rollback"
