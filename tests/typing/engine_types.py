"""What an editor infers for results of engine and connection; checked by mypy and pyright, never run."""

from typing import Any, assert_type

from sqlalchemy import ColumnElement, insert, select, text

from aiosession.engine.engine import AsyncConnection
from aiosession.engine.result import Result, ScalarResult
from aiosession.engine.row import Row
from aiosession.engine.streaming import AsyncResult


async def results(connection: AsyncConnection, number: ColumnElement[int], name: ColumnElement[str]) -> None:
    """Follow the types of columns through results."""
    result = await connection.execute(select(number, name))
    assert_type(result, Result[int, str])
    assert_type(result.all(), list[Row[int, str]])
    assert_type(result.one_or_none(), Row[int, str] | None)

    for first, second in await connection.execute(select(number, name)):
        assert_type(first, int)
        assert_type(second, str)

    assert_type((await connection.execute(select(number, name))).scalars(), ScalarResult[int])
    assert_type((await connection.execute(select(number))).scalar_one(), int)
    assert_type(await connection.scalar(select(number)), int | None)
    assert_type((await connection.scalars(select(name))).all(), list[str])
    assert_type(await connection.stream(select(number, name)), AsyncResult[int, str])


async def untyped(connection: AsyncConnection) -> None:
    """Statements without types give rows of anything."""
    assert_type(await connection.execute(text("SELECT 1")), Result[*tuple[Any, ...]])
    assert_type(await connection.scalar(text("SELECT 1")), Any)
    assert_type((await connection.execute(insert(_TABLE))).rowcount, int)


_TABLE: Any = None
