"""Savepoints: undo a part of a transaction, in the databases and in the objects."""

import pytest
from sqlalchemy import insert, select

from aiosession import AsyncEngine, AsyncSession, create_async_engine, inspect
from aiosession.errors import InvalidRequestError, PendingRollbackError, UniqueViolationError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Base, Book, make_tables, names_seen_by, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine)
    statements.clear()
    return key


async def test_a_savepoint_that_is_left_well_is_part_of_the_transaction(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin_nested():
            session.add(Author(name="Bea"))
            assert session.in_nested_transaction()
        assert not session.in_nested_transaction()
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_savepoint_undoes_only_what_came_after_it(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        author.note = "before"
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
            async with session.begin_nested():
                author.note = "within"
                session.add(Author(name="Bea"))
                await session.flush()
                raise ZeroDivisionError

        assert author.note == "before"
        await session.commit()

    async with AsyncSession(observer) as session:
        assert (await session.get_one(Author, key)).note == "before"
    assert await names_seen_by(observer) == ["Ann"]


async def test_begin_nested_flushes_first(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        async with session.begin_nested():
            assert not session.new

        assert statements.kinds == ["BEGIN", "INSERT", "SAVEPOINT", "RELEASE"]


async def test_a_failed_flush_within_a_savepoint_costs_only_the_savepoint(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        for name in ("Bea", "Ann", "Cid"):
            try:
                async with session.begin_nested():
                    session.add(Author(name=name))
            except UniqueViolationError:
                pass
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea", "Cid"]


async def test_a_failed_statement_within_a_savepoint_costs_only_the_savepoint(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        with pytest.raises(UniqueViolationError):
            async with session.begin_nested():
                await session.execute(insert(Author).values(name="Ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_after_a_failed_flush_within_a_savepoint_its_rollback_suffices(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        savepoint = await session.begin_nested()
        session.add(Author(name="Ann"))
        with pytest.raises(UniqueViolationError):
            await session.flush()
        with pytest.raises(PendingRollbackError):
            await session.flush()

        await savepoint.rollback()

        assert (await session.scalars(select(Author.name).order_by(Author.name))).all() == ["Ann", "Bea"]


async def test_savepoints_nest_to_any_depth(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        outer = await session.begin_nested()
        session.add(Author(name="Bea"))
        inner = await session.begin_nested()
        session.add(Author(name="Cid"))
        deepest = await session.begin_nested()
        session.add(Author(name="Dot"))
        await deepest.commit()
        await inner.rollback()
        session.add(Author(name="Eve"))
        await outer.commit()
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea", "Eve"]


async def test_rolling_back_an_outer_savepoint_ends_the_inner_ones(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        outer = await session.begin_nested()
        inner = await session.begin_nested()
        session.add(Author(name="Bea"))
        await session.flush()

        await outer.rollback()

        assert not inner.is_active
        with pytest.raises(InvalidRequestError, match="ended"):
            await inner.commit()
        assert (await session.scalars(select(Author.name))).all() == ["Ann"]


async def test_commit_of_the_session_includes_open_savepoints(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        await session.begin_nested()
        session.add(Author(name="Bea"))
        await session.commit()

        assert not session.in_transaction()
        assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_rollback_of_the_session_undoes_everything(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(name="Bea"))
        await session.begin_nested()
        cid = Author(name="Cid")
        session.add(cid)
        await session.flush()

        await session.rollback()

        assert inspect(cid).transient
        assert not session.in_transaction()
        assert await names_seen_by(observer) == ["Ann"]


async def test_an_object_deleted_in_a_savepoint_comes_back(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        savepoint = await session.begin_nested()
        await session.delete(author)
        await session.flush()
        await savepoint.rollback()

        assert author in session
        author.note = "still there"
        await session.commit()
        assert await session.scalar(select(Author.note)) == "still there"


async def test_every_bind_gets_the_savepoint_also_one_first_used_inside(
    engine: AsyncEngine, statements: StatementLog, key: int, tmp_path: object
) -> None:
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    async with other.begin() as connection:
        await connection.create_all(Base.metadata)
    log = StatementLog(other)
    async with AsyncSession(binds={Author: engine, Book: other}) as session:
        session.add(Author(name="Bea"))
        await session.flush()
        savepoint = await session.begin_nested()
        session.add_all([Author(name="Cid"), Book(title="One")])
        await session.flush()
        await savepoint.rollback()
        await session.commit()

        assert statements.kinds == ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "ROLLBACK", "RELEASE", "COMMIT"]
        assert log.kinds == ["BEGIN", "SAVEPOINT", "INSERT", "ROLLBACK", "RELEASE", "COMMIT"]
        assert (await session.scalars(select(Author.name).order_by(Author.name))).all() == ["Ann", "Bea"]
        assert (await session.scalars(select(Book))).all() == []
    await other.dispose()
