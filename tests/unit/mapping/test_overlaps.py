"""Relations that write the same column without knowing of each other are pointed out."""

import warnings
from typing import Any

import pytest
from sqlalchemy import ForeignKey

from aiosession import DeclarativeBase, Mapped, mapped_column, relationship
from aiosession.mapping.overlaps import OverlappingRelationshipsWarning


def make(**second: Any) -> Any:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship()
        drafts: Mapped[list["Post"]] = relationship(**second)

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

    return Base


def test_two_writers_of_a_column_are_warned_of() -> None:
    base = make()

    with pytest.warns(OverlappingRelationshipsWarning, match=r"User\.posts and User\.drafts both write .*user_id"):
        base.registry.configure()


@pytest.mark.parametrize("options", [{"viewonly": True}, {"overlaps": "posts"}])
def test_no_warning_where_the_overlap_is_explained(options: dict[str, Any]) -> None:
    base = make(**options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        base.registry.configure()
