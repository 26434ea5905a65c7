"""A database per tenant: engines are made when they are asked for, and disposed of when there are too many."""

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from typing_extensions import override

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    EngineRegistry,
    Mapped,
    create_async_engine,
    create_replicated_engine,
    mapped_column,
)
from aiosession.errors import ArgumentError


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@pytest.fixture
def made() -> list[str]:
    return []


@pytest.fixture
async def engines(tmp_path: Path, made: list[str]) -> AsyncIterator[EngineRegistry[str]]:
    def make(tenant: str) -> AsyncEngine:
        made.append(tenant)
        return create_async_engine(f"sqlite:///{tmp_path}/{tenant}.db")

    registry = EngineRegistry(make, limit=2)
    yield registry
    await registry.dispose()


async def use(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))


async def test_a_session_goes_to_the_database_of_its_tenant(engines: EngineRegistry[str]) -> None:
    class TenantSession(AsyncSession):
        @override
        async def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            return await engines.get(self.info["tenant"])

    for tenant in ("one", "two", "three"):
        async with (await engines.get(tenant)).begin() as connection:
            await connection.create_all(Base.metadata)
        async with TenantSession(info={"tenant": tenant}) as session:
            session.add(Note(text=tenant))
            await session.commit()

    for tenant in ("one", "two", "three"):
        async with TenantSession(info={"tenant": tenant}) as session:
            assert (await session.scalars(select(Note.text))).all() == [tenant]


async def test_an_engine_is_made_once(engines: EngineRegistry[str], made: list[str]) -> None:
    found = await asyncio.gather(*(engines.get("one") for _ in range(10)))

    assert made == ["one"]
    assert len(set(map(id, found))) == 1


async def test_the_engine_asked_for_longest_ago_is_disposed_of(engines: EngineRegistry[str]) -> None:
    one, two = await engines.get("one"), await engines.get("two")
    await use(one)
    await use(two)
    await engines.get("one")

    await engines.get("three")

    assert len(engines) == 2
    assert "one" in engines
    assert "two" not in engines
    assert (one.pool.status().open, two.pool.status().open) == (1, 0)


async def test_no_engine_is_disposed_of_while_it_is_in_use(engines: EngineRegistry[str]) -> None:
    async with (await engines.get("one")).connect() as one, (await engines.get("two")).connect() as two:
        await engines.get("three")
        await engines.get("four")

        assert {key for key in ("one", "two", "three", "four") if key in engines} == {"one", "two", "four"}
        assert await one.scalar(text("SELECT 1")) == await two.scalar(text("SELECT 2 - 1")) == 1
    await engines.get("four")

    assert len(engines) == 2


async def test_who_holds_an_engine_that_was_disposed_of_can_go_on(
    engines: EngineRegistry[str], made: list[str]
) -> None:
    one = await engines.get("one")
    await use(one)
    await engines.get("two")
    await engines.get("three")
    assert "one" not in engines

    await use(one)

    assert await engines.get("one") is one
    assert made == ["one", "two", "three"]


async def test_what_is_opened_on_an_engine_that_was_disposed_of_is_closed_later(engines: EngineRegistry[str]) -> None:
    one = await engines.get("one")
    await engines.get("two")
    await engines.get("three")
    await use(one)
    assert one.pool.status().open == 1

    await engines.get("three")

    assert one.pool.status().open == 0


async def test_engines_that_nobody_holds_are_forgotten(engines: EngineRegistry[str], made: list[str]) -> None:
    for tenant in ("one", "two", "three"):
        await use(await engines.get(tenant))
    gc.collect()

    await engines.get("one")

    assert made == ["one", "two", "three", "one"]


async def test_a_thousand_tenants_open_no_more_connections_than_the_limit_has(engines: EngineRegistry[str]) -> None:
    async def work(number: int) -> None:
        await use(await engines.get(str(number % 50)))

    for start in range(0, 300, 10):
        await asyncio.gather(*(work(number) for number in range(start, start + 10)))
    await engines.get("last")

    assert len(engines) == 2


async def test_dispose_closes_all(engines: EngineRegistry[str]) -> None:
    one, two = await engines.get("one"), await engines.get("two")
    await use(one)
    await use(two)

    await engines.dispose()

    assert (len(engines), one.pool.status().open, two.pool.status().open) == (0, 0, 0)


async def test_engines_with_replicas_are_in_use_while_a_replica_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tenant.db"
    await use(create_async_engine(url))
    engines: EngineRegistry[str] = EngineRegistry(lambda _: create_replicated_engine(url, replicas=[url]), limit=1)
    async with (await engines.get("one")).replicas[0].connect():  # type: ignore[attr-defined]  # they have replicas
        await engines.get("two")
        assert "one" in engines
    await engines.get("two")

    assert "one" not in engines
    await engines.dispose()


async def test_what_make_raises_is_raised_and_nothing_is_kept(engines: EngineRegistry[str]) -> None:
    def fail(_: str) -> AsyncEngine:
        raise LookupError("no such tenant")

    registry = EngineRegistry(fail)
    with pytest.raises(LookupError):
        await registry.get("one")

    assert len(registry) == 0


async def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArgumentError, match="make is a function"):
        EngineRegistry("sqlite://")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="limit is how many"):
        EngineRegistry(create_async_engine, limit=0)
    with pytest.raises(ArgumentError, match="make has to return"):
        await EngineRegistry(lambda key: key).get("one")  # type: ignore[arg-type]
