"""How are sessions made alike? `async_sessionmaker` keeps their configuration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, cast, overload

from typing_extensions import override

from aiosession.errors import ArgumentError
from aiosession.events.catalogue import SESSION
from aiosession.events.dispatch import Dispatch, Source, session_classes
from aiosession.events.listening import Place, register
from aiosession.session.binds import BindTable
from aiosession.session.options import option_names, refuse_unknown
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
