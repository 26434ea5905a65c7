"""How does a session begin, flush, commit and roll back? Databases and objects in step.

Each function takes the session's context, runs while the session's guard is held, and leaves the context in a state
that says what may come next, whatever it raises.
"""

from collections.abc import Iterable
from typing import Final

from aiosession.drivers.protocol import TransactionOptions
from aiosession.errors import CommitOutcomeUnknownError, FlushError, InvalidRequestError, PartialCommitError
from aiosession.loading.columns import refresh
from aiosession.loading.relations import load_relation
from aiosession.session import announcing
from aiosession.transaction.context import SessionContext
from aiosession.transaction.unit import SessionTransaction, TransactionState, advance
from aiosession.unit_of_work.flush import Loaders
from aiosession.unit_of_work.flush import flush as write_changes
from aiosession.unit_of_work.flush import plan as make_plan
from aiosession.unit_of_work.plan import FlushPlan

_LOADERS: Final = Loaders(relation=load_relation, columns=refresh)
_MOST_FLUSHES: Final = 100
"""How often handlers may leave something to write before a commit gives up: then they always will."""


def begin(ctx: SessionContext, options: TransactionOptions | None = None, *, join: bool) -> SessionTransaction:
    """Begin the outermost transaction; nothing is sent before the first statement."""
    ctx.check_open()
    if ctx.level is None:
        return ctx.new_level(options or ctx.options, is_explicit=True)
    if not join:
        raise InvalidRequestError(
            "a transaction is already in progress on this session (it begins by itself with the first awaited call); "
            "commit or roll back first, use begin_nested() for a savepoint, or begin(join=True) to take part in it"
        )
    if options is not None and options != ctx.level.options:
        raise InvalidRequestError(
            "the transaction that is joined has begun already; isolation level, read_only and deferrable are said "
            "where it begins"
        )
    return ctx.level


async def begin_nested(ctx: SessionContext) -> SessionTransaction:
    """Flush, then open a savepoint on every bind in use."""
    ctx.check_open()
    parent = ctx.enter()
    await flush(ctx)
    level = await parent.begin_nested()
    ctx.workspace.push_frame()
    ctx.level = level
    ctx.announce_level("after_transaction_create", level)
    return level


async def flush(ctx: SessionContext, objects: Iterable[object] | None = None, *, is_last: bool = False) -> None:
    """Write pending changes; a failure undoes the innermost level in the databases and leaves it to be rolled back.

    *is_last* says that COMMIT follows at once.
    """
    if not ctx.has_changes:
        return
    level = ctx.enter()
    level.check()
    ctx.flushing = True
    try:
        with ctx.observed("flush"):
            flushing = await announcing.before_flush(ctx, objects)
            is_lone = is_last and not (level.is_nested or level.is_explicit or level.shares)
            ctx.allows_lone_write = is_lone and not ctx.listens("after_begin")
            try:
                await write_changes(ctx, objects, loaders=_LOADERS, flushing=flushing)
                await announcing.flushed(ctx, flushing)
            except BaseException as error:
                await fail(ctx, level, error)
                raise
    finally:
        ctx.flushing = ctx.allows_lone_write = False


async def plan(ctx: SessionContext, objects: Iterable[object] | None = None) -> FlushPlan:
    """Return what a flush would send now, of all objects or of some."""
    ctx.check_open()
    with ctx.writing():
        return await make_plan(ctx, objects, load_relation=load_relation)


async def flush_before_query(ctx: SessionContext) -> None:
    """Write pending changes because a query is about to look at the database."""
    await flush(ctx)


async def fail(ctx: SessionContext, level: SessionTransaction, error: BaseException) -> None:
    """Undo a level's work in the databases and leave nothing but rollback() to it."""
    if level.state is TransactionState.ACTIVE:
        level.fail(error)
    async with announcing.rollback_of(ctx, level):
        await level.undo()


async def prepare(ctx: SessionContext) -> None:
    """Flush, and have all databases promise that they can commit."""
    ctx.check_open()
    level = ctx.enter()
    level.check()
    with ctx.observed("prepare"):
        await ctx.fire("before_commit")
        await _flush_to_the_end(ctx)
        await _close_savepoints(ctx, TransactionState.COMMITTED).prepare()


async def commit(ctx: SessionContext) -> None:
    """Flush, and commit the outermost transaction with all savepoints in it."""
    ctx.check_open()
    level = ctx.enter()
    with ctx.observed("commit"):
        try:
            if level.state is TransactionState.PREPARED:
                _check_unchanged(ctx)
            else:
                level.check()
                await ctx.fire("before_commit")
                is_heard = ctx.listens(*announcing.ABOUT_FLUSHES)
                if not is_heard:
                    await flush(ctx, is_last=True)
                if ctx.has_changes and (is_heard or ctx.was_heard):
                    await _flush_to_the_end(ctx)
            level = _close_savepoints(ctx, TransactionState.COMMITTED)
            await level.commit()
            await announcing.committed(ctx)
        except (CommitOutcomeUnknownError, PartialCommitError):
            ctx.deeds.are_committed |= ctx.has_written
            raise
        finally:
            # A caller who is cancelled while COMMIT is on its way still has a committed transaction.
            if level.state is TransactionState.COMMITTED and not level.is_nested:
                ctx.level = None
                ctx.deeds.are_committed |= ctx.has_written
                ctx.has_written = False
                ctx.workspace.commit_frames(expire=ctx.expires_on_commit)
                ctx.announce_level("after_transaction_end", level)
            level.raise_postponed()


