"""What do loading and the unit of work get of a session? Its objects, and a way to its databases.

They ask `SessionContext.wire` for every statement that they send and never see the session itself. What the context
cannot do at its own height (flushing, finding the engine of a class) is handed in by the session.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import isawaitable
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import URL, ClauseElement

from aiosession.aio import Guard
from aiosession.drivers.protocol import TransactionOptions, Wire
from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.engine.holding import Asked
from aiosession.engine.replicated import ReplicatedEngine
from aiosession.errors import ArgumentError, InvalidRequestError, ResourceClosedError
from aiosession.events import Hook
from aiosession.events.operations import OperationEvent, session_operations, told
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.purity import is_pure, may_change, may_write
from aiosession.state.workspace import Workspace
from aiosession.transaction.bind import Bind, BindTransaction
from aiosession.transaction.joining import JoinMode
from aiosession.transaction.operation import Operation, operation_of
from aiosession.transaction.placement import Placement
from aiosession.transaction.reads import Reads
from aiosession.transaction.tenant import Tenant
from aiosession.transaction.two_phase import Coordinator
from aiosession.transaction.unit import SessionTransaction


class Locate(Protocol):
    """Finds the engine or connection for a class or a statement; may answer with an awaitable."""

    def __call__(
        self, mapper: AnyMapper | None, clause: ClauseElement | None, /, **hints: Any
    ) -> Bind | Awaitable[Bind]:
        """Return the bind, or raise `UnboundExecutionError`."""
        ...


class Handed(Protocol):
    """What handlers of events are handed, made by the session."""

    def connection(self, share: BindTransaction) -> AsyncConnection:
        """Return the connection of a transaction, usable while the session's own operation waits."""
        ...

    def transaction(self, context: "SessionContext", level: SessionTransaction) -> object:
        """Return the handle on a level of the transaction."""
        ...


_UNOBSERVED: Final = nullcontext()
Flush: TypeAlias = Callable[["SessionContext"], Awaitable[None]]
"""Writes pending changes before a query."""


class Deeds:
    """What a session has done for good; its forks add to it."""

    __slots__ = ("are_committed",)

    def __init__(self) -> None:
        self.are_committed = False
        """Whether something that was written is committed, or may be: no rollback undoes all that was done."""


