"""Rows that are read while they arrive."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, select, text

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import (
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
    ProgrammingError,
    ResourceClosedError,
)
from tests.engine.engine_tables import author

NUMBERS = select(author.c.id, author.c.kind).order_by(author.c.id)


@pytest.fixture
async def many(library: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a connection to a database with ten authors."""
    async with library.begin() as connection:
        await connection.execute(insert(author), [{"name": f"n{number}"} for number in range(7)])
    async with library.connect() as connection:
        yield connection


async def test_rows_are_iterated(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS, execution_options={"yield_per": 3})

    assert [row.id async for row in result] == list(range(1, 11))


async def test_all(many: AsyncConnection) -> None:
    assert len(await (await many.stream(NUMBERS)).all()) == 10


async def test_parts(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS, execution_options={"yield_per": 4})

    assert [len(part) async for part in result.partitions()] == [4, 4, 2]


async def test_parts_of_a_given_size(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS, execution_options={"yield_per": 4})

    assert [len(part) async for part in result.partitions(7)] == [7, 3]


async def test_fetching_one_and_many(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS, execution_options={"yield_per": 4})

    assert await result.fetchone() == (1, "person")
    assert [row.id for row in await result.fetchmany(5)] == [2, 3, 4, 5, 6]
    assert [row.id for row in await result.all()] == [7, 8, 9, 10]
    assert await result.fetchone() is None


async def test_first_closes(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS)

    assert await result.first() == (1, "person")
    assert result.closed
    with pytest.raises(ResourceClosedError, match=r"first\(\)"):
        await result.all()


async def test_one_and_scalar_methods(many: AsyncConnection) -> None:
    one = NUMBERS.where(author.c.id == 3)
    none = NUMBERS.where(author.c.id == 99)

    assert await (await many.stream(one)).one() == (3, "person")
    assert await (await many.stream(one)).scalar_one() == 3
    assert await (await many.stream(NUMBERS)).scalar() == 1
    assert await (await many.stream(none)).one_or_none() is None
    assert await (await many.stream(none)).scalar_one_or_none() is None
    with pytest.raises(NoResultFound):
        await (await many.stream(none)).one()
    with pytest.raises(MultipleResultsFound):
        await (await many.stream(NUMBERS)).scalar_one()


async def test_scalars_and_mappings(many: AsyncConnection) -> None:
    assert await (await many.stream_scalars(NUMBERS)).all() == list(range(1, 11))
    assert await (await many.stream(NUMBERS)).scalars("kind").unique().all() == ["person"]
    async with (await many.stream(NUMBERS)).mappings() as rows:
        assert [dict(row) for row in await rows.fetchmany(1)] == [{"id": 1, "kind": "person"}]


async def test_unique_goes_across_chunks(many: AsyncConnection) -> None:
    result = await many.stream(select(author.c.kind), execution_options={"yield_per": 2})

    assert [row.kind async for row in result.unique()] == ["person"]


async def test_early_end_frees_the_connection(many: AsyncConnection) -> None:
    async with await many.stream(NUMBERS, execution_options={"yield_per": 2}) as result:
        await result.fetchone()

    assert await many.scalar(select(func.count()).select_from(author)) == 10
    await many.commit()


async def test_other_statements_go_on_between_rows(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS, execution_options={"yield_per": 2})

    names = [await many.scalar(select(author.c.name).where(author.c.id == row.id)) async for row in result]

    assert len(names) == 10


async def test_parameters_are_bound(many: AsyncConnection) -> None:
    result = await many.stream(NUMBERS.where(author.c.id > bindparam("n")), {"n": 8})

    assert [row.id for row in await result.all()] == [9, 10]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (insert(author).values(name="x"), InvalidRequestError),
        (text("SELECT 1"), InvalidRequestError),
        (text("SELECT nothing FROM nowhere").columns(author.c.id), ProgrammingError),
    ],
)
async def test_what_cannot_be_streamed_fails_at_once(
    many: AsyncConnection, statement: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await many.stream(statement)


async def test_connection_can_be_closed_in_the_middle(library: AsyncEngine) -> None:
    async with library.connect() as connection:
        result = await connection.stream(NUMBERS, execution_options={"yield_per": 1})
        await result.fetchone()
        await result.close()

    assert not library.pool.status().holders
