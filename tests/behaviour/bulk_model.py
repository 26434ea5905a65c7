"""The classes that the tests of writes by criteria and of bulk methods work on; attributes differ from columns."""

from decimal import Decimal
from enum import Enum
from typing import Any

from sqlalchemy import JSON, Numeric

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Kind(Enum):
    PLAIN = "plain"
    FANCY = "fancy"


class Item(Base):
    __tablename__ = "item"
    key: Mapped[int] = mapped_column("id", primary_key=True)
    name: Mapped[str] = mapped_column("full_name", unique=True)
    size: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(8, 2))
    kind: Mapped[Kind] = mapped_column(default=Kind.PLAIN)
    facts: Mapped[Any | None] = mapped_column(JSON)
    origin: Mapped[str] = mapped_column(server_default="db")
    touched: Mapped[int] = mapped_column(default=0, onupdate=7)


class Place(Base):
    __tablename__ = "place"
    row: Mapped[int] = mapped_column(primary_key=True)
    column: Mapped[str] = mapped_column("col", primary_key=True)
    label: Mapped[str | None]


class Document(Base):
    __tablename__ = "document"
    key: Mapped[int] = mapped_column("id", primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def stored(observer: AsyncEngine, *columns: Any) -> list[tuple[Any, ...]]:
    """Return rows as somebody else sees them, ordered by the first column."""
    async with AsyncSession(observer) as session:
        return [tuple(row) for row in await session.query(*columns).order_by(columns[0]).all()]
