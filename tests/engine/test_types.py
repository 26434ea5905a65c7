"""Every type that the databases support goes both ways."""

import datetime as dt
import enum
import ipaddress
import json
import math
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    TypeDecorator,
    Unicode,
    Uuid,
    insert,
    null,
    select,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.types import TypeEngine
from typing_extensions import override

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import DataError

UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5, minutes=30))


class Colour(enum.Enum):
    RED = "r"
    GREEN = "g"


class Celsius(TypeDecorator[float]):
    """Degrees stored as hundredths."""

    impl = Integer
    cache_ok = True

    @override
    def process_bind_param(self, value: float | None, dialect: Dialect) -> int | None:
        return None if value is None else round(value * 100)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else value / 100


class Money(TypeDecorator[Decimal]):
    """A decorated number, whose result processor depends on what the driver returns."""

    impl = Numeric(10, 2)
    cache_ok = True


@dataclass(frozen=True)
class Case:
    name: str
    type: TypeEngine[Any]
    values: tuple[Any, ...]
    returned: tuple[Any, ...] | None = None
    """What comes back where it is not the same."""


BOTH = [
    Case("integer", Integer(), (0, 1, -1, 2**31 - 1, -(2**31))),
    Case("small integer", SmallInteger(), (0, 32767, -32768)),
    Case("big integer", BigInteger(), (2**63 - 1, -(2**63))),
    Case("boolean", Boolean(), (True, False)),
    Case("float", Float(), (0.0, 1.5, -1e300, 5e-308)),
    Case("double", Double(), (0.1 + 0.2,)),
    Case("float as decimal", Float(asdecimal=True, decimal_return_scale=4), (Decimal("1.5000"),)),
    Case("numeric", Numeric(20, 4), (Decimal("12345.6789"), Decimal(0), Decimal("-0.0001"))),
    Case("numeric as float", Numeric(20, 4, asdecimal=False), (1.25, -3.5)),
    Case("string", String(50), ("", "a", "Ünïcödé ✓ 🐍", "quote ' \" \\ %s :name $1 ?")),
    Case("text", Text(), ("x" * 100_000,)),
    Case("unicode", Unicode(10), ("日本語",)),
    Case("bytes", LargeBinary(), (b"", b"\x00\xff\x01", bytes(range(256)))),
    Case("date", Date(), (dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31))),
    Case("time", Time(), (dt.time(0, 0), dt.time(23, 59, 59, 999999))),
    Case("timestamp", DateTime(), (dt.datetime(2024, 2, 29, 12, 30, 1, 123456), dt.datetime(1, 1, 1))),
    Case("interval", Interval(), (dt.timedelta(0), dt.timedelta(days=3, seconds=4, microseconds=5))),
    Case("negative interval", Interval(), (dt.timedelta(days=-1, hours=3),)),
    Case("uuid", Uuid(), (uuid.UUID(int=0), uuid.UUID("12345678-1234-5678-1234-567812345678"))),
    Case("uuid as string", Uuid(as_uuid=False), ("12345678-1234-5678-1234-567812345678",)),
    Case("json", JSON(), ({"a": [1, 2.5, None, True, "ü"]}, [], {}, "text", 0, False)),
    Case("enum of strings", Enum("small", "large", name="size_enum"), ("small", "large")),
    Case("enum class", Enum(Colour, name="colour_enum"), (Colour.RED, Colour.GREEN)),
    Case("enum as text", Enum(Colour, native_enum=False), (Colour.RED,)),
    Case("pickle", PickleType(), ({"any": (1, 2)}, [dt.date(2024, 1, 1)])),
    Case("decorated", Celsius(), (21.5, -3.25)),
    Case("decorated number", Money(), (Decimal("12.50"),)),
]

