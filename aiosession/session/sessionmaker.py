"""How are sessions made alike? `async_sessionmaker` keeps their configuration."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Never, TypeVar, Unpack, cast, overload

from typing_extensions import override

from aiosession.errors import ArgumentError
from aiosession.events.catalogue import SESSION
from aiosession.events.dispatch import Dispatch, Source, session_classes
from aiosession.events.listening import Place, register
from aiosession.session.binds import BindTable
from aiosession.session.options import option_names, refuse_unknown
from aiosession.session.policy import RetryOptions, retry_policy
from aiosession.session.retrying import Retrying
from aiosession.session.session import AsyncSession
from aiosession.transaction.bind import Bind

S = TypeVar("S", bound=AsyncSession)


class async_sessionmaker(Generic[S]):  # noqa: N801 - the name that people know
    """Makes sessions alike: ``Session = async_sessionmaker(engine)``, then ``async with Session() as session:``.

    Takes the options of `AsyncSession`, or of the subclass given as *class_*; unknown ones are refused at once.
    """

    class_: type[S]

    @overload
    def __init__(self, bind: Bind | None = None, *, class_: type[S], **options: Any) -> None: ...
    @overload
    def __init__(self: "async_sessionmaker[AsyncSession]", bind: Bind | None = None, **options: Any) -> None: ...
    def __init__(self, bind: Bind | None = None, *, class_: type[Any] = AsyncSession, **options: Any) -> None:
        if not issubclass(class_, AsyncSession):
            raise ArgumentError(f"class_ is a subclass of AsyncSession, not {class_!r}")
        self.class_ = cast("type[S]", class_)
        self._dispatch = Dispatch(Source(session_classes.of(class_)))
        self.kw: dict[str, Any] = {}
        self.configure(bind=bind, **options)

    def __call__(self, **overrides: Any) -> S:
        """Make a session; *overrides* replace single options for it."""
        session = self.class_(**(self._merged(overrides) if overrides else self.kw))
        session.context.workspace.dispatch = self._dispatch
        return session

    @property
    def dispatch(self) -> Dispatch:
        """The handlers of events of all sessions that were made here; attached by ``events.listen``."""
        return self._dispatch

    def configure(self, **options: Any) -> None:
        """Change options for sessions made from now on."""
        self._check(options)
        self.kw = self._merged(options)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[S]:
        """Make a session in a transaction: committed at the end of the block, rolled back if it raises; then closed."""
        async with self() as session, session.begin():
            yield session

    def retrying(self, *wrong: Never, **options: Unpack[RetryOptions]) -> Retrying[S]:
        """Repeat a unit of work, with a session of its own for each attempt, when it fails through no fault of its own.

        Repeated is what failed by a serialization failure, a deadlock, a lock that was not to be had (errors with
        ``retryable = True``) or a lost connection, as long as it is known that nothing was committed: never after
        `CommitOutcomeUnknownError`, `InDoubtError` or `PartialCommitError`. Any other error is raised at once, and the
        last one as it is, with a note of how many attempts were made.

        As a loop, in which each attempt is a transaction::

            async for attempt in Session.retrying(attempts=5):
                async with attempt as session:
                    account = await session.get_one(Account, 1)
                    account.balance -= 10

        or before a function that takes the session first and is called without it::

            @Session.retrying(attempts=5)
            async def withdraw(session: AsyncSession, amount: int) -> None: ...

        Args:
            wrong: Nothing: options have names, and the decorator has parentheses.
            options: *attempts*, the most there are (5), None for no limit. *timeout*: seconds after which no attempt
                begins any more. *wait*: seconds after the first attempt (0.05), doubled after each, up to *max_wait*
                (2.0); with *jitter* (True) a random time up to that, so that those who collided do not do so again.
                *isolation_level*: of the attempts' transactions. *on*: more exception classes to repeat after,
                `StaleDataError` for one. *before_sleep*: a function, or an ``async def``, that is called with a
                `FailedAttempt` before each wait. Retries are logged as ``aiosession.retrying``.

        """
        return Retrying(cast("Callable[[], AbstractAsyncContextManager[S]]", self), retry_policy(wrong, options))

    def _merged(self, options: dict[str, Any]) -> dict[str, Any]:
        merged = {**self.kw, **options}
        if self.kw.get("info") and options.get("info"):
            merged["info"] = {**self.kw["info"], **options["info"]}
        return merged

    def _check(self, options: dict[str, Any]) -> None:
        known = {*option_names(AsyncSession), *option_names(self.class_)}
        unknown = {name: value for name, value in options.items() if name not in known}
        if unknown:
            refuse_unknown(unknown, known, "a session")
        BindTable(options.get("bind"), options.get("binds"))

    @override
    def __repr__(self) -> str:
        listed = ", ".join(f"{name}={value!r}" for name, value in self.kw.items())
        return f"async_sessionmaker(class_={self.class_.__name__!r}, {listed})"


@register
def find_maker(target: object) -> Place | None:
    """Find what listens to all sessions of a maker."""
    if isinstance(target, async_sessionmaker):
        return Place("this async_sessionmaker", SESSION, target.dispatch)
    return None
