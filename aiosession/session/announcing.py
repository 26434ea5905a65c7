"""Whom does a session tell what it does? The handlers of its events, in the order that the manual gives."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ClauseElement, Delete, Update

from aiosession import core
from aiosession.events.catalogue import SESSION
from aiosession.events.dispatch import Dispatch, Source, session_classes
from aiosession.events.listening import Place, register
from aiosession.session.holding import Holding
from aiosession.transaction.context import SessionContext
from aiosession.transaction.unit import SessionTransaction
from aiosession.unit_of_work.announcing import FlushContext

ABOUT_BULK: Final = ("after_bulk_update", "after_bulk_delete")
ABOUT_FLUSHES: Final = ("before_flush", "after_flush", "after_flush_postexec")


async def before_flush(ctx: SessionContext, objects: Iterable[object] | None) -> FlushContext | None:
    """Call the handlers of ``before_flush``; None if nobody listens to flushes."""
    if not ctx.listens(*ABOUT_FLUSHES):
        return None
    flushing = FlushContext(ctx.workspace.owner)
    await ctx.fire("before_flush", flushing, None if objects is None else list(objects))
    return flushing


async def flushed(ctx: SessionContext, flushing: FlushContext | None) -> None:
    """Call the handlers of ``after_flush_postexec``."""
    if flushing is not None:
        await ctx.fire("after_flush_postexec", flushing)


async def committed(ctx: SessionContext) -> None:
    """Call the handlers of ``after_commit``; an error of theirs says that the commit took place."""
    try:
        await ctx.fire("after_commit")
    except Exception as error:
        error.add_note("raised by a handler of 'after_commit': the transaction is committed")
        raise


@asynccontextmanager
async def rollback_of(ctx: SessionContext, level: SessionTransaction | None) -> AsyncIterator[None]:
    """Call the handlers of ``after_rollback``, if the databases are told, and ``after_soft_rollback`` afterwards."""
    if level is None or not ctx.listens("after_rollback", "after_soft_rollback"):
        yield
        return
    is_real = any(share.connection is not None for share in level.shares.values())
    yield
    if is_real:
        await ctx.fire("after_rollback")
    if ctx.handed is not None:
        await ctx.fire("after_soft_rollback", ctx.handed.transaction(ctx, level))


@dataclass(frozen=True, slots=True)
class BulkContext:
    """What handlers of ``after_bulk_update`` and ``after_bulk_delete`` learn."""

    session: Any
    statement: Any
    parameters: Any
    result: Any

    @property
    def rowcount(self) -> int:
        """How many rows were met."""
        count: int = self.result.rowcount
        return count


async def notify_bulk(ctx: SessionContext, statement: ClauseElement, parameters: object, result: object) -> None:
    """Tell that an UPDATE or DELETE statement over a mapped class was executed; other statements are not told of."""
    if not isinstance(statement, Update | Delete) or not core.mentions_entity(statement):
        return
    name = "after_bulk_update" if isinstance(statement, Update) else "after_bulk_delete"
    hook = ctx.workspace.dispatch.hooks.get(name)
    if hook is not None:
        await ctx.call(hook, BulkContext(ctx.workspace.owner, statement, parameters, result))


def own_dispatch(session: Holding) -> Dispatch:
    """Return the dispatch of one session alone, made when the first handler comes."""
    workspace = session.context.workspace
    if not workspace.is_listened_to:
        workspace.dispatch = Dispatch(Source(workspace.dispatch))
        workspace.is_listened_to = True
    return workspace.dispatch


def shared_dispatch(session: Holding) -> Dispatch:
    """Return the handlers that a session has in common with others: those of its class, or of its maker."""
    workspace = session.context.workspace
    return workspace.dispatch.sources[0].dispatch if workspace.is_listened_to else workspace.dispatch


@register
def find_session(target: object) -> Place | None:
    """Find what listens to a session, or to all sessions of a class."""
    if isinstance(target, Holding):
        return Place("this session", SESSION, own_dispatch(target))
    if isinstance(target, type) and issubclass(target, Holding):
        return Place(target.__name__, SESSION, session_classes.of(target))
    return None
