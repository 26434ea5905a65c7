"""The classes that the tests of mappings look at: a weblog with every kind of relation; no database is asked."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, String, Table, func

from aiosession.declarative.base import DeclarativeBase
from aiosession.declarative.columns import mapped_column
from aiosession.declarative.mapped import Mapped
from aiosession.declarative.relations import backref, relationship


class Base(DeclarativeBase):
    pass


post_tag = Table(
    "post_tag",
    Base.metadata,
    Column("post_id", ForeignKey("post.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str | None] = mapped_column(String(120), unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    posts: Mapped[list["Post"]] = relationship(
        back_populates="author", cascade="all, delete-orphan", order_by="Post.id"
    )
    profile: Mapped["Profile | None"] = relationship(back_populates="author", cascade="all, delete-orphan")


class Profile(Base):
    """One-to-one."""

    __tablename__ = "profile"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), unique=True)
    text: Mapped[str] = mapped_column(default="")

    author: Mapped[Author] = relationship(back_populates="profile")


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    title: Mapped[str]
    body: Mapped[str] = mapped_column(default="", deferred=True)

    author: Mapped[Author | None] = relationship(back_populates="posts")
    comments: Mapped[list["Comment"]] = relationship(back_populates="post", order_by="Comment.id")
    tags: Mapped[set["Tag"]] = relationship(secondary=post_tag, backref=backref("posts", order_by="Post.id"))


class Comment(Base):
    """Without delete cascade: deleting a post leaves its comments behind."""

    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int | None] = mapped_column(ForeignKey("post.id"))
    text: Mapped[str]

    post: Mapped[Post | None] = relationship(back_populates="comments")


class Tag(Base):
    """Many-to-many; ``posts`` comes from the backref."""

    __tablename__ = "tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)

    if TYPE_CHECKING:
        posts: Mapped[list[Post]]


class Node(Base):
    """A tree in one table."""

    __tablename__ = "node"

    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    name: Mapped[str]

    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list["Node"]] = relationship(back_populates="parent", cascade="all", order_by="Node.id")


class Shelf(Base):
    """Composite primary key."""

    __tablename__ = "shelf"

    room: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str | None]

    boxes: Mapped[list["Box"]] = relationship(back_populates="shelf", cascade="all, delete-orphan", order_by="Box.id")


class Box(Base):
    """Composite foreign key."""

    __tablename__ = "box"
    __table_args__ = (ForeignKeyConstraint(["room", "number"], ["shelf.room", "shelf.number"]),)

    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str | None] = mapped_column(String(20))
    number: Mapped[int | None]
    content: Mapped[str]

    shelf: Mapped[Shelf | None] = relationship(back_populates="boxes")


class Membership(Base):
    """Association object: an author in a group, with a role."""

    __tablename__ = "membership"

    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("author_group.id"), primary_key=True)
    role: Mapped[str] = mapped_column(default="reader")

    author: Mapped[Author] = relationship()
    group: Mapped["Group"] = relationship(back_populates="memberships")


class Group(Base):
    __tablename__ = "author_group"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    memberships: Mapped[list[Membership]] = relationship(back_populates="group", cascade="all, delete-orphan")
