"""Is the service fit to answer? An endpoint that asks its databases and shows how busy their pools are."""

from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import perf_counter
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse

from aiosession import AioSessionError, ArgumentError, AsyncEngine, ReplicatedEngine
from aiosession.ext.starlette.probing import probe
from aiosession.ext.starlette.requests import DEFAULT


def health(
    engines: AsyncEngine | Mapping[str, AsyncEngine], *, timeout: float = 2.0
) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Return an endpoint that answers 200 if all databases do, else 503.

    ``app.add_route("/health", health(engine))``, in Starlette and in FastAPI. The databases are asked for ``SELECT 1``,
    side by side. The answer is JSON: ``status`` (``"up"`` or ``"down"``), and ``databases`` with the ``status`` of
    each, ``seconds`` or the class of the ``error``, and the figures of its ``pool``. Nothing names a host, a user or a
    statement.

    Args:
        engines: One engine, or several with names to call them by in the answer.
        timeout: Seconds that each database may take, a free connection included; cleaning up takes a little longer.

    """
    named: Any = {DEFAULT: engines} if isinstance(engines, AsyncEngine) else engines
    if not isinstance(named, Mapping) or not all(isinstance(engine, AsyncEngine) for engine in named.values()):
        raise ArgumentError(f'health() takes an engine, or several by name such as {{"main": engine}}, not {engines!r}')

    if not named or not 0 < timeout < inf:
        raise ArgumentError(f"health() needs a database to ask and some seconds for it; got {engines!r}, {timeout=}")

    async def endpoint(request: Request) -> JSONResponse:
        databases: dict[str, dict[str, Any]] = {name: {} for name in named}

        async def look_at(name: str) -> None:
            databases[name] = await _look_at(named[name], timeout)

        async with anyio.create_task_group() as group:
            for name in named:
                group.start_soon(look_at, name)
        is_up = all(each["status"] == "up" for each in databases.values())
        body = {"status": "up" if is_up else "down", "databases": databases}
        return JSONResponse(body, 200 if is_up else 503, headers={"cache-control": "no-store"})

    return endpoint


async def _look_at(engine: AsyncEngine, timeout: float) -> dict[str, Any]:
    began = perf_counter()
    try:
        await probe(engine, timeout)
    except AioSessionError as error:
        found: dict[str, Any] = {"status": "down", "error": type(error).__name__}
    else:
        found = {"status": "up", "seconds": round(perf_counter() - began, 6)}
    status = engine.status()
    found["pool"] = {
        "size": status.pool.size,
        "open": status.pool.open,
        "idle": status.pool.idle,
        "in_use": len(status.pool.holders),
        "waiting": status.pool.waiting,
    }
    if isinstance(engine, ReplicatedEngine):
        found["replicas"] = [{"status": "up" if each.is_up else "down"} for each in status.replicas]
    return found
