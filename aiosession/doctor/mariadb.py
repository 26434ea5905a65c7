"""Look for what can be wrong with a MariaDB or MySQL server, for a session."""

from typing import Final

from aiosession.doctor.patient import Check, Patient, connections_fit, in_doubt
from aiosession.doctor.report import Finding, fail, ok, warn
from aiosession.drivers import mysql

_FIRST_MARIADB: Final = (10, 5)
_FIRST_MYSQL: Final = (8,)
_LONG: Final = 60
_SHOWN: Final = 3


async def version(patient: Patient) -> list[Finding]:
    """Look at the version of the server, and whether the URL names its kind."""
    told = str(await patient.value("SELECT VERSION()"))
    found, is_mariadb = patient.connection.server_version, "MariaDB" in told
    if is_mariadb and found < _FIRST_MARIADB:
        return [fail("server", f"MariaDB {told}; MariaDB 10.5 is the oldest that is supported")]
    if not is_mariadb and found < _FIRST_MYSQL:
        return [fail("server", f"MySQL {told}; MySQL 8 is the oldest that is supported")]
    kind = "mariadb" if is_mariadb else "mysql"
    if patient.engine.driver.name.partition("+")[0] != kind:
        return [fail("server", f"{told}; write {kind}+asyncmy:// for such a server")]
    return [ok("server", told)]


async def storage(patient: Patient) -> list[Finding]:
    """Look for tables without transactions."""
    default = str(await patient.value("SELECT @@default_storage_engine"))
    rows = await patient.rows(
        "SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = "
        "'BASE TABLE' AND engine <> 'InnoDB' ORDER BY 1"
    )
    findings = []
    if rows:
        shown = ", ".join(f"{table} ({engine})" for table, engine in rows[:_SHOWN])
        findings.append(
            fail("storage", f"{len(rows)} tables without transactions: {shown}; ALTER TABLE ... ENGINE = InnoDB")
        )
    if default != "InnoDB":
        findings.append(warn("storage", f"default_storage_engine is {default}: new tables have no transactions"))
    return findings or [ok("storage", "InnoDB")]


async def two_phase(patient: Patient) -> list[Finding]:
    """Look at what is prepared."""
    try:
        rows = await patient.rows(mysql.PREPARED)
    except Exception as error:  # MySQL wants a right for it
        return [warn("two-phase", f"XA RECOVER is refused, so that nothing in doubt could be found: {error}")]
    names = [mysql.branch_of(int(length), data) for _, length, _, data in rows]
    return [ok("two-phase", "XA"), *in_doubt([(name, None, "") for name in names])]


async def connections(patient: Patient) -> list[Finding]:
    """Compare what the pools may open with what the server and the user's account allow."""
    most = int(await patient.value("SELECT @@max_connections"))
    of_user = int(await patient.value("SELECT @@max_user_connections"))
    _, others = (await patient.rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'"))[0]
    room, limits = (of_user, "max_user_connections") if 0 < of_user < most else (most, f"max_connections = {most}")
    return [connections_fit(patient, room, int(others) - 1, limits)]


async def waiting(patient: Patient) -> list[Finding]:
    """Look at when the server hangs up on idle connections."""
    seconds = int(await patient.value("SELECT @@wait_timeout"))
    options = patient.engine.pool.options
    told = f"wait_timeout = {seconds} s"
    if options.pre_ping or 0 <= options.recycle < seconds:
        return [ok("timeouts", f"{told}, pool_recycle = {options.recycle:g}, pool_pre_ping = {options.pre_ping}")]
    return [
        warn(
            "timeouts",
            f"{told}: the server hangs up on connections that were idle for longer. Set pool_recycle to less, or "
            f"pool_pre_ping=True",
        )
    ]


async def isolation(patient: Patient) -> list[Finding]:
    """Tell the isolation level of transactions that say none."""
    rows = await patient.rows("SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')")
    return [ok("isolation", str(rows[0][1]).replace("-", " ").lower())]


async def durability(patient: Patient) -> list[Finding]:
    """Look at whether a commit that was answered can be lost."""
    flushes = int(await patient.value("SELECT @@innodb_flush_log_at_trx_commit"))
    if flushes == 1:
        return [ok("durability", "innodb_flush_log_at_trx_commit = 1")]
    return [
        warn(
            "durability", f"innodb_flush_log_at_trx_commit is {flushes}: a crash loses the last commits, and decisions"
        )
    ]


async def role(patient: Patient) -> list[Finding]:
    """Look at whether the server takes writes."""
    if int(await patient.value("SELECT @@read_only")):
        return [warn("role", "read_only is on: it refuses writes of ordinary users")]
    return [ok("role", "takes writes")]


async def idlers(patient: Patient) -> list[Finding]:
    """Look for transactions that have been open for long."""
    rows = await patient.rows(
        "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx "
        f"WHERE TIMESTAMPDIFF(SECOND, trx_started, NOW()) > {_LONG} ORDER BY 2 DESC"
    )
    if not rows:
        return [ok("idle in transaction", f"no transaction for longer than {_LONG} s")]
    shown = "; ".join(f"connection {number} for {seconds} s" for number, seconds in rows[:_SHOWN])
    return [warn("idle in transaction", f"{len(rows)} for longer than {_LONG} s, which hold locks: {shown}")]


CHECKS: Final[tuple[Check, ...]] = (
    version,
    storage,
    two_phase,
    connections,
    waiting,
    isolation,
    durability,
    role,
    idlers,
)
