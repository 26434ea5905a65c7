"""A random life of one session, compared with plain dictionaries and with the database seen from outside.

The oracle keeps what every row should be, with one snapshot per transaction level. After each commit the tables are
read over an independent connection; after each rollback the objects in memory must already be what the oracle says.
"""

import asyncio
import sqlite3
from collections.abc import Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import ForeignKey, select
from typing_extensions import override

from aiosession import AsyncSession, DeclarativeBase, Mapped, create_async_engine, inspect, mapped_column, relationship

T = TypeVar("T")


class Base(DeclarativeBase):
    pass


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None]
    books: Mapped[list["Book"]] = relationship(back_populates="shelf", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str | None]
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    shelf: Mapped[Shelf] = relationship(back_populates="books")


@dataclass
class Rows:
    shelves: dict[int, str | None] = field(default_factory=dict)
    books: dict[int, tuple[str | None, int]] = field(default_factory=dict)


texts = st.one_of(st.none(), st.sampled_from(["a", "b", "Ω", ""]))
choices = st.integers(min_value=0, max_value=1_000_000)


class SessionLife(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = TemporaryDirectory()
        self.file = Path(self.folder.name) / "life.db"
        self.loop = asyncio.new_event_loop()
        self.engine = create_async_engine(f"sqlite+aiosqlite:///{self.file}")
        self.run(self.create_tables())
        self.session = AsyncSession(self.engine)
        self.ids = iter(range(1, 1_000_000))
        self.now = Rows()
        self.committed = Rows()
        self.savepoints: list[tuple[Any, Rows]] = []
        self.shelves: dict[int, Shelf] = {}
        self.books: dict[int, Book] = {}

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(coroutine)

    async def create_tables(self) -> None:
        async with self.engine.begin() as connection:
            await connection.create_all(Base.metadata)

    def a_shelf(self, choice: int) -> Shelf:
        names = sorted(self.now.shelves)
        return self.shelves[names[choice % len(names)]]

    def a_book(self, choice: int) -> Book:
        names = sorted(self.now.books)
        return self.books[names[choice % len(names)]]

    def load_books(self, shelf: Shelf) -> None:
        if inspect(shelf).persistent:
            self.run(self.session.load(shelf, Shelf.books))

    # ---- changes in memory

    @rule(label=texts)
    def add_shelf(self, label: str | None) -> None:
        name = next(self.ids)
        self.shelves[name] = Shelf(id=name, label=label)
        self.session.add(self.shelves[name])
        self.now.shelves[name] = label

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices, title=texts)
    def add_book_by_its_shelf(self, choice: int, title: str | None) -> None:
        shelf, name = self.a_shelf(choice), next(self.ids)
        self.books[name] = Book(id=name, title=title, shelf=shelf)
        self.session.add(self.books[name])
        self.now.books[name] = (title, shelf.id)

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices, title=texts)
    def append_book(self, choice: int, title: str | None) -> None:
        shelf, name = self.a_shelf(choice), next(self.ids)
        self.load_books(shelf)
        self.books[name] = Book(id=name, title=title)
        shelf.books.append(self.books[name])
        self.now.books[name] = (title, shelf.id)

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices, label=texts)
    def relabel(self, choice: int, label: str | None) -> None:
        shelf = self.a_shelf(choice)
        shelf.label = label
        self.now.shelves[shelf.id] = label

    @precondition(lambda self: self.now.books)
    @rule(choice=choices, other=choices)
    def move_book(self, choice: int, other: int) -> None:
        book, shelf = self.a_book(choice), self.a_shelf(other)
        book.shelf = shelf
        self.now.books[book.id] = (book.title, shelf.id)

    @precondition(lambda self: self.now.books)
    @rule(choice=choices)
    def take_book_off_its_shelf(self, choice: int) -> None:
        book = self.a_book(choice)
        shelf = self.shelves[self.now.books[book.id][1]]
        self.load_books(shelf)
        shelf.books.remove(book)
        del self.now.books[book.id]

    @precondition(lambda self: self.now.books)
    @rule(choice=choices)
    def delete_book(self, choice: int) -> None:
        self.run(self.session.flush())
        book = self.a_book(choice)
        del self.now.books[book.id]
        self.run(self.delete(book))

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices)
    def delete_shelf(self, choice: int) -> None:
        self.run(self.session.flush())
        shelf = self.a_shelf(choice)
        del self.now.shelves[shelf.id]
        self.now.books = {name: row for name, row in self.now.books.items() if row[1] != shelf.id}
        self.run(self.delete(shelf))

    async def delete(self, entity: Shelf | Book) -> None:
        await self.session.delete(entity)
        await self.session.flush()

    # ---- the session's own operations

    @rule()
    def flush(self) -> None:
        self.run(self.session.flush())

    @rule()
    def expire_all(self) -> None:
        self.run(self.session.flush())
        self.session.expire_all()

    @rule()
    def commit(self) -> None:
        self.run(self.session.commit())
        self.savepoints.clear()
        self.committed = deepcopy(self.now)
        assert self.seen_from_outside() == self.now

    @rule()
    def rollback(self) -> None:
        self.run(self.session.rollback())
        self.savepoints.clear()
        self.now = deepcopy(self.committed)
        self.memory_is_as_the_oracle_says()

    @rule()
    def begin_nested(self) -> None:
        savepoint = self.run(self.enter_savepoint())
        self.savepoints.append((savepoint, deepcopy(self.now)))

    async def enter_savepoint(self) -> object:
        return await self.session.begin_nested()

    @precondition(lambda self: self.savepoints)
    @rule()
    def release_savepoint(self) -> None:
        savepoint, _ = self.savepoints.pop()
        self.run(savepoint.commit())

    @precondition(lambda self: self.savepoints)
    @rule()
    def rollback_to_savepoint(self) -> None:
        savepoint, before = self.savepoints.pop()
        self.run(savepoint.rollback())
        self.now = before
        self.memory_is_as_the_oracle_says()

    # ---- what must be true

    @rule()
    def query_sees_every_change(self) -> None:
        shelves = self.run(self.session.scalars(select(Shelf).order_by(Shelf.id))).all()
        books = self.run(self.session.scalars(select(Book).order_by(Book.id))).all()
        assert Rows({s.id: s.label for s in shelves}, {b.id: (b.title, b.shelf_id) for b in books}) == self.now
        assert all(self.shelves[shelf.id] is shelf for shelf in shelves)
        assert all(self.books[book.id] is book for book in books)

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices)
    def collection_is_the_rows_of_its_foreign_key(self, choice: int) -> None:
        shelf = self.a_shelf(choice)
        self.run(self.session.flush())
        self.run(self.session.refresh(shelf, ["books"]))
        expected = {name for name, row in self.now.books.items() if row[1] == shelf.id}
        assert {book.id for book in shelf.books} == expected

    @precondition(lambda self: self.now.shelves)
    @rule(choice=choices)
    def get_returns_the_object_in_the_map(self, choice: int) -> None:
        self.run(self.session.flush())
        shelf = self.a_shelf(choice)
        assert self.run(self.session.get(Shelf, shelf.id)) is shelf
        assert shelf.label == self.now.shelves[shelf.id]

    @invariant()
    def objects_belong_where_the_oracle_says(self) -> None:
        for name, shelf in getattr(self, "shelves", {}).items():
            if name in self.now.shelves:
                assert shelf in self.session
                assert inspect(shelf).pending or inspect(shelf).persistent

    def memory_is_as_the_oracle_says(self) -> None:
        for name, label in self.now.shelves.items():
            assert self.shelves[name].label == label
            assert inspect(self.shelves[name]).persistent
        for name, (title, shelf_id) in self.now.books.items():
            assert (self.books[name].title, self.books[name].shelf_id) == (title, shelf_id)
        for name, shelf in self.shelves.items():
            assert name in self.now.shelves or shelf not in self.session

    def seen_from_outside(self) -> Rows:
        connection = sqlite3.connect(self.file)
        try:
            shelves = dict(connection.execute("SELECT id, label FROM shelf"))
            books = {row[0]: (row[1], row[2]) for row in connection.execute("SELECT id, title, shelf_id FROM book")}
        finally:
            connection.close()
        return Rows(shelves, books)

    @override
    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.run(self.session.close())
            self.run(self.engine.dispose())
            self.loop.close()
            self.folder.cleanup()


SessionLife.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
test_session_life = SessionLife.TestCase
