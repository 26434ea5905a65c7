"""What is measured? Each operation: how to run it, how often in a sample, and what must be true afterwards."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contender import Contender
from benchmarks.tables import BOOKS_EACH
from benchmarks.values import author_values, book_values, graph_values

Totals = tuple[int, int, int]


@dataclass(frozen=True)
class Operation:
    """One row of the table."""

    key: str
    title: str
    run: Callable[[Contender, int], Awaitable[Any]]
    """Called with the contender and a number that differs from call to call."""
    repeat: int
    """How many calls are one sample; the sample's time is divided by it."""
    change: Totals
    """By how much one call changes the numbers of authors and books and the sum of ages (0: not looked at)."""
    answer: Callable[[Any], bool]
    """Whether one call's answer is right."""

    @property
    def writes(self) -> bool:
        """Whether the tables are to be brought back afterwards."""
        return self.change != (0, 0, 0)


def count_books(authors: Sequence[Any]) -> int:
    """Count the books of all authors, touching each."""
    return sum(len(author.books) for author in authors)


def operations(count: int) -> list[Operation]:
    """Return all operations; *count* is the number of objects that the big ones work on."""
    parents = count // BOOKS_EACH
    authors = [author_values(number) for number in range(count)]
    graph = graph_values(parents, BOOKS_EACH)
    return [
        Operation(
            "get",
            "get one",
            lambda contender, number: contender.get_one(number % count + 1),
            repeat=50,
            change=(0, 0, 0),
            answer=lambda author: author.name.startswith("Author "),
        ),
        Operation(
            "insert",
            "insert one, commit",
            lambda contender, number: contender.insert_one(author_values(number)),
            repeat=50,
            change=(1, 0, 0),
            answer=lambda key: key > count,
        ),
        Operation(
            "load",
            f"load {count:,}",
            lambda contender, _number: contender.load_many(count),
            repeat=10,
            change=(0, 0, 0),
            answer=lambda found: len(found) == count and found[-1].born.year > 0,
        ),
        Operation(
            "load-graph",
            f"load {parents} x {BOOKS_EACH}",
            lambda contender, _number: contender.load_graph(parents),
            repeat=10,
            change=(0, 0, 0),
            answer=lambda found: len(found) == parents and count_books(found) == count,
        ),
        Operation(
            "insert-many",
            f"insert {count:,}, commit",
            lambda contender, _number: contender.insert_many(authors),
            repeat=1,
            change=(count, 0, 0),
            answer=lambda written: written == count,
        ),
        Operation(
            "insert-graph",
            f"insert {parents} x {BOOKS_EACH}, commit",
            lambda contender, _number: contender.insert_graph(graph),
            repeat=1,
            change=(parents, count, 0),
            answer=lambda written: written == parents,
        ),
        Operation(
            "update",
            f"load and update {count:,}",
            lambda contender, _number: contender.update_many(count),
            repeat=1,
            change=(0, 0, count),
            answer=lambda written: written == count,
        ),
        Operation(
            "delete",
            f"load and delete {count:,}",
            lambda contender, _number: contender.delete_many(count),
            repeat=1,
            change=(0, -count, 0),
            answer=lambda written: written == count,
        ),
        Operation(
            "mixed",
            "read, update one, insert one, commit",
            lambda contender, number: contender.mixed(number % count + 1, book_values(number)),
            repeat=25,
            change=(0, 1, 1),
            answer=lambda key: key > count,
        ),
    ]
