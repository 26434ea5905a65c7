"""Which rows are there when an operation begins? The same for every contender, made by the bare driver."""

import sqlite3
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.values import author_values, book_values

BOOKS_EACH = 10

POSTGRES = """
    CREATE TABLE author (
        id serial PRIMARY KEY, name varchar(80) NOT NULL, email varchar(80) NOT NULL, age integer NOT NULL,
        score double precision NOT NULL, active boolean NOT NULL, born date NOT NULL
    );
    CREATE TABLE book (
        id serial PRIMARY KEY, author_id integer NOT NULL REFERENCES author, title varchar(80) NOT NULL,
        pages integer NOT NULL, published date NOT NULL
    );
    CREATE INDEX ON book (author_id);
"""
SQLITE = """
    DROP TABLE IF EXISTS book;
    DROP TABLE IF EXISTS author;
    CREATE TABLE author (
        id integer PRIMARY KEY, name varchar(80) NOT NULL, email varchar(80) NOT NULL, age integer NOT NULL,
        score double precision NOT NULL, active boolean NOT NULL, born date NOT NULL
    );
    CREATE TABLE book (
        id integer PRIMARY KEY, author_id integer NOT NULL REFERENCES author, title varchar(80) NOT NULL,
        pages integer NOT NULL, published date NOT NULL
    );
    CREATE INDEX book_author_id ON book (author_id);
"""


class Tables(ABC):
    """Makes the tables, and brings them back to their first state after an operation has written.

    There are *count* authors, and as many books, ten for each of the first authors.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._authors = [(number, *author_values(number).values()) for number in range(1, count + 1)]
        self._books = [
            (number, (number - 1) // BOOKS_EACH + 1, *book_values(number).values()) for number in range(1, count + 1)
        ]

    @abstractmethod
    async def create(self) -> None:
        """Make the tables anew."""

    @abstractmethod
    async def reset(self) -> None:
        """Bring all rows back."""

    @abstractmethod
    async def totals(self) -> tuple[int, int, int]:
        """Return the number of authors, of books, and the sum of all ages."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""


TOTALS = "SELECT (SELECT count(*) FROM author), (SELECT count(*) FROM book), (SELECT sum(age) FROM author)"


class PostgresTables(Tables):
    def __init__(self, url: str, count: int) -> None:
        super().__init__(count)
        self._url = url
        self._connection: Any = None

    async def create(self) -> None:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(POSTGRES)
        await self.reset()
        await self._connection.execute("ANALYZE")

    async def reset(self) -> None:
        await self._connection.execute("TRUNCATE author, book RESTART IDENTITY")
        await self._connection.copy_records_to_table("author", records=self._authors)
        await self._connection.copy_records_to_table("book", records=self._books)
        await self._connection.execute(
            f"SELECT setval('author_id_seq', {self.count}), setval('book_id_seq', {self.count})"
        )

    async def totals(self) -> tuple[int, int, int]:
        return tuple(await self._connection.fetchrow(TOTALS))

    async def close(self) -> None:
        await self._connection.close()


class SqliteTables(Tables):
    def __init__(self, url: str, count: int) -> None:
        super().__init__(count)
        self._path = Path(url.removeprefix("sqlite:///"))
        self._connection = sqlite3.connect(self._path, isolation_level=None)

    async def create(self) -> None:
        self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.executescript(SQLITE)
        await self.reset()

    async def reset(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("DELETE FROM book")
        self._connection.execute("DELETE FROM author")
        authors = [(*row[:6], row[6].isoformat()) for row in self._authors]
        books = [(*row[:4], row[4].isoformat()) for row in self._books]
        self._connection.executemany("INSERT INTO author VALUES (?, ?, ?, ?, ?, ?, ?)", authors)
        self._connection.executemany("INSERT INTO book VALUES (?, ?, ?, ?, ?)", books)
        self._connection.execute("COMMIT")

    async def totals(self) -> tuple[int, int, int]:
        authors, books, ages = self._connection.execute(TOTALS).fetchone()
        return authors, books, ages

    async def close(self) -> None:
        self._connection.close()
