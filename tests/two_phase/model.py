"""Accounts in one database, orders in another, notes in a third."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import ForeignKey, String, func, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship

APP = "test"


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(String(36), unique=True)
    """The unit of work that wrote it."""
    balance: Mapped[int] = mapped_column(default=0)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(String(36), unique=True)
    lines: Mapped[list["Line"]] = relationship(back_populates="order")


class Line(Base):
    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", deferrable=True, initially="DEFERRED"))
    order: Mapped[Order] = relationship(back_populates="lines")


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    unit: Mapped[str] = mapped_column(String(36), unique=True)


PLACES: Sequence[tuple[type[Base], ...]] = ((Account,), (Order, Line), (Note,))
"""Which classes live in which database, in this order."""
CLASSES: Sequence[type[Account] | type[Order] | type[Note]] = (Account, Order, Note)


async def make_tables(engine: AsyncEngine, *classes: type[Base]) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata, [class_.__table__ for class_ in classes] or None)


def binds_of(engines: Sequence[AsyncEngine]) -> dict[object, AsyncEngine]:
    return {class_: engine for engine, classes in zip(engines, PLACES, strict=False) for class_ in classes}


def add_unit(session: AsyncSession, engines: Sequence[AsyncEngine], unit: str | None = None) -> str:
    """Add a row for each database; return the name of the unit of work."""
    unit = unit or str(uuid4())
    for class_ in CLASSES[: len(engines)]:
        session.add(class_(unit=unit))
    return unit


async def presence(engines: Sequence[AsyncEngine], unit: str) -> list[bool]:
    """Return for each database whether the row of a unit of work is there, as others see it."""
    found = []
    for engine, class_ in zip(engines, CLASSES, strict=False):
        async with engine.connect() as connection:
            statement = select(func.count()).select_from(class_.__table__).where(class_.__table__.c.unit == unit)
            found.append(bool(await connection.scalar(statement)))
    return found


async def prepared(engines: Sequence[AsyncEngine]) -> list[str]:
    """Return what is prepared in the databases, whoever did it."""
    found = []
    for engine in engines:
        if engine.capabilities.two_phase:
            async with engine.connect() as connection:
                found += await connection.recover_twophase()
    return found
