"""Sessions made alike."""

from typing import Any

import pytest

from aiosession import AsyncEngine, AsyncSession, async_sessionmaker
from aiosession.errors import ArgumentError
from tests.session_model import Author, make_tables, names_seen_by


class Audited(AsyncSession):
    pass


async def test_sessions_get_the_configuration(engine: AsyncEngine) -> None:
    factory = async_sessionmaker(engine, expire_on_commit=False, class_=Audited, info={"a": 1})

    async with factory() as session, factory(autoflush=False, info={"b": 2}) as other:
        assert type(session) is Audited
        assert session.bind is engine
        assert not session.expire_on_commit
        assert session.autoflush
        assert not other.autoflush
        assert other.info == {"a": 1, "b": 2}


async def test_configuration_may_come_later(engine: AsyncEngine) -> None:
    factory = async_sessionmaker()
    factory.configure(bind=engine, autoflush=False)

    async with factory() as session:
        assert session.bind is engine
        assert not session.autoflush


async def test_begin_makes_commits_and_closes(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await make_tables(engine)
    factory = async_sessionmaker(engine)

    async with factory.begin() as session:
        session.add(Author(name="Ann"))

    assert await names_seen_by(observer) == ["Ann"]
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with factory.begin() as session:
            session.add(Author(name="Bea"))
            raise ZeroDivisionError
    assert await names_seen_by(observer) == ["Ann"]


def test_unknown_options_are_refused_at_once() -> None:
    with pytest.raises(ArgumentError, match="autoflush"):
        async_sessionmaker(autoflus=False)
    with pytest.raises(ArgumentError, match="subclass of AsyncSession"):
        async_sessionmaker(class_=int)


def test_wrong_binds_are_refused_when_the_maker_is_made() -> None:
    wrong: Any = "sqlite://"

    with pytest.raises(ArgumentError, match="create_async_engine"):
        async_sessionmaker(wrong)
    with pytest.raises(ArgumentError, match="binds is a mapping"):
        async_sessionmaker(binds=[])
