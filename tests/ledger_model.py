"""The classes that the tests of commits in one statement work on: accounts with entries, owners with badges."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ForeignKey, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    code: Mapped[str | None] = mapped_column(unique=True)
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    entries: Mapped[list["Entry"]] = relationship(back_populates="account", cascade="all, delete-orphan")


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id", onupdate="CASCADE"))
    account: Mapped[Account] = relationship(back_populates="entries", passive_updates=True)


class Badge(Base):
    """Refers to a column that is no primary key."""

    __tablename__ = "badge"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_code: Mapped[str | None] = mapped_column(ForeignKey("owner.code", onupdate="CASCADE"))


ACCOUNT, ENTRY = Account.__table__, Entry.__table__


async def make_rows(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        session.add_all([Account(id=number, balance=100) for number in (101, 102, 103)])
        session.add_all([Owner(id=101, name="Ann", code="a"), Owner(id=102, name="Bea", code="b")])
        await session.commit()


async def seen(observer: AsyncEngine, *columns: Any) -> Sequence[tuple[Any, ...]]:
    """Return rows as somebody else sees them."""
    async with observer.connect() as connection:
        return [tuple(row) for row in (await connection.execute(select(*columns).order_by(columns[0]))).all()]
