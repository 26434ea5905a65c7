"""One row, one object."""

import gc
from collections.abc import Mapping

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession, identity_key, inspect
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine, books=[Book(title="One"), Book(title="Two")])
    statements.clear()
    return key


async def test_a_row_is_the_same_object_however_it_is_found(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)

        assert await session.get(Author, key) is author
        assert await session.scalar(select(Author)) is author
        assert (await session.scalars(select(Author).where(Author.name == "Ann"))).one() is author


async def test_get_of_an_object_in_memory_sends_nothing(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get(Author, key)
        pending = Author(name="Bea")
        session.add(pending)
        await session.get(Author, key)

        assert statements.kinds == ["SELECT"]
        assert pending in session.new
        assert author in session


async def test_two_sessions_have_two_objects(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as one, AsyncSession(engine) as other:
        assert await one.get(Author, key) is not await other.get(Author, key)


async def test_the_map_holds_clean_objects_weakly(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.get(Author, key)
        gc.collect()

        assert list(session.identity_map) == []


async def test_the_map_holds_changed_objects_strongly(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        (await session.get_one(Author, key)).note = "changed"
        gc.collect()
        await session.commit()

        assert await session.scalar(select(Author.note)) == "changed"


async def test_keys_are_looked_up_by_class_and_primary_key(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)

        assert inspect(author).key in session.identity_map
        assert (Author, (key + 1,), None) not in session.identity_map


async def test_the_map_is_a_mapping_from_keys_to_objects(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        identity = identity_key(Author, key)

        assert isinstance(session.identity_map, Mapping)
        assert list(session.identity_map) == list(session.identity_map.keys()) == [identity]
        assert list(session.identity_map.values()) == [author]
        assert dict(session.identity_map.items()) == {identity: author} == session.identity_map
        assert session.identity_map.get(identity) is session.identity_map[identity] is author
        assert session.identity_map.get(identity_key(Author, key + 1), "none") == "none"
        assert author in session.identity_map.values()
        assert len(session.identity_map) == 1


async def test_the_session_gives_its_objects(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author, new = await session.get_one(Author, key), Author(name="Bea")
        session.add(new)

        assert {*session} == {author, new}


async def test_objects_of_the_map_stay_while_it_is_gone_through(engine: AsyncEngine, key: int) -> None:
    await put_author(engine, "Bea")
    async with AsyncSession(engine) as session:
        held = (await session.scalars(select(Author))).all()
        found = []
        for author in session.identity_map.values():
            held = []
            found.append(author)

        assert len(found) == 2
        assert held == []


async def test_a_query_does_not_overwrite_changes(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        author = await session.get_one(Author, key)
        author.name = "Zoe"

        await session.execute(select(Author))

        assert author.name == "Zoe"


async def test_populate_existing_overwrites(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        author = await session.get_one(Author, key)
        author.name = "Zoe"

        await session.execute(select(Author), execution_options={"populate_existing": True})

        assert author.name == "Ann"


async def test_get_takes_a_value_a_tuple_or_a_mapping(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get(Author, key)

        assert await session.get(Author, (key,)) is author
        assert await session.get(Author, {"id": key}) is author


async def test_a_row_that_is_not_there_is_none(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        assert await session.get(Author, key + 1) is None


async def test_an_object_is_found_by_get_after_its_flush(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = Author(name="Bea")
        session.add(author)
        await session.flush()
        statements.clear()

        assert await session.get(Author, author.id) is author
        assert statements.kinds == []
