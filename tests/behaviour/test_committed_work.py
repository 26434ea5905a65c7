"""Does a session know whether something that it has written is committed? Then no rollback undoes all that it did."""

import pytest
from sqlalchemy import func, select, text

from aiosession import AsyncEngine, AsyncSession, IntegrityError, create_async_engine
from tests.session_model import Author, make_tables


@pytest.fixture
async def session(engine: AsyncEngine) -> AsyncSession:
    await make_tables(engine)
    return AsyncSession(engine)


async def test_a_commit_of_written_objects_counts(session: AsyncSession) -> None:
    session.add(Author(name="Ann"))
    assert not session.context.has_committed

    await session.commit()

    assert session.context.has_committed
    await session.close()


async def test_a_commit_of_statements_that_write_counts(session: AsyncSession) -> None:
    await session.execute(text("DELETE FROM author"))
    await session.commit()

    assert session.context.has_committed
    await session.close()


async def test_a_commit_of_what_was_only_read_does_not_count(session: AsyncSession) -> None:
    await session.scalars(select(Author))
    await session.execute(text("SELECT 1"))
    await session.commit()

    assert not session.context.has_committed
    await session.close()


@pytest.mark.without("sqlite", reason="none of its functions writes")
async def test_a_function_of_which_nothing_is_known_may_have_written(
    session: AsyncSession, engine: AsyncEngine
) -> None:
    names = {"postgresql": "pg_backend_pid", "mariadb": "connection_id"}
    await session.scalar(select(getattr(func, names[engine.name])()))
    await session.commit()

    assert session.context.has_committed
    await session.close()


async def test_what_a_fork_commits_counts(session: AsyncSession) -> None:
    async with session.fork() as other:
        other.add(Author(name="Ann"))
        await other.commit()

    assert session.context.has_committed
    await session.close()


async def test_a_rollback_does_not_count_nor_the_commit_after_it(session: AsyncSession) -> None:
    session.add(Author(name="Ann"))
    await session.flush()
    await session.rollback()
    await session.scalars(select(Author))
    await session.commit()

    assert not session.context.has_committed
    await session.close()


async def test_a_commit_that_is_refused_does_not_count(session: AsyncSession) -> None:
    session.add_all([Author(name="Ann"), Author(name=None)])
    with pytest.raises(IntegrityError):
        await session.commit()

    assert not session.context.has_committed
    await session.close()


async def test_what_commits_by_itself_counts_at_once(database_url: str, engine: AsyncEngine) -> None:
    await make_tables(engine)
    at_once = create_async_engine(database_url, isolation_level="AUTOCOMMIT")
    async with AsyncSession(at_once) as session:
        await session.scalars(select(Author))
        assert not session.context.has_committed
        await session.execute(text("DELETE FROM author"))
        assert session.context.has_committed
    await at_once.dispose()
