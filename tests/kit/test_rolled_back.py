"""Code under test commits as it likes; at the end of the block nothing of it is there."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import select
from typing_extensions import override

from aiosession import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from aiosession.errors import ArgumentError, IntegrityError, InvalidRequestError
from aiosession.testing.isolation import rolled_back
from tests.session_model import Author, Book, make_tables, names_seen_by, put_author


@pytest.fixture
async def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    await make_tables(engine)
    await put_author(engine, "Ann")
    return async_sessionmaker(engine)


async def names(sessions: async_sessionmaker[AsyncSession]) -> list[str]:
    async with sessions() as session:
        return list((await session.scalars(select(Author.name).order_by(Author.name))).all())


async def test_commits_are_seen_within_and_gone_after(
    sessions: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async with rolled_back(sessions):
        async with sessions.begin() as session:
            session.add(Author(name="Bob"))
        async with sessions() as session:
            session.add(Author(name="Cid"))
            await session.commit()
        assert await names(sessions) == ["Ann", "Bob", "Cid"]

    assert await names_seen_by(observer) == ["Ann"]
    assert await names(sessions) == ["Ann"]


async def test_rollbacks_undo_the_work_of_their_session_only(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with rolled_back(sessions):
        async with sessions() as session:
            session.add(Author(name="Bob"))
            await session.commit()
            session.add(Author(name="Cid"))
            await session.flush()
            await session.rollback()

        assert await names(sessions) == ["Ann", "Bob"]


async def test_a_refused_commit_is_refused_within_as_well(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with rolled_back(sessions):
        async with sessions() as session:
            session.add(Author(name="Ann"))
            with pytest.raises(IntegrityError):
                await session.commit()
            await session.rollback()
            session.add(Author(name="Bob"))
            await session.commit()

        assert await names(sessions) == ["Ann", "Bob"]


async def test_an_error_of_the_block_undoes_everything_too(
    sessions: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with rolled_back(sessions):
            async with sessions.begin() as session:
                session.add(Author(name="Bob"))
            raise ZeroDivisionError

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_block_within_a_block_undoes_its_own_work_only(
    sessions: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    async with rolled_back(sessions):
        async with sessions.begin() as session:
            session.add(Author(name="Shared"))
        for name in ("Bob", "Cid"):
            async with rolled_back(sessions):
                async with sessions.begin() as session:
                    session.add(Author(name=name))
                assert await names(sessions) == sorted(["Ann", "Shared", name])
        assert await names(sessions) == ["Ann", "Shared"]

    assert await names_seen_by(observer) == ["Ann"]


async def test_a_registry_of_sessions_is_led_there_as_well(
    sessions: async_sessionmaker[AsyncSession], observer: AsyncEngine
) -> None:
    registry = async_scoped_session(sessions)

    async with rolled_back(registry):
        async with registry.scope():
            registry.add(Author(name="Bob"))
            await registry.commit()
        assert await names(sessions) == ["Ann", "Bob"]

    assert await names_seen_by(observer) == ["Ann"]


@pytest.fixture
async def second(sqlite_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(f"{sqlite_url}.second")
    await make_tables(engine)
    yield engine
    await engine.dispose()


async def test_every_database_of_a_sessionmaker_is_rolled_back(
    sessions: async_sessionmaker[AsyncSession], second: AsyncEngine, observer: AsyncEngine
) -> None:
    sessions.configure(binds={Book: second})

    async with rolled_back(sessions):
        async with sessions.begin() as session:
            session.add_all([Author(name="Bob"), Book(title="B")])
        async with sessions() as session:
            assert (await session.scalars(select(Book.title))).all() == ["B"]

    assert await names_seen_by(observer) == ["Ann"]
    async with second.connect() as connection:
        assert (await connection.scalars(select(Book.title))).all() == []


async def test_afterwards_the_sessionmaker_is_as_it_was(
    sessions: async_sessionmaker[AsyncSession], engine: AsyncEngine
) -> None:
    sessions.configure(autoflush=False, twophase=True)
    before = dict(sessions.kw)

    async with rolled_back(sessions) as inside:
        assert inside is sessions
        assert sessions.kw["autoflush"] is False

    assert sessions.kw == before
    assert engine.pool.status().holders == ()


async def test_a_sessionmaker_that_is_configured_within_is_told_of(
    sessions: async_sessionmaker[AsyncSession], engine: AsyncEngine
) -> None:
    with pytest.raises(InvalidRequestError, match=r"configured anew within rolled_back\(\)"):
        async with rolled_back(sessions):
            sessions.configure(bind=engine)

    assert sessions.kw["bind"] is engine


async def test_what_is_no_sessionmaker_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="takes an async_sessionmaker"):
        async with rolled_back(engine):  # type: ignore[arg-type]
            pass


async def test_a_sessionmaker_without_an_engine_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"configure\(bind=engine\)"):
        async with rolled_back(async_sessionmaker()):
            pass


async def test_engines_that_are_chosen_behind_its_back_are_refused(engine: AsyncEngine) -> None:
    class Routing(AsyncSession):
        @override
        def get_bind(self, *_args: object, **_options: object) -> AsyncEngine:
            return engine

    with pytest.raises(ArgumentError, match=r"get_bind\(\) of its own"):
        async with rolled_back(async_sessionmaker(engine, class_=Routing)):
            pass