POSTGRESQL = [
    Case("extreme float", Float(), (5e-324, math.inf, -math.inf)),
    Case("numeric without bounds", Numeric(), (Decimal("1e100"), Decimal("1.23456789012345678901234567890"))),
    Case("timestamp with zone", DateTime(timezone=True), (dt.datetime(2024, 1, 1, 12, tzinfo=UTC),)),
    Case(
        "timestamp with another zone",
        DateTime(timezone=True),
        (dt.datetime(2024, 1, 1, 12, tzinfo=EAST),),
        (dt.datetime(2024, 1, 1, 6, 30, tzinfo=UTC),),
    ),
    Case("time with zone", Time(timezone=True), (dt.time(12, 30, tzinfo=EAST),)),
    Case("interval type", pg.INTERVAL(), (dt.timedelta(days=40, seconds=7),)),
    Case("array of integers", ARRAY(Integer), ([], [1, None, 3])),
    Case("nested array", ARRAY(Integer, dimensions=2), ([[1, 2], [3, 4]],)),
    Case("array of strings", ARRAY(String), (["a", "b,c", 'd"e', "{}", None],)),
    Case("array of numbers", ARRAY(Numeric), ([Decimal("1.5"), Decimal(2)],)),
    Case("array of floats from numbers", ARRAY(Numeric(asdecimal=False)), ([1.5, 2.0],)),
    Case("array of uuids", ARRAY(Uuid), ([uuid.UUID(int=1)],)),
    Case("array of dates", ARRAY(Date), ([dt.date(2024, 1, 1)],)),
    Case("array of enums", ARRAY(Enum(Colour, name="colour_array_enum")), ([Colour.RED, Colour.GREEN], [])),
    Case("array of json", ARRAY(pg.JSONB), ([{"a": 1}, [1, 2]],)),
    Case("jsonb", pg.JSONB(), ({"a": {"b": [1, None]}}, "text", 1.5)),
    Case("integer range", pg.INT4RANGE(), (pg.Range(1, 5), pg.Range(None, 5), pg.Range(empty=True))),
    Case("number range", pg.NUMRANGE(), (pg.Range(Decimal(1), Decimal(2), bounds="[]"),)),
    Case("date range", pg.DATERANGE(), (pg.Range(dt.date(2024, 1, 1), dt.date(2024, 2, 1)),)),
    Case(
        "range of timestamps with zone",
        pg.TSTZRANGE(),
        (pg.Range(dt.datetime(2024, 1, 1, tzinfo=UTC), dt.datetime(2024, 2, 1, tzinfo=UTC)),),
    ),
    Case("multirange", pg.INT4MULTIRANGE(), (MultiRange([pg.Range(1, 3), pg.Range(5, 8)]), MultiRange())),
    Case("network address", pg.INET(), (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1"))),
    Case("network", pg.CIDR(), (ipaddress.ip_network("10.0.0.0/8"),)),
    Case("hardware address", pg.MACADDR(), ("08:00:2b:01:02:03",)),
    Case("bits", pg.BIT(4), (pg.BitString("1010"),)),
    Case("varying bits", pg.BIT(8, varying=True), (pg.BitString("101"),)),
    Case("money", pg.MONEY(), ("$12.50",)),
    Case("text search vector", pg.TSVECTOR(), ("'cat' 'fat'",)),
    Case("object id", pg.OID(), (42,)),
    Case("named enum", pg.ENUM("x", "y", name="named_enum"), ("x", "y")),
]

SQLITE = [
    Case("extreme float", Float(), (5e-324, math.inf, -math.inf)),
    Case("timestamp without zone", DateTime(), (dt.datetime(2024, 1, 1),)),
]


def _table(type_: TypeEngine[Any]) -> Table:
    return Table("sample", MetaData(), Column("id", Integer, primary_key=True), Column("value", type_))


async def _stored(engine: AsyncEngine, type_: TypeEngine[Any], values: tuple[Any, ...]) -> list[Any]:
    """Write *values* one by one and together, read them twice and compare with them in SQL where that is possible."""
    table = _table(type_)
    async with engine.begin() as connection:
        await connection.create_all(table.metadata)
        for value in values:
            await connection.execute(insert(table).values(value=value))
        await connection.execute(insert(table), [{"value": value} for value in (*values, None)])
        found = list(await connection.scalars(select(table.c.value).order_by(table.c.id)))
    assert found[-1] is None
    assert found[: len(values)] == found[len(values) : -1]
    return found[: len(values)]


def _named(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in cases]


@pytest.mark.parametrize("case", _named(BOTH))
async def test_value_comes_back_as_it_went(engine: AsyncEngine, case: Case) -> None:
    found = await _stored(engine, case.type, case.values)

    assert found == list(case.returned or case.values)
    assert all(
        isinstance(value, type(wanted)) for value, wanted in zip(found, case.returned or case.values, strict=True)
    )


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
@pytest.mark.parametrize("case", _named(POSTGRESQL))
async def test_value_of_a_postgresql_type_comes_back_as_it_went(engine: AsyncEngine, case: Case) -> None:
    found = await _stored(engine, case.type, case.values)

    assert found == list(case.returned or case.values)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
@pytest.mark.parametrize("type_", [Float(), Numeric()], ids=["float", "numeric"])
async def test_nan_comes_back(engine: AsyncEngine, type_: TypeEngine[Any]) -> None:
    table = _table(type_)

    async with engine.begin() as connection:
        await connection.create_all(table.metadata)
        await connection.execute(insert(table).values(value=math.nan if isinstance(type_, Float) else Decimal("NaN")))
        found = await connection.scalar(select(table.c.value))

    assert found is not None
    assert math.isnan(found)


async def test_json_null_is_not_sql_null(engine: AsyncEngine) -> None:
    table = _table(JSON())

    async with engine.begin() as connection:
        await connection.create_all(table.metadata)
        await connection.execute(insert(table).values(value=None))
        await connection.execute(insert(table).values(value=null()))
        await connection.execute(insert(table).values(value=JSON.NULL))
        absent = list(
            await connection.scalars(select(table.c.id).where(table.c.value.is_(null())).order_by(table.c.id))
        )
        values = list(await connection.scalars(select(table.c.value)))

    assert absent == [2]
    assert values == [None, None, None]


async def test_none_is_sql_null_for_json_that_says_so(engine: AsyncEngine) -> None:
    table = _table(JSON(none_as_null=True))

    async with engine.begin() as connection:
        await connection.create_all(table.metadata)
        await connection.execute(insert(table).values(value=None))
        absent = list(await connection.scalars(select(table.c.id).where(table.c.value.is_(null()))))

    assert absent == [1]


async def test_json_serializers_of_the_engine_are_used(database_url: str) -> None:
    engine = create_async_engine(
        database_url,
        json_serializer=lambda value: json.dumps({"wrapped": value}),
        json_deserializer=lambda text: json.loads(text)["wrapped"],
    )

    found = await _stored(engine, JSON(), ({"a": 1},))
    await engine.dispose()

    assert found == [{"a": 1}]


WRONG = [
    pytest.param(Integer(), 2**63, id="more than 64 bits"),
    pytest.param(BigInteger(), -(2**63) - 1, id="less than 64 bits"),
    pytest.param(Uuid(), "no uuid at all", id="text for a uuid"),
    pytest.param(Date(), "2024-01-01", id="text for a date"),
    pytest.param(DateTime(), 5, id="number for a timestamp"),
    pytest.param(Enum(Colour, name="colour_wrong_enum", validate_strings=True), "purple", id="unknown enum member"),
    pytest.param(JSON(), object(), id="object that is no JSON"),
    pytest.param(Boolean(), "yes", id="text for a boolean"),
    pytest.param(LargeBinary(), 5, id="number for bytes"),
]

WRONG_FOR_POSTGRESQL = [
    pytest.param(Integer(), "five", id="text for an integer"),
    pytest.param(String(), "nul \x00 in text", id="NUL in text"),
    pytest.param(String(), 5, id="number for text"),
    pytest.param(SmallInteger(), 40000, id="more than 16 bits"),
    pytest.param(Integer(), 2**31, id="more than 32 bits"),
    pytest.param(String(3), "four", id="text too long"),
    pytest.param(Numeric(4, 2), Decimal(1000), id="number too big"),
    pytest.param(DateTime(), dt.datetime(2024, 1, 1, tzinfo=UTC), id="zone for a column without"),
    pytest.param(DateTime(timezone=True), "2024-01-01", id="text for a timestamp with zone"),
    pytest.param(String(), "\ud800", id="lone surrogate"),
    pytest.param(ARRAY(Integer), ["a"], id="text in an array of integers"),
    pytest.param(ARRAY(Integer), 5, id="number for an array"),
]


async def _check_refusal(engine: AsyncEngine, type_: TypeEngine[Any], value: object) -> None:
    table = _table(type_)
    async with engine.begin() as connection:
        await connection.create_all(table.metadata)

    async with engine.connect() as connection:
        with pytest.raises(DataError) as caught:
            await connection.execute(insert(table).values(value=value))
        await connection.rollback()
        await connection.execute(insert(table).values(value=None))

    assert "INSERT INTO sample" in str(caught.value.sql)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("type_", "value"), WRONG)
async def test_value_of_the_wrong_type_is_refused(engine: AsyncEngine, type_: TypeEngine[Any], value: object) -> None:
    await _check_refusal(engine, type_, value)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
@pytest.mark.parametrize(("type_", "value"), WRONG_FOR_POSTGRESQL)
async def test_value_that_postgresql_does_not_take_is_refused(
    engine: AsyncEngine, type_: TypeEngine[Any], value: object
) -> None:
    await _check_refusal(engine, type_, value)
