"""Events of attributes, and validators: handlers see changes before they are made, and may put other values there."""

from typing import Any

import pytest
from sqlalchemy import ForeignKey

from aiosession import DeclarativeBase, Mapped, NotLoadedError, events, mapped_column, relationship, validates
from aiosession.errors import ArgumentError
from aiosession.state.state import state_of


def make_classes() -> tuple[Any, Any]:
    class Base(DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        books: Mapped[list["Book"]] = relationship(back_populates="author")

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author | None] = relationship(back_populates="books")

    return Author, Book


def test_set_is_told_with_the_old_value() -> None:
    author_class, _ = make_classes()
    seen: list[tuple[object, ...]] = []
    events.listen(author_class.name, "set", lambda target, value, old, by: seen.append((value, old, by.key)))
    author = author_class()
    author.name = "Ann"
    author.name = "Bea"

    assert [each[0] for each in seen] == ["Ann", "Bea"]
    assert seen[1] == ("Bea", "Ann", "name")


def test_only_with_retval_is_what_a_handler_returns_set() -> None:
    author_class, _ = make_classes()
    events.listen(author_class.name, "set", lambda target, value, old, by: "ignored")
    events.listen(author_class.name, "set", lambda target, value, old, by: value.strip(), retval=True)

    assert author_class(name=" Ann ").name == "Ann"


def test_an_attribute_without_handlers_is_a_plain_one_again() -> None:
    author_class, _ = make_classes()
    plain = type(author_class.name)
    events.listen(author_class.name, "set", print_nothing)
    assert type(author_class.name) is not plain
    events.remove(author_class.name, "set", print_nothing)

    assert type(author_class.name) is plain


def print_nothing(target: object, value: object, old: object, by: object) -> None:
    """Do nothing."""


def test_append_and_remove_are_told_on_both_sides() -> None:
    author_class, book_class = make_classes()
    seen: list[str] = []
    events.listen(author_class.books, "append", lambda target, value, by: seen.append(f"append by {by.key}"))
    events.listen(author_class.books, "remove", lambda target, value, by: seen.append(f"remove by {by.key}"))
    events.listen(book_class.author, "set", lambda target, value, old, by: seen.append(f"set by {by.key}"))
    author, book = author_class(), book_class()
    author.books.append(book)
    book.author = None

    assert seen == ["append by books", "set by books", "set by author", "remove by author"]


def test_a_member_can_be_replaced_by_another() -> None:
    author_class, book_class = make_classes()
    other = book_class()
    events.listen(author_class.books, "append", lambda target, value, by: other, retval=True)
    author = author_class()
    author.books.append(book_class())
    author.books.extend([book_class()])

    assert author.books == [other, other]
    assert other.author is author


def test_bulk_replace_comes_before_the_appends_of_new_members() -> None:
    author_class, book_class = make_classes()
    kept, new = book_class(), book_class()
    author = author_class(books=[kept])
    seen: list[object] = []
    events.listen(author_class.books, "bulk_replace", lambda target, values, by: seen.append(list(values)))
    events.listen(author_class.books, "append", lambda target, value, by: seen.append(value))
    author.books = [kept, new]

    assert seen == [[kept, new], new]


def test_a_handler_that_raises_keeps_the_value_out() -> None:
    author_class, book_class = make_classes()

    def refuse(target: object, value: object, by: object) -> None:
        raise ValueError("no")

    events.listen(author_class.books, "append", refuse)
    author, book = author_class(), book_class()
    with pytest.raises(ValueError, match="no"):
        author.books.append(book)

    assert author.books == []
    assert book.author is None


def test_active_history_refuses_to_set_what_is_not_loaded() -> None:
    author_class, _ = make_classes()
    events.listen(author_class.name, "set", print_nothing, active_history=True)
    author = author_class(id=1)
    state_of(author).key = (author_class, (1,), None)
    with pytest.raises(NotLoadedError):
        author.name = "Ann"


def test_an_async_handler_of_an_attribute_is_refused() -> None:
    author_class, _ = make_classes()

    async def handler(target: object, value: object, old: object, by: object) -> None: ...

    with pytest.raises(ArgumentError, match=r"'set' of Author\.name cannot be async: attributes are set in plain code"):
        events.listen(author_class.name, "set", handler)


def test_a_collection_has_no_set_event() -> None:
    author_class, _ = make_classes()
    with pytest.raises(ArgumentError, match=r"Author\.books has no event 'set'.*append, remove, bulk_replace"):
        events.listen(author_class.books, "set", print_nothing)


def test_validators_refuse_and_replace_values() -> None:
    class Base(DeclarativeBase):
        pass

    class Named:
        @validates("name")
        def check_name(self, key: str, value: str) -> str:
            if not value:
                raise ValueError(f"{key} is empty")
            return value.title()

    class Author(Named, Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    assert Author(name="ann").name == "Ann"
    with pytest.raises(ValueError, match="name is empty"):
        Author(name="")


@pytest.mark.parametrize("include_backrefs", [True, False])
def test_validators_of_collections_see_members_come_and_go(include_backrefs: bool) -> None:
    class Base(DeclarativeBase):
        pass

    seen: list[tuple[str, bool]] = []

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        books: Mapped[list["Book"]] = relationship(back_populates="author")

        @validates("books", include_removes=True, include_backrefs=include_backrefs)
        def check_book(self, key: str, value: Any, is_remove: bool) -> Any:
            seen.append((key, is_remove))
            return value

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author | None] = relationship(back_populates="books")

    author, book = Author(), Book()
    author.books.append(book)
    author.books.remove(book)
    Book(author=author)

    assert seen == [("books", False), ("books", True), *([("books", False)] if include_backrefs else [])]
