"""What is said to MariaDB and MySQL, whichever library says it."""

import re
from typing import Final

from aiosession.drivers import arguments
from aiosession.drivers.protocol import Capabilities, TransactionOptions
from aiosession.errors import ArgumentError, NotSupportedError

ISOLATION_LEVELS: Final = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
# Values are refused, not cut; and a key of 0 is 0.
_SQL_MODE: Final = (
    "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"
)
SQL_MODES: Final = {True: f"{_SQL_MODE},SIMULTANEOUS_ASSIGNMENT", False: _SQL_MODE}
"""For MariaDB, which can compute all new values of an UPDATE from the old row as the standard says, and for MySQL."""
SETTINGS: Final = "SET autocommit = 1, time_zone = '+00:00'"
"""What every connection is told once."""
READ_ONLY: Final = "SET SESSION TRANSACTION READ ONLY"
"""Has the server refuse writes on a connection."""
IDENTITY: Final = "SELECT CONCAT_WS(':', @@hostname, @@port, @@server_id)"
"""Tells one server from another, for whom a number of a connection means something else."""

XA_UNKNOWN: Final = 1397
"""XAER_NOTA: no branch of this name, or the connection that prepared it still holds it."""
PREPARED: Final = "XA RECOVER"

_COMMITS: Final = re.compile(
    rb"(\s|/\*.*?\*/|--[^\n]*\n)*(ALTER|ANALYZE|CHECK|CREATE|DROP|FLUSH|GRANT|LOCK|OPTIMIZE|RENAME|REPAIR|REVOKE|TRUNCATE"
    rb"|COMMIT|ROLLBACK|BEGIN|START)\b",
    re.IGNORECASE | re.DOTALL,
)
_LIMITED: Final = re.compile(rb"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH)\b", re.IGNORECASE)
_LONGEST_STATEMENT: Final = 31_536_000
"""Seconds, the most that max_statement_time can be."""
_PART: Final = 64
_VERSION: Final = re.compile(r"\d+")


def begin(driver: str, options: TransactionOptions) -> str:
    """Return what begins a transaction; the isolation level holds for this transaction only."""
    characteristics = []
    if options.isolation_level is not None:
        level = arguments.isolation_level(driver, options.isolation_level, ISOLATION_LEVELS)
        characteristics.append(f"ISOLATION LEVEL {level}")
    if options.read_only:
        characteristics.append("READ ONLY")
    start = "START TRANSACTION" if options.branch is None else f"XA START {branch(options.branch)}"
    return f"SET TRANSACTION {', '.join(characteristics)}; {start}" if characteristics else start


def limit(seconds: float | None, *, is_mariadb: bool) -> bytes:
    """Return what to put before a statement that may take *seconds*; nothing for MySQL, which limits SELECT only."""
    if seconds is None or not is_mariadb:
        return b""
    longest = f"{min(seconds, _LONGEST_STATEMENT):.3f}"
    usual = f"COALESCE(NULLIF(@@max_statement_time, 0), {longest})"  # one of the account or the server may be shorter
    return f"SET STATEMENT max_statement_time = LEAST({longest}, {usual}) FOR ".encode()


def can_limit(text: bytes) -> bool:
    """Say whether a statement can be given a limit: what reads or writes rows can."""
    return _LIMITED.match(text) is not None


def commits(text: bytes) -> bool:
    """Say whether a statement ends the open transaction, even if it fails: DDL commits it first."""
    return _COMMITS.match(text) is not None


def branch(name: str) -> str:
    """Return *name* as the literals of a branch: what follows its last colon tells branches apart."""
    whole, _, part = arguments.branch_name(name).rpartition(":")
    if not whole:
        whole, part = part, ""
    if len(whole) > _PART or len(part) > _PART:
        raise ArgumentError(
            f"{name!r} is no name for a prepared transaction here: at most {_PART} characters may stand before its "
            f"last colon, and {_PART} after it"
        )
    return f"'{whole}','{part}'"


def branch_of(length: int, data: bytes | str) -> str:
    """Return the name of a branch from a row of `PREPARED`."""
    text = data if isinstance(data, str) else data.decode("ascii", "replace")
    whole, part = text[:length], text[length:]
    return f"{whole}:{part}" if part else whole


def version(info: str) -> tuple[int, ...]:
    """Return the version that a server tells of itself, such as ``5.5.5-10.11.6-MariaDB-log``."""
    text = info.removeprefix("5.5.5-") if "MariaDB" in info else info
    numbers = text.partition("-")[0]
    return tuple(int(number) for number in _VERSION.findall(numbers))[:3]


def check_server(info: str) -> None:
    """Raise `NotSupportedError` for a server that is too old to work with."""
    name, first = ("MariaDB", (10, 5)) if "MariaDB" in info else ("MySQL", (8,))
    if version(info) < first:
        oldest = ".".join(map(str, first))
        reason = RuntimeError(f"this is {name} {info}, and {name} {oldest} is the oldest that aiosession works with")
        raise NotSupportedError(None, None, reason)


def _capabilities(*, is_mariadb: bool) -> Capabilities:
    return Capabilities(
        returning=is_mariadb,
        arrays=False,
        fetch_each=True,
        two_phase=True,
        server_side_cancel=False,
        row_locks=True,
        single_writer=False,
        concurrent_reads=True,
        counts_many=True,
        copies=False,
        combines_writes=False,
        max_parameters=65535,
        names_branches_early=True,
        update_returning=False,
        transactional_ddl=False,
    )


CAPABILITIES: Final = {kind: _capabilities(is_mariadb=kind) for kind in (True, False)}
"""What MariaDB (True) and MySQL (False) can do."""
