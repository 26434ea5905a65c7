"""The classes that the tests of sessions work on: authors, their books, and accounts."""

from sqlalchemy import ForeignKey, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    note: Mapped[str | None]
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")


class Unmapped:
    """Nothing that a session knows."""


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def names_seen_by(engine: AsyncEngine) -> list[str]:
    """Return the names of all authors as somebody else sees them."""
    async with engine.connect() as connection:
        return list((await connection.scalars(select(Author.name).order_by(Author.name))).all())


async def put_author(engine: AsyncEngine, name: str = "Ann", **values: object) -> int:
    """Write an author with a session of its own and return the key."""
    async with AsyncSession(engine) as session:
        author = Author(name=name, **values)
        session.add(author)
        await session.commit()
        return author.id
