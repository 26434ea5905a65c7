"""What must a contender be able to do? The operations, each leaving the same rows and objects behind."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues


class Contender(ABC):
    """One library, used as its own documentation advises.

    A read returns objects with attributes. A write is committed when the method returns.
    """

    name: ClassVar[str]
    databases: ClassVar[frozenset[str]]

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def open(self) -> None:
        """Make ready to work, connection pool included."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    @abstractmethod
    async def get_one(self, author_id: int) -> Any:
        """Load one author by key, as a request of its own."""

    @abstractmethod
    async def insert_one(self, values: AuthorValues) -> int:
        """Insert one author and return its key."""

    @abstractmethod
    async def load_many(self, count: int) -> Sequence[Any]:
        """Load the first *count* authors."""

    @abstractmethod
    async def load_graph(self, count: int) -> Sequence[Any]:
        """Load the first *count* authors, each with its list ``books``."""

    @abstractmethod
    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        """Insert authors in one transaction and return how many."""

    @abstractmethod
    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        """Insert authors with their books in one transaction; the database makes all keys."""

    @abstractmethod
    async def update_many(self, count: int) -> int:
        """Load the first *count* authors, make each one year older, write them in one transaction."""

    @abstractmethod
    async def delete_many(self, count: int) -> int:
        """Load the first *count* books and delete them in one transaction."""

    @abstractmethod
    async def mixed(self, author_id: int, values: BookValues) -> int:
        """In one transaction: load an author, make it one year older, give it a book; return the book's key."""
