"""aiosession, with its defaults."""

from collections.abc import Sequence
from datetime import date
from typing import ClassVar

from sqlalchemy import ForeignKey, String, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    async_sessionmaker,
    create_async_engine,
    mapped_column,
    relationship,
    selectinload,
)
from benchmarks.contender import Contender
from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(80))
    age: Mapped[int]
    score: Mapped[float]
    active: Mapped[bool]
    born: Mapped[date]
    books: Mapped[list["Book"]] = relationship(back_populates="author")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str] = mapped_column(String(80))
    pages: Mapped[int]
    published: Mapped[date]
    author: Mapped[Author] = relationship(back_populates="books")


class AiosessionSession(Contender):
    name: ClassVar[str] = "aiosession"
    databases: ClassVar[frozenset[str]] = frozenset({"postgresql", "sqlite"})
    drivers: ClassVar[dict[str, str]] = {"postgresql://": "postgresql+asyncpg://", "sqlite://": "sqlite+aiosqlite://"}
    _engine: AsyncEngine
    _sessions: async_sessionmaker[AsyncSession]

    async def open(self) -> None:
        scheme = self.url[: self.url.index("//") + 2]
        self._engine = create_async_engine(self.url.replace(scheme, self.drivers[scheme]))
        self._sessions = async_sessionmaker(self._engine)

    async def close(self) -> None:
        await self._engine.dispose()

    async def get_one(self, author_id: int) -> Author:
        async with self._sessions() as session:
            return await session.get_one(Author, author_id)

    async def insert_one(self, values: AuthorValues) -> int:
        async with self._sessions() as session:
            author = Author(**values)
            session.add(author)
            await session.commit()
            return author.id

    async def load_many(self, count: int) -> Sequence[Author]:
        async with self._sessions() as session:
            return (await session.scalars(select(Author).where(Author.id <= count).order_by(Author.id))).all()

    async def load_graph(self, count: int) -> Sequence[Author]:
        async with self._sessions() as session:
            statement = select(Author).where(Author.id <= count).order_by(Author.id)
            return (await session.scalars(statement.options(selectinload(Author.books)))).all()

    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        async with self._sessions() as session:
            authors = [Author(**item) for item in values]
            session.add_all(authors)
            await session.commit()
            return len(authors)

    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        async with self._sessions() as session:
            authors = [Author(**item.author, books=[Book(**book) for book in item.books]) for item in values]
            session.add_all(authors)
            await session.commit()
            return len(authors)

    async def update_many(self, count: int) -> int:
        async with self._sessions() as session:
            authors = (await session.scalars(select(Author).where(Author.id <= count).order_by(Author.id))).all()
            for author in authors:
                author.age += 1
            await session.commit()
            return len(authors)

    async def delete_many(self, count: int) -> int:
        async with self._sessions() as session:
            books = (await session.scalars(select(Book).where(Book.id <= count).order_by(Book.id))).all()
            for book in books:
                await session.delete(book)
            await session.commit()
            return len(books)

    async def mixed(self, author_id: int, values: BookValues) -> int:
        async with self._sessions() as session:
            author = await session.get_one(Author, author_id)
            author.age += 1
            book = Book(author=author, **values)
            session.add(book)
            await session.commit()
            return book.id
