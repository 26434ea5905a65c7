"""A session on MariaDB: keys come back by row, counts are checked, and what UPDATE cannot return is read later."""

import asyncio

import pytest
from sqlalchemy import FetchedValue, ForeignKey, String, select, text

from aiosession import AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import StaleDataError, UniqueViolationError

pytestmark = [pytest.mark.mariadb, pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)]


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    version: Mapped[int] = mapped_column(server_default=text("1"))
    books: Mapped[list["Book"]] = relationship(back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class Silent(Base):
    __tablename__ = "silent"
    __table_args__ = {"implicit_returning": False}
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    shout: Mapped[str | None] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())


@pytest.fixture
async def library(engine: AsyncEngine) -> AsyncEngine:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    return engine


async def test_graphs_are_written_and_read(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        authors = [Author(name=f"a{n}", books=[Book(title=f"t{n}.{m}") for m in range(3)]) for n in range(40)]
        session.add_all(authors)
        await session.commit()

    async with AsyncSession(library) as session:
        rows = (await session.execute(select(Author.name, Book.title).join(Book.author).order_by(Book.id))).all()
        assert len(rows) == 120
        assert all(title.startswith(f"t{name[1:]}.") for name, title in rows)


async def test_keys_are_told_apart_while_others_insert(library: AsyncEngine) -> None:
    async def write(start: int) -> dict[int, str]:
        async with AsyncSession(library) as session:
            new = [Author(name=f"n{start + number}") for number in range(100)]
            session.add_all(new)
            await session.commit()
            return {author.id: author.name for author in new}

    told = await asyncio.gather(*(write(place * 1000) for place in range(4)))

    async with AsyncSession(library) as session:
        stored = {row[0]: row[1] for row in (await session.execute(select(Author.id, Author.name))).all()}
    assert stored == {key: name for each in told for key, name in each.items()}


async def test_rows_without_returning_get_their_keys(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        rows = [Silent(name=f"s{number}") for number in range(5)]
        session.add_all(rows)
        await session.commit()
        names = {row[0]: row[1] for row in (await session.execute(select(Silent.id, Silent.name))).all()}

    assert names == {number: f"s{number - 1}" for number in range(1, 6)}


async def test_an_update_that_changes_nothing_in_the_row_is_not_stale(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        author = Author(name="ann")
        session.add(author)
        await session.commit()
        async with library.begin() as connection:
            await connection.execute(text("UPDATE author SET name = 'bob'"))

        author.name = "bob"
        await session.commit()

        async with library.begin() as connection:
            await connection.execute(text("DELETE FROM author"))
        author.name = "cid"
        with pytest.raises(StaleDataError):
            await session.commit()


async def test_values_made_by_an_update_are_read_afterwards(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        author = Author(name="ann")
        session.add(author)
        await session.commit()
        author.version = Author.version + 1
        await session.commit()

        await session.refresh(author)
        assert author.version == 2


async def test_a_duplicate_undoes_the_whole_flush(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        session.add_all([Author(name="ann"), Author(name="bob"), Author(name="ann")])
        with pytest.raises(UniqueViolationError):
            await session.commit()
        await session.rollback()
        assert (await session.scalars(select(Author.name))).all() == []


async def test_a_savepoint_is_undone_alone(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        session.add(Author(name="ann"))
        nested = await session.begin_nested()
        session.add(Author(name="bob"))
        await session.flush()
        await nested.rollback()
        await session.commit()
        assert (await session.scalars(select(Author.name))).all() == ["ann"]


async def test_locked_rows_can_be_skipped(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        session.add_all([Author(name="ann"), Author(name="bob")])
        await session.commit()
        first = select(Author).where(Author.name == "ann").with_for_update()
        await session.execute(first)
        async with AsyncSession(library) as other:
            rest = await other.scalars(select(Author.name).with_for_update(skip_locked=True))
            assert rest.all() == ["bob"]


async def test_percent_signs_are_what_they_are(library: AsyncEngine) -> None:
    async with AsyncSession(library) as session:
        session.add(Author(name="100%s"))
        await session.commit()
        found = await session.scalars(select(Author.name).where(Author.name.like("100%")))
        assert found.all() == ["100%s"]
        assert await session.scalar(select(Author.id % 2)) == 1
