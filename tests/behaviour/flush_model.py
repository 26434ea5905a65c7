"""The classes that the tests of flushing work on: every kind of relation, key and default once."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Computed, ForeignKey, ForeignKeyConstraint, Integer, String, Table, func, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


membership = Table(
    "membership",
    Base.metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("club_id", ForeignKey("club.id"), primary_key=True),
    Column("source", String(20), default="flush"),
)
likes = Table(
    "likes",
    Base.metadata,
    Column("liker_id", ForeignKey("person.id"), primary_key=True),
    Column("liked_id", ForeignKey("person.id"), primary_key=True),
)


class Person(Base):
    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    age: Mapped[int | None]
    letters: Mapped[list["Letter"]] = relationship(back_populates="writer")
    pets: Mapped[list["Pet"]] = relationship(back_populates="owner", cascade="all, delete-orphan")
    notes: Mapped[list["Note"]] = relationship()
    clubs: Mapped[list["Club"]] = relationship(secondary=membership, back_populates="members")
    likes: Mapped[list["Person"]] = relationship(
        secondary=likes,
        primaryjoin=lambda: Person.id == likes.c.liker_id,
        secondaryjoin=lambda: Person.id == likes.c.liked_id,
    )
    passport: Mapped["Passport | None"] = relationship(back_populates="person", cascade="all")


class Letter(Base):
    """Survives its writer."""

    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    writer_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))
    writer: Mapped[Person | None] = relationship(back_populates="letters")


class Pet(Base):
    """Belongs to one owner and goes with them."""

    __tablename__ = "pet"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    owner_id: Mapped[int] = mapped_column(ForeignKey("person.id"))
    owner: Mapped[Person] = relationship(back_populates="pets")
    toys: Mapped[list["Toy"]] = relationship(cascade="all, delete-orphan")


class Toy(Base):
    __tablename__ = "toy"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    pet_id: Mapped[int] = mapped_column(ForeignKey("pet.id"))


class Note(Base):
    """Does not know whom it is about."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    person_id: Mapped[int | None] = mapped_column(ForeignKey("person.id"))


class Club(Base):
    __tablename__ = "club"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    members: Mapped[list[Person]] = relationship(secondary=membership, back_populates="clubs")


class Passport(Base):
    """Has the key of its holder."""

    __tablename__ = "passport"
    person_id: Mapped[int] = mapped_column(ForeignKey("person.id"), primary_key=True)
    number: Mapped[str]
    person: Mapped[Person] = relationship(back_populates="passport")


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    parent: Mapped["Node | None"] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list["Node"]] = relationship(back_populates="parent", cascade="all")


class Department(Base):
    """Has a head, who works in a department: a cycle that post_update cuts."""

    __tablename__ = "department"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    head_id: Mapped[int | None] = mapped_column(ForeignKey("worker.id", name="department_head", use_alter=True))
    head: Mapped["Worker | None"] = relationship(foreign_keys="Department.head_id", post_update=True)
    workers: Mapped[list["Worker"]] = relationship(back_populates="department", foreign_keys="Worker.department_id")


class Worker(Base):
    __tablename__ = "worker"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    department_id: Mapped[int | None] = mapped_column(ForeignKey("department.id"))
    department: Mapped[Department | None] = relationship(back_populates="workers", foreign_keys=department_id)


class Shelf(Base):
    __tablename__ = "shelf"
    room: Mapped[str] = mapped_column(String(10), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str | None]
    boxes: Mapped[list["Box"]] = relationship(back_populates="shelf", passive_deletes="all")


class Box(Base):
    __tablename__ = "box"
    __table_args__ = (ForeignKeyConstraint(["shelf_room", "shelf_number"], ["shelf.room", "shelf.number"]),)
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_room: Mapped[str | None] = mapped_column(String(10))
    shelf_number: Mapped[int | None]
    shelf: Mapped[Shelf | None] = relationship(back_populates="boxes")


def _next_code() -> str:
    return uuid.uuid4().hex


class Thing(Base):
    """Gets its values from everywhere."""

    __tablename__ = "thing"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    code: Mapped[str] = mapped_column(default=_next_code)
    status: Mapped[str] = mapped_column(default="fresh")
    size: Mapped[int] = mapped_column(server_default="7")
    twice: Mapped[int] = mapped_column(Computed("size * 2", persisted=True))
    made: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())
    touched: Mapped[int | None] = mapped_column(onupdate=lambda: 1)
    shout: Mapped[str | None] = mapped_column(default=func.upper("abc"))
    content: Mapped[Any] = mapped_column(JSON, nullable=True)


class Document(Base):
    """Counts its versions."""

    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


class Country(Base):
    """Has a key that may change; its cities have to be told."""

    __tablename__ = "country"
    code: Mapped[str] = mapped_column(String(2), primary_key=True)
    cities: Mapped[list["City"]] = relationship(back_populates="country", passive_updates=False)


class City(Base):
    __tablename__ = "city"
    id: Mapped[int] = mapped_column(primary_key=True)
    country_code: Mapped[str | None] = mapped_column(ForeignKey("country.code", deferrable=True, initially="DEFERRED"))
    country: Mapped[Country | None] = relationship(back_populates="cities")


class Hen(Base):
    """Needs an egg first, which needs a hen first."""

    __tablename__ = "hen"
    id: Mapped[int] = mapped_column(primary_key=True)
    egg_id: Mapped[int | None] = mapped_column(ForeignKey("egg.id", name="hen_egg", use_alter=True))
    egg: Mapped["Egg | None"] = relationship(foreign_keys=egg_id)


class Egg(Base):
    __tablename__ = "egg"
    id: Mapped[int] = mapped_column(primary_key=True)
    hen_id: Mapped[int | None] = mapped_column(ForeignKey("hen.id"))
    hen: Mapped[Hen | None] = relationship(foreign_keys=hen_id)


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def put(engine: AsyncEngine, *objects: object) -> None:
    """Write objects with a session of its own; they come back detached."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add_all(objects)
        await session.commit()


async def ages(engine: AsyncEngine) -> dict[str, int | None]:
    """Return the ages of all persons, by name."""
    async with engine.connect() as connection:
        rows = await connection.execute(select(Person.__table__.c.name, Person.__table__.c.age))
        return dict(rows.all())
