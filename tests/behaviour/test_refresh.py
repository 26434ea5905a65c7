"""refresh() and expire() in all their forms: names, relations, locks, cascades, what is loaded and what is not."""

from typing import Any

import pytest
from sqlalchemy import ForeignKey, select, update

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, events, inspect, mapped_column, relationship
from aiosession.errors import ArgumentError, InvalidRequestError, NotLoadedError, ObjectNotFoundError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class House(Base):
    __tablename__ = "house"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    plan: Mapped[str | None] = mapped_column(deferred=True, deferred_group="papers")
    deed: Mapped[str | None] = mapped_column(deferred=True, deferred_group="papers")
    picture: Mapped[str | None] = mapped_column(deferred=True)
    rooms: Mapped[list["Room"]] = relationship(
        back_populates="house", order_by="Room.id", cascade="all, delete-orphan, refresh-expire"
    )
    doors: Mapped[list["Door"]] = relationship(order_by="Door.id")
    roof: Mapped["Roof | None"] = relationship(lazy="selectin")


class Room(Base):
    __tablename__ = "room"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id"))
    house: Mapped[House] = relationship(back_populates="rooms")


class Door(Base):
    __tablename__ = "door"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id"))


class Roof(Base):
    __tablename__ = "roof"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    house_id: Mapped[int] = mapped_column(ForeignKey("house.id"))


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        house = House(id=1, name="old", plan="plan", deed="deed", picture="picture", roof=Roof(id=1, name="old"))
        house.rooms = [Room(id=1, name="old")]
        house.doors = [Door(id=1, name="old")]
        session.add(house)
        await session.commit()
    statements.clear()


async def rename(engine: AsyncEngine, *entities: Any) -> None:
    """Write another name into all rows, as somebody else."""
    async with engine.begin() as connection:
        for entity in entities:
            await connection.execute(update(entity.__table__).values(name="new"))


