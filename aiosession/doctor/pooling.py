"""Look for a pooler in front of a PostgreSQL server, one that lends connections for transactions or for sessions.

A pooler makes up the process number that a client is told when it connects. One that lends connections of the server
for a transaction at a time gives a client several of them, or the same one to several clients that are all connected.
"""

from typing import Any, Final

from aiosession.aio import finish
from aiosession.doctor.patient import Patient
from aiosession.doctor.report import Finding, fail, ok, warn
from aiosession.drivers.pool import CLOSE_DEADLINE
from aiosession.engine.wire import translated

_TRIES: Final = 6


async def pooler(patient: Patient) -> list[Finding]:
    """Look for a pooler."""
    mine = await _backend(patient)
    told = _told_at_connect(patient.connection.driver_connection)
    says_so = patient.plans.pooler == "transaction"
    if told is None:
        return [ok("pooler", "this driver does not tell whether there is one")]
    if told == mine:
        if says_so:
            return [warn("pooler", 'none in between; without pooler="transaction" statements are prepared once')]
        return [ok("pooler", "none in between")]
    if not await _is_shared(patient, mine):
        return [ok("pooler", "one that keeps a connection of the server for each client, as far as can be told")]
    if says_so:
        return [ok("pooler", 'one that lends connections for a transaction; pooler="transaction" is said')]
    return [
        fail(
            "pooler",
            "one that lends connections for a transaction at a time: prepared statements would be looked for on the "
            'wrong one. Make the engine with create_async_engine(..., pooler="transaction")',
        )
    ]


async def is_there(patient: Patient) -> bool:
    """Say whether there is a pooler, as far as can be told."""
    told = _told_at_connect(patient.connection.driver_connection)
    return told is not None and told != await _backend(patient)


async def _backend(patient: Patient) -> int:
    return int(await patient.value("SELECT pg_backend_pid()"))


def _told_at_connect(connection: Any) -> int | None:
    """Return the process number that a client was told when it connected."""
    if hasattr(connection, "get_server_pid"):  # asyncpg
        return int(connection.get_server_pid())
    lower = getattr(connection, "pgconn", None)  # psycopg
    return None if lower is None else int(lower.backend_pid)


async def _is_shared(patient: Patient, mine: int) -> bool:
    """Say whether a connection of the server changes hands while its clients stay connected."""
    seen = {mine} | {await _backend(patient) for _ in range(_TRIES)}
    if len(seen) > 1:
        return True
    driver = patient.engine.driver
    try:
        other = await driver.connect()  # not of the pool, which may be as small as one connection
    except Exception as error:
        raise translated(error, driver) from error
    try:
        ((theirs,),) = await other.fetch("SELECT pg_backend_pid()")
        return theirs in seen
    finally:
        await finish(other.close(), deadline=CLOSE_DEADLINE)
