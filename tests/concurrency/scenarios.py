"""What a session can be in the middle of when it is cancelled: something to prepare, and the operation itself."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any

from sqlalchemy import FetchedValue, func, select, text

from aiosession import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    SerializationError,
    async_sessionmaker,
    events,
    mapped_column,
)
from tests.session_model import Author, Book

Prepare = Callable[[AsyncSession, int], Awaitable[Any]]
Operation = Callable[[AsyncSession, Any], Coroutine[Any, Any, Any]]


class _Quiet(DeclarativeBase):
    pass


class QuietAuthor(_Quiet):
    """An author whose table returns nothing: keys are asked for before, and the rest is read after the rows."""

    __tablename__ = "author"
    __table_args__ = {"implicit_returning": False}
    __mapper_args__ = {"eager_defaults": True}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str | None] = mapped_column(server_default=FetchedValue())


def engine_of(session: AsyncSession) -> AsyncEngine:
    assert isinstance(session.bind, AsyncEngine)
    return session.bind


# Before the operation


async def nothing(_session: AsyncSession, key: int) -> int:
    return key


async def cold_pool(session: AsyncSession, key: int) -> int:
    await engine_of(session).dispose()
    return key


async def full_pool(session: AsyncSession, key: int) -> tuple[int, Any]:
    return key, await engine_of(session).acquire("somebody who gives it back soon")


async def new_authors(session: AsyncSession, _key: int) -> list[object]:
    authors = [Author(name=f"New {n}", books=[Book(title="a"), Book(title="b")]) for n in range(3)]
    session.add_all(authors)
    return [*authors, *(book for author in authors for book in author.books)]


async def quiet_authors(session: AsyncSession, _key: int) -> list[QuietAuthor]:
    authors = [QuietAuthor(name=f"New {n}") for n in range(3)]
    session.add_all(authors)
    return authors


async def one_new_author(session: AsyncSession, _key: int) -> Author:
    author = Author(name="New")
    session.add(author)
    return author


async def read_author(session: AsyncSession, key: int) -> Author:
    return await session.get_one(Author, key)


async def changed_author(session: AsyncSession, key: int) -> Author:
    author = await session.get_one(Author, key)
    author.note = "New"
    return author


async def changed_author_and_new_book(session: AsyncSession, key: int) -> Author:
    author = await changed_author(session, key)
    session.add(Book(title="New", author_id=key))
    return author


async def deleted_author(session: AsyncSession, key: int) -> Author:
    author = await session.get_one(Author, key)
    await session.delete(author)
    return author


async def author_from_elsewhere(_session: AsyncSession, key: int) -> Author:
    return Author(id=key, name="New", books=[Book(title="a"), Book(id=1, title="b")])


async def flushed_author(session: AsyncSession, key: int) -> Author:
    author = await one_new_author(session, key)
    await session.flush()
    return author


async def flushed_in_savepoint(session: AsyncSession, _key: int) -> Any:
    session.add(Author(name="New"))
    savepoint = await session.begin_nested()
    session.add(Author(name="New too"))
    await session.flush()
    return savepoint


# The operation


async def get(session: AsyncSession, key: int) -> None:
    await session.get(Author, key)


async def get_when_somebody_gives(session: AsyncSession, prepared: tuple[int, Any]) -> None:
    key, connection = prepared

    def give_back() -> None:
        with suppress(StopIteration):  # a connection that is idle goes back without waiting
            engine_of(session).release(connection).send(None)

    asyncio.get_running_loop().call_soon(give_back)
    await session.get(Author, key)


async def query(session: AsyncSession, _key: int) -> None:
    await session.execute(select(Author))


async def flush(session: AsyncSession, _: object) -> None:
    await session.flush()


async def autoflush(session: AsyncSession, _: object) -> None:
    await session.scalar(select(func.count(Author.id)))


async def commit(session: AsyncSession, _: object) -> None:
    await session.commit()


async def copy(session: AsyncSession, _: object) -> None:
    await session.bulk_copy(Author, [{"name": f"New {number}"} for number in range(3)])
    await session.commit()


async def rollback(session: AsyncSession, _: object) -> None:
    await session.rollback()


async def close(session: AsyncSession, _: object) -> None:
    await session.close()


async def begin_nested(session: AsyncSession, _: object) -> None:
    await session.begin_nested()


async def end(_session: AsyncSession, savepoint: Any) -> None:
    await savepoint.commit()


async def undo(_session: AsyncSession, savepoint: Any) -> None:
    await savepoint.rollback()


async def awaitable_attrs(_session: AsyncSession, author: Author) -> None:
    await author.awaitable_attrs.books


async def refresh(session: AsyncSession, author: Author) -> None:
    await session.refresh(author)


async def merge(session: AsyncSession, author: Author) -> None:
    await session.merge(author)


async def expire_and_get(session: AsyncSession, author: Author) -> None:
    session.expire(author)
    await session.get(Author, author.id)


async def connection(session: AsyncSession, _: object) -> None:
    held = await session.connection()
    await held.execute(text("SELECT 1"))


async def dispose(session: AsyncSession, _: object) -> None:
    await engine_of(session).dispose()


async def stream(session: AsyncSession, _: object) -> None:
    result = await session.stream(select(Author), execution_options={"yield_per": 1})
    async for _row in result:
        pass


async def stream_left_early(session: AsyncSession, _: object) -> None:
    async with await session.stream(select(Author), execution_options={"yield_per": 1}) as result:
        await result.fetchone()
    await session.rollback()


async def block(session: AsyncSession, _: object) -> None:
    async with session.begin():
        session.add(Author(name="New"))
        await session.flush()
        async with session.begin_nested():
            session.add(Author(name="New too"))


async def retried_block(session: AsyncSession, _: object) -> None:
    async for attempt in session.retrying(wait=0):
        async with attempt:
            session.add(Author(name="New"))
            await session.flush()
            if attempt.number == 1:
                raise SerializationError(None, None, RuntimeError("others were in the way"))


async def retried_on_sessions_of_its_own(session: AsyncSession, _: object) -> None:
    @async_sessionmaker(engine_of(session)).retrying(wait=0)
    async def work(own: AsyncSession) -> None:
        calls.append(own)
        own.add(Author(name="New"))
        await own.flush()
        if len(calls) == 1:
            raise SerializationError(None, None, RuntimeError("others were in the way"))

    calls: list[AsyncSession] = []
    await work()


async def joined_block(session: AsyncSession, _: object) -> None:
    async with session.begin():
        session.add(Author(name="New"))
        async with session.begin(join=True):
            session.add(Author(name="New too"))


async def block_that_fails(session: AsyncSession, _: object) -> None:
    with suppress(ZeroDivisionError):
        async with session.begin():
            session.add(Author(name="New"))
            await session.flush()
            raise ZeroDivisionError


async def savepoint_that_fails(session: AsyncSession, _: object) -> None:
    async with session.begin():
        session.add(Author(name="New"))
        with suppress(ZeroDivisionError):
            async with session.begin_nested():
                session.add(Author(name="Newest"))
                await session.flush()
                raise ZeroDivisionError
        session.add(Author(name="New too"))


async def whole_session(session: AsyncSession, _: object) -> None:
    async with session.fork() as other:
        other.add_all([Author(name="New"), Author(name="New too")])
        await other.commit()


async def uncommitted_session(session: AsyncSession, _: object) -> None:
    async with session.fork() as other:
        other.add(Author(name="New"))
        await other.flush()


async def sessionmaker_block(session: AsyncSession, _: object) -> None:
    async with async_sessionmaker(session.bind).begin() as other:
        other.add_all([Author(name="New"), Author(name="New too")])


async def dependency(session: AsyncSession, _: object) -> None:
    """Do as web frameworks do with a generator that yields a session."""

    async def given() -> AsyncIterator[AsyncSession]:
        async with session.fork() as other:
            yield other
            await other.commit()

    async with aclosing(given()) as sessions:  # type: ignore[type-var]  # a generator, whatever it is declared as
        async for other in sessions:
            other.add_all([Author(name="New"), Author(name="New too")])
            await other.flush()


async def waiting_handlers(session: AsyncSession, key: int) -> Author:
    """Add an author to a session with a handler that sends a statement of its own."""

    async def ask(_session: object, _transaction: object, connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))

    events.listen(session, "after_begin", ask)
    return await one_new_author(session, key)


SCENARIOS: dict[str, tuple[Prepare, Operation]] = {
    "get": (nothing, get),
    "first connect": (cold_pool, get),
    "first connect for a write": (cold_pool, block),
    "acquire from a full pool": (full_pool, get_when_somebody_gives),
    "query": (nothing, query),
    "autoflush": (new_authors, autoflush),
    "stream": (nothing, stream),
    "stream left early": (nothing, stream_left_early),
    "awaitable_attrs": (read_author, awaitable_attrs),
    "refresh": (read_author, refresh),
    "merge": (author_from_elsewhere, merge),
    "expire and get": (read_author, expire_and_get),
    "connection": (nothing, connection),
    "flush of inserts": (new_authors, flush),
    "flush of rows that return nothing": (quiet_authors, flush),
    "commit of rows that return nothing": (quiet_authors, commit),
    "flush of an update": (changed_author, flush),
    "flush of a delete": (deleted_author, flush),
    "commit of one statement": (one_new_author, commit),
    "commit of one update": (changed_author, commit),
    "commit with a flush": (new_authors, commit),
    "commit of two tables in one statement": (changed_author_and_new_book, commit),
    "commit": (flushed_author, commit),
    "commit with handlers": (waiting_handlers, commit),
    "copy": (nothing, copy),
    "rollback": (flushed_author, rollback),
    "begin_nested": (one_new_author, begin_nested),
    "savepoint released": (flushed_in_savepoint, end),
    "savepoint rolled back": (flushed_in_savepoint, undo),
    "savepoint that fails": (nothing, savepoint_that_fails),
    "transaction block": (nothing, block),
    "joined block": (nothing, joined_block),
    "retried block": (nothing, retried_block),
    "retried function": (nothing, retried_on_sessions_of_its_own),
    "block that fails": (nothing, block_that_fails),
    "whole session": (nothing, whole_session),
    "uncommitted session": (nothing, uncommitted_session),
    "sessionmaker": (nothing, sessionmaker_block),
    "dependency": (nothing, dependency),
    "close": (flushed_author, close),
    "dispose": (nothing, dispose),
}

COMMITS = {
    "copy",
    "first connect for a write",
    "commit of one statement",
    "commit of rows that return nothing",
    "commit of one update",
    "commit with a flush",
    "commit of two tables in one statement",
    "commit",
    "commit with handlers",
    "savepoint that fails",
    "transaction block",
    "joined block",
    "retried block",
    "retried function",
    "whole session",
    "sessionmaker",
    "dependency",
}