class SessionContext:
    """One session as the layers below it see it: a workspace of objects and the transaction they are written in."""

    __slots__ = (
        "_flush",
        "_reads",
        "allows_lone_write",
        "asked",
        "autobegins",
        "autoflushes",
        "block",
        "closed",
        "deeds",
        "expires_on_commit",
        "flushing",
        "guard",
        "handed",
        "has_written",
        "heard",
        "join_mode",
        "level",
        "locate",
        "operation",
        "options",
        "override",
        "placement",
        "reopens",
        "tenant",
        "two_phase",
        "was_heard",
        "workspace",
    )

    flushing: bool
    """Whether a flush is in progress."""
    has_written: bool
    """Whether the transaction has sent something that may have written, be it undone in a savepoint."""
    operation: Operation | None
    """What a bind is being looked for, for get_bind() to ask; None while none is."""
    was_heard: bool
    """Whether handlers were told of the objects of the last flush: they may have left something to write."""
    reopens: bool
    """Whether the session can be used again after close()."""
    allows_lone_write: bool
    """The flush in progress is all that its transaction consists of and COMMIT follows at once: a plan of one
    statement, none of whose effects might have to be undone afterwards, may be sent with ``wire(lone=True)``."""
    level: SessionTransaction | None
    """The innermost level of the transaction; None while nothing has begun."""
    asked: Asked
    """What was asked last: a statement, or the mapper of objects that were read or written."""
    block: object
    """The ``async with session.begin()`` block that is being run, which owns the transaction."""
    override: Bind | None
    """The bind that the call in progress was given explicitly."""
    placement: Placement | None
    """Who says in which of several databases things are; None if a class has one place."""
    tenant: Tenant | None
    """Whose schemas everything goes to; None if tables are where they say."""
    two_phase: Callable[[SessionTransaction], Coordinator] | None
    """Makes what has all databases of a transaction commit as one; None where each commits by itself."""

    heard: Callable[[OperationEvent], None] | None
    """Counts what the session does; None unless somebody wants that."""

    def __init__(
        self,
        workspace: Workspace,
        locate: Locate,
        flush: Flush,
        options: TransactionOptions,
        guard: Guard | None = None,
    ) -> None:
        self.workspace: Final = workspace
        self.guard: Final = Guard() if guard is None else guard
        self.heard = None
        self.options: Final = options
        self.locate: Final = locate
        self._flush: Final = flush
        self.autoflushes = self.autobegins = self.expires_on_commit = True
        self.closed = self.reopens = self.flushing = self.was_heard = self.allows_lone_write = False
        self.has_written = False
        self.deeds = Deeds()
        self.join_mode = JoinMode.CONDITIONAL_SAVEPOINT
        self.asked = Asked()
        self.operation = self.level = self.block = self.override = None
        self.placement = self.tenant = self.two_phase = None
        self.handed: Handed | None = None
        self._reads: Reads | None = None

    @property
    def has_committed(self) -> bool:
        """Whether something that was written here, or in a fork, is committed, or may be."""
        return self.deeds.are_committed

    @property
    def root(self) -> SessionTransaction | None:
        """The outermost level of the transaction."""
        level = self.level
        while level is not None and level.parent is not None:
            level = level.parent
        return level

    @property
    def reads(self) -> Reads:
        """Where reads go on databases that have replicas."""
        if self._reads is None:
            self._reads = Reads()
        return self._reads

    @reads.setter
    def reads(self, reads: Reads) -> None:
        self._reads = reads

    def configure(self, *, autoflushes: bool, autobegins: bool, expires_on_commit: bool, reopens: bool) -> None:
        """Set how the session behaves."""
        self.autoflushes = autoflushes
        self.autobegins = autobegins
        self.expires_on_commit = expires_on_commit
        self.reopens = reopens

    async def wire(
        self,
        *,
        mapper: AnyMapper | None = None,
        clause: Any = None,
        pure: bool,
        lone: bool = False,
        token: object | None = None,
    ) -> tuple[AsyncEngine, Wire]:
        """Return the engine and the wire for one statement about *mapper* or *clause*.

        A *pure* read gets a connection of its own for the duration of the wire's verb as long as no transaction is
        open on its bind; anything else opens one, except a *lone* write (see `allows_lone_write`). *token* says which
        of several databases is meant.
        """
        self.asked.what = mapper if clause is None else clause
        operation = operation_of(clause, pure=pure, flushing=self.flushing)
        bind = await self.bind(operation, mapper=mapper, clause=clause, token=token)
        level = self.level or self.enter()
        if isinstance(bind, ReplicatedEngine):
            bind = self.reads.place(bind, level, pure=pure, flushing=self.flushing)
        wire = await level.wire(bind, pure=pure, write=not pure and may_write(clause), lone=lone)
        if not pure and may_change(clause):
            self.has_written = True
            self.deeds.are_committed |= level.autocommits
        if self.workspace.dispatch.hooks and isinstance(wire, BindTransaction):
            await self.announce_begin(wire)
        return (bind if isinstance(bind, AsyncEngine) else bind.engine), wire

    async def bind(
        self,
        operation: Operation,
        *,
        mapper: AnyMapper | None = None,
        clause: Any = None,
        token: object | None = None,
        **hints: Any,
    ) -> Bind:
        """Return the engine or connection for *mapper* or *clause*; nothing is sent and nothing begins."""
        if token is not None and self.placement is not None:
            bind = self.placement.bind(token)
        else:
            bind = self.override or await self._located(operation, mapper, clause, hints)
        return bind if self.tenant is None else self.tenant.on(bind)

    async def _located(
        self, operation: Operation, mapper: AnyMapper | None, clause: Any, hints: dict[str, Any]
    ) -> Bind:
        self.operation = operation
        try:
            bind = self.locate(mapper, clause, **hints)
            return bind if isinstance(bind, AsyncEngine | AsyncConnection) else await awaited_bind(bind)
        finally:
            self.operation = None

    async def engine(
        self, *, mapper: AnyMapper | None = None, clause: Any = None, token: object | None = None
    ) -> AsyncEngine:
        """Return the engine for writing to *mapper* or *clause*; nothing is sent and nothing begins."""
        bind = await self.bind(Operation.FLUSH, mapper=mapper, clause=clause, token=token)
        return bind if isinstance(bind, AsyncEngine) else bind.engine

    async def share(
        self,
        *,
        mapper: AnyMapper | None = None,
        clause: Any = None,
        options: TransactionOptions | None = None,
        token: object | None = None,
    ) -> BindTransaction:
        """Return the open transaction on the bind of *mapper* or *clause*, begun now, with *options*, if it was not."""
        bind = await self.bind(self._purpose(clause), mapper=mapper, clause=clause, token=token)
        level = self.enter()
        if isinstance(bind, ReplicatedEngine):
            bind = self.reads.place(bind, level, pure=False, flushing=self.flushing)
        share = await level.share_of(bind, options)
        self.has_written = True  # nobody knows what is going to be sent
        if self.workspace.dispatch.hooks:
            await self.announce_begin(share)
        return share

    def _purpose(self, clause: ClauseElement | None) -> Operation:
        """Return what a transaction is wanted for."""
        if clause is None and not self.flushing:
            return Operation.CONNECTION
        return operation_of(clause, pure=clause is not None and is_pure(clause), flushing=self.flushing)

    def enter(self) -> SessionTransaction:
        """Return the innermost level of the transaction, begun now if there was none."""
        level = self.level
        if level is None:
            if self.block is not None:
                raise InvalidRequestError(
                    "the transaction of this `async with session.begin()` block has ended; leave the block first"
                )
            if not self.autobegins:
                raise InvalidRequestError(
                    "this session was made with autobegin=False and no transaction has begun; "
                    "call `await session.begin()`, or use `async with session.begin():`"
                )
            level = self.new_level(self.options)
        return level

    def new_level(self, options: TransactionOptions, *, is_explicit: bool = False) -> SessionTransaction:
        """Begin the outermost level of a transaction; nothing is sent."""
        level = self.level = SessionTransaction(options, self.join_mode, is_explicit=is_explicit)
        level.asked = self.asked
        if self.two_phase is not None:
            level.coordinator = self.two_phase(level)
        self.announce_level("after_transaction_create", level)
        return level

    # Events

    def listens(self, *names: str) -> bool:
        """Whether anybody listens to one of these events of the session."""
        hooks = self.workspace.dispatch.hooks
        return bool(hooks) and not hooks.keys().isdisjoint(names)

    async def fire(self, name: str, *args: object) -> None:
        """Call the handlers of an event of the session, with the session and *args*."""
        hook = self.workspace.dispatch.hooks.get(name)
        if hook is not None:
            await self.call(hook, self.workspace.owner, *args)

    async def call(self, hook: Hook[...], *args: object) -> None:
        """Call handlers that the operation in progress waits for."""
        with self.waiting_for_handlers(hook.name):
            await hook(*args)

    @contextmanager
    def waiting_for_handlers(self, event: str) -> Iterator[None]:
        """Say that the operation in progress waits for handlers of *event* within the block."""
        before, self.guard.event = self.guard.event, event
        try:
            yield
        finally:
            self.guard.event = before

    def observed(self, operation: str) -> AbstractContextManager[None]:
        """Return a context in which an operation is to be done: whoever measures is told of it."""
        if self.heard is None and not session_operations:
            return _UNOBSERVED
        return told(operation, self.workspace.owner, self.heard)

    def announce_level(self, name: str, level: SessionTransaction) -> None:
        """Call the handlers of an event about a level of the transaction, which are plain functions."""
        hook = self.workspace.dispatch.hooks.get(name)
        if hook is not None and self.handed is not None:
            hook.now(self.workspace.owner, self.handed.transaction(self, level))

    async def announce_begin(self, share: BindTransaction) -> None:
        """Tell handlers, once, that a transaction has begun on a bind."""
        if not share.is_announced and self.level is not None and self.handed is not None:
            share.is_announced = True
            if self.listens("after_begin"):
                transaction = self.handed.transaction(self, self.level)
                await self.fire("after_begin", transaction, self.handed.connection(share))

    @property
    def last_statement(self) -> str:
        """What was sent last, for messages."""
        return str(self.asked)

    @property
    def has_changes(self) -> bool:
        """Whether a flush might have anything to write."""
        workspace = self.workspace
        return bool(workspace.new or workspace.dirty or workspace.deleted)

    @property
    def has_work(self) -> bool:
        """Whether a commit has anything to keep: changes in memory, or a transaction that has begun on a database."""
        return self.has_changes or (self.level is not None and bool(self.level.shares))

    async def autoflush(self) -> None:
        """Write pending changes, if the session does that before queries."""
        if self.autoflushes and self.has_changes:
            with self.bound_to(None):
                await self._flush(self)

    @contextmanager
    def bound_to(self, bind: Bind | None) -> Iterator[None]:
        """Send everything within to *bind*; with None, where it belongs."""
        before, self.override = self.override, bind
        try:
            yield
        finally:
            self.override = before

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Look for places to write to within the block, as a flush does."""
        before, self.flushing = self.flushing, True
        try:
            yield
        finally:
            self.flushing = before

    def check_open(self) -> None:
        """Raise `ResourceClosedError` if the session is closed."""
        if self.closed:
            raise ResourceClosedError(
                "this session is closed, with its block or with the request that it was for; make a new one (a "
                "background task opens its own: `async with sessions() as session:`), or call `await session.reset()` "
                "instead of close() to use a session again"
            )


async def awaited_bind(found: object) -> Bind:
    """Return what an ``async def get_bind()`` found."""
    return checked_bind(await found if isawaitable(found) else found, "get_bind() has to return", "it returned")


def checked_bind(bind: object, wanted: str, got: str = "got") -> Bind:
    """Return *bind* if it is an engine or a connection; *wanted* and *got* are for the error that is raised if not."""
    if isinstance(bind, AsyncEngine | AsyncConnection):
        return bind
    kind = type(bind)
    shown, hint = f"{kind.__module__}.{kind.__qualname__}", ""
    if bind is None:
        shown = "None"
    elif isinstance(bind, str | URL):  # which may hold a password, and is not shown
        hint = "; pass create_async_engine(url)"
    elif kind.__module__.startswith("sqlalchemy."):
        hint = "; engines are made by aiosession.create_async_engine(), not by SQLAlchemy's function of that name"
    raise ArgumentError(
        f"{wanted} an engine, as create_async_engine() makes it, or a connection of one; {got} {shown}{hint}"
    )
