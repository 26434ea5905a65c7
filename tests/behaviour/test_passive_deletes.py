"""Children that the database takes care of when their parent is deleted, and what a delete costs."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import ForeignKey, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    create_async_engine,
    inspect,
    mapped_column,
    relationship,
    selectinload,
)
from aiosession.errors import ForeignKeyViolationError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class House(Base):
    __tablename__ = "house"
    id: Mapped[int] = mapped_column(primary_key=True)
    rooms: Mapped[list["Room"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    cats: Mapped[list["Cat"]] = relationship(passive_deletes=True)
    trees: Mapped[list["Tree"]] = relationship(passive_deletes="all")
    doors: Mapped[list["Door"]] = relationship(cascade="all, delete-orphan")
    keys: Mapped[list["Key"]] = relationship(cascade="all, delete-orphan")


class Room(Base):
    __tablename__ = "room"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id", ondelete="CASCADE"))


class Cat(Base):
    __tablename__ = "cat"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int | None] = mapped_column(ForeignKey("house.id", ondelete="SET NULL"))


class Tree(Base):
    """Nobody takes care of it."""

    __tablename__ = "tree"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int | None] = mapped_column(ForeignKey("house.id"))


class Door(Base):
    __tablename__ = "door"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id"))


class Key(Base):
    __tablename__ = "key"
    id: Mapped[int] = mapped_column(primary_key=True)
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id"))


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine whose database minds foreign keys."""
    arguments = {"pragmas": {"foreign_keys": "ON"}} if database_url.startswith("sqlite") else {}
    made = create_async_engine(database_url, connect_args=arguments)
    async with made.begin() as connection:
        await connection.create_all(Base.metadata)
    yield made
    await made.dispose()


async def _houses(engine: AsyncEngine, *houses: House) -> None:
    async with AsyncSession(engine) as session:
        session.add_all(houses)
        await session.commit()


async def test_unloaded_children_are_left_to_the_database(engine: AsyncEngine, statements: StatementLog) -> None:
    await _houses(engine, House(rooms=[Room(), Room()], cats=[Cat()]))
    async with AsyncSession(engine) as session:
        house = (await session.scalars(select(House))).one()
        cat = (await session.scalars(select(Cat))).one()
        await session.load(house, House.doors, House.keys)
        await session.delete(house)
        statements.clear()

        await session.commit()

        assert [event.kind for event in statements.statements] == ["DELETE"]
        assert (await session.scalars(select(Room))).all() == []
        await session.refresh(cat)
        assert cat.house_id is None


async def test_loaded_children_are_deleted_or_released_by_the_flush(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    await _houses(engine, House(rooms=[Room(), Room()], cats=[Cat()]))
    async with AsyncSession(engine) as session:
        options = [selectinload(House.rooms), selectinload(House.cats)]
        house = (await session.scalars(select(House).options(*options))).one()
        rooms, (cat,) = list(house.rooms), house.cats
        await session.delete(house)

        await session.flush()

        assert all(inspect(room).deleted for room in rooms)
        assert cat.house_id is None
        assert statements.tables("DELETE") == ["room", "house"]


async def test_with_all_even_loaded_children_are_left_to_the_database(engine: AsyncEngine) -> None:
    await _houses(engine, House(trees=[Tree()]))
    async with AsyncSession(engine) as session:
        house = (await session.scalars(select(House).options(selectinload(House.trees)))).one()
        tree = house.trees[0]
        await session.delete(house)

        with pytest.raises(ForeignKeyViolationError):
            await session.commit()

        assert tree.house_id == house.id


async def test_deleting_many_parents_costs_one_select_per_relation(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    await _houses(engine, *(House(doors=[Door(), Door()], keys=[Key()]) for _ in range(20)))
    async with AsyncSession(engine) as session:
        houses = (await session.scalars(select(House))).all()
        statements.clear()
        for house in houses:
            await session.delete(house)

        await session.commit()

        assert sorted(statements.tables("SELECT")) == ["door", "key"]
        assert sorted(statements.tables("DELETE")) == ["door", "house", "key"]
