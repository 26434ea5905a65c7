"""When do an application's engines open and end? With the application."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias

from aiosession import AioSessionError, ArgumentError, AsyncEngine, EngineRegistry
from aiosession.ext.starlette.probing import probe

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""What ``Starlette(lifespan=...)`` and ``FastAPI(lifespan=...)`` take."""

_LOG: Final = logging.getLogger("aiosession.web")


def lifespan(
    *engines: AsyncEngine | EngineRegistry[Any],
    check: bool = False,
    timeout: float = 5.0,
    inner: Lifespan | None = None,
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Return a lifespan that disposes of engines when the application stops: ``FastAPI(lifespan=lifespan(engine))``.

    Args:
        engines: What the application talks to.
        check: Whether the application refuses to start while a database does not answer. If not, it starts, logs a
            warning, and answers requests with errors (503, see `add_problem_handlers`) until the database is there.
        timeout: Seconds that a database may take to answer at the start.
        inner: A lifespan of your own; it runs while the engines are open, and its state is passed on.

    Raises:
        DisconnectError: With *check*, when the application starts: a database did not answer.

    """
    for engine in engines:
        if not isinstance(engine, AsyncEngine | EngineRegistry):
            raise ArgumentError(
                f"lifespan() takes engines, not {engine!r}; a lifespan of your own is given as inner=, and the result "
                f"goes to FastAPI(lifespan=lifespan(engine))"
            )

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            for engine in engines:
                stack.push_async_callback(engine.dispose)
            for engine in engines:
                if isinstance(engine, AsyncEngine):
                    await _look_at(engine, timeout, is_needed=check)
            state = None if inner is None else await stack.enter_async_context(inner(app))
            yield {} if state is None else state

    return opened


async def _look_at(engine: AsyncEngine, timeout: float, *, is_needed: bool) -> None:
    try:
        await probe(engine, timeout)
    except AioSessionError as error:
        if is_needed:
            error.add_note(f"{engine!r} is needed to start; lifespan(engine, check=False) starts without it")
            raise
        _LOG.warning("starting although %r does not answer: %s", engine, type(error).__name__)
