"""What a user's editor infers of declarative classes and statements; checked by mypy and pyright, importable."""

from datetime import datetime
from typing import assert_type

from sqlalchemy import ColumnElement, ForeignKey, Select, String, func, select

from aiosession import DeclarativeBase, Mapped, MappedAsDataclass, aliased, mapped_column, relationship
from aiosession.mapping.expressions import InstrumentedAttribute


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "typed_author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), index=True)
    email: Mapped[str | None]
    born: Mapped[datetime | None] = mapped_column(default=None)

    posts: Mapped[list["Post"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Post(Base):
    __tablename__ = "typed_post"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("typed_author.id"))

    author: Mapped[Author] = relationship(back_populates="posts")


def objects_have_values() -> None:
    author = Author(name="Ann", posts=[Post()])
    assert_type(author.id, int)
    assert_type(author.email, str | None)
    assert_type(author.posts, list[Post])
    assert_type(author.posts[0].author, Author)
    author.name = "Bea"
    author.born = None
    author.name = func.upper("bea")  # a SQL expression is a value, too


def classes_have_expressions() -> None:
    assert_type(Author.name, InstrumentedAttribute[str])
    assert_type(Author.name == "Ann", ColumnElement[bool])
    assert_type(Author.posts.any(Post.id == 3), ColumnElement[bool])
    assert_type(Post.author.has(name="Ann"), ColumnElement[bool])
    assert_type(Post.author == Author(), ColumnElement[bool])


def statements_know_their_rows() -> None:
    assert_type(select(Author), Select[Author])
    assert_type(select(Author.name), Select[str])
    assert_type(select(Author, Post), Select[Author, Post])
    assert_type(select(Author, Author.email), Select[Author, str | None])
    assert_type(select(Author.name.label("who")), Select[str])
    assert_type(select(Author).join(Author.posts).where(Author.name.in_(["Ann"])), Select[Author])
    assert_type(select(Author).join(Post, Author.posts), Select[Author])
    assert_type(select(Author).join(Author.posts.and_(Post.id > 3)), Select[Author])


def aliases_are_like_classes() -> None:
    other = aliased(Author, name="other")
    assert_type(other, type[Author])
    assert_type(select(other.name), Select[str])
    assert_type(select(Author).join(Post.author.of_type(other)), Select[Author])


class DataBase(MappedAsDataclass, DeclarativeBase):
    pass


class Point(DataBase):
    __tablename__ = "typed_point"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    x: Mapped[int]
    y: Mapped[int] = mapped_column(default=0)
    label: Mapped[str | None] = mapped_column(default=None, kw_only=True)


def dataclasses_have_typed_constructors() -> None:
    point = Point(1, 2, label="home")
    assert_type(point.x, int)
    assert_type(point.label, str | None)
    assert_type(Point.x + 1, ColumnElement[int])
    Point(x=1)
    Point("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # x is an int
    Point(1, z=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # there is no z
