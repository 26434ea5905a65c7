"""Run sessions over the scripted driver, without an event loop."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from aiosession import AsyncEngine, create_async_engine
from aiosession.testing.scripted import ScriptedDriver

T = TypeVar("T")


def scripted(backend: str) -> tuple[AsyncEngine, ScriptedDriver]:
    """Return an engine and the driver that answers for its database."""
    engine = create_async_engine(f"{backend}+scripted://")
    assert isinstance(engine.driver, ScriptedDriver)
    return engine, engine.driver


def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never waits to its end, and return its value."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("the coroutine waits for something")
