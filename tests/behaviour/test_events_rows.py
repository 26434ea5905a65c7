"""Events of mapped classes: handlers see rows before and after they are written, and may change them."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from aiosession import AsyncConnection, AsyncEngine, AsyncSession, Mapper, events, object_session
from aiosession.errors import ArgumentError, ReentrantUseError
from aiosession.events.dispatch import EVERY_MAPPER, mapped_classes
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Base, Book, Unmapped, make_tables, names_seen_by, put_author


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for dispatch in (EVERY_MAPPER, *map(mapped_classes.of, (Author, Book, Base))):
        for name, listeners in list(dispatch.own.items()):
            for listener in list(listeners):
                dispatch.discard(name, listener)


@pytest.fixture
async def tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_what_before_insert_sets_is_inserted(engine: AsyncEngine, observer: AsyncEngine, tables: None) -> None:
    @events.listens_for(Author, "before_insert")
    def normalise(mapper: object, connection: object, target: Author) -> None:
        target.name = target.name.title()

    async with AsyncSession(engine) as session:
        session.add(Author(name="ann"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_what_before_update_sets_is_part_of_the_update(
    engine: AsyncEngine, tables: None, statements: StatementLog
) -> None:
    key = await put_author(engine)

    @events.listens_for(Author, "before_update")
    async def note(mapper: object, connection: AsyncConnection, target: Author) -> None:
        target.note = await connection.scalar(text("SELECT 'changed'"))

    async with AsyncSession(engine) as session:
        (await session.get_one(Author, key)).name = "Bea"
        statements.clear()
        await session.commit()
    assert statements.kinds == ["BEGIN", "SELECT", "UPDATE", "COMMIT"]

    async with AsyncSession(engine) as session:
        assert (await session.get_one(Author, key)).note == "changed"


async def test_after_insert_sees_the_key_and_may_write(
    engine: AsyncEngine, observer: AsyncEngine, tables: None
) -> None:
    @events.listens_for(Author, "after_insert")
    async def log(mapper: Any, connection: AsyncConnection, target: Author) -> None:
        await connection.execute(insert(Book.__table__).values(title=f"log of {target.id}", author_id=target.id))

    async with AsyncSession(engine) as session:
        session.add(Author(name="Ann"))
        await session.commit()

    async with observer.connect() as connection:
        assert await connection.scalar(select(Book.title)) == "log of 1"


async def test_a_change_of_mind_after_insert_is_written_by_the_next_flush(engine: AsyncEngine, tables: None) -> None:
    events.listen(Author, "after_insert", lambda mapper, connection, target: setattr(target, "note", "late"))
    async with AsyncSession(engine) as session:
        author = Author(name="Ann")
        session.add(author)
        await session.flush()
        assert author in session.dirty
        await session.commit()
    async with AsyncSession(engine) as session:
        assert (await session.get_one(Author, 1)).note == "late"


async def test_deletions_are_told(engine: AsyncEngine, tables: None) -> None:
    key = await put_author(engine, books=[Book(title="A")])
    told: list[str] = []
    for name in ("before_delete", "after_delete"):
        events.listen(Base, name, lambda m, c, target, name=name: told.append(f"{name} {m.name}"), propagate=True)
    async with AsyncSession(engine) as session:
        await session.delete(await session.get_one(Author, key))
        await session.commit()

    assert told == ["before_delete Author", "before_delete Book", "after_delete Author", "after_delete Book"]


async def test_mapper_stands_for_all_classes(engine: AsyncEngine, tables: None) -> None:
    told: list[object] = []
    events.listen(Mapper, "after_insert", lambda mapper, connection, target: told.append(type(target)))
    await put_author(engine, books=[Book(title="A")])

    assert told == [Author, Book]


async def test_a_handler_that_raises_fails_the_flush(engine: AsyncEngine, observer: AsyncEngine, tables: None) -> None:
    @events.listens_for(Author, "after_insert")
    def fail(mapper: object, connection: object, target: Author) -> None:
        assert target.id is not None
        raise ZeroDivisionError

    async with AsyncSession(engine) as session:
        author = Author(name="Ann")
        session.add(author)
        with pytest.raises(ZeroDivisionError):
            await session.flush()
        assert author.id is None
        await session.rollback()

    assert await names_seen_by(observer) == []


async def test_a_session_method_in_a_handler_is_refused_with_what_to_do(engine: AsyncEngine, tables: None) -> None:
    async with AsyncSession(engine) as session:

        @events.listens_for(Author, "before_insert")
        async def query(mapper: object, connection: object, target: object) -> None:
            await session.execute(text("SELECT 1"))

        session.add(Author(name="Ann"))
        with pytest.raises(ReentrantUseError, match=r"'before_insert'.*Execute SQL on the connection"):
            await session.flush()


def test_a_class_that_is_not_mapped_needs_propagate() -> None:
    with pytest.raises(ArgumentError, match=r"Unmapped is not mapped itself.*pass propagate=True"):
        events.listen(Unmapped, "before_insert", lambda mapper, connection, target: None)


async def test_what_handlers_add_or_change_is_written_by_the_commit(
    engine: AsyncEngine, observer: AsyncEngine, tables: None
) -> None:
    @events.listens_for(Author, "after_insert")
    def audit(mapper: object, connection: object, target: Author) -> None:
        if target.name == "Ann":
            session = object_session(target)
            assert session is not None
            session.add(Author(name="Audit"))
            target.note = "seen"

    async with AsyncSession(engine) as session, session.begin():
        session.add(Author(name="Ann"))

    async with AsyncSession(observer) as other:
        rows = await other.query(Author.name, Author.note).order_by(Author.name).all()
    assert rows == [("Ann", "seen"), ("Audit", None)]


@pytest.mark.parametrize("name", ["after_insert", "pending_to_persistent"])
async def test_a_handler_that_fails_after_the_write_keeps_it_from_being_committed(
    engine: AsyncEngine, observer: AsyncEngine, tables: None, name: str
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("not this one")

    async with AsyncSession(engine) as session:
        events.listen(Author if name == "after_insert" else session, name, fail)
        session.add(Author(name="Ann"))
        with pytest.raises(ValueError, match="not this one"):
            await session.commit()
        await session.rollback()

    assert await names_seen_by(observer) == []
