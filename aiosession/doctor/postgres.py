"""Look for what can be wrong with a PostgreSQL server, for a session.

What the settings mean is from the manual, chapter "Server Configuration".
"""

from datetime import timedelta
from typing import Final

from aiosession.doctor.patient import Check, Patient, age_of, connections_fit, in_doubt
from aiosession.doctor.pooling import is_there
from aiosession.doctor.report import Finding, fail, ok, warn

_FIRST: Final = (12,)
_FIRST_WITH_NUMBERS: Final = (13,)
_LONG: Final = 60
_SHOWN: Final = 3


async def version(patient: Patient) -> list[Finding]:
    """Look at the version of the server."""
    found = patient.connection.server_version
    told = f"PostgreSQL {(await settings(patient))['server_version']}"
    if found < _FIRST:
        return [fail("server", f"{told}; PostgreSQL 12 is the oldest that is supported")]
    if found < _FIRST_WITH_NUMBERS:
        return [warn("server", f"{told}; only 13 and later can tell what became of a commit whose answer was lost")]
    return [ok("server", told)]


async def settings(patient: Patient) -> dict[str, str]:
    """Return the settings that matter, as they hold for this connection."""
    rows = await patient.rows("SELECT name, setting FROM pg_settings")
    return {str(name): str(setting) for name, setting in rows}


async def two_phase(patient: Patient) -> list[Finding]:
    """Look at whether transactions can be prepared, and those that are."""
    known = await settings(patient)
    most, connections = int(known["max_prepared_transactions"]), int(known["max_connections"])
    wanted = patient.plans.twophase
    if most == 0:
        text = f"max_prepared_transactions is 0: nothing can be prepared; set it to {connections} (needs a restart)"
        return [fail("two-phase", text) if wanted else ok("two-phase", f"{text} for sessions with twophase=True")]
    told = f"max_prepared_transactions = {most}, max_connections = {connections}"
    if most < connections and wanted:
        finding = warn("two-phase", f"{told}; if all sessions prepare at once, some are refused")
    else:
        finding = ok("two-phase", told)
    rows = await patient.rows(
        "SELECT gid, clock_timestamp() - prepared, database::text FROM pg_prepared_xacts ORDER BY prepared"
    )
    return [finding, *in_doubt([(gid, age, f" in {database}") for gid, age, database in rows])]


async def connections(patient: Patient) -> list[Finding]:
    """Compare what the pools may open with what the server, the role and the database allow."""
    known = await settings(patient)
    most = int(known["max_connections"])
    if await is_there(patient):
        return [
            ok(
                "connections",
                f"to a pooler, whose max_client_conn has to allow {patient.wanted}; its own connections to the server "
                f"are limited by max_connections = {most}",
            )
        ]
    reserved = int(known["superuser_reserved_connections"]) + int(known.get("reserved_connections", "0"))
    rows = await patient.rows(
        "SELECT (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), "
        "(SELECT datconnlimit FROM pg_database WHERE datname = current_database()), "
        "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())"
    )
    ((of_role, of_database, others),) = rows
    room, limits = most - reserved, f"max_connections = {most}, {reserved} reserved"
    for limit, whose in ((of_role, "role"), (of_database, "database")):
        if 0 <= limit < room:
            room, limits = limit, f"CONNECTION LIMIT {limit} of the {whose}"
    return [connections_fit(patient, room, others, limits)]


async def isolation(patient: Patient) -> list[Finding]:
    """Look at the isolation level of transactions that say none."""
    level = (await settings(patient))["default_transaction_isolation"]
    if level == "read committed":
        return [ok("isolation", level)]
    name = level.upper()
    return [
        warn(
            "isolation",
            f"default_transaction_isolation is {level}, which sessions do not know of: reads outside of transactions "
            f'take no snapshot together. Say create_async_engine(..., isolation_level="{name}")',
        )
    ]


async def timeouts(patient: Patient) -> list[Finding]:
    """Look at what ends those who wait, or let others wait, for ever."""
    known = await settings(patient)
    told = ", ".join(f"{name} = {_milliseconds(known[name])}" for name in ("statement_timeout", "lock_timeout"))
    idle = known["idle_in_transaction_session_timeout"]
    if idle == "0":
        return [
            warn(
                "timeouts",
                f"idle_in_transaction_session_timeout is off ({told}): a client that hangs in a transaction keeps its "
                f"locks for ever; ALTER ROLE ... SET idle_in_transaction_session_timeout = '5min'",
            )
        ]
    return [ok("timeouts", f"idle_in_transaction_session_timeout = {_milliseconds(idle)}, {told}")]


async def replication(patient: Patient) -> list[Finding]:
    """Look at whether this is a standby, and how far behind."""
    if not await patient.value("SELECT pg_is_in_recovery()"):
        return [ok("role", "a primary")]
    lag = await patient.value(
        "SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN interval '0' "
        "ELSE clock_timestamp() - pg_last_xact_replay_timestamp() END"
    )
    behind = "lag unknown" if lag is None else f"{age_of(lag)} behind"
    return [
        warn(
            "role", f"a standby, {behind}: it refuses writes; for reads name it in create_replicated_engine(replicas=)"
        )
    ]


async def durability(patient: Patient) -> list[Finding]:
    """Look at whether a commit that was answered can be lost."""
    known = await settings(patient)
    if known["fsync"] == "off":
        return [warn("durability", "fsync is off: a crash of the machine can destroy the database")]
    if known["synchronous_commit"] == "off":
        return [
            warn(
                "durability",
                "synchronous_commit is off: a crash of the server loses the last commits, though they were answered. "
                "Decisions of commits in two phases are written with it on all the same",
            )
        ]
    return [ok("durability", f"fsync = on, synchronous_commit = {known['synchronous_commit']}")]


async def idlers(patient: Patient) -> list[Finding]:
    """Look for sessions that sit in a transaction."""
    rows = await patient.rows(
        "SELECT pid, application_name, clock_timestamp() - state_change, left(regexp_replace(query, '\\s+', ' ', 'g'), "
        f"80) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - "
        f"interval '{_LONG} s' ORDER BY state_change"
    )
    if not rows:
        return [ok("idle in transaction", f"nobody for longer than {_LONG} s")]
    shown = "; ".join(f"pid {pid} {name} for {age_of(age)} after {query}" for pid, name, age, query in rows[:_SHOWN])
    return [warn("idle in transaction", f"{len(rows)} for longer than {_LONG} s, which hold locks: {shown}")]


async def encoding(patient: Patient) -> list[Finding]:
    """Look at what text is stored as."""
    found = (await settings(patient))["server_encoding"]
    if found == "UTF8":
        return [ok("encoding", found)]
    return [warn("encoding", f"{found}: not every text can be stored; make the database with ENCODING 'UTF8'")]


def _milliseconds(setting: str) -> str:
    return "off" if setting == "0" else age_of(timedelta(milliseconds=int(setting)))


CHECKS: Final[tuple[Check, ...]] = (
    version,
    two_phase,
    connections,
    isolation,
    timeouts,
    replication,
    durability,
    idlers,
    encoding,
)
