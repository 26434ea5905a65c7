"""Events of objects: what becomes of them in a session, and what is loaded into them."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession, events
from aiosession.events.dispatch import mapped_classes
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, make_tables, put_author

MOVES = (
    "transient_to_pending",
    "pending_to_transient",
    "pending_to_persistent",
    "persistent_to_transient",
    "persistent_to_deleted",
    "deleted_to_persistent",
    "deleted_to_detached",
    "persistent_to_detached",
    "detached_to_persistent",
    "loaded_as_persistent",
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    dispatch = mapped_classes.of(Author)
    for name, listeners in list(dispatch.own.items()):
        for listener in list(listeners):
            dispatch.discard(name, listener)


@pytest.fixture
async def tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


def moves_of(session: AsyncSession) -> list[str]:
    found: list[str] = []
    for name in MOVES:
        events.listen(session, name, lambda _, instance, name=name: found.append(name))
    return found


async def test_a_new_object_becomes_pending_and_persistent(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        moves = moves_of(session)
        author = Author(name="Ann")
        session.add(author)
        assert moves == ["transient_to_pending"]
        await session.commit()
        assert moves == ["transient_to_pending", "pending_to_persistent"]

    assert moves[2:] == ["persistent_to_detached"]


async def test_an_expunged_object_is_told_of(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        moves = moves_of(session)
        author = Author(name="Ann")
        session.add(author)
        session.expunge(author)

    assert moves == ["transient_to_pending", "pending_to_transient"]


async def test_a_rollback_takes_objects_back(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:
        moves = moves_of(session)
        flushed, pending = Author(name="Ann"), Author(name="Bea")
        session.add(flushed)
        await session.flush()
        session.add(pending)
        await session.rollback()

    assert sorted(moves[-2:]) == ["pending_to_transient", "persistent_to_transient"]


async def test_a_deleted_object_comes_back_or_is_detached(engine: AsyncEngine, tables: None) -> None:
    key = await put_author(engine)
    async with AsyncSession(engine) as session:
        moves = moves_of(session)
        author = await session.get_one(Author, key)
        await session.delete(author)
        await session.flush()
        await session.rollback()
        assert moves == ["loaded_as_persistent", "persistent_to_deleted", "deleted_to_persistent"]
        moves.clear()
        await session.delete(author)
        await session.commit()

    assert moves == ["persistent_to_deleted", "deleted_to_detached"]


async def test_a_detached_object_comes_into_a_session(engine: AsyncEngine, tables: None) -> None:
    key = await put_author(engine)
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
    async with AsyncSession(engine) as session:
        moves = moves_of(session)
        session.add(author)
        assert moves == ["detached_to_persistent"]


async def test_before_attach_can_keep_an_object_out(engine: AsyncEngine, tables: None) -> None:
    def refuse(session: object, instance: object) -> None:
        raise ZeroDivisionError

    async with AsyncSession(engine) as session:
        events.listen(session, "before_attach", refuse)
        author = Author(name="Ann")
        with pytest.raises(ZeroDivisionError):
            session.add(author)
        assert author not in session


async def test_loading_is_told_once_and_reading_again_is_a_refresh(engine: AsyncEngine, tables: None) -> None:
    await put_author(engine)
    told: list[str] = []
    events.listen(Author, "load", lambda target, context: told.append(f"load {target.name}"))
    events.listen(Author, "refresh", lambda target, context, attrs: told.append(f"refresh {'name' in attrs}"))
    async with AsyncSession(engine) as session:
        author = (await session.scalars(select(Author))).one()
        await session.scalars(select(Author))
        await session.refresh(author)

    assert told == ["load Ann", "refresh True"]


async def test_values_that_the_database_makes_are_told(engine: AsyncEngine, tables: None) -> None:
    told: list[bool] = []
    events.listen(Author, "refresh_flush", lambda target, context, attrs: told.append("id" in attrs))
    await put_author(engine)

    assert told == [True]


async def test_expiring_is_told_with_the_names(engine: AsyncEngine, tables: None) -> None:
    key = await put_author(engine)
    told: list[object] = []
    events.listen(Author, "expire", lambda target, attrs: told.append(attrs))
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        session.expire(author, ["name"])
        session.expire(author)

    assert told == [["name"], None]


def test_init_is_told_with_the_arguments_until_nobody_listens() -> None:
    told: list[object] = []

    def handler(target: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        told.append(dict(kwargs))
        kwargs["note"] = "made"

    plain = Author.__init__
    events.listen(Author, "init", handler)
    assert Author(name="Ann").note == "made"
    events.remove(Author, "init", handler)

    assert told == [{"name": "Ann"}]
    assert Author.__init__ is plain
