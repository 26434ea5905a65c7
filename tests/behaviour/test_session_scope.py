"""How long sessions and their transactions last, and what a session keeps in the meantime."""

import gc
import weakref
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from aiosession import AsyncEngine, AsyncSession, async_sessionmaker, inspect, load_only
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables, names_seen_by, put_author


@pytest.fixture
async def key(engine: AsyncEngine, statements: StatementLog) -> int:
    await make_tables(engine)
    key = await put_author(engine)
    statements.clear()
    return key


async def test_a_session_lives_through_many_transactions(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        for end in (session.commit, session.rollback, session.commit):
            session.add(Author(name=f"author {statements.count}"))
            await session.flush()
            session.add(Book(title="One"))
            await session.flush()
            await end()
            assert not session.in_transaction()

        assert [kind for kind in statements.kinds if kind != "INSERT"] == [
            *("BEGIN", "COMMIT"),
            *("BEGIN", "ROLLBACK"),
            *("BEGIN", "COMMIT"),
        ]
    assert len(await names_seen_by(observer)) == 3


async def test_a_query_asks_the_database_whatever_is_in_memory(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        statements.clear()

        for _ in range(2):
            assert (await session.scalars(select(Author).where(Author.name == "Ann"))).one() is author

        assert statements.kinds == ["SELECT", "SELECT"]


async def test_adding_twice_is_adding_once(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = Author(name="Bea")
        session.add(author)
        session.add_all([author, author])
        assert list(session.new) == [author]

        await session.commit()
        session.add(author)

        assert inspect(author).persistent
    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_autoflush_can_be_switched_at_any_time(engine: AsyncEngine, key: int) -> None:
    count = select(func.count(Author.id))
    async with AsyncSession(engine) as session:
        session.autoflush = False
        session.add(Author(name="Bea"))
        assert await session.scalar(count) == 1

        session.autoflush = True
        assert await session.scalar(count) == 2


async def test_commit_flushes_whatever_autoflush_says(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        session.add(Author(name="Bea"))
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bea"]


async def test_a_maker_can_bind_one_session_to_a_connection(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    factory = async_sessionmaker(engine, autoflush=False)
    async with engine.connect() as connection:
        await connection.begin()
        async with factory(bind=connection) as session:
            assert session.bind is connection
            assert not session.autoflush
            session.add(Author(name="Bea"))
            await session.commit()
        await connection.rollback()

    async with factory() as session:
        assert session.bind is engine
    assert await names_seen_by(observer) == ["Ann"]


async def test_a_rollback_of_nothing_sends_nothing(engine: AsyncEngine, statements: StatementLog, key: int) -> None:
    async with AsyncSession(engine) as session:
        await session.rollback()
        await session.rollback()

        assert session.is_active
    assert statements.kinds == []


async def test_a_rollback_leaves_the_connection_that_a_session_was_given_open(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with engine.connect() as connection:
        async with AsyncSession(connection) as session:
            session.add(Author(name="Bea"))
            await session.flush()
            await session.rollback()

        assert not connection.closed
        assert await connection.scalar(select(func.count(Author.id))) == 1


async def test_what_the_next_flush_needs_is_held_strongly(engine: AsyncEngine, observer: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        gone, pending = await session.get_one(Author, key), Author(name="Bea")
        session.add(pending)
        await session.delete(gone)
        held = [weakref.ref(pending), weakref.ref(gone)]
        del pending, gone
        gc.collect()
        assert all(reference() is not None for reference in held)

        await session.commit()
        gc.collect()

        assert [reference() for reference in held] == [None, None]
    assert await names_seen_by(observer) == ["Bea"]


async def test_the_transactions_of_a_session_are_known(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        assert session.get_transaction() is None
        assert session.get_nested_transaction() is None

        await session.begin()
        savepoint = await session.begin_nested()
        outermost, innermost = session.get_transaction(), session.get_nested_transaction()
        assert outermost is not None
        assert innermost is not None
        assert (outermost.nested, innermost.nested) == (False, True)
        assert (session.in_transaction(), session.in_nested_transaction()) == (True, True)

        await innermost.rollback()
        assert not savepoint.is_active
        assert session.get_nested_transaction() is None
        await outermost.commit()
        assert not session.in_transaction()


async def test_a_class_can_be_bound_later(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession() as session:
        session.bind_mapper(Author, engine)

        assert session.get_bind(Author) is engine
        assert await session.get(Author, key) is not None


async def test_text_goes_where_a_class_goes(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(binds={Author: engine}) as session:
        count = text("SELECT count(*) FROM author WHERE id = :id")

        assert await session.scalar(count, {"id": key}, bind_arguments={"mapper": Author}) == 1
        assert (await session.execute(count, {"id": key}, bind_arguments={"clause": select(Author)})).scalar() == 1


@pytest.mark.parametrize("where", [{"mapper": Author}, {"clause": select(Author)}, {"bind": ...}])
async def test_a_connection_is_found_by_class_statement_or_engine(
    engine: AsyncEngine, key: int, where: dict[str, object]
) -> None:
    async with AsyncSession(binds={Author: engine}) as session:
        connection = await session.connection({**where, "bind": engine} if "bind" in where else where)

        assert await connection.scalar(select(Author.name)) == "Ann"


async def test_get_takes_a_mapper(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        mapper: Any = inspect(Author)

        assert await session.get(mapper, key) is await session.get(Author, key)


async def test_objects_that_were_let_go_can_be_taken_in_by_another_session(
    engine: AsyncEngine, observer: AsyncEngine, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
    author.note = "changed outside"

    async with AsyncSession(engine) as other:
        other.add(author)
        assert inspect(author).session is other
        await other.commit()

    async with AsyncSession(observer) as session:
        assert (await session.get_one(Author, key)).note == "changed outside"


async def test_an_unloaded_value_that_is_set_counts_as_changed(
    engine: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = (await session.scalars(select(Author).options(load_only(Author.id)))).one()
        statements.clear()

        author.name = "Ann"

        assert session.is_modified(author)
        assert inspect(author).attrs.name.history == (("Ann",), (), ())
        assert statements.kinds == []
        await session.flush()
        assert statements.tables("UPDATE") == ["author"]


async def test_a_collection_that_is_changed_makes_its_owner_dirty(engine: AsyncEngine, key: int) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.load(author, Author.books)
        assert author not in session.dirty

        author.books.append(Book(title="One"))

        assert list(session.dirty) == [author]


async def test_an_expired_relation_is_loaded_alone(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, key: int
) -> None:
    async with AsyncSession(engine) as session:
        author = await session.get_one(Author, key)
        await session.load(author, Author.books)
        await put_author(observer, "Bea", books=[Book(title="One")])
        async with observer.begin() as connection:
            await connection.execute(update(Book.__table__).values(author_id=key))
        session.expire(author, ["books"])
        statements.clear()

        books = await author.awaitable_attrs.books

        assert [book.title for book in books] == ["One"]
        assert statements.tables("SELECT") == ["book"]
