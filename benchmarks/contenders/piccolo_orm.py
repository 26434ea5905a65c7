"""Piccolo, with its bulk methods wherever it has one.

It has none for updating objects with a value each, and none for the many side of a relation: those are written out.
"""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from piccolo.columns import Boolean, Date, DoublePrecision, ForeignKey, Integer, Serial, Varchar
from piccolo.engine.postgres import PostgresEngine
from piccolo.engine.sqlite import SQLiteEngine
from piccolo.table import Table

from benchmarks.contender import Contender
from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues


class Author(Table, tablename="author"):
    id: Serial = Serial(primary_key=True)
    name = Varchar(length=80)
    email = Varchar(length=80)
    age = Integer()
    score = DoublePrecision()
    active = Boolean()
    born = Date()


class Book(Table, tablename="book"):
    id: Serial = Serial(primary_key=True)
    author_id = ForeignKey(Author, db_column_name="author_id")
    title = Varchar(length=80)
    pages = Integer()
    published = Date()


class PiccoloOrm(Contender):
    name: ClassVar[str] = "Piccolo"
    databases: ClassVar[frozenset[str]] = frozenset({"postgresql", "sqlite"})
    _engine: Any

    async def open(self) -> None:
        if self.url.startswith("sqlite"):
            self._engine = SQLiteEngine(path=self.url.removeprefix("sqlite:///"))
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it cannot ask for the server's version while a loop is running
                self._engine = PostgresEngine(config={"dsn": self.url})
            await self._engine.start_connection_pool(min_size=1, max_size=5)
        Author._meta.db = Book._meta.db = self._engine

    async def close(self) -> None:
        if not self.url.startswith("sqlite"):
            await self._engine.close_connection_pool()

    async def get_one(self, author_id: int) -> Any:
        return await Author.objects().get(Author.id == author_id)

    async def insert_one(self, values: AuthorValues) -> int:
        author = Author(**values)
        await author.save()
        return author.id

    async def load_many(self, count: int) -> Sequence[Any]:
        return await Author.objects().where(Author.id <= count).order_by(Author.id)

    async def load_graph(self, count: int) -> Sequence[Any]:
        authors = await self.load_many(count)
        by_id: dict[Any, Any] = {author.id: author for author in authors}
        for author in authors:
            author.books = []
        for book in await Book.objects().where(Book.author_id.is_in(list(by_id))).order_by(Book.id):
            by_id[book.author_id].books.append(book)
        return authors

    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        authors = [Author(**item) for item in values]
        async with self._engine.transaction():
            await Author.insert(*authors)
        return len(authors)

    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        authors = [Author(**item.author) for item in values]
        async with self._engine.transaction():
            await Author.insert(*authors)
            books = [
                Book(author_id=author.id, **book)
                for author, item in zip(authors, values, strict=True)
                for book in item.books
            ]
            await Book.insert(*books)
        return len(authors)

    async def update_many(self, count: int) -> int:
        async with self._engine.transaction():
            authors = await self.load_many(count)
            for author in authors:
                author.age += 1
                await author.save(columns=[Author.age])
        return len(authors)

    async def delete_many(self, count: int) -> int:
        async with self._engine.transaction():
            books = await Book.objects().where(Book.id <= count).order_by(Book.id)
            await Book.delete().where(Book.id.is_in([book.id for book in books]))
        return len(books)

    async def mixed(self, author_id: int, values: BookValues) -> int:
        async with self._engine.transaction():
            author: Any = await self.get_one(author_id)
            author.age += 1
            await author.save(columns=[Author.age])
            book = Book(author_id=author.id, **values)
            await book.save()
        return book.id
