"""How is a session's work written and ended? `AsyncSession` has these methods; plain functions do the work."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any, Never, Self, Unpack

from aiosession.engine.engine import AsyncConnection
from aiosession.session import transactions
from aiosession.session.connections import open_connection
from aiosession.session.handles import AsyncSessionTransaction
from aiosession.session.holding import Holding
from aiosession.session.options import changed_options
from aiosession.session.policy import RetryOptions, retry_policy
from aiosession.session.querying import Options
from aiosession.session.retrying import Retrying
from aiosession.transaction.freshness import Freshness, freshness_of
from aiosession.unit_of_work.plan import FlushPlan


class Transacting(Holding):
    """Flush, transactions and savepoints of a session."""

    __slots__ = ()

    async def flush(self, objects: Iterable[object] | None = None) -> None:
        """Write pending changes, those of *objects* only if given."""
        with self.context.guard.enter("flush"):
            self.context.check_open()
            await transactions.flush(self.context, objects)

    async def plan(self, objects: Iterable[object] | None = None) -> FlushPlan:
        """Return what a flush would send now, statement by statement with the reason for each; sends nothing of it.

        What cascades need to know is loaded for it. With *objects*, what ``flush(objects)`` would send.
        """
        with self.context.guard.enter("plan"):
            return await transactions.plan(self.context, objects)

    async def commit(self) -> None:
        """Flush and commit; savepoints that are open are committed with the rest."""
        with self.context.guard.enter("commit"):
            await transactions.commit(self.context)

    async def prepare(self) -> None:
        """Flush, and have all databases that were changed promise that they can commit, but the one that decides.

        Only for a session with ``twophase=True``, and only needed where something else is to happen before
        ``commit()``, which does it by itself. Nothing but ``commit()``, ``rollback()`` and ``close()`` is left then.
        """
        with self.context.guard.enter("prepare"):
            await transactions.prepare(self.context)

    async def rollback(self) -> None:
        """Roll back to the begin of the outermost transaction, in the databases and in the objects."""
        with self.context.guard.enter("rollback"):
            await transactions.rollback(self.context)

    async def freshness(self) -> Freshness:
        """Return a token for what this session has committed, for sessions that have to see it on replicas.

        Asks each primary that was written to, once after each commit. A session always sees its own commits.
        """
        with self.context.guard.enter("freshness"):
            return await self.context.reads.freshness(self.context.level)

    def require(self, token: Freshness | str) -> None:
        """Have reads from now on see at least what *token* stands for: wait for a replica, or read the primary."""
        self.context.reads.require(freshness_of(token))

    def begin(
        self,
        *,
        join: bool = False,
        isolation_level: str | None = None,
        read_only: bool | None = None,
        deferrable: bool | None = None,
    ) -> AsyncSessionTransaction:
        """Begin a transaction: ``async with session.begin():`` commits at its end, or rolls back.

        With *join*, a transaction that is in progress is joined and the outermost block commits. *isolation_level*,
        *read_only* (the database refuses writes) and *deferrable* (a serializable read-only transaction of PostgreSQL
        waits for a snapshot that cannot fail) are of this transaction; None leaves what the session says.
        """
        options = changed_options(
            self.context.options, isolation_level=isolation_level, read_only=read_only, deferrable=deferrable
        )
        return AsyncSessionTransaction(self.context, join=join, options=options)

    def begin_nested(self) -> AsyncSessionTransaction:
        """Open a savepoint on every bind in use: ``async with session.begin_nested():``, or await it."""
        return AsyncSessionTransaction(self.context, nested=True)

    def retrying(self, *wrong: Never, **options: Unpack[RetryOptions]) -> Retrying[Self]:
        """Repeat a unit of work on this session until it is committed, when it fails through no fault of its own.

        ``async for attempt in session.retrying(attempts=5):`` with ``async with attempt:`` in it; each attempt is a
        transaction, committed at the end of the block. The session may have no transaction in progress and nothing to
        write. See `async_sessionmaker.retrying`, which gives each attempt a session of its own, for the options.
        """
        return Retrying(lambda: nullcontext(self), retry_policy(wrong, options))

    def in_transaction(self) -> bool:
        """Whether a transaction has begun, be it on the wire or not."""
        return self.context.level is not None

    def in_nested_transaction(self) -> bool:
        """Whether a savepoint is open."""
        return self.context.level is not None and self.context.level.is_nested

    def get_transaction(self) -> AsyncSessionTransaction | None:
        """Return the outermost transaction, None if none has begun."""
        root = self.context.root
        return None if root is None else AsyncSessionTransaction(self.context, level=root)

    def get_nested_transaction(self) -> AsyncSessionTransaction | None:
        """Return the innermost savepoint, None if none is open."""
        level = self.context.level
        return AsyncSessionTransaction(self.context, level=level) if level is not None and level.is_nested else None

    @property
    def is_active(self) -> bool:
        """Whether the session can go on; False after a failure, until ``rollback()``."""
        level = self.context.level
        return level is None or level.is_active

    async def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,
        execution_options: Options | None = None,
    ) -> AsyncConnection:
        """Return the connection of this session's transaction, which begins now; the session stays its owner.

        *execution_options* such as ``isolation_level`` are for the transaction: they come before its first statement.
        """
        with self.context.guard.enter("connection"):
            return await open_connection(self.context, bind_arguments, execution_options)
