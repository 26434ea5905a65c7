"""Events of sessions: who is told, when, and what handlers may do."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from aiosession import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, events
from aiosession.errors import ArgumentError, InvalidRequestError, ReentrantUseError, UniqueViolationError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, make_tables, names_seen_by, put_author

IN_ORDER = (
    "after_transaction_create",
    "before_commit",
    "before_flush",
    "after_begin",
    "after_flush",
    "after_flush_postexec",
    "after_commit",
    "after_rollback",
    "after_soft_rollback",
    "after_transaction_end",
)


@pytest.fixture
async def tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


@pytest.fixture(autouse=True)
def _listeners_of_classes() -> Iterator[None]:
    """Fail if a test leaves a handler on AsyncSession, where it would hear other tests."""
    yield
    assert not events.dispatch.session_classes.of(AsyncSession).own


def heard(session: AsyncSession) -> list[str]:
    """Return the list in which the session's events will be."""
    found: list[str] = []
    for name in IN_ORDER:
        events.listen(session, name, lambda *_, name=name: found.append(name))
    return found


async def test_a_commit_tells_what_it_does_in_order(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        names = heard(session)
        session.add(Author(name="Ann"))
        await session.commit()

    assert names == [
        "after_transaction_create",
        "before_commit",
        "before_flush",
        "after_begin",
        "after_flush",
        "after_flush_postexec",
        "after_commit",
        "after_transaction_end",
    ]


async def test_a_rollback_tells_of_the_databases_and_of_the_session(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        names = heard(session)
        await session.rollback()

    assert names == ["after_rollback", "after_soft_rollback", "after_transaction_end"]


async def test_a_rollback_that_no_database_needs_is_a_soft_one(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        await session.begin()
        names = heard(session)
        await session.rollback()

    assert names == ["after_soft_rollback", "after_transaction_end"]


async def test_a_savepoint_rolled_back_is_told_and_the_transaction_goes_on(engine: AsyncEngine, tables: None) -> None:
    levels: list[bool] = []
    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        events.listen(session, "after_soft_rollback", lambda _, transaction: levels.append(transaction.nested))
        savepoint = await session.begin_nested()
        await savepoint.rollback()
        await session.commit()

    assert levels == [True]


async def test_a_failed_flush_is_rolled_back_once_and_softly_a_second_time(engine: AsyncEngine, tables: None) -> None:
    await put_author(engine)
    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        names = heard(session)
        with pytest.raises(UniqueViolationError):
            await session.flush()
        assert names[-2:] == ["after_rollback", "after_soft_rollback"]
        names.clear()
        await session.rollback()

    assert names == ["after_soft_rollback", "after_transaction_end"]


async def test_before_flush_may_add_change_and_delete(engine: AsyncEngine, observer: AsyncEngine, tables: None) -> None:
    await put_author(engine, "Old")
    async with AsyncSession(engine) as session:
        old = await session.get_one(Author, 1)

        @events.listens_for(session, "before_flush", once=True)
        async def also(session: AsyncSession, flush_context: object, instances: object) -> None:
            session.add(Author(name="Bea"))
            await session.delete(old)
            next(iter(session.new)).note = "seen"

        session.add(Author(name="Ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


@pytest.mark.parametrize("name", ["before_flush", "after_flush"])
async def test_a_handler_of_a_flush_cannot_flush_and_is_told_what_to_do(
    engine: AsyncEngine, tables: None, name: str
) -> None:
    async with AsyncSession(engine) as session:

        async def again(*_: object) -> None:
            await session.flush()

        events.listen(session, name, again)
        session.add(Author(name="Ann"))
        with pytest.raises(
            ReentrantUseError, match=f"flush .* cannot start in a handler of '{name}': flush of the same"
        ):
            await session.flush()


async def test_a_handler_of_before_flush_that_raises_leaves_the_session_as_it_was(
    engine: AsyncEngine, observer: AsyncEngine, tables: None
) -> None:
    def refuse(*_: object) -> None:
        raise ZeroDivisionError

    async with AsyncSession(engine) as session:
        events.listen(session, "before_flush", refuse)
        session.add(Author(name="Ann"))
        with pytest.raises(ZeroDivisionError):
            await session.commit()
        events.remove(session, "before_flush", refuse)
        await session.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_handler_of_after_commit_that_raises_does_not_hide_the_commit(
    engine: AsyncEngine, observer: AsyncEngine, tables: None
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    async with AsyncSession(engine) as session:
        events.listen(session, "after_commit", fail)
        session.add(Author(name="Ann"))
        with pytest.raises(ZeroDivisionError) as caught:
            await session.commit()
        assert not session.in_transaction()

    assert caught.value.__notes__ == ["raised by a handler of 'after_commit': the transaction is committed"]
    assert await names_seen_by(observer) == ["Ann"]


async def test_handlers_of_after_commit_cannot_use_sql(engine: AsyncEngine, tables: None) -> None:
    async def query(session: AsyncSession) -> None:
        await session.execute(text("SELECT 1"))

    async with AsyncSession(engine) as session:
        events.listen(session, "after_commit", query)
        session.add(Author(name="Ann"))
        with pytest.raises(ReentrantUseError, match=r"'after_commit'.*The transaction has ended"):
            await session.commit()


async def test_after_begin_hands_out_the_connection_of_the_transaction(
    engine: AsyncEngine, tables: None, statements: StatementLog
) -> None:
    async def look(session: AsyncSession, transaction: object, connection: AsyncConnection) -> None:
        assert await connection.scalar(text("SELECT 41 + 1")) == 42

    async with AsyncSession(engine) as session:
        events.listen(session, "after_begin", look)
        session.add(Author(name="Ann"))
        await session.commit()

    assert statements.kinds == ["BEGIN", "SELECT", "INSERT", "COMMIT"]


async def test_objects_left_by_after_flush_postexec_are_committed_too(
    engine: AsyncEngine, observer: AsyncEngine, tables: None
) -> None:
    async with AsyncSession(engine) as session:
        events.listen(session, "after_flush_postexec", lambda session, _: session.add(Author(name="Bea")), once=True)
        session.add(Author(name="Ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_after_flush_still_shows_what_was_new_with_its_key(engine: AsyncEngine, tables: None) -> None:
    seen: list[Any] = []
    async with AsyncSession(engine) as session:
        author = Author(name="Ann")
        events.listen(session, "after_flush", lambda session, _: seen.append((author in session.new, author.id)))
        session.add(author)
        await session.flush()

    assert seen == [(True, 1)]


async def test_a_class_tells_of_sessions_made_before_and_of_subclasses(engine: AsyncEngine, tables: None) -> None:
    class Special(AsyncSession):
        pass

    told: list[object] = []
    async with Special(engine) as session, AsyncSession(engine) as other:
        events.listen(AsyncSession, "before_commit", told.append)
        try:
            await session.commit()
            await other.commit()
        finally:
            events.remove(AsyncSession, "before_commit", told.append)
        await session.commit()

    assert told == [session, other]


async def test_a_maker_tells_of_its_own_sessions_only(engine: AsyncEngine, tables: None) -> None:
    make = async_sessionmaker(engine)
    told: list[object] = []
    async with make() as session, AsyncSession(engine) as other:
        events.listen(make, "before_commit", told.append)
        await session.commit()
        await other.commit()

    assert told == [session]


async def test_a_fork_is_told_of_like_other_sessions_of_its_maker(engine: AsyncEngine, tables: None) -> None:
    make = async_sessionmaker(engine)
    told: list[object] = []
    async with make() as session:
        events.listen(make, "before_commit", told.append)
        events.listen(session, "after_commit", told.append)
        async with session.fork() as other:
            await other.commit()

    assert told == [other]


async def test_handlers_of_classes_come_before_those_of_a_session(engine: AsyncEngine, tables: None) -> None:
    class Special(AsyncSession):
        pass

    order: list[str] = []
    async with Special(engine) as session:
        events.listen(session, "before_commit", lambda _: order.append("session"))
        events.listen(session, "before_commit", lambda _: order.append("first of the session"), insert=True)
        events.listen(Special, "before_commit", lambda _: order.append("class"))
        await session.commit()

    assert order == ["class", "first of the session", "session"]


def test_a_misspelt_event_is_refused_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match=r"AsyncSession has no event 'before_comit'.*before_commit"):
        events.listen(AsyncSession, "before_comit", print)


def test_a_handler_with_the_wrong_arguments_is_refused() -> None:
    def handler(session: object) -> None: ...

    with pytest.raises(ArgumentError, match="called with session, flush_context, instances in this order"):
        events.listen(AsyncSession, "before_flush", handler)


def test_an_async_handler_of_what_happens_in_memory_is_refused() -> None:
    async def handler(session: object, instance: object) -> None: ...

    with pytest.raises(ArgumentError, match="'after_attach' of AsyncSession cannot be async: it happens in memory"):
        events.listen(AsyncSession, "after_attach", handler)


def test_what_has_no_events_is_refused() -> None:
    with pytest.raises(ArgumentError, match="nothing of 5 can be listened to"):
        events.listen(5, "load", print)


def test_a_handler_that_does_not_listen_cannot_be_removed() -> None:
    assert not events.contains(AsyncSession, "before_commit", print)
    with pytest.raises(InvalidRequestError, match="does not listen to 'before_commit' of AsyncSession"):
        events.remove(AsyncSession, "before_commit", print)


async def test_named_handlers_take_what_they_want_by_name(engine: AsyncEngine, tables: None) -> None:
    seen: list[object] = []

    def handler(*, flush_context: object, **rest: object) -> None:
        seen.append(sorted(rest))

    async with AsyncSession(engine) as session:
        events.listen(session, "before_flush", handler, named=True)
        session.add(Author(name="Ann"))
        await session.flush()

    assert seen == [["instances", "session"]]
