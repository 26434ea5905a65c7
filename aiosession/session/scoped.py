"""Which session is the current one? A registry that hands out one for each request, job or task, and acts as it."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import nullcontext
from functools import wraps
from inspect import getattr_static
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Never, TypeVar, Unpack
from warnings import warn

from sqlalchemy.exc import SAWarning

from aiosession import aio
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.session.policy import RetryOptions, retry_policy
from aiosession.session.query import Query
from aiosession.session.query import query_class as checked_class
from aiosession.session.retrying import Retrying
from aiosession.session.scopes import InContext, Scope, Storage, storage
from aiosession.session.session import AsyncSession
from aiosession.session.sessionmaker import async_sessionmaker

S = TypeVar("S", bound=AsyncSession)


class SessionRegistry(Generic[S]):
    """The registry alone: the current session, without acting as it."""

    __slots__ = ("_make", "_storage")

    def __init__(self, make: Callable[..., S], kept: Storage[S]) -> None:
        self._make: Final = make
        self._storage: Final = kept

    def __call__(self, **options: Any) -> S:
        """Return the current session; make one, with *options*, if there is none."""
        scope = self._storage.get()
        if scope is None:
            scope = Scope(aio.users_place(), is_explicit=False)
            self._storage.put(scope)
        return self.session_of(scope, options)

    def session_of(self, scope: Scope[S], options: dict[str, Any]) -> S:
        """Return the session of *scope*; make one, with *options*, if it has none yet."""
        scope.check()
        session = scope.session
        if session is None:
            session = scope.session = self._make(**options)
        elif options:
            raise InvalidRequestError(
                f"there is a session in this scope already, to which {', '.join(options)} cannot be given any more; "
                f"call remove() first, or configure() before the first use"
            )
        return session

    @property
    def is_of_task(self) -> bool:
        """Whether each task has a session of its own, which the tasks that it starts do not see."""
        return isinstance(self._storage, InContext) and self._storage.is_of_task

    def has(self) -> bool:
        """Whether there is a session in this scope."""
        scope = self._storage.get()
        return scope is not None and scope.session is not None

    def set(self, session: S) -> None:
        """Make *session* the current one; whoever set it closes the one that was there before."""
        scope: Scope[S] = Scope(aio.users_place(), is_explicit=False)
        scope.session = session
        self.clear()
        self._storage.put(scope)

    def clear(self) -> None:
        """Forget the current session without closing it."""
        scope = self._storage.get()
        if scope is not None:
            scope.take()
            self._storage.put(None)

    def take(self) -> S | None:
        """Return the session of this scope, if there is one, and leave the scope without."""
        scope = self._storage.get()
        if scope is None:
            return None
        if not scope.is_explicit or scope.is_over:
            self._storage.put(None)
        return scope.take()

    def open(self, owner: str = "") -> tuple[Scope[S], Scope[S] | None]:
        """Begin a scope whose session is made when it is first asked for; return it, and the one around it.

        *owner* is what messages call that which the scope is for, in the place of where it was opened.
        """
        around = self._storage.get()
        scope: Scope[S] = Scope(aio.users_place(), is_explicit=True, owner=owner)
        self._storage.put(scope)
        return scope, around

    def end(self, scope: Scope[S]) -> S | None:
        """End a scope wherever it is seen; return the session that is left to be closed."""
        scope.is_over = True
        return scope.take()

    def close(self, scope: Scope[S], around: Scope[S] | None) -> S | None:
        """End a scope and go back to the one around it; return the session that is left to be closed."""
        self._storage.put(around)
        return self.end(scope)


class SessionScope(Generic[S]):
    """A request, a job, or whatever else is to have one session: ``async with Session.scope() as session:``."""

    __slots__ = ("_around", "_options", "_registry", "_scope")

    def __init__(self, registry: SessionRegistry[S], options: dict[str, Any]) -> None:
        self._registry: Final = registry
        self._options: Final = options
        self._scope: Scope[S] | None = None
        self._around: Scope[S] | None = None

    async def __aenter__(self) -> S:
        if self._scope is not None:
            raise InvalidRequestError("this scope has been opened already; call scope() again")
        scope, around = self._scope, self._around = self._registry.open()
        try:
            return self._registry.session_of(scope, self._options)
        except BaseException:
            self._registry.close(scope, around)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scope is not None:
            session = self._registry.close(self._scope, self._around)
            if session is not None:
                await session.close()


class QueryProperty:
    """``query = Session.query_property()`` on a mapped class: ``User.query`` is a query of the current session."""

    __slots__ = ("_class", "_registry")

    def __init__(self, registry: SessionRegistry[Any], query_class: type[Query[Any]] | None) -> None:
        self._registry: Final = registry
        self._class: Final = None if query_class is None else checked_class(query_class)

    def __get__(self, instance: object, owner: type[Any]) -> Query[Any]:
        """Return a query for the class that it is asked of."""
        session = self._registry()
        return session.query(owner) if self._class is None else self._class(session, (owner,))


if TYPE_CHECKING:
    _Proxied = AsyncSession
else:

    class _Proxied:
        pass


class async_scoped_session(_Proxied, Generic[S]):  # noqa: N801 - the name that people know
    """A registry of sessions that acts as the current one: ``Session = async_scoped_session(maker)``.

    ``async with Session.scope() as session:`` gives a request or a job its session and closes it at the end. Anywhere
    within, ``Session()`` is that session, and ``await Session.execute(...)``, ``Session.add(...)`` and so on work on
    it. Without a scope, the first use makes a session for the running context, to be ended by ``await
    Session.remove()``. Tasks that are started within a scope share its session, of which one at a time may use it;
    ``session.fork()`` gives others their own.

    Args:
        session_factory: An `async_sessionmaker`, or anything that makes a session when called.
        scopefunc: Called for the key of the current scope, in the place of contexts; keys are held weakly if they can.
        scope: ``"context"``, or ``"task"`` to give each task a session of its own.

    """

    session_factory: Callable[..., S]
    """What makes the sessions."""
    registry: SessionRegistry[S]
    """The registry alone."""

    def __init__(
        self,
        session_factory: Callable[..., S],
        scopefunc: Callable[[], Hashable] | None = None,
        *,
        scope: Literal["context", "task"] = "context",
    ) -> None:
        if not callable(session_factory):
            raise ArgumentError(f"session_factory makes sessions when called; {session_factory!r} cannot be called")
        self.session_factory = session_factory
        self.registry = SessionRegistry(session_factory, storage(scope, scopefunc))

    def __call__(self, **options: Any) -> S:
        """Return the current session; make one if there is none, with *options* in the place of the factory's."""
        return self.registry(**options)

    def scope(self, **options: Any) -> SessionScope[S]:
        """Open a scope with a session of its own, made with *options*: ``async with Session.scope() as session:``."""
        return SessionScope(self.registry, options)

    async def remove(self) -> None:
        """Close the current session, if there is one; the next use makes another."""
        session = self.registry.take()
        if session is not None:
            await session.close()

    def configure(self, **options: Any) -> None:
        """Change the options of sessions made from now on; with a warning if there is a session already."""
        if not isinstance(self.session_factory, async_sessionmaker):
            raise InvalidRequestError("only a registry over an async_sessionmaker can be configured")
        if self.registry.has():
            warn(
                "there is a session in this scope already, which configure() does not change; call it before the first "
                "use",
                SAWarning,
                stacklevel=2,
            )
        self.session_factory.configure(**options)

    def has(self) -> bool:
        """Whether there is a session in this scope."""
        return self.registry.has()

    def set(self, session: S) -> None:
        """Make *session* the current one; whoever set it closes the one that was there before."""
        self.registry.set(session)

    def query_property(self, query_cls: type[Query[Any]] | None = None) -> QueryProperty:
        """Return a property for mapped classes that is a query of the current session."""
        return QueryProperty(self.registry, query_cls)

    if not TYPE_CHECKING:

        def retrying(self, *wrong: Never, **options: Unpack[RetryOptions]) -> Retrying[Any]:
            """Repeat a unit of work on the session that is the current one when it begins."""
            return Retrying(lambda: nullcontext(self.registry()), retry_policy(wrong, options))

        def __contains__(self, instance: object) -> bool:
            return instance in self.registry()

        def __iter__(self) -> Iterator[object]:
            return iter(self.registry())

        def __getattr__(self, name: str) -> Any:
            """Find what only a subclass of the session has."""
            if name.startswith("_") or name in {"registry", "session_factory"}:
                raise AttributeError(name)
            return getattr(self.registry(), name)


def _method(name: str, original: FunctionType) -> Callable[..., Any]:
    @wraps(original)
    def call(self: async_scoped_session[Any], *args: Any, **options: Any) -> Any:
        return getattr(self.registry(), name)(*args, **options)

    return call


def _attribute(name: str, doc: str | None) -> property:
    def get(self: async_scoped_session[Any]) -> Any:
        return getattr(self.registry(), name)

    def put(self: async_scoped_session[Any], value: object) -> None:
        setattr(self.registry(), name, value)

    return property(get, put, doc=doc)


def _act_as_session() -> None:
    """Give the registry the public methods and properties of a session."""
    for name in dir(AsyncSession):
        if name.startswith("_") or name in _OF_THE_SESSION_ALONE or name in vars(async_scoped_session):
            continue
        setattr(async_scoped_session, name, _proxy(name, getattr_static(AsyncSession, name)))


def _proxy(name: str, member: Any) -> object:
    if isinstance(member, staticmethod):
        return member
    return _method(name, member) if isinstance(member, FunctionType) else _attribute(name, member.__doc__)


_OF_THE_SESSION_ALONE: Final = frozenset({"context", "binds"})
_act_as_session()
