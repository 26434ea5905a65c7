"""Say how a session takes part in a transaction that is in progress on the connection it is bound to."""

from enum import Enum

from aiosession.engine.engine import AsyncConnection
from aiosession.engine.transaction import AsyncTransaction


class JoinMode(Enum):
    """What a session's commit, rollback and close mean to a transaction that it found; ``join_transaction_mode``."""

    CONDITIONAL_SAVEPOINT = "conditional_savepoint"
    """As CREATE_SAVEPOINT if a savepoint is open, else as ROLLBACK_ONLY."""
    ROLLBACK_ONLY = "rollback_only"
    """Rollback is passed on; commit and close leave the transaction alone."""
    CREATE_SAVEPOINT = "create_savepoint"
    """The session works in a savepoint of its own; the transaction is left alone whatever happens."""
    CONTROL_FULLY = "control_fully"
    """The transaction is the session's: commit, rollback and close end it."""


async def join(connection: AsyncConnection, mode: JoinMode) -> tuple[AsyncTransaction, bool]:
    """Return the transaction on *connection* that a session ends, and whether it ends it by commit and close too."""
    found = connection.get_nested_transaction() or connection.get_transaction()
    if found is None:
        return await connection.begin().start(), True
    if mode is JoinMode.CREATE_SAVEPOINT or (mode is JoinMode.CONDITIONAL_SAVEPOINT and found.nested):
        return await connection.begin_nested().start(), True
    return found, mode is JoinMode.CONTROL_FULLY
