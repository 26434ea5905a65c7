"""Let code commit as it likes, and undo all of it at the end of a test."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.engine.transacting import Advice
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.session.scoped import async_scoped_session
from aiosession.session.session import AsyncSession
from aiosession.session.sessionmaker import async_sessionmaker
from aiosession.transaction.bind import Bind

_SHARED: Final = Advice(
    concurrent_use=(
        "within rolled_back() all sessions share one connection, so do these things one after the other; a test of "
        "what runs at once needs sessions on an engine (the fixture aiosession_engine) and tables that it empties"
    ),
    other_loop=(
        "within rolled_back() all sessions share one connection, on the event loop of the test. Starlette's TestClient "
        "runs the application on a loop of its own: in its place use httpx.AsyncClient("
        "transport=httpx.ASGITransport(app), base_url='http://test'), awaited in the test"
    ),
)
S = TypeVar("S", bound=AsyncSession)


@asynccontextmanager
async def rolled_back(
    sessions: async_sessionmaker[S] | async_scoped_session[S],
) -> AsyncIterator[async_sessionmaker[S]]:
    """Have every session that *sessions* makes live inside a transaction that is rolled back at the end of the block.

    Each engine that the sessions are bound to (``bind``, ``binds``, ``shards``) lends one connection, on which a
    transaction is begun. The sessions commit and roll back as they like: to them it is the real thing, to the database
    it is a savepoint. Where they are bound to such connections already, because blocks are nested, the inner block is a
    savepoint of the outer one: so tests share what is costly to make, and undo what is their own.

    All sessions share the one connection, so one of them at a time can be used; ``fork()`` is refused, commits are not
    prepared (``twophase`` is off), and nobody outside sees what they write.

    Args:
        sessions: The application's `async_sessionmaker`, or a registry over one. It is changed for the block.

    Yields:
        The sessionmaker.

    Raises:
        ArgumentError: *sessions* is something else, is not bound to anything, or chooses engines in a get_bind() of
            its own, behind the back of this block.

    """
    maker = sessions.session_factory if isinstance(sessions, async_scoped_session) else sessions
    if not isinstance(maker, async_sessionmaker):
        raise ArgumentError(f"rolled_back() takes an async_sessionmaker, or a registry over one, not {maker!r}")
    if not bound(maker):
        raise ArgumentError(f"{maker!r} is bound to no engine; configure(bind=engine) before rolled_back()")
    if maker.class_.get_bind is not AsyncSession.get_bind and not maker.kw.get("shards"):
        raise ArgumentError(
            f"{maker.class_.__name__} has a get_bind() of its own, whose choices cannot be led to one connection; give "
            f"the sessionmaker binds={{class: engine}} instead, or test it on tables that are emptied"
        )
    before = dict(maker.kw)
    async with AsyncExitStack() as stack:
        loan = _Loan(stack)
        maker.kw = {name: await loan.replaced(value) for name, value in before.items()}
        maker.kw["join_transaction_mode"] = "create_savepoint"
        maker.kw.pop("twophase", None)
        lent = bound(maker)
        try:
            yield maker
            if bound(maker) != lent:
                raise InvalidRequestError(
                    "the sessionmaker was configured anew within rolled_back(), so that what its sessions wrote is "
                    "there for good: configure it before (in a fixture: in aiosession_maker)"
                )
        finally:
            maker.kw = before


def bound(maker: async_sessionmaker[Any]) -> list[Bind]:
    """Return what sessions of *maker* are bound to, each once."""
    found: dict[int, Bind] = {}
    for option in maker.kw.values():
        for each in option.values() if isinstance(option, Mapping) else (option,):
            if isinstance(each, AsyncEngine | AsyncConnection):
                found[id(each)] = each
    return list(found.values())


class _Loan:
    """The connections of a block, one for each engine."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack: Final = stack
        self._lent: Final[dict[int, AsyncConnection]] = {}

    async def replaced(self, option: Any) -> Any:
        """Return an option of a sessionmaker with connections where it had engines."""
        if isinstance(option, Mapping):
            return {key: await self.replaced(value) for key, value in option.items()}
        return await self._connection(option) if isinstance(option, AsyncEngine | AsyncConnection) else option

    async def _connection(self, bind: Bind) -> AsyncConnection:
        connection = self._lent.get(id(bind))
        if connection is None:
            connection = self._lent[id(bind)] = await self._begun(bind)
        return connection

    async def _begun(self, bind: Bind) -> AsyncConnection:
        if isinstance(bind, AsyncConnection):
            transaction = await bind.begin_nested() if bind.in_transaction() else await bind.begin()
            self._stack.push_async_callback(transaction.rollback)
            return bind
        connection = await self._stack.enter_async_context(bind.connect())
        connection.advise(_SHARED)
        await connection.begin()
        return connection
