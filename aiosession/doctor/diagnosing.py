"""How is a database examined? Reach it, look at one thing after another, and go on where something cannot be asked."""

import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Final, Literal

from aiosession.doctor import mariadb, postgres, sqlite
from aiosession.doctor.patient import Check, Patient, Plans, numbers
from aiosession.doctor.pooling import pooler
from aiosession.doctor.report import Diagnosis, Finding, fail, ok, warn
from aiosession.drivers.shown_url import shown
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import AioSessionError, ArgumentError

_CHECKS: Final[dict[str, Sequence[Check]]] = {
    "postgresql": (*postgres.CHECKS, pooler),
    "mariadb": mariadb.CHECKS,
    "mysql": mariadb.CHECKS,
    "sqlite": sqlite.CHECKS,
}
_OLDEST: Final = {"asyncpg": "0.30", "psycopg": "3.2", "aiosqlite": "0.22", "asyncmy": "0.2.9"}


async def diagnose(
    engine: AsyncEngine,
    *,
    processes: int = 1,
    twophase: bool = False,
    pooler: Literal["transaction", "none"] | None = None,
    connections: int | None = None,
) -> Diagnosis:
    """Examine a database and what leads to it; changes nothing, and raises nothing that the database says.

    Args:
        engine: On the database; its pool's limit is compared with the server's.
        processes: How many processes have such a pool.
        twophase: Whether sessions with ``twophase=True`` work on it: not being able to prepare is a failure then.
        pooler: What the application's engines are made with, ``"transaction"`` or ``"none"``; None: as *engine*.
        connections: The most connections that each process opens, if that is not what the pool of *engine* may.

    Raises:
        ArgumentError: *engine* is none, or a number or word is not one of those above.

    """
    if not isinstance(engine, AsyncEngine):
        kind = type(engine).__name__  # not its value: a URL may hold a password
        raise ArgumentError(f"diagnose() takes an engine, as create_async_engine() makes it, not a {kind}")
    for name, number in (("processes", processes), ("connections", 1 if connections is None else connections)):
        if type(number) is not int or number < 1:
            raise ArgumentError(f"{name} is how many there are, 1 or more, not {number!r}")
    if pooler not in (None, "transaction", "none"):
        raise ArgumentError(f"pooler is 'transaction', 'none', or None for what the engine says, not {pooler!r}")
    if pooler is None and not engine.capabilities.keeps_session:
        pooler = "transaction"
    findings = await _findings(engine, Plans(processes, twophase, pooler, connections))
    return Diagnosis(shown(engine.url), tuple(findings))


async def _findings(engine: AsyncEngine, plans: Plans) -> list[Finding]:
    started = perf_counter()
    try:
        connection = await engine.acquire("the doctor")
    except (AioSessionError, OSError) as error:
        reason = getattr(error, "orig", None) or error
        return [*_driver(engine), fail("connection", f"cannot be reached: {type(reason).__name__}: {reason}")]
    try:
        reached = ok("connection", f"made in {(perf_counter() - started) * 1000:.0f} ms")
        patient = Patient(engine, connection, plans)
        found = [finding for check in _CHECKS.get(engine.name, ()) for finding in await _looked(check, patient)]
        return [*_driver(engine), reached, *found]
    finally:
        await engine.release(connection)


async def _looked(check: Check, patient: Patient) -> list[Finding]:
    try:
        return await check(patient)
    except AioSessionError as error:
        return [warn(check.__name__.replace("_", "-"), f"could not be asked: {getattr(error, 'orig', None) or error}")]


def _driver(engine: AsyncEngine) -> list[Finding]:
    library = engine.driver.name.partition("+")[2]
    version = getattr(sys.modules.get(library), "__version__", None)
    if version is None:
        return [ok("driver", engine.driver.name)]
    oldest = _OLDEST.get(library, "0")
    if numbers(version) < numbers(oldest):
        return [fail("driver", f"{engine.driver.name}, {library} {version}; {oldest} is the oldest that is supported")]
    return [ok("driver", f"{engine.driver.name}, {library} {version}")]
