"""A class that another module knows for type checking only."""

from sqlalchemy import ForeignKey

from aiosession import Mapped, mapped_column, relationship
from tests.unit.declarative.future_annotations import Base, Post


class Comment(Base):
    __tablename__ = "comment"

    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(ForeignKey("post.id"))
    post: Mapped[Post] = relationship(back_populates="comments")
