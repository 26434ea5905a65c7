"""Counters, and errors that ask for a repetition."""

from collections.abc import Awaitable, Callable

from sqlalchemy import Integer

from aiosession import (
    AsyncEngine,
    AsyncSession,
    Attempt,
    DeclarativeBase,
    Mapped,
    Retrying,
    SerializationError,
    mapped_column,
)


class Base(DeclarativeBase):
    pass


class Counter(Base):
    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


class Versioned(Base):
    __tablename__ = "versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


async def value(engine: AsyncEngine) -> int:
    async with AsyncSession(engine) as session:
        return (await session.get_one(Counter, 1)).value


def refusal(kind: type[Exception] = SerializationError) -> Exception:
    """Make the error of a database that wants the transaction to be repeated."""
    return kind("UPDATE", None, RuntimeError("try again"))


async def unknown() -> bool | None:
    return None


async def repeated(
    retrying: Retrying[AsyncSession], body: Callable[[Attempt[AsyncSession], AsyncSession], Awaitable[None]]
) -> None:
    async for attempt in retrying:
        async with attempt as session:
            await body(attempt, session)
