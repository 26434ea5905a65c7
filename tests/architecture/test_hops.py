"""A call goes down a short stair: few functions of ours stand between the public call and the driver."""

import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession
from aiosession.testing.scripted import DriverCall
from tests.session_model import Author
from tests.without_loop import scripted, to_the_end

HOPS = {
    "get": ("fetch", 5),
    "execute": ("fetch", 5),
    "flush": ("execute", 8),
    "commit": ("commit", 8),
    "commit of one row": ("execute", 11),
}
"""The driver's verb, and how many functions lead to it from the public call, itself included."""


async def flush(session: AsyncSession) -> None:
    session.add(Author(id=1, name="Ann"))
    await session.flush()


async def commit(session: AsyncSession) -> None:
    await flush(session)
    await session.commit()


async def commit_of_one_row(session: AsyncSession) -> None:
    session.add(Author(id=1, name="Ann"))
    await session.commit()


CALLS: dict[str, Callable[[AsyncSession], Coroutine[Any, Any, Any]]] = {
    "get": lambda session: session.get(Author, 1),
    "execute": lambda session: session.execute(select(Author)),
    "flush": flush,
    "commit": commit,
    "commit of one row": commit_of_one_row,
}


async def run(engine: AsyncEngine, call: Callable[[AsyncSession], Coroutine[Any, Any, Any]]) -> None:
    async with AsyncSession(engine) as session:
        await call(session)


@pytest.mark.parametrize("call", CALLS)
def test_few_functions_lie_between_a_call_and_the_driver(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, driver = scripted("postgresql")
    verb, hops = HOPS[call]
    stacks: list[list[str]] = []
    record = driver.record

    async def note(asked: DriverCall) -> None:
        frame: FrameType | None = sys._getframe(1)
        names: list[str] = []
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module.startswith("aiosession.") and not module.startswith("aiosession.testing"):
                names.append(f"{module}.{frame.f_code.co_name}")
            frame = frame.f_back
        if asked.verb == verb:
            stacks.append(names[::-1])
        await record(asked)

    monkeypatch.setattr(driver, "record", note)
    to_the_end(run(engine, CALLS[call]))

    (stack,) = stacks
    assert len(stack) <= hops, "\n".join(stack)
