"""Look for what can be wrong with SQLite, for a session."""

from typing import Final

from aiosession.doctor.patient import Check, Patient
from aiosession.doctor.report import Finding, fail, ok, warn

_FIRST: Final = (3, 35)


async def version(patient: Patient) -> list[Finding]:
    """Look at the version of the library."""
    found = patient.connection.server_version
    told = f"SQLite {'.'.join(map(str, found))}"
    if found < _FIRST:
        return [fail("server", f"{told}; SQLite 3.35 is the oldest that is supported: before it has no RETURNING")]
    return [ok("server", told)]


async def journal(patient: Patient) -> list[Finding]:
    """Look at whether readers and a writer can work side by side."""
    mode = str(await patient.value("PRAGMA journal_mode"))
    if mode in {"wal", "memory"}:
        return [ok("journal", mode)]
    return [warn("journal", f"journal_mode is {mode}: a writer locks readers out. PRAGMA journal_mode = WAL, once")]


async def foreign_keys(patient: Patient) -> list[Finding]:
    """Look at whether foreign keys are looked after, and whether they hold."""
    if not await patient.value("PRAGMA foreign_keys"):
        return [warn("foreign keys", "off: references to rows that are not there are not noticed")]
    broken = await patient.rows("PRAGMA foreign_key_check")
    if broken:
        tables = ", ".join(sorted({str(row[0]) for row in broken}))
        return [warn("foreign keys", f"{len(broken)} rows refer to rows that are not there, in {tables}")]
    return [ok("foreign keys", "on, and none is broken")]


async def timeouts(patient: Patient) -> list[Finding]:
    """Look at how long a writer waits for another one."""
    milliseconds = int(await patient.value("PRAGMA busy_timeout"))
    if milliseconds == 0:
        return [warn("timeouts", "busy_timeout is 0: a second writer fails at once; leave out timeout=0")]
    return [ok("timeouts", f"busy_timeout = {milliseconds} ms")]


async def two_phase(patient: Patient) -> list[Finding]:
    """Tell what SQLite can be in a commit in two phases."""
    text = "SQLite prepares nothing; one such database can take part, and decides"
    return [ok("two-phase", text)] if patient.plans.twophase else []


CHECKS: Final[tuple[Check, ...]] = (version, journal, foreign_keys, timeouts, two_phase)
