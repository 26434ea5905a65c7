"""How does only one of many workers do a thing? By a lock that ends with the transaction, so also with the worker."""

from zlib import crc32

from sqlalchemy import func, select

from aiosession.ext.outbox import OutboxSession
from examples.worker.models import Entry, Run, Sessions, Summary


async def is_only_one(session: OutboxSession, task: str) -> bool:
    """Whether nobody else is at a task; then nobody will be until the transaction ends.

    SQLite has no such locks and needs none: one transaction at a time writes there.
    """
    connection = await session.connection()
    if connection.dialect.name != "postgresql":
        return True
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(crc32(task.encode())))))


async def summarise(sessions: Sessions, worker: str) -> None:
    """Add up the ledger, unless somebody else is at it."""

    @sessions.retrying(attempts=50, wait=0.01, max_wait=0.5)
    async def in_a_transaction(session: OutboxSession) -> None:
        if not await is_only_one(session, "summary"):
            return
        session.add(Run(worker=worker))
        await session.flush()
        summary = await session.get_one(Summary, 1)
        summary.runs += 1
        summary.total = int(await session.scalar(select(func.coalesce(func.sum(Entry.amount), 0))) or 0)

    await in_a_transaction()
