"""New objects that come where a deleted or moved one was: rows with keys made of foreign keys."""

import pytest
from sqlalchemy import ForeignKey, String, select

from aiosession import AsyncEngine, AsyncSession, DataError, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Team(Base):
    """Does not let its badges know whose they are."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    badges: Mapped[list["Badge"]] = relationship(cascade="all, delete-orphan")
    seats: Mapped[list["Seat"]] = relationship(back_populates="team", cascade="all, delete-orphan")


class Badge(Base):
    """Has nothing but its key."""

    __tablename__ = "badge"
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(20), primary_key=True)


class Seat(Base):
    """Has a key that comes from its team, defaults of all kinds, and a version."""

    __tablename__ = "seat"
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    holder: Mapped[str | None]
    color: Mapped[str] = mapped_column(default=lambda: "gray")
    price: Mapped[int] = mapped_column(server_default="7")
    version: Mapped[int] = mapped_column()
    team: Mapped[Team] = relationship(back_populates="seats")
    __mapper_args__ = {"version_id_col": version}


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def test_a_member_moves_to_another_owner_with_its_key(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        first, second = Team(badges=[Badge(name="gold")]), Team(badges=[])
        session.add_all([first, second])
        await session.commit()

        badge = first.badges.pop()
        second.badges.append(badge)
        await session.commit()

        assert badge.team_id == second.id
        assert await session.get(Badge, (second.id, "gold")) is badge
    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Badge.team_id))).all() == [second.id]


async def test_a_member_is_replaced_by_one_with_the_same_key(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        team = Team(badges=[Badge(name="gold"), Badge(name="tin")])
        session.add(team)
        await session.commit()
        old = list(team.badges)

        team.badges = [Badge(name="gold"), Badge(name="silver")]
        await session.commit()

        assert not any(badge in session for badge in old)
        assert await session.get(Badge, (team.id, "gold")) is team.badges[0]
        assert team.badges[0].team_id == team.id
    async with AsyncSession(observer) as other:
        assert set(await other.scalars(select(Badge.name))) == {"gold", "silver"}


async def test_what_replaces_a_row_gets_its_own_defaults(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        team = Team(seats=[Seat(number=1, holder="Ann", color="red", price=9)])
        session.add(team)
        await session.commit()

        team.seats = [Seat(number=1)]
        await session.commit()

        assert (team.seats[0].color, team.seats[0].version) == ("gray", 2)
        team.seats[0].holder = "Bea"
        await session.commit()
    async with AsyncSession(observer) as other:
        seat = (await other.scalars(select(Seat))).one()
        assert (seat.holder, seat.color, seat.price, seat.version) == ("Bea", "gray", 7, 3)


async def test_rollback_brings_the_replaced_object_back(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        old = Seat(number=1, holder="Ann")
        team = Team(seats=[old])
        session.add(team)
        await session.commit()

        team.seats = [Seat(number=1, holder="Bea")]
        await session.flush()
        await session.rollback()

        assert team.seats == [old]
        assert await session.get(Seat, (team.id, 1)) is old
        old.holder = "Cid"
        await session.commit()
    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Seat.holder)) == "Cid"


async def test_a_wrong_value_in_what_replaces_a_row_is_named(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        team = Team(seats=[Seat(number=1)])
        session.add(team)
        await session.commit()

        team.seats = [Seat(number=1, price="cheap")]

        with pytest.raises(DataError, match=r"Seat\.price .*'cheap'"):
            await session.flush()
