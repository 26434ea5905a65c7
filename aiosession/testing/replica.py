"""A hot standby of a private PostgreSQL cluster: it follows by streaming replication, and stops when told to.

Making and stopping one blocks, as for `PostgresCluster`; how far it follows is controlled by ``async`` methods.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
from typing_extensions import override

from aiosession.aio import pause
from aiosession.testing.postgres import PostgresCluster, PostgresUnavailableError, find_binaries

HOW_TO_GET_REPLICAS: Final = "no pg_basebackup beside the PostgreSQL server's programs: install the package postgresql"
"""One line for the reason of a skipped test."""

_STEP: Final = 0.005


def can_replicate() -> bool:
    """Tell whether there are the programs that a replica is made with."""
    binaries = find_binaries()
    return binaries is not None and (binaries / "pg_basebackup").exists()


class PostgresReplica(PostgresCluster):
    """A running standby of *primary* (PostgreSQL 14 or newer): it answers reads, refuses writes, can be held back."""

    sign_of_life = b"ready to accept read"

    def __init__(self, primary: PostgresCluster) -> None:
        if not can_replicate():
            raise PostgresUnavailableError(HOW_TO_GET_REPLICAS)
        self._primary: Final = primary
        super().__init__(primary._settings)  # noqa: SLF001 - one of us; a standby may not have less of anything

    @override
    def _create(self) -> None:
        at = f"host=127.0.0.1 port={self._primary.port} user=postgres"
        self._run(
            self._binaries / "pg_basebackup",
            "-D",
            str(self._data),
            "-d",
            at,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        )

    async def hold(self) -> None:
        """Stop applying what the primary sends; reads go on to be answered with what is there."""
        await self._told("SELECT pg_wal_replay_pause()")
        while await self._told("SELECT pg_get_wal_replay_pause_state()") != "paused":
            await pause(_STEP)

    async def go_on(self) -> None:
        """Apply what the primary sends again."""
        await self._told("SELECT pg_wal_replay_resume()")

    async def catch_up(self) -> None:
        """Wait until everything is here that the primary has written by now."""
        # the commit of this has everything before it sent, also what nobody waited for
        await _answer(self._primary, "SELECT pg_logical_emit_message(true, 'aiosession', '')::text")
        reached = await _answer(self._primary, "SELECT pg_current_wal_flush_lsn()::text")
        while not await self._told(f"SELECT pg_last_wal_replay_lsn() >= '{reached}'::pg_lsn"):
            await pause(_STEP)

    async def promote(self) -> None:
        """Make it a server of its own, on which can be written."""
        await self._told("SELECT pg_promote()")

    async def _told(self, sql: str) -> Any:
        return await _answer(self, sql)


async def _answer(cluster: PostgresCluster, sql: str) -> Any:
    connection = await asyncpg.connect(
        cluster.url(driver="postgresql"), server_settings={"synchronous_commit": "local"}
    )
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@contextmanager
def postgres_replica(primary: PostgresCluster) -> Iterator[PostgresReplica]:
    """Run a replica of *primary* for the length of a ``with`` block."""
    replica = PostgresReplica(primary)
    try:
        yield replica
    finally:
        replica.stop()
