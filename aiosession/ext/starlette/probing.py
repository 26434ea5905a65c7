"""Does a database answer? One cheap statement, with a limit on the time it may take."""

import anyio
from sqlalchemy import select

from aiosession import AsyncEngine, DisconnectError

_STATEMENT = "SELECT 1"


async def probe(engine: AsyncEngine, timeout: float) -> None:
    """Ask a database for a sign of life; `DisconnectError` if there is none within *timeout* seconds.

    Connections that have died idle are replaced on the way: those say nothing of the database.
    """
    with anyio.move_on_after(timeout) as limit:
        for _ in range(engine.pool.status().idle):
            try:
                return await _ask(engine)
            except DisconnectError:
                continue
        return await _ask(engine)
    if limit.cancelled_caught:
        raise DisconnectError(_STATEMENT, None, TimeoutError(f"no answer within {timeout:g} s"))
    return None


async def _ask(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.scalar(select(1))
