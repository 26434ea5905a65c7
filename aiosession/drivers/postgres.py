"""What is said to PostgreSQL, whichever library says it."""

from collections.abc import Mapping
from math import ceil
from typing import Final

from aiosession.drivers import arguments
from aiosession.drivers.protocol import CommitOutcome, TransactionOptions

ISOLATION_LEVELS: Final = ("READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
UNKNOWN_BRANCH: Final = "42704"
"""The SQLSTATE of COMMIT PREPARED and ROLLBACK PREPARED for a name that nothing is prepared under."""
CAN_PREPARE: Final = "SELECT current_setting('max_prepared_transactions')::int > 0"
PREPARED: Final = """
    SELECT gid, clock_timestamp() - prepared FROM pg_prepared_xacts
    WHERE database = current_database() AND starts_with(gid, {})
    ORDER BY prepared
"""
"""The prepared transactions of this database, whoever's they are; needs a placeholder for the prefix of their names."""

FIRST_WITH_NUMBERS: Final = 13
"""The first version in which a transaction's number can be asked for while it is in progress, and its outcome later."""
OUTCOME: Final = "SELECT pg_xact_status({}::text::xid8)"
_LONGEST_TIMEOUT: Final = 2**31 - 1
"""Milliseconds."""
_WITH_SNAPSHOT: Final = frozenset({"REPEATABLE READ", "SERIALIZABLE"})
"""Where any SELECT takes the snapshot of the whole transaction, for which a DEFERRABLE one may even have to wait."""
_LIMIT: Final = (
    "SELECT set_config('statement_timeout', least({}, nullif("
    "extract(epoch from current_setting('statement_timeout')::interval) * 1000, 0))::int::text, true)"
)
"""Leaves a limit of the role or the server that is shorter; 0 there means none."""
_TELLS: Final = "aiosession transaction "
# A notice, because a script gives no rows. A hot standby gives no numbers.
TELL_NUMBER: Final = (
    f"DO $$BEGIN IF NOT pg_is_in_recovery() THEN RAISE NOTICE '{_TELLS}%', pg_current_xact_id(); END IF; END$$"
)
"""Has the server tell the number of the transaction, in the round trip of its BEGIN."""
ASK_NUMBER: Final = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_xact_id()::text END"
"""The same as a query, for drivers that read the rows of several statements sent as one text."""
_OUTCOMES: Final[dict[object, CommitOutcome]] = {
    "committed": CommitOutcome.COMMITTED,
    "aborted": CommitOutcome.ROLLED_BACK,
    "in progress": CommitOutcome.IN_PROGRESS,
}


def read_only(settings: object) -> dict[str, object]:
    """Return *settings*, sent with the request to connect, and one that makes the server refuse writes."""
    given = dict(settings) if isinstance(settings, Mapping) else {}
    return {**given, "default_transaction_read_only": "on"}


def read_only_options(options: object) -> str:
    """Return libpq's *options*, with one that makes the server refuse writes."""
    return f"{options or ''} -c default_transaction_read_only=on".strip()


def number_told(notice: str) -> str | None:
    """Return the number of the transaction that a notice of the server tells; None for other notices."""
    return notice.removeprefix(_TELLS) if notice.startswith(_TELLS) else None


def outcome(status: object) -> CommitOutcome:
    """Return what ``pg_xact_status`` means; the server forgets transactions in time."""
    return _OUTCOMES.get(status, CommitOutcome.UNKNOWN)


def begin(driver: str, options: TransactionOptions) -> str:
    """Return BEGIN with its options."""
    text = "BEGIN"
    if options.isolation_level is not None:
        text += f" ISOLATION LEVEL {arguments.isolation_level(driver, options.isolation_level, ISOLATION_LEVELS)}"
    if options.read_only:
        text += " READ ONLY"
    if options.deferrable:
        text += " DEFERRABLE"
    if options.statement_timeout is not None:
        longest = min(ceil(options.statement_timeout * 1000), _LONGEST_TIMEOUT)
        takes_snapshot = options.isolation_level in _WITH_SNAPSHOT or options.deferrable
        text += f"; SET LOCAL statement_timeout = {longest}" if takes_snapshot else f"; {_LIMIT.format(longest)}"
    return text


def prepare(branch: str) -> str:
    """Return the end of the first phase of a transaction."""
    return f"PREPARE TRANSACTION '{arguments.branch_name(branch)}'"


def commit_prepared(branch: str) -> str:
    """Return the second phase of a transaction."""
    return f"COMMIT PREPARED '{arguments.branch_name(branch)}'"


def rollback_prepared(branch: str) -> str:
    """Return the undoing of a prepared transaction."""
    return f"ROLLBACK PREPARED '{arguments.branch_name(branch)}'"
