"""Be asyncpg behind a pooler: what is different where connections of the server are lent for a transaction only.

Nothing may be left on a connection of the server, and nothing of an earlier transaction can be relied on. Without a
cache asyncpg prepares without names and parses again when a statement is run; only its cursors insist on names.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any, Final, Self

import asyncpg

from aiosession.drivers.protocol import Row

DEFAULTS: Final[dict[str, object]] = {"statement_cache_size": 0}

_numbers: Final = count(1)


class DeclaredCursor:
    """A cursor by SQL: it ends with its transaction and leaves nothing else behind."""

    __slots__ = ("_connection", "_name")

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection: Final = connection
        self._name: Final = f"aiosession_{next(_numbers)}"

    async def declare(self, sql: str, parameters: Sequence[object]) -> Self:
        """Run the query as far as it takes to fetch."""
        await self._connection.execute(f"DECLARE {self._name} NO SCROLL CURSOR FOR {sql}", *parameters)
        return self

    async def fetch(self, size: int) -> list[Row]:
        """Return the next rows."""
        rows: list[Row] = await self._connection.fetch(f"FETCH {size} FROM {self._name}")
        return rows


def leave_settings_alone(connection: Any) -> None:
    """Keep asyncpg from switching off the server's JIT, for all who come later, when it asks about types."""
    capabilities = getattr(connection, "_server_caps", None)
    if capabilities is not None:
        connection._server_caps = capabilities._replace(jit=False)  # noqa: SLF001 - there is no public way
