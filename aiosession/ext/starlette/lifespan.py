"""When do an application's engines open and end? With the application."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import anyio

from aiosession import AioSessionError, ArgumentError, AsyncEngine, EngineRegistry
from aiosession.ext.starlette.probing import probe

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""What ``Starlette(lifespan=...)`` and ``FastAPI(lifespan=...)`` take."""

_E = TypeVar("_E")
_LOG: Final = logging.getLogger("aiosession.web")


def lifespan(
    *engines: AsyncEngine | EngineRegistry[Any],
    check: bool = False,
    timeout: float = 5.0,
    inner: Lifespan | None = None,
) -> Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Return a lifespan that disposes of engines when the application stops: ``FastAPI(lifespan=lifespan(engine))``.

    Databases are asked for a sign of life, and engines disposed of, side by side; an engine that fails at that keeps no
    other one open.

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
            stack.push_async_callback(_dispose, engines)
            await _look_at([each for each in engines if isinstance(each, AsyncEngine)], timeout, are_needed=check)
            state = None if inner is None else await stack.enter_async_context(inner(app))
            yield {} if state is None else state

    return opened


async def _look_at(engines: Sequence[AsyncEngine], timeout: float, *, are_needed: bool) -> None:
    """Ask all databases; raise the error of the first one that does not answer, or warn of each."""
    errors: dict[AsyncEngine, Exception] = {}

    async def look_at(engine: AsyncEngine) -> None:
        try:
            await probe(engine, timeout)
        except Exception as error:
            errors[engine] = error

    await _side_by_side(look_at, engines)
    for error in errors.values():
        if not isinstance(error, AioSessionError):
            raise error
    away = [engine for engine in engines if engine in errors]
    if away and are_needed:
        names = ", ".join(map(repr, away))
        errors[away[0]].add_note(f"{names}: needed to start; lifespan(engine, check=False) starts without")
        raise errors[away[0]]
    for engine in away:
        _LOG.warning("starting although %r does not answer: %s", engine, type(errors[engine]).__name__)


async def _dispose(engines: Sequence[AsyncEngine | EngineRegistry[Any]]) -> None:
    """Dispose of all engines; the first error is raised when that is done, others are logged."""
    errors: list[Exception] = []

    async def dispose(engine: AsyncEngine | EngineRegistry[Any]) -> None:
        try:
            await engine.dispose()
        except Exception as error:
            if errors:
                _LOG.exception("could not dispose of %r", engine)
            errors.append(error)

    await _side_by_side(dispose, engines)
    if errors:
        raise errors[0]


async def _side_by_side(work: Callable[[_E], Coroutine[Any, Any, None]], engines: Iterable[_E]) -> None:
    async with anyio.create_task_group() as group:
        for engine in engines:
            group.start_soon(work, engine)
