"""The classes that the tests of loading work on: authors with books, profiles, tags, chapters; employees."""

from sqlalchemy import Column, ForeignKey, Integer, Table

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


book_tag = Table(
    "book_tag",
    Base.metadata,
    Column("book_id", Integer, ForeignKey("book.id"), primary_key=True),
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    biography: Mapped[str | None] = mapped_column(deferred=True, deferred_group="long")
    books: Mapped[list["Book"]] = relationship(back_populates="author", order_by="Book.id")
    profile: Mapped["Profile | None"] = relationship(back_populates="author")


class Profile(Base):
    __tablename__ = "profile"
    id: Mapped[int] = mapped_column(primary_key=True)
    website: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="profile")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    pages: Mapped[int] = mapped_column("page_count")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    tags: Mapped[list["Tag"]] = relationship(secondary=book_tag, back_populates="books", order_by="Tag.id")
    chapters: Mapped[list["Chapter"]] = relationship(back_populates="book", order_by="Chapter.number")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(secondary=book_tag, back_populates="tags", order_by=Book.id)


class Chapter(Base):
    __tablename__ = "chapter"
    book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    heading: Mapped[str]
    book: Mapped[Book] = relationship(back_populates="chapters")


class Employee(Base):
    __tablename__ = "employee"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    manager_id: Mapped[int | None] = mapped_column(ForeignKey("employee.id"))
    manager: Mapped["Employee | None"] = relationship(back_populates="reports", remote_side="Employee.id")
    reports: Mapped[list["Employee"]] = relationship(back_populates="manager", order_by="Employee.id")


AUTHORS = 4
BOOKS_EACH = 3


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def fill(engine: AsyncEngine) -> None:
    """Write four authors with three books of two tags and two chapters each, a profile for the first, and employees.

    Book n of author m has id ``3 * (m - 1) + n``. The fourth author's name is the only one without books.
    """
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        tags = [Tag(id=number, name=f"tag {number}") for number in range(1, 4)]
        for number in range(1, AUTHORS + 1):
            author = Author(id=number, name=f"author {number}", biography=f"born {number}")
            session.add(author)
            if number == AUTHORS:
                continue
            for place in range(1, BOOKS_EACH + 1):
                key = BOOKS_EACH * (number - 1) + place
                book = Book(id=key, title=f"book {key}", pages=key * 10, author=author)
                book.tags = [tags[place % 3], tags[(place + 1) % 3]]
                book.chapters = [Chapter(number=1, heading=f"{key}.1"), Chapter(number=2, heading=f"{key}.2")]
                session.add(book)
        session.add(Book(id=100, title="anonymous", pages=1))
        session.add(Profile(id=1, website="example.org", author_id=1))
        boss = Employee(id=1, name="boss")
        middle = Employee(id=2, name="middle", manager=boss)
        session.add_all([boss, middle, Employee(id=3, name="left", manager=middle)])
        session.add(Employee(id=4, name="right", manager=middle))
        await session.commit()
