"""Whatever the types and keys of a table, rows are written, and what the database makes goes to the right object."""

import uuid
from typing import Any

import pytest
from sqlalchemy import ARRAY, Enum, FetchedValue, Identity, Integer, MetaData, String, func, select, text
from sqlalchemy import Uuid as UuidType
from sqlalchemy.dialects.postgresql import JSONB

from aiosession import (
    ArgumentError,
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    StaleDataError,
    mapped_column,
)
from aiosession.testing.statements import StatementLog

pytestmark = pytest.mark.postgres


class Base(DeclarativeBase):
    metadata = MetaData(schema="wares")


class Token(Base):
    """Its key is made by the database and says nothing about order."""

    __tablename__ = "token"
    id: Mapped[uuid.UUID] = mapped_column(UuidType, primary_key=True, server_default=func.gen_random_uuid())
    name: Mapped[str]


class Basket(Base):
    """Has columns that cannot travel in arrays."""

    __tablename__ = "basket"
    id: Mapped[int] = mapped_column(Identity(start=100), primary_key=True)
    fruits: Mapped[list[str]] = mapped_column(ARRAY(String))
    kind: Mapped[str] = mapped_column(Enum("small", "big", name="basket_kind", schema="wares"), server_default="small")
    facts: Mapped[Any] = mapped_column(JSONB, nullable=True)


class Counter(Base):
    __tablename__ = "counter"
    id: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(Integer)
    total: Mapped[int] = mapped_column(server_default="0", server_onupdate=FetchedValue())
    __mapper_args__ = {"eager_defaults": True}


@pytest.fixture
def database_url(postgresql_url: str) -> str:
    return postgresql_url


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA wares"))
        await connection.create_all(Base.metadata)


async def test_keys_without_an_order_go_to_the_right_objects(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        tokens = [Token(name=f"t{n}") for n in range(20)]
        session.add_all(tokens)
        await session.commit()

    async with AsyncSession(observer) as other:
        found = {token.id: token.name for token in await other.scalars(select(Token))}
    assert found == {token.id: token.name for token in tokens}


async def test_columns_that_cannot_travel_in_arrays(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        baskets = [Basket(fruits=["fig"] * n, facts={"n": n}) for n in range(5)]
        session.add_all(baskets)
        await session.commit()
        assert [basket.kind for basket in baskets] == ["small"] * 5

        for basket in baskets:
            basket.fruits = [*basket.fruits, "plum"]
            basket.kind = "big"
        await session.commit()

    async with AsyncSession(observer) as other:
        found = {
            basket.id: (basket.fruits, basket.kind, basket.facts) for basket in await other.scalars(select(Basket))
        }
    assert found == {basket.id: (["fig"] * n + ["plum"], "big", {"n": n}) for n, basket in enumerate(baskets)}


async def test_rows_are_counted_in_every_form(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        baskets = [Basket(fruits=["fig"]) for _ in range(3)]
        session.add_all(baskets)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(text("DELETE FROM wares.basket WHERE id = 100"))

        for basket in baskets:
            basket.fruits = []

        with pytest.raises(StaleDataError, match="expected to match 3 row"):
            await session.commit()


async def test_values_that_an_update_makes_are_fetched_at_once_if_asked_for(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counters = [Counter(step=n) for n in range(3)]
        session.add_all(counters)
        await session.commit()
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE wares.counter SET total = 9"))

        for counter in counters:
            counter.step += 1
        await session.flush()

        assert [counter.total for counter in counters] == [9, 9, 9]


async def test_schemas_are_translated(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA other"))
        await connection.execute(text("CREATE TABLE other.token (LIKE wares.token INCLUDING ALL)"))

    async with AsyncSession(engine.execution_options(schema_translate_map={"wares": "other"})) as session:
        session.add_all([Token(name="a"), Token(name="b")])
        await session.commit()

    async with observer.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM other.token")) == 2
        assert await connection.scalar(text("SELECT count(*) FROM wares.token")) == 0


async def test_queries_read_the_translated_schema(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA other"))
        await connection.execute(text("CREATE TABLE other.token (LIKE wares.token INCLUDING ALL)"))
    elsewhere = engine.execution_options(schema_translate_map={"wares": "other"})
    async with AsyncSession(elsewhere) as session:
        token = Token(name="a")
        session.add(token)
        await session.commit()

    query = select(Token.name)
    for bind, expected in ((elsewhere, ["a"]), (engine, []), (elsewhere, ["a"])):
        async with AsyncSession(bind) as session:
            assert [token.name for token in await session.scalars(select(Token))] == expected
            assert (await session.scalars(query)).all() == expected
            assert (await session.get(Token, token.id) is not None) == bool(expected)


async def test_one_query_for_objects_cannot_have_schemas_of_its_own(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="the schemas of their session"):
            await session.execute(select(Token).execution_options(schema_translate_map={"wares": "other"}))


async def test_a_thousand_new_objects_are_one_statement(engine: AsyncEngine, statements: StatementLog) -> None:
    statements.clear()
    async with AsyncSession(engine) as session:
        session.add_all([Counter(step=n) for n in range(1000)])
        await session.commit()

    assert statements.kinds == ["INSERT"]


async def test_the_value_of_a_sql_expression_is_converted_like_any_other(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        basket = Basket(fruits=["fig"])
        session.add(basket)
        await session.commit()

        basket.facts = func.jsonb_build_object("a", 1)
        await session.flush()

        assert basket.facts == {"a": 1}
