"""Handles on transactions: which one is which, what is around it, and whose it is."""

from typing import Any

import pytest

from aiosession import AsyncEngine, AsyncSession, AsyncSessionTransaction, SessionTransactionOrigin, events
from aiosession.errors import InvalidRequestError
from tests.session_model import Author, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    await make_tables(engine)


async def test_handles_on_the_same_transaction_are_equal(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin() as transaction:
        assert session.get_transaction() == transaction
        assert {session.get_transaction(), transaction} == {transaction}
        assert session.get_nested_transaction() is None
        async with session.begin_nested() as savepoint:
            assert session.get_nested_transaction() == savepoint
            assert session.get_transaction() == transaction
            assert savepoint != transaction


async def test_the_next_transaction_is_another_one(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin() as one:
            pass
        async with session.begin() as other:
            assert one != other


async def test_handlers_of_events_can_tell_transactions_apart(engine: AsyncEngine) -> None:
    open_ones: list[Any] = []
    ended: list[Any] = []

    async with AsyncSession(engine) as session:
        events.listen(session, "after_transaction_create", lambda session, transaction: open_ones.append(transaction))
        events.listen(session, "after_transaction_end", lambda session, transaction: open_ones.remove(transaction))
        events.listen(session, "after_transaction_end", lambda session, transaction: ended.append(transaction))
        async with session.begin() as transaction:
            assert open_ones == [transaction]
            async with session.begin_nested() as savepoint:
                assert open_ones == [transaction, savepoint]
            assert open_ones == [transaction]

    assert open_ones == []
    assert ended == [savepoint, transaction]


async def test_a_savepoint_knows_what_is_around_it(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin() as transaction:
        async with session.begin_nested() as outer, session.begin_nested() as inner:
            assert inner.parent == outer
            assert outer.parent == transaction
        assert transaction.parent is None


async def test_a_transaction_knows_its_session(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, session.begin() as transaction:
        assert transaction.session is session


async def test_a_transaction_tells_what_it_began_with(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        begun = session.get_transaction()
        assert begun is not None
        assert begun.origin is SessionTransactionOrigin.AUTOBEGIN
        async with session.begin_nested() as savepoint:
            assert savepoint.origin is SessionTransactionOrigin.BEGIN_NESTED
        await session.commit()
        async with session.begin() as transaction:
            assert transaction.origin is SessionTransactionOrigin.BEGIN


async def test_a_transaction_that_has_not_begun_is_equal_to_itself_only(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        one, other = session.begin(), session.begin()

        assert one == one
        assert one != other
        assert one != "transaction"
        assert one.parent is None
        with pytest.raises(InvalidRequestError, match="has not begun"):
            hash(one)


async def test_a_savepoint_that_has_ended_is_told_and_can_be_opened_anew(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    """Work that ends its savepoints leaves nothing behind: the transaction around them is rolled back."""
    async with AsyncSession(engine) as session, session.begin() as outermost:
        ended: list[AsyncSessionTransaction] = []

        def note(session: AsyncSession, transaction: AsyncSessionTransaction) -> None:
            if transaction.nested and transaction.parent == outermost:
                ended.append(transaction)

        events.listen(session, "after_transaction_end", note)
        for name in ("Ann", "Bea"):
            savepoint = await session.begin_nested()
            session.add(Author(name=name))
            await savepoint.commit()
            assert ended[-1] == savepoint
        await outermost.rollback()

    async with AsyncSession(observer) as other:
        assert await other.get(Author, 1) is None
