"""The classes that the tests of queries and of writes without objects work on; attributes are not named as columns."""

import enum
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, ForeignKey, Numeric, select
from sqlalchemy.dialects import postgresql, sqlite

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Mood(enum.Enum):
    GOOD = "g"
    BAD = "b"


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column("user_id", primary_key=True)
    name: Mapped[str] = mapped_column("full_name", unique=True)
    age: Mapped[int | None] = mapped_column("years")
    mood: Mapped[Mood | None] = mapped_column("state_of_mind")
    money: Mapped[Decimal | None] = mapped_column("balance", Numeric(10, 2))
    facts: Mapped[Any | None] = mapped_column("details", JSON().with_variant(postgresql.JSONB(), "postgresql"))
    kind: Mapped[str] = mapped_column("sort", default="plain")
    origin: Mapped[str] = mapped_column("source", server_default="db")
    touched: Mapped[int | None] = mapped_column("changes", onupdate=lambda: 7)
    letters: Mapped[list["Letter"]] = relationship(back_populates="user")


class Letter(Base):
    __tablename__ = "letters"
    id: Mapped[int] = mapped_column("letter_id", primary_key=True)
    text: Mapped[str] = mapped_column("body")
    user_id: Mapped[int | None] = mapped_column("owner", ForeignKey("users.user_id"))
    user: Mapped[User | None] = relationship(back_populates="letters")


class Seat(Base):
    __tablename__ = "seats"
    row: Mapped[str] = mapped_column("line", primary_key=True)
    number: Mapped[int] = mapped_column("place", primary_key=True, autoincrement=False)
    label: Mapped[str | None] = mapped_column("caption")


class Draft(Base):
    __tablename__ = "drafts"
    id: Mapped[int] = mapped_column("draft_id", primary_key=True)
    text: Mapped[str] = mapped_column("body")
    version: Mapped[int] = mapped_column("revision")
    __mapper_args__ = {"version_id_col": version}


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def fill(engine: AsyncEngine) -> None:
    """Write users a to e, 10 to 50 years old, e with an unknown age; a has two letters."""
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add_all(User(name=name, age=age) for name, age in zip("abcde", (10, 20, 30, 40, None), strict=True))
        await session.flush()
        owner = (await session.scalars(select(User).where(User.name == "a"))).one()
        session.add_all([Letter(text="x", user_id=owner.id), Letter(text="y", user_id=owner.id)])
        session.add_all([Seat(row="A", number=1), Seat(row="A", number=2), Seat(row="B", number=1)])
        session.add_all([Draft(text="one"), Draft(text="two")])
        await session.commit()


async def seen(engine: AsyncEngine, *columns: Any) -> list[tuple[Any, ...]]:
    """Return columns of all rows as somebody else sees them, ordered by the first."""
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(select(*columns).order_by(columns[0]))]


def upsert(engine: AsyncEngine) -> Any:
    """Return the INSERT of users that knows about conflicts, of this database."""
    return (postgresql.insert if engine.name == "postgresql" else sqlite.insert)(User)
