"""The bare driver on PostgreSQL: asyncpg as an expert writes it by hand, with array parameters and plain classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar

import asyncpg

from benchmarks.contender import Contender
from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues

SELECT_AUTHOR = "SELECT id, name, email, age, score, active, born FROM author"
INSERT_AUTHORS = """
    INSERT INTO author (name, email, age, score, active, born)
    SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::float8[], $5::bool[], $6::date[])
    RETURNING id
"""
INSERT_BOOKS = """
    INSERT INTO book (author_id, title, pages, published)
    SELECT * FROM unnest($1::int[], $2::text[], $3::int[], $4::date[])
    RETURNING id
"""


@dataclass(slots=True)
class Book:
    id: int
    author_id: int
    title: str
    pages: int
    published: date


@dataclass(slots=True)
class Author:
    id: int
    name: str
    email: str
    age: int
    score: float
    active: bool
    born: date
    books: list[Book] = field(default_factory=list)


async def keep_as_it_is(_connection: object) -> None:
    """Replace the pool's reset, which costs a round trip; nothing here leaves anything behind."""


class RawAsyncpg(Contender):
    name: ClassVar[str] = "raw driver"
    databases: ClassVar[frozenset[str]] = frozenset({"postgresql"})
    _pool: Any

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(self.url, min_size=1, max_size=5, reset=keep_as_it_is)

    async def close(self) -> None:
        await self._pool.close()

    async def get_one(self, author_id: int) -> Author:
        async with self._pool.acquire() as connection:
            return Author(*await connection.fetchrow(f"{SELECT_AUTHOR} WHERE id = $1", author_id))

    async def insert_one(self, values: AuthorValues) -> int:
        async with self._pool.acquire() as connection:
            key: int = await connection.fetchval(
                "INSERT INTO author (name, email, age, score, active, born) "
                "VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
                *values.values(),
            )
            return key

    async def load_many(self, count: int) -> Sequence[Author]:
        async with self._pool.acquire() as connection:
            return await self._authors(connection, count)

    async def _authors(self, connection: Any, count: int) -> list[Author]:
        rows = await connection.fetch(f"{SELECT_AUTHOR} WHERE id <= $1 ORDER BY id", count)
        return [Author(*row) for row in rows]

    async def load_graph(self, count: int) -> Sequence[Author]:
        async with self._pool.acquire() as connection:
            authors = await self._authors(connection, count)
            by_id = {author.id: author for author in authors}
            rows = await connection.fetch(
                "SELECT id, author_id, title, pages, published FROM book WHERE author_id = ANY($1) ORDER BY id",
                list(by_id),
            )
            for row in rows:
                book = Book(*row)
                by_id[book.author_id].books.append(book)
            return authors

    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(INSERT_AUTHORS, *author_columns(values))
        authors = [Author(row[0], **item) for row, item in zip(rows, values, strict=True)]
        return len(authors)

    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(INSERT_AUTHORS, *author_columns([item.author for item in values]))
            authors = [Author(row[0], **item.author) for row, item in zip(rows, values, strict=True)]
            pairs = [(author.id, book) for author, item in zip(authors, values, strict=True) for book in item.books]
            rows = await connection.fetch(
                INSERT_BOOKS,
                [author_id for author_id, _book in pairs],
                [book["title"] for _author_id, book in pairs],
                [book["pages"] for _author_id, book in pairs],
                [book["published"] for _author_id, book in pairs],
            )
            by_id = {author.id: author for author in authors}
            for row, (author_id, book) in zip(rows, pairs, strict=True):
                by_id[author_id].books.append(Book(row[0], author_id, **book))
        return len(authors)

    async def update_many(self, count: int) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            authors = await self._authors(connection, count)
            for author in authors:
                author.age += 1
            status = await connection.execute(
                "UPDATE author SET age = new.age FROM unnest($1::int[], $2::int[]) AS new(id, age) "
                "WHERE author.id = new.id",
                [author.id for author in authors],
                [author.age for author in authors],
            )
            return checked(status, len(authors))

    async def delete_many(self, count: int) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT id, author_id, title, pages, published FROM book WHERE id <= $1 ORDER BY id", count
            )
            books = [Book(*row) for row in rows]
            status = await connection.execute("DELETE FROM book WHERE id = ANY($1)", [book.id for book in books])
            return checked(status, len(books))

    async def mixed(self, author_id: int, values: BookValues) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            author = Author(*await connection.fetchrow(f"{SELECT_AUTHOR} WHERE id = $1", author_id))
            author.age += 1
            checked(await connection.execute("UPDATE author SET age = $2 WHERE id = $1", author.id, author.age), 1)
            key: int = await connection.fetchval(
                "INSERT INTO book (author_id, title, pages, published) VALUES ($1, $2, $3, $4) RETURNING id",
                author.id,
                *values.values(),
            )
            author.books.append(Book(key, author.id, **values))
            return key


def checked(status: str, expected: int) -> int:
    """Read the row count from a command's status and insist on it."""
    count = int(status.split()[-1])
    if count != expected:
        raise RuntimeError(f"{count} rows instead of {expected}")
    return count


def author_columns(values: Sequence[AuthorValues]) -> list[list[Any]]:
    """Turn rows into columns."""
    return [list(column) for column in zip(*(item.values() for item in values), strict=True)]
