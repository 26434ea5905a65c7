"""The sample schema of the tests about replicas: where a row was read can be told by its text."""

from sqlalchemy import ForeignKey, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    create_async_engine,
    mapped_column,
    relationship,
)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))


async def make_copy(url: str, place: str) -> None:
    """Make a database whose rows say that they are in *place*."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name=place, books=[Book(id=1, title=place)]))
        await session.commit()
    await engine.dispose()


async def names_in(engine: AsyncEngine) -> list[str]:
    """Return the names of the authors in one database."""
    async with engine.connect() as connection:
        return list(await connection.scalars(select(Author.__table__.c.name).order_by(Author.__table__.c.name)))
