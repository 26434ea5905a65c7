"""What a deletion does to collections in memory, to rows that only connect, and to what refers to the deleted row."""

import pytest
from sqlalchemy import Column, ForeignKey, Table, func, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, inspect, mapped_column, relationship
from aiosession.errors import InvalidRequestError, NotNullViolationError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Team(Base):
    """Does not let its players go: they need a team."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    players: Mapped[list["Player"]] = relationship(back_populates="team", order_by="Player.id")


class Player(Base):
    __tablename__ = "player"
    id: Mapped[int] = mapped_column(primary_key=True)
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    team: Mapped[Team] = relationship(back_populates="players")


content = Table(
    "content",
    Base.metadata,
    Column("basket_id", ForeignKey("basket.id"), primary_key=True),
    Column("fruit_id", ForeignKey("fruit.id"), primary_key=True),
)


class Basket(Base):
    __tablename__ = "basket"
    id: Mapped[int] = mapped_column(primary_key=True)
    fruits: Mapped[list["Fruit"]] = relationship(secondary=content, cascade="all, delete")


class Fruit(Base):
    __tablename__ = "fruit"
    id: Mapped[int] = mapped_column(primary_key=True)


class Driver(Base):
    """Is the only one who drives a car, which goes with them."""

    __tablename__ = "driver"
    id: Mapped[int] = mapped_column(primary_key=True)
    car_id: Mapped[int | None] = mapped_column(ForeignKey("car.id"))
    car: Mapped["Car | None"] = relationship(cascade="all, delete-orphan", single_parent=True)


class Car(Base):
    __tablename__ = "car"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    statements.clear()


async def rows_of(engine: AsyncEngine, *tables: Table) -> list[int]:
    """Return how many rows each table has, as somebody else sees it."""
    async with engine.connect() as connection:
        return [(await connection.scalar(select(func.count()).select_from(table))) or 0 for table in tables]


async def test_a_deleted_member_stays_in_its_collection_until_that_is_loaded_again(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        team = Team(players=[Player(), Player()])
        session.add(team)
        await session.commit()
        gone, stays = team.players

        await session.delete(gone)
        await session.flush()
        assert team.players == [gone, stays]

        await session.commit()
        assert await team.awaitable_attrs.players == [stays]


async def test_only_what_has_a_row_can_be_deleted(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        pending = Team()
        session.add(pending)

        with pytest.raises(InvalidRequestError, match=r"no row that could be deleted; use session\.expunge"):
            await session.delete(pending)
        with pytest.raises(InvalidRequestError, match="transient Team"):
            await session.delete(Team())

        assert inspect(pending).pending
        assert statements.kinds == []


async def test_deleting_twice_is_deleting_once(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        car = Car()
        session.add(car)
        await session.commit()
        statements.clear()

        await session.delete(car)
        await session.delete(car)
        await session.flush()

        assert statements.tables("DELETE") == ["car"]


async def test_a_parent_that_its_children_need_cannot_be_deleted_without_a_cascade(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        team = Team(players=[Player()])
        session.add(team)
        await session.commit()

        await session.delete(team)
        with pytest.raises(NotNullViolationError):
            await session.commit()
        await session.rollback()

        assert team in session
    assert await rows_of(observer, Team.__table__, Player.__table__) == [1, 1]


async def test_a_cascade_over_a_connecting_table_takes_its_rows_too(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Basket(fruits=[Fruit(), Fruit()]))
        await session.commit()

    async with AsyncSession(engine) as session:
        await session.delete((await session.scalars(select(Basket))).one())
        await session.commit()

    assert await rows_of(observer, Basket.__table__, content, Fruit.__table__) == [0, 0, 0]


async def test_a_cascade_from_the_side_of_the_foreign_key_takes_what_is_referred_to(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        driver = Driver(car=Car())
        session.add(driver)
        await session.commit()
        statements.clear()

        await session.delete(driver)
        await session.commit()

        assert statements.tables("DELETE") == ["driver", "car"]
    assert await rows_of(observer, Driver.__table__, Car.__table__) == [0, 0]
