"""Tortoise ORM, with its bulk methods wherever it has one.

``bulk_create`` does not fetch the keys that the database makes, so parents whose keys are needed are created one by
one.
"""

from collections.abc import Sequence
from typing import ClassVar

from tortoise import Tortoise
from tortoise.transactions import in_transaction

from benchmarks.contender import Contender
from benchmarks.contenders.tortoise_models import Author, Book
from benchmarks.values import AuthorValues, AuthorWithBooks, BookValues


class TortoiseOrm(Contender):
    name: ClassVar[str] = "Tortoise"
    databases: ClassVar[frozenset[str]] = frozenset({"postgresql", "sqlite"})

    async def open(self) -> None:
        url = self.url.replace("postgresql://", "asyncpg://")
        if not url.startswith("sqlite"):
            url += "?minsize=1&maxsize=5"
        await Tortoise.init(
            db_url=url.replace("sqlite:////", "sqlite:///"),
            modules={"models": ["benchmarks.contenders.tortoise_models"]},
        )

    async def close(self) -> None:
        await Tortoise.close_connections()

    async def get_one(self, author_id: int) -> Author:
        return await Author.get(id=author_id)

    async def insert_one(self, values: AuthorValues) -> int:
        author = await Author.create(**values)
        return author.id

    async def load_many(self, count: int) -> Sequence[Author]:
        return await Author.filter(id__lte=count).order_by("id")

    async def load_graph(self, count: int) -> Sequence[Author]:
        return await Author.filter(id__lte=count).order_by("id").prefetch_related("books")

    async def insert_many(self, values: Sequence[AuthorValues]) -> int:
        authors = [Author(**item) for item in values]
        async with in_transaction():
            await Author.bulk_create(authors)
        return len(authors)

    async def insert_graph(self, values: Sequence[AuthorWithBooks]) -> int:
        async with in_transaction():
            books = []
            for item in values:
                author = await Author.create(**item.author)
                books.extend(Book(author=author, **book) for book in item.books)
            await Book.bulk_create(books)
        return len(values)

    async def update_many(self, count: int) -> int:
        async with in_transaction():
            authors = await Author.filter(id__lte=count).order_by("id")
            for author in authors:
                author.age += 1
            return await Author.bulk_update(authors, fields=["age"])

    async def delete_many(self, count: int) -> int:
        async with in_transaction():
            books = await Book.filter(id__lte=count).order_by("id")
            return await Book.filter(id__in=[book.id for book in books]).delete()

    async def mixed(self, author_id: int, values: BookValues) -> int:
        async with in_transaction():
            author = await Author.get(id=author_id)
            author.age += 1
            await author.save(update_fields=["age"])
            book = await Book.create(author=author, **values)
        return book.id