def _check_unchanged(ctx: SessionContext) -> None:
    if ctx.has_changes:
        raise InvalidRequestError(
            "objects were added, changed or deleted after prepare() and cannot be part of what is committed; roll "
            "back, or commit and write them in the next transaction: change them after commit()"
        )


async def _flush_to_the_end(ctx: SessionContext) -> None:
    """Flush, and again as long as handlers of events leave something to write."""
    for _ in range(_MOST_FLUSHES):
        if not ctx.has_changes:
            return
        await flush(ctx)
    raise FlushError(
        f"handlers of events of the session have left something to write after each of {_MOST_FLUSHES} flushes; let "
        f"them change what is flushed in before_flush, or change nothing once there is nothing to do"
    )


async def rollback(ctx: SessionContext) -> None:
    """Roll back the outermost transaction, and put every object back to how it was when it began."""
    ctx.check_open()
    if ctx.level is None and not ctx.has_changes:
        return
    level = ctx.level
    if level is not None:
        level.check_loop()
    try:
        async with announcing.rollback_of(ctx, level):
            try:
                await _abandon(ctx)
            finally:
                ctx.workspace.rollback_all()
    finally:
        if level is not None:
            ctx.announce_level("after_transaction_end", level)


async def release(ctx: SessionContext, level: SessionTransaction) -> None:
    """Flush, and merge a savepoint with all savepoints in it into the level around it."""
    ctx.check_open()
    levels = _levels_down_to(ctx, level)
    level.check()
    level.check_loop()
    await ctx.fire("before_commit")
    await _flush_to_the_end(ctx)
    await level.release()
    try:
        await announcing.committed(ctx)
    finally:
        for inner in levels:
            ctx.workspace.release_frame()
            _end(inner, TransactionState.COMMITTED)
        ctx.level = level.parent
        for inner in levels:
            ctx.announce_level("after_transaction_end", inner)


async def rollback_to(ctx: SessionContext, level: SessionTransaction) -> None:
    """Undo everything since a savepoint, in the databases and in the objects."""
    ctx.check_open()
    levels = _levels_down_to(ctx, level)
    level.check_loop()
    try:
        async with announcing.rollback_of(ctx, level):
            try:
                await level.undo()
            finally:
                for inner in levels:
                    ctx.workspace.rollback_frame()
                    _end(inner, TransactionState.ROLLED_BACK)
                ctx.level = level.parent
    finally:
        for inner in levels:
            ctx.announce_level("after_transaction_end", inner)


async def close(ctx: SessionContext, *, for_good: bool) -> None:
    """Roll back what is open, give everything back and let all objects go."""
    level = ctx.level
    if level is not None:
        level.check_loop()
    try:
        if level is not None:
            await _abandon(ctx, closing=True)
    finally:
        ctx.closed = for_good
        ctx.workspace.clear()
        if level is not None:
            ctx.announce_level("after_transaction_end", level)


async def invalidate(ctx: SessionContext, *, for_good: bool) -> None:
    """Drop the connections that are held, which rolls back, and let all objects go."""
    try:
        if ctx.level is not None:
            root = _close_savepoints(ctx, TransactionState.ROLLED_BACK)
            ctx.level = None
            ctx.has_written = False
            await root.drop()
            _end(root, TransactionState.ROLLED_BACK)
    finally:
        ctx.workspace.clear()
        ctx.closed = for_good


async def _abandon(ctx: SessionContext, *, closing: bool = False) -> None:
    if ctx.level is None:
        return
    root = _close_savepoints(ctx, TransactionState.ROLLED_BACK)
    try:
        await root.undo(closing=closing)
    finally:
        _end(root, TransactionState.ROLLED_BACK)
        ctx.level = None
        ctx.has_written = False


def _close_savepoints(ctx: SessionContext, outcome: TransactionState) -> SessionTransaction:
    """End all levels but the outermost, which is returned and becomes the current one."""
    level = ctx.enter()
    while level.parent is not None:
        _end(level, outcome)
        ctx.announce_level("after_transaction_end", level)
        level = level.parent
    ctx.level = level
    return level


def _levels_down_to(ctx: SessionContext, level: SessionTransaction) -> list[SessionTransaction]:
    """Return the levels from the innermost one out to *level*."""
    levels = []
    inner = ctx.level
    while inner is not None:
        levels.append(inner)
        if inner is level:
            return levels
        inner = inner.parent
    raise InvalidRequestError("this savepoint has ended already")


def _end(level: SessionTransaction, outcome: TransactionState) -> None:
    if level.state is not outcome:
        level.state = advance(level.state, outcome)
