"""A module whose annotations are all strings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import ForeignKey

from aiosession import DeclarativeBase, Mapped, mapped_column, relationship

if TYPE_CHECKING:
    from tests.unit.declarative.elsewhere import Comment


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"

    kind: ClassVar[str] = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    posts: Mapped[list[Post]] = relationship(back_populates="user")


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    user: Mapped[User | None] = relationship(back_populates="posts")
    comments: Mapped[set[Comment]] = relationship(back_populates="post")
    last_comment: Mapped[Comment | None] = relationship(viewonly=True)
