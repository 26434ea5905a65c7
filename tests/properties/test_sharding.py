"""Ordered, limited and distinct queries over shards give what the same query gives over one database with all rows."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, func, select

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, create_async_engine, mapped_column
from aiosession.ext.sharding import ShardedSession
from aiosession.testing.postgres import PostgresCluster
from tests.conftest import DATABASES


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[int]
    number: Mapped[int | None]
    word: Mapped[str | None]
    ratio: Mapped[float | None]


COLUMNS = (Item.number, Item.word, Item.ratio, Item.number + Item.id, func.lower(Item.word), func.abs(Item.number))
SMALL = st.integers(-3, 3)

items = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.none() | SMALL,
        st.none() | st.text(alphabet="abAB é中z", max_size=3),
        st.none() | st.floats(-10, 10, allow_nan=False),
    ),
    max_size=25,
)
term = st.tuples(st.sampled_from(range(len(COLUMNS))), st.booleans(), st.sampled_from([None, True, False]))
terms = st.lists(term, min_size=1, max_size=3)
slices = st.tuples(st.none() | st.integers(0, 8), st.none() | st.integers(0, 8))


def ordered(statement: Any, chosen: Sequence[tuple[int, bool, bool | None]]) -> Any:
    for place, descending, nulls_first in chosen:
        clause: Any = COLUMNS[place]
        clause = clause.desc() if descending else clause.asc()
        if nulls_first is not None:
            clause = clause.nulls_first() if nulls_first else clause.nulls_last()
        statement = statement.order_by(clause)
    return statement


def cut(statement: Any, limits: tuple[int | None, int | None]) -> Any:
    limit, offset = limits
    if limit is not None:
        statement = statement.limit(limit)
    if offset is not None:
        statement = statement.offset(offset)
    return statement


def over(engines: Sequence[AsyncEngine], count: int) -> ShardedSession:
    names = range(count)
    return ShardedSession(
        shards=dict(zip(names, engines[:count], strict=True)),
        shard_chooser=lambda _, item: item.shard % count,
        identity_chooser=lambda *_, **__: names,
        execute_chooser=lambda _: names,
    )


class World:
    """One database with all rows, and shards that have them together."""

    def __init__(self, engines: Sequence[AsyncEngine]) -> None:
        self.whole, *self.shards = engines

    async def prepare(self) -> None:
        for engine in (self.whole, *self.shards):
            async with engine.begin() as connection:
                await connection.drop_all(Base.metadata)
                await connection.create_all(Base.metadata)

    async def check(self, rows: Sequence[tuple[Any, ...]], statements: Sequence[Select[Any]], count: int) -> None:
        made = [
            {"id": number, "shard": shard, "number": value, "word": word, "ratio": ratio}
            for number, (shard, value, word, ratio) in enumerate(rows, 1)
        ]
        async with AsyncSession(self.whole) as whole, over(self.shards, count) as sharded:
            whole.add_all([Item(**each) for each in made])
            sharded.add_all([Item(**each) for each in made])
            await whole.flush()
            await sharded.flush()
            for statement in statements:
                expected = [tuple(row) for row in await whole.execute(statement)]
                found = [tuple(row) for row in await sharded.execute(statement)]
                assert [shown(row) for row in found] == [shown(row) for row in expected]


def shown(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.id if isinstance(value, Item) else value for value in row)


def statements_of(chosen: Sequence[Any], limits: tuple[int | None, int | None]) -> list[Select[Any]]:
    by_all = ordered(select(Item), chosen).order_by(Item.id)
    return [
        cut(by_all, limits),
        cut(ordered(select(Item.id, Item.word), chosen).order_by(Item.id.desc()), limits),
        cut(select(Item.number).distinct().order_by(Item.number.desc()), limits),
        select(
            func.count(), func.count(Item.word), func.sum(Item.number), func.min(Item.word), func.max(Item.ratio)
        ).select_from(Item),
        select(func.count(Item.id).filter(Item.number > 0)),
    ]


@pytest.fixture(params=DATABASES)
def cluster(request: pytest.FixtureRequest) -> PostgresCluster | None:
    """Start a server for the shards, or none for databases in memory; once for each system."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


async def databases_in(cluster: PostgresCluster) -> list[str]:
    connection = await asyncpg.connect(cluster.url(driver="postgresql"))
    try:
        there = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for number in range(5):
            if f"items_{number}" not in there:
                await connection.execute(f"CREATE DATABASE items_{number}")
    finally:
        await connection.close()
    return [cluster.url(f"items_{number}") for number in range(5)]


@pytest.fixture
async def world(cluster: PostgresCluster | None) -> AsyncIterator[World]:
    """Make one database for all rows and four shards."""
    urls = ["sqlite+aiosqlite://"] * 5 if cluster is None else await databases_in(cluster)
    engines = [create_async_engine(url) for url in urls]
    world = World(engines)
    await world.prepare()
    yield world
    for engine in engines:
        await engine.dispose()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=items, chosen=terms, limits=slices, count=st.integers(1, 4))
async def test_shards_answer_as_one_database(world: World, rows: Any, chosen: Any, limits: Any, count: int) -> None:
    await world.check(rows, statements_of(chosen, limits), count)