async def test_refresh_leaves_deferred_columns_deferred(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        await session.refresh(house)
        assert {"plan", "deed", "picture"} <= inspect(house).unloaded

        await session.refresh(house, ["picture"])

        assert house.picture == "picture"
        assert {"plan", "deed"} <= inspect(house).unloaded


async def test_deferred_columns_of_a_group_come_together(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        statements.clear()

        assert await house.awaitable_attrs.plan == "plan"

        assert house.deed == "deed"
        assert "picture" in inspect(house).unloaded
        assert statements.kinds == ["SELECT"]
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.deed)
        assert house.plan == "plan"


async def test_refresh_of_a_name_reads_that_column_only(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        house = await session.get_one(House, 1)
        await house.awaitable_attrs.picture
        await rename(observer, House)
        house.picture = "mine"

        await session.refresh(house, ["name"])

        assert (house.name, house.picture) == ("new", "mine")
        assert house in session.dirty


async def test_refresh_reads_eager_relations_again_and_makes_the_others_stale(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.doors)
        async with observer.begin() as connection:
            await connection.execute(Roof.__table__.delete())
            await connection.execute(Door.__table__.insert().values(id=2, name="x", house_id=1))

        await session.refresh(house)

        assert house.roof is None
        assert [door.id for door in house.doors] == [1]
        assert inspect(house).attrs.doors.is_stale
        assert [door.id for door in await house.awaitable_attrs.doors] == [1, 2]


async def test_refresh_loads_a_relation_that_was_never_loaded_and_one_that_was(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        await session.refresh(house, ["doors"])
        assert [door.id for door in house.doors] == [1]
        async with observer.begin() as connection:
            await connection.execute(Door.__table__.insert().values(id=2, name="x", house_id=1))

        await session.refresh(house, ["doors", "name"])

        assert [door.id for door in house.doors] == [1, 2]


async def test_refresh_and_expire_throw_away_changes_of_a_relation(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.doors)
        house.doors.clear()
        session.expire(house, ["doors"])
        assert [door.id for door in house.doors] == [1]

        house.doors.clear()
        await session.refresh(house, ["doors"])
        assert [door.id for door in house.doors] == [1]
        assert not session.dirty


async def test_the_refresh_cascade_makes_stale_what_it_reaches(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.rooms, House.doors)
        (room,), (door,) = house.rooms, house.doors
        await rename(observer, House, Room, Door)

        await session.refresh(house)

        assert house.name == "new"
        assert (room.name, inspect(room).expired) == ("old", True)
        assert not inspect(door).expired
        assert (await session.get_one(Room, 1)).name == "new"


async def test_the_expire_cascade_lets_pending_objects_go(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.rooms)
        added = Room(name="added")
        house.rooms.append(added)
        assert added in session

        session.expire(house)

        assert added not in session
        assert [room.name for room in house.rooms] == ["old"]
        await session.flush()


async def test_refresh_throws_away_what_is_not_flushed_instead_of_writing_it(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        house.name = "mine"
        statements.clear()

        await session.refresh(house)

        assert house.name == "old"
        assert not session.dirty
        assert "UPDATE" not in statements.kinds


async def test_refresh_writes_the_changes_of_other_objects_first(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        house, door = await session.get_one(House, 1), await session.get_one(Door, 1)
        house.name, door.name = "mine", "blue"

        await session.refresh(house)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(House.name)) == "old"
        assert await other.scalar(select(Door.name)) == "blue"


async def test_refresh_of_some_attributes_writes_the_others(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        house.name, house.plan = "mine", "new plan"

        await session.refresh(house, ["name"])

        assert (house.name, house.plan) == ("old", "new plan")
        assert await session.scalar(select(House.plan)) == "new plan"


async def test_refresh_tells_handlers_of_expire_once(engine: AsyncEngine) -> None:
    expired: list[object] = []

    def note(target: object, attrs: object) -> None:
        expired.append(target)

    events.listen(Door, "expire", note)
    try:
        async with AsyncSession(engine) as session:
            door = await session.get_one(Door, 1)
            await session.refresh(door)
    finally:
        events.remove(Door, "expire", note)

    assert expired == [door]


@pytest.mark.parametrize("lock", [True, {"read": True}, {"of": House}, {"of": [House.__table__], "nowait": True}])
async def test_refresh_can_lock_the_row(engine: AsyncEngine, statements: StatementLog, lock: Any) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        statements.clear()

        await session.refresh(house, with_for_update=lock)

        assert session.in_transaction()
        assert house.name == "old"
        if engine.dialect.name == "postgresql":
            assert any(" FOR " in sql for sql in statements.sql)


async def test_an_unknown_name_or_lock_is_refused_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        house = await session.get_one(House, 1)
        statements.clear()
        with pytest.raises(ArgumentError, match="did you mean 'rooms'"):
            await session.refresh(house, ["room"])
        with pytest.raises(ArgumentError, match=r"write \['name'\]"):
            await session.refresh(house, "name")
        with pytest.raises(ArgumentError, match="did you mean 'nowait'"):
            await session.refresh(house, with_for_update={"no_wait": True})
        with pytest.raises(ArgumentError, match="did you mean 'name'"):
            session.expire(house, ["nam"])
        assert statements.kinds == []
        assert not inspect(house).expired


async def test_only_persistent_objects_can_be_refreshed_or_expired(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        transient = House(name="x")
        with pytest.raises(InvalidRequestError, match="a transient House is transient"):
            await session.refresh(transient)
        pending = Room(id=7, name="x", house_id=1)
        session.add(pending)
        with pytest.raises(InvalidRequestError, match="a pending Room is pending"):
            session.expire(pending)
        room = await session.get_one(Room, 1)
        await session.delete(room)
        await session.flush()
        with pytest.raises(InvalidRequestError, match=r"Room\(1\) is deleted"):
            await session.refresh(room)
        await session.commit()
        with pytest.raises(InvalidRequestError, match=r"Room\(1\) is detached"):
            await session.refresh(room)


async def test_refresh_of_names_whose_row_is_gone_says_so(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        door = await session.get_one(Door, 1)
        async with observer.begin() as connection:
            await connection.execute(Door.__table__.delete())

        with pytest.raises(ObjectNotFoundError, match=r"no row of Door with primary key \(1,\)"):
            await session.refresh(door, ["name"])


async def test_an_expired_value_cannot_be_read_where_stale_reads_are_errors(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, stale_reads="raise") as session:
        house = await session.get_one(House, 1)
        await session.load(house, House.doors)
        session.expire(house, ["name", "doors"])

        with pytest.raises(NotLoadedError, match="stale"):
            _ = house.name
        with pytest.raises(NotLoadedError, match="stale"):
            _ = house.doors
        await session.refresh(house, ["name", "doors"])
        assert (house.name, len(house.doors)) == ("old", 1)


async def test_a_query_fills_in_what_was_expired_and_leaves_the_rest(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        door = await session.get_one(Door, 1)
        session.expire(door, ["name"])
        await rename(observer, Door)

        await session.scalars(select(Door))

        assert door.name == "new"
        assert not inspect(door).expired_attributes


async def test_loading_a_relation_of_an_object_whose_row_is_gone_says_so(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        house = House(id=9, name="gone")
        session.add(house)
        await session.commit()
        key = house.id
        async with AsyncSession(observer) as other:
            await other.delete(await other.get_one(House, key))
            await other.commit()
        session.expire(house)

        with pytest.raises(ObjectNotFoundError):
            await session.load(house, House.doors)
        with pytest.raises(ObjectNotFoundError):
            await house.awaitable_attrs.doors
