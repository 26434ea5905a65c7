"""Sessions that choose by themselves where to write and where to read: leader and followers, databases by class."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Delete, ForeignKey, Update, delete, insert, select, update
from typing_extensions import override

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    async_sessionmaker,
    create_async_engine,
    mapped_column,
    relationship,
)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))


class Message(Base):
    __tablename__ = "message"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


engines: dict[str, AsyncEngine] = {}


class RoutingSession(AsyncSession):
    """Writes to a leader, reads from followers; messages are elsewhere."""

    @override
    def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
        if mapper and issubclass(mapper.class_, Message):
            return engines["other"]
        if self._flushing or isinstance(clause, Update | Delete):
            return engines["leader"]
        return engines[random.choice(["follower1", "follower2"])]


Session = async_sessionmaker(class_=RoutingSession, expire_on_commit=False)


@pytest.fixture(autouse=True)
async def _databases(tmp_path: Path) -> AsyncIterator[None]:
    for name in ("leader", "other", "follower1", "follower2"):
        engines[name] = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/{name}.db")
        async with engines[name].begin() as connection:
            await connection.create_all(Base.metadata)
    yield
    for name in list(engines):
        await engines.pop(name).dispose()


async def names_in(place: str) -> list[str]:
    async with engines[place].connect() as connection:
        return list((await connection.scalars(select(Author.name).order_by(Author.name))).all())


async def replicate() -> None:
    """Copy the leader to the followers, as replication would."""
    async with engines["leader"].connect() as source:
        authors = [dict(row._mapping) for row in await source.execute(select(Author.__table__))]
        books = [dict(row._mapping) for row in await source.execute(select(Book.__table__))]
    for name in ("follower1", "follower2"):
        async with engines[name].begin() as target:
            await target.execute(delete(Book.__table__))
            await target.execute(delete(Author.__table__))
            if authors:
                await target.execute(insert(Author.__table__), authors)
            if books:
                await target.execute(insert(Book.__table__), books)


async def test_a_flush_writes_to_the_leader() -> None:
    async with Session() as session:
        session.add(Author(name="Ann"))
        await session.commit()

    assert await names_in("leader") == ["Ann"]
    assert await names_in("follower1") == await names_in("follower2") == []


async def test_queries_ask_a_follower() -> None:
    async with Session() as session:
        session.add(Author(name="Ann"))
        await session.commit()
    async with Session() as session:
        assert (await session.scalars(select(Author))).all() == []

        await replicate()

        assert [author.name for author in await session.scalars(select(Author))] == ["Ann"]


async def test_get_and_refresh_ask_a_follower() -> None:
    async with Session() as session:
        author = Author(name="Ann")
        session.add(author)
        await session.commit()
        await replicate()
    async with Session() as session:
        assert (await session.get_one(Author, author.id)).name == "Ann"
        await session.execute(update(Author).values(name="Bea"))
        await session.commit()
        found = await session.get_one(Author, author.id)
        await session.refresh(found)

        assert found.name == "Ann"


async def test_update_and_delete_statements_go_to_the_leader() -> None:
    async with Session() as session:
        session.add_all([Author(name="Ann"), Author(name="Bea")])
        await session.commit()
        await session.execute(update(Author).where(Author.name == "Ann").values(name="Zoe"))
        await session.execute(delete(Author).where(Author.name == "Bea"))
        await session.commit()

    assert await names_in("leader") == ["Zoe"]


async def test_a_class_has_its_own_database_whatever_is_done_to_it() -> None:
    async with Session() as session:
        session.add(Message(text="one"))
        await session.commit()
        await session.execute(insert(Message).values(text="two"))
        await session.execute(update(Message).where(Message.text == "two").values(text="three"))
        await session.execute(
            update(Message).where(Message.text == "one").values(text="four"),
            execution_options={"synchronize_session": "fetch"},
        )
        returned = await session.scalars(insert(Message).values(text="five").returning(Message))
        assert [message.text for message in returned] == ["five"]
        await session.commit()

        assert sorted(message.text for message in await session.scalars(select(Message))) == ["five", "four", "three"]
    async with engines["other"].connect() as connection:
        assert len((await connection.scalars(select(Message.text))).all()) == 3


async def test_children_of_what_is_deleted_are_looked_for_where_the_flush_writes() -> None:
    async with Session() as session:
        session.add(Author(name="Ann"))
        await session.commit()
        await replicate()
        session.add(Book(title="One", author_id=1))
        await session.commit()
    async with Session() as session:
        author = await session.get_one(Author, 1)
        await session.delete(author)
        await session.commit()

    async with engines["leader"].connect() as connection:
        assert (await connection.scalars(select(Book.title))).all() == []
    assert await names_in("leader") == []


async def test_get_bind_is_told_the_class_of_every_statement_about_one() -> None:
    asked: list[tuple[str | None, bool]] = []

    class Watched(RoutingSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            asked.append((None if mapper is None else mapper.class_.__name__, self._flushing))
            return engines["leader"]

    async with Watched() as session:
        author = Author(name="Ann", books=[Book(title="One")])
        session.add(author)
        await session.flush()
        assert set(asked) == {("Author", True), ("Book", True)}
        asked.clear()
        await session.refresh(author)
        session.expunge_all()
        author = await session.get_one(Author, 1)
        await session.load(author, Author.books)
        await session.execute(select(Author))
        await session.execute(update(Author).values(name="Bea"))

        assert {name for name, _ in asked} == {"Author", "Book"}
        assert not any(flushing for _, flushing in asked)


async def test_nothing_is_flushing_after_a_flush_that_failed() -> None:
    async with Session() as session:
        session.add_all([Author(id=1, name="Ann"), Author(id=2, name="Bea")])
        await session.commit()
    async with AsyncSession(engines["leader"]) as session:
        session.add(Author(id=1, name="again"))
        with pytest.raises(Exception, match="UNIQUE"):
            await session.flush()

        assert not session._flushing
