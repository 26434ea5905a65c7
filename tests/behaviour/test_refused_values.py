"""Values that a column cannot hold: the error names the attribute and the value, and is the same on every database."""

import enum
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import JSON, BigInteger, Enum, LargeBinary, Numeric, SmallInteger, String, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, create_async_engine, mapped_column
from aiosession.errors import DataError
from aiosession.testing.statements import StatementLog


class Colour(enum.Enum):
    RED = 1


class Word(str):
    """A text with a class of its own."""


class Length(int):
    """A number with a class of its own."""


class Base(DeclarativeBase):
    pass


class Holder(Base):
    __tablename__ = "holder"
    id: Mapped[int] = mapped_column(primary_key=True)
    integer: Mapped[int | None]
    small: Mapped[int | None] = mapped_column(SmallInteger)
    big: Mapped[int | None] = mapped_column(BigInteger)
    short: Mapped[str | None] = mapped_column(String(5))
    text: Mapped[str | None]
    number: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    real: Mapped[float | None]
    truth: Mapped[bool | None]
    day: Mapped[date | None]
    moment: Mapped[datetime | None]
    hour: Mapped[time | None]
    span: Mapped[timedelta | None]
    unique: Mapped[UUID | None]
    binary: Mapped[bytes | None] = mapped_column(LargeBinary)
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour))
    content: Mapped[Any] = mapped_column(JSON, nullable=True)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    statements.clear()


KNOWN_BEFOREHAND: list[tuple[str, Any]] = [
    ("integer", 1.0),
    ("integer", "1"),
    ("integer", Decimal(1)),
    ("real", "x"),
    ("number", "x"),
    ("number", b"1"),
    ("text", 5),
    ("text", b"x"),
    ("truth", 2),
    ("truth", "t"),
    ("day", "2020-01-01"),
    ("moment", date(2020, 1, 1)),
    ("hour", datetime(2020, 1, 1)),
    ("span", 5),
    ("unique", "x"),
    ("unique", 5),
    ("binary", "x"),
    ("colour", "BLUE"),
    ("colour", 7),
    ("content", {1, 2}),
    ("content", object()),
]


@pytest.mark.parametrize(("attribute", "value"), KNOWN_BEFOREHAND)
@pytest.mark.parametrize("way", ["insert", "insert many", "update"])
async def test_what_no_database_takes_is_refused_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog, attribute: str, value: Any, way: str
) -> None:
    async with AsyncSession(engine) as session:
        if way == "update":
            held = Holder()
            session.add(held)
            await session.commit()
            setattr(held, attribute, value)
        else:
            session.add_all([Holder(**{attribute: value}), *(Holder() for _ in range(3 if "many" in way else 0))])
        statements.clear()

        with pytest.raises(DataError, match=rf"Holder\.{attribute} ") as raised:
            await session.commit()

        assert repr(value) in str(raised.value)
        assert statements.events == []


REFUSED_BY_BOTH: list[tuple[str, Any, str]] = [
    ("integer", 2**63, "does not fit in 32 bits"),
    ("big", 2**63, "does not fit in 64 bits"),
    ("big", -(2**63) - 1, "does not fit in 64 bits"),
    ("text", "\ud800", "half of a surrogate pair"),
    ("short", Word("\udfff"), "half of a surrogate pair"),
]
REFUSED_BY_POSTGRESQL: list[tuple[str, Any, str]] = [
    ("integer", 2**31, "does not fit in 32 bits"),
    ("small", 40_000, "does not fit in 16 bits"),
    ("short", "too long", "8 characters long, and the column takes 5"),
    ("text", "a\0b", "the character NUL"),
    ("number", Decimal("Infinity"), "not finite"),
    ("number", Decimal("123456789012.5"), "more than 8 digits before the point"),
    ("real", 10**400, "too large"),
    ("moment", datetime(2020, 1, 1, tzinfo=UTC), "has a time zone, and the column has none"),
    ("content", float("nan"), "NaN or infinity"),
]


async def _refused(engine: AsyncEngine, attribute: str, value: Any, said: str, way: str) -> None:
    async with AsyncSession(engine) as session:
        held = Holder()
        session.add(held)
        await session.commit()
        if way == "update":
            setattr(held, attribute, value)
        else:
            session.add_all([Holder(**{attribute: value}), *(Holder() for _ in range(3 if "many" in way else 0))])

        with pytest.raises(DataError, match=rf"Holder\.{attribute} cannot hold .*{said}") as raised:
            await session.commit()

        assert repr(value) in str(raised.value)
        assert isinstance(raised.value.__cause__, Exception)
        await session.rollback()
        assert getattr(held, attribute) is None
        session.add(Holder())
        await session.commit()


@pytest.mark.parametrize("way", ["insert", "insert many", "update"])
@pytest.mark.parametrize(("attribute", "value", "said"), REFUSED_BY_BOTH)
async def test_what_a_database_refuses_is_named(
    engine: AsyncEngine, attribute: str, value: Any, said: str, way: str
) -> None:
    await _refused(engine, attribute, value, said, way)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
@pytest.mark.parametrize("way", ["insert", "insert many", "update"])
@pytest.mark.parametrize(("attribute", "value", "said"), REFUSED_BY_POSTGRESQL)
async def test_what_postgresql_refuses_is_named(
    engine: AsyncEngine, attribute: str, value: Any, said: str, way: str
) -> None:
    await _refused(engine, attribute, value, said, way)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("attribute", "value"), [("number", Decimal("NaN")), ("number", float("nan")), ("real", float("nan"))]
)
async def test_sqlite_would_make_nothing_of_nan(
    engine: AsyncEngine, statements: StatementLog, attribute: str, value: Any
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Holder(**{attribute: value}))

        with pytest.raises(DataError, match=rf"Holder\.{attribute} cannot hold .*SQLite has no NaN"):
            await session.commit()

        assert statements.events == []


ACCEPTED: list[Any] = [
    ("integer", Length(4), 4),
    ("integer", True, 1),
    ("text", Word("ab"), "ab"),
    ("number", 3, Decimal("3.00")),
    ("number", 1.5, Decimal("1.50")),
    ("real", Decimal("1.5"), 1.5),
    pytest.param(
        *("real", float("inf"), float("inf")),
        marks=pytest.mark.without("mariadb", reason="it has no infinity"),
    ),
    ("truth", 1, True),
    ("day", datetime(2020, 1, 1), date(2020, 1, 1)),
    ("binary", bytearray(b"x"), b"x"),
    ("binary", memoryview(b"x"), b"x"),
    ("colour", "RED", Colour.RED),
]


@pytest.mark.parametrize(("attribute", "value", "stored"), ACCEPTED)
async def test_what_is_as_good_as_the_right_type_is_accepted(
    engine: AsyncEngine, observer: AsyncEngine, attribute: str, value: Any, stored: Any
) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Holder(**{attribute: value}), Holder()])
        await session.commit()
    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(getattr(Holder, attribute)).order_by(Holder.id))).all() == [stored, None]


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [("big", 2**63, "a value of type int: it does not fit"), ("truth", 77, "a value of type int")],
)
async def test_hidden_values_stay_hidden(
    database_url: str, engine: AsyncEngine, attribute: str, value: Any, said: str
) -> None:
    secretive = create_async_engine(database_url, hide_parameters=True)
    async with AsyncSession(secretive) as session:
        session.add(Holder(**{attribute: value}))

        with pytest.raises(DataError, match=rf"Holder\.{attribute} cannot hold {said}") as raised:
            await session.commit()

        assert str(value) not in str(raised.value)
    await secretive.dispose()
