"""A session on a connection that is in a transaction already takes part in it, in the way that is asked for."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert

from aiosession import (
    ArgumentError,
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    DatabaseError,
    IntegrityError,
    InvalidRequestError,
    OperationalError,
    async_sessionmaker,
)
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, make_tables, names_seen_by

MODES = ["conditional_savepoint", "rollback_only", "create_savepoint", "control_fully"]


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    await make_tables(engine)
    async with engine.connect() as connection:
        yield connection


async def begin(connection: AsyncConnection) -> None:
    """Begin a transaction in which somebody has written already."""
    await connection.begin()
    await connection.execute(insert(Author).values(name="Outer"))


async def names_here(connection: AsyncConnection) -> list[str]:
    """Return the names of all authors as the connection itself sees them."""
    async with AsyncSession(connection, join_transaction_mode="rollback_only") as session:
        return [author.name for author in await session.query(Author).order_by(Author.name).all()]


@pytest.mark.parametrize("mode", MODES)
async def test_without_a_transaction_the_session_has_its_own(
    connection: AsyncConnection, observer: AsyncEngine, mode: str
) -> None:
    async with AsyncSession(connection, join_transaction_mode=mode) as session:
        session.add(Author(name="Ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann"]
    assert not connection.in_transaction()


@pytest.mark.parametrize(("mode", "is_committed"), [(mode, mode == "control_fully") for mode in MODES])
async def test_a_commit_reaches_the_transaction_only_under_full_control(
    connection: AsyncConnection, observer: AsyncEngine, mode: str, is_committed: bool
) -> None:
    await begin(connection)
    async with AsyncSession(connection, join_transaction_mode=mode) as session:
        session.add(Author(name="Ann"))
        await session.commit()

        assert connection.in_transaction() != is_committed
    assert await names_seen_by(observer) == (["Ann", "Outer"] if is_committed else [])
    if not is_committed:
        assert await names_here(connection) == ["Ann", "Outer"]
        await connection.commit()
        assert await names_seen_by(observer) == ["Ann", "Outer"]


@pytest.mark.parametrize(("mode", "survives"), [(mode, mode == "create_savepoint") for mode in MODES])
async def test_a_rollback_leaves_the_transaction_alone_only_behind_a_savepoint(
    connection: AsyncConnection, mode: str, survives: bool
) -> None:
    await begin(connection)
    async with AsyncSession(connection, join_transaction_mode=mode) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        await session.rollback()

        assert connection.in_transaction() == survives
    assert await names_here(connection) == (["Outer"] if survives else [])


@pytest.mark.parametrize(
    ("mode", "left"),
    [
        ("conditional_savepoint", ["Ann", "Outer"]),
        ("rollback_only", ["Ann", "Outer"]),
        ("create_savepoint", ["Outer"]),
        ("control_fully", []),
    ],
)
async def test_closing_leaves_to_the_transaction_what_was_flushed_unless_the_session_had_a_say(
    connection: AsyncConnection, mode: str, left: list[str]
) -> None:
    await begin(connection)
    async with AsyncSession(connection, join_transaction_mode=mode) as session:
        session.add(Author(name="Ann"))
        await session.flush()

    assert connection.in_transaction() == (mode != "control_fully")
    assert await names_here(connection) == left


async def test_sessions_of_one_connection_do_not_mix_up_their_savepoints(
    connection: AsyncConnection, observer: AsyncEngine
) -> None:
    await begin(connection)
    async with AsyncSession(connection) as first, AsyncSession(connection) as second:
        outer = await first.begin_nested()
        first.add(Author(name="First"))
        await first.flush()
        inner = await second.begin_nested()
        second.add(Author(name="Second"))
        await second.flush()
        await inner.rollback()

        assert await names_here(connection) == ["First", "Outer"]

        inner = await second.begin_nested()
        second.add(Author(name="Second"))
        await inner.commit()
        await outer.rollback()

        assert await names_here(connection) == ["Outer"]
    await connection.commit()

    assert await names_seen_by(observer) == ["Outer"]


async def test_a_savepoint_that_another_session_has_undone_is_not_taken_for_one_that_is_there(
    connection: AsyncConnection, observer: AsyncEngine
) -> None:
    await begin(connection)
    async with AsyncSession(connection) as first, AsyncSession(connection) as second:
        outer = await first.begin_nested()
        first.add(Author(name="First"))
        await first.flush()
        inner = await second.begin_nested()
        second.add(Author(name="Second"))
        await second.flush()
        await outer.rollback()

        assert await names_here(connection) == ["Outer"]
        with pytest.raises(DatabaseError, match=r"(?i)savepoint"):
            await inner.commit()
    await connection.rollback()

    assert await names_seen_by(observer) == []


async def test_closing_takes_savepoints_of_the_session_back(connection: AsyncConnection) -> None:
    await begin(connection)
    async with AsyncSession(connection) as session:
        session.add(Author(name="Ann"))
        await session.begin_nested()
        session.add(Author(name="Bea"))
        await session.flush()

    assert await names_here(connection) == ["Ann", "Outer"]


@pytest.mark.parametrize("mode", ["conditional_savepoint", "create_savepoint"])
async def test_inside_of_a_savepoint_the_session_gets_one_of_its_own(connection: AsyncConnection, mode: str) -> None:
    await begin(connection)
    await connection.begin_nested()
    await connection.execute(insert(Author).values(name="Inner"))
    async with AsyncSession(connection, join_transaction_mode=mode) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        await session.rollback()
        session.add(Author(name="Bea"))
        await session.commit()

    assert connection.in_nested_transaction()
    assert await names_here(connection) == ["Bea", "Inner", "Outer"]


async def test_a_rollback_is_passed_on_to_the_savepoint_that_was_found(connection: AsyncConnection) -> None:
    await begin(connection)
    await connection.begin_nested()
    await connection.execute(insert(Author).values(name="Inner"))
    async with AsyncSession(connection, join_transaction_mode="rollback_only") as session:
        session.add(Author(name="Ann"))
        await session.flush()
        await session.rollback()

    assert not connection.in_nested_transaction()
    assert await names_here(connection) == ["Outer"]


async def test_a_test_suite_rolls_back_what_the_code_under_test_has_committed(
    engine: AsyncEngine, connection: AsyncConnection, observer: AsyncEngine
) -> None:
    outer = await connection.begin()
    make_session = async_sessionmaker(connection, join_transaction_mode="create_savepoint")

    async with make_session() as session:  # the code under test
        session.add(Author(name="Ann"))
        await session.commit()
        session.add(Author(name="Ann"))
        with pytest.raises(IntegrityError):
            await session.commit()
        await session.rollback()
        async with session.begin_nested():
            session.add(Author(name="Bea"))
        await session.commit()
    async with make_session.begin() as session:
        assert [author.name for author in await session.query(Author).order_by(Author.name).all()] == ["Ann", "Bea"]

    await outer.rollback()
    assert await names_seen_by(observer) == []


async def test_an_unknown_mode_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match=r"conditional_savepoint, .*not 'savepoint'; did you mean"):
        AsyncSession(engine, join_transaction_mode="savepoint")


# How a transaction begins


async def test_a_read_only_transaction_refuses_to_write(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        with pytest.raises(Exception, match=r"(?i)read-only|readonly|read only"):
            async with session.begin(read_only=True):
                session.add(Author(name="Ann"))
        session.add(Author(name="Bea"))
        await session.commit()

    assert await names_seen_by(observer) == ["Bea"]


async def test_a_read_only_session_refuses_to_write_and_leaves_nothing_behind(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await make_tables(engine)
    async with AsyncSession(engine, read_only=True) as session:
        session.add(Author(name="Ann"))
        with pytest.raises(Exception, match=r"(?i)read-only|readonly|read only"):
            await session.commit()
        await session.rollback()
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        await session.commit()

    assert await names_seen_by(observer) == ["Bea"]


async def test_one_transaction_can_have_another_isolation_level(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        async with session.begin(isolation_level="SERIALIZABLE", read_only=True, deferrable=True):
            assert await session.query(Author).all() == []
            level = await level_of(session)
        assert level == ("serializable" if engine.name == "postgresql" else None)
        assert await level_of(session) == ("read committed" if engine.name == "postgresql" else None)
        await session.rollback()


async def level_of(session: AsyncSession) -> str | None:
    connection = await session.connection()
    if connection.dialect.name != "postgresql":
        return None
    result = await connection.exec_driver_sql("SHOW transaction_isolation")
    return str(result.scalar_one())


async def test_what_is_said_about_a_transaction_comes_before_it(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session, session.begin():
        await session.query(Author).all()
        with pytest.raises(Exception, match="said where it begins"):
            await session.begin(join=True, isolation_level="SERIALIZABLE")


async def test_wrong_ways_to_begin_are_refused(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="unknown isolation level 'SERIAL'"):
            session.begin(isolation_level="SERIAL")
        with pytest.raises(ArgumentError, match="read_only is True or False, not 'yes'"):
            session.begin(read_only="yes")  # type: ignore[arg-type]


async def test_a_session_cannot_choose_how_a_transaction_begins_that_is_not_its_own(
    connection: AsyncConnection,
) -> None:
    async with AsyncSession(connection, isolation_level="SERIALIZABLE") as session:
        session.add(Author(name="Ann"))

        with pytest.raises(InvalidRequestError, match="execution_options"):
            await session.flush()


async def test_a_session_may_ask_for_what_its_connection_does_anyway(
    connection: AsyncConnection, observer: AsyncEngine
) -> None:
    await connection.execution_options(isolation_level="SERIALIZABLE")
    async with AsyncSession(connection, isolation_level="SERIALIZABLE") as session:
        session.add(Author(name="Ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_begin_that_fails_leaves_no_transaction_on_the_connection(
    connection: AsyncConnection, observer: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: object, options: object) -> None:
        raise OperationalError("BEGIN", None, OSError("the network is down"))

    async with AsyncSession(connection) as session:
        with monkeypatch.context() as patch:
            patch.setattr(type(connection.wire()), "begin", refuse)
            session.add(Author(name="Ann"))
            with pytest.raises(OperationalError):
                await session.commit()
        await session.rollback()
        assert not connection.in_transaction()

        session.add(Author(name="Bea"))
        await session.commit()

    assert await names_seen_by(observer) == ["Bea"]
