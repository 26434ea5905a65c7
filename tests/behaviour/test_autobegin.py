"""A transaction begins when it is needed, and not before."""

import pytest
from sqlalchemy import select, text

from aiosession import AsyncEngine, AsyncSession
from aiosession.errors import DatabaseError, InvalidRequestError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, make_tables, names_seen_by, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine)
    statements.clear()
    return key


async def test_a_plain_read_is_one_statement_without_a_transaction(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)

        assert statements.kinds == ["SELECT"]


async def test_a_session_that_has_only_read_holds_no_connection(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)
        await session.execute(select(Author.name))

        assert engine.pool.status().holders == ()
        assert session.in_transaction()


async def test_begin_is_sent_before_the_first_write(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)
        session.add(Author(name="Bea"))
        await session.flush()

        assert statements.kinds == ["SELECT", "BEGIN", "INSERT"]
        assert len(engine.pool.status().holders) == 1


async def test_reads_after_a_write_see_it(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        await session.flush()
        session.expunge_all()

        names = (await session.scalars(select(Author.name).order_by(Author.name))).all()

        assert names == ["Ann", "Bea"]
        assert statements.kinds == ["BEGIN", "INSERT", "SELECT"]


async def test_raw_text_is_part_of_a_transaction(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(text("UPDATE author SET note = 'x'"))

        assert statements.kinds[0] == "BEGIN"
        await session.rollback()


async def test_an_explicit_transaction_begins_with_its_first_read(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session, session.begin():
        assert statements.kinds == []

        await session.get(Author, key)

        assert statements.kinds == ["BEGIN", "SELECT"]


async def test_reads_above_read_committed_share_a_transaction(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine, isolation_level="SERIALIZABLE") as session:
        await session.get(Author, key)

        assert statements.kinds == ["BEGIN", "SELECT"]


async def test_a_commit_of_one_statement_goes_without_begin(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        await session.commit()

        assert statements.kinds == ["INSERT"]
        assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_write_above_read_committed_has_a_transaction_of_its_level(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine, isolation_level="SERIALIZABLE") as session:
        session.add(Author(name="Bea"))
        await session.commit()

        assert statements.kinds == ["BEGIN", "INSERT", "COMMIT"]


async def test_a_read_only_engine_refuses_a_commit_of_one_statement(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine.execution_options(read_only=True)) as session:
        session.add(Author(name="Bea"))

        with pytest.raises(DatabaseError):
            await session.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_commit_of_nothing_sends_nothing(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)
        await session.commit()

        assert statements.kinds == ["SELECT"]
        assert not session.in_transaction()


async def test_without_autobegin_a_transaction_has_to_be_begun(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, autobegin=False) as session:
        with pytest.raises(InvalidRequestError, match=r"session\.begin"):
            await session.get(Author, key)

        async with session.begin():
            assert await session.get(Author, key) is not None


async def test_a_second_begin_is_refused_and_says_what_to_do(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)

        with pytest.raises(InvalidRequestError, match=r"begin\(join=True\)"):
            await session.begin()


async def test_a_joined_block_leaves_the_commit_to_the_outermost(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin():
            async with session.begin(join=True):
                session.add(Author(name="Bea"))
            assert await names_seen_by(observer) == ["Ann"]

        assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_joined_block_that_fails_fails_the_whole(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.begin()
        session.add(Author(name="Bea"))
        with pytest.raises(ZeroDivisionError):
            async with session.begin(join=True):
                raise ZeroDivisionError

        with pytest.raises(InvalidRequestError, match="rollback"):
            await session.commit()
        await session.rollback()

        assert await names_seen_by(observer) == ["Ann"]


async def test_joining_without_a_transaction_begins_one(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session, session.begin(join=True):
        session.add(Author(name="Bea"))

    assert await names_seen_by(observer) == ["Ann", "Bea"]
