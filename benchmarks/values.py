"""What do the operations write? Plain values, the same for every contender."""

from dataclasses import dataclass
from datetime import date
from typing import TypedDict

FIRST_DAY = date(1950, 1, 1).toordinal()


class AuthorValues(TypedDict):
    name: str
    email: str
    age: int
    score: float
    active: bool
    born: date


class BookValues(TypedDict):
    title: str
    pages: int
    published: date


@dataclass(frozen=True)
class AuthorWithBooks:
    author: AuthorValues
    books: list[BookValues]


def author_values(number: int) -> AuthorValues:
    """Make the values of one author."""
    return {
        "name": f"Author {number}",
        "email": f"author{number}@example.com",
        "age": 20 + number % 60,
        "score": number / 7,
        "active": number % 3 != 0,
        "born": date.fromordinal(FIRST_DAY + number),
    }


def book_values(number: int) -> BookValues:
    """Make the values of one book."""
    return {
        "title": f"Book {number}",
        "pages": 100 + number % 900,
        "published": date.fromordinal(FIRST_DAY + 7000 + number),
    }


def graph_values(authors: int, books_each: int) -> list[AuthorWithBooks]:
    """Make the values of *authors* authors with *books_each* books."""
    return [
        AuthorWithBooks(
            author_values(number), [book_values(number * books_each + index) for index in range(books_each)]
        )
        for number in range(authors)
    ]
