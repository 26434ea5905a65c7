"""The bare driver on SQLite: aiosqlite as an expert writes it by hand."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from typing import Any, ClassVar

import aiosqlite

from benchmarks.contender import Contender
from benchmarks.contenders.raw_asyncpg import SELECT_AUTHOR, Author, Book
from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues

INSERT_AUTHOR = "INSERT INTO author (name, email, age, score, active, born) VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
INSERT_BOOK = "INSERT INTO book (author_id, title, pages, published) VALUES (?, ?, ?, ?) RETURNING id"
SELECT_BOOK = "SELECT id, author_id, title, pages, published FROM book"


def make_author(row: sqlite3.Row) -> Author:
    """Make an author, with a real bool and date."""
    key, name, email, age, score, active, born = row
    return Author(key, name, email, age, score, bool(active), date.fromisoformat(born))


def make_book(row: sqlite3.Row) -> Book:
    """Make a book, with a real date."""
    key, author_id, title, pages, published = row
    return Book(key, author_id, title, pages, date.fromisoformat(published))


def author_row(values: AuthorValues) -> list[Any]:
    """Return what to bind for an author."""
    return [*list(values.values())[:5], values["born"].isoformat()]


def book_row(author_id: int, values: BookValues) -> list[Any]:
    """Return what to bind for a book."""
    return [author_id, values["title"], values["pages"], values["published"].isoformat()]


class RawSqlite(Contender):
    name: ClassVar[str] = "raw driver"
    databases: ClassVar[frozenset[str]] = frozenset({"sqlite"})
    _connection: aiosqlite.Connection

    async def open(self) -> None:
        self._connection = await aiosqlite.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
        await self._connection.execute("PRAGMA foreign_keys = on")

    async def close(self) -> None:
        await self._connection.close()

    async def _fetch(self, sql: str, *parameters: object) -> list[sqlite3.Row]:
        return list(await self._connection.execute_fetchall(sql, parameters))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            await self._connection.rollback()
            raise
        await self._connection.commit()

    async def get_one(self, author_id: int) -> Author:
        return make_author((await self._fetch(f"{SELECT_AUTHOR} WHERE id = ?", author_id))[0])

    async def insert_one(self, values: AuthorValues) -> int:
        key: int = (await self._fetch(INSERT_AUTHOR, *author_row(values)))[0][0]
        return key

    async def load_many(self, count: int) -> Sequence[Author]:
        return [make_author(row) for row in await self._fetch(f"{SELECT_AUTHOR} WHERE id <= ? ORDER BY id", count)]

    async def load_graph(self, count: int) -> Sequence[Author]:
        authors = await self.load_many(count)
        by_id = {author.id: author for author in authors}
        marks = ", ".join("?" * len(by_id))
        for row in await self._fetch(f"{SELECT_BOOK} WHERE author_id IN ({marks}) ORDER BY id", *by_id):
            book = make_book(row)
            by_id[book.author_id].books.append(book)
        return authors

    async def _insert_each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[int]:
        """Insert row by row in one hop to the connection's thread."""

        def insert() -> list[int]:
            execute = self._connection._conn.execute
            return [execute(sql, row).fetchall()[0][0] for row in rows]

        return await self._connection._execute(insert)

    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        async with self._transaction():
            keys = await self._insert_each(INSERT_AUTHOR, [author_row(item) for item in values])
        authors = [Author(key, **item) for key, item in zip(keys, values, strict=True)]
        return len(authors)

    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        async with self._transaction():
            keys = await self._insert_each(INSERT_AUTHOR, [author_row(item.author) for item in values])
            authors = [Author(key, **item.author) for key, item in zip(keys, values, strict=True)]
            pairs = [(author, book) for author, item in zip(authors, values, strict=True) for book in item.books]
            keys = await self._insert_each(INSERT_BOOK, [book_row(author.id, book) for author, book in pairs])
            for key, (author, book) in zip(keys, pairs, strict=True):
                author.books.append(Book(key, author.id, **book))
        return len(authors)

    async def update_many(self, count: int) -> int:
        async with self._transaction():
            authors = await self.load_many(count)
            for author in authors:
                author.age += 1
            rows = [(author.age, author.id) for author in authors]
            cursor = await self._connection.executemany("UPDATE author SET age = ? WHERE id = ?", rows)
            return cursor.rowcount

    async def delete_many(self, count: int) -> int:
        async with self._transaction():
            books = [make_book(row) for row in await self._fetch(f"{SELECT_BOOK} WHERE id <= ? ORDER BY id", count)]
            cursor = await self._connection.executemany("DELETE FROM book WHERE id = ?", [(book.id,) for book in books])
            return cursor.rowcount

    async def mixed(self, author_id: int, values: BookValues) -> int:
        async with self._transaction():
            author = await self.get_one(author_id)
            author.age += 1
            await self._connection.execute("UPDATE author SET age = ? WHERE id = ?", (author.age, author.id))
            key: int = (await self._fetch(INSERT_BOOK, *book_row(author.id, values)))[0][0]
            author.books.append(Book(key, author.id, **values))
            return key
