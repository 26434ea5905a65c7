"""Every exception that aiosession raises: one tree, facts in attributes, messages that say what to do.

    AioSessionError
    ├── ArgumentError                       bad argument, known before any I/O
    │   ├── MappingError                    a mapping that cannot work (all problems at once)
    │   └── UnknownAttributeError           a constructor was given a name the class does not have
    ├── InvalidRequestError                 a call that does not fit the state of things
    │   ├── UnmappedError                   a class or object without mapping
    │   ├── NotLoadedError                  an attribute whose value nobody has loaded
    │   ├── ConcurrentUseError              a second operation on a busy session
    │   ├── PendingRollbackError            the transaction has failed; roll back first
    │   ├── ResourceClosedError             use after close
    │   ├── UnboundExecutionError           no engine for this statement
    │   ├── WrongEventLoopError             engine made on another event loop
    │   ├── NoResultFound, MultipleResultsFound
    │   └── ObjectNotFoundError             get_one() or refresh() of a row that is not there
    ├── FlushError
    │   ├── StaleDataError                  a write matched another number of rows than it should
    │   │   └── StaleVersionError           an object that is merged has another version than the row
    │   └── CircularDependencyError         rows that need each other first
    ├── PoolTimeoutError                    no connection within the timeout; names the holders
    └── DatabaseError                       the database said no; the driver's error is the cause
        ├── OperationalError
        │   ├── SerializationError, DeadlockError, LockNotAvailableError      retryable = True
        │   ├── DisconnectError, StatementTimeoutError
        │   ├── CommitOutcomeUnknownError       nobody knows whether it was committed; resolve() asks
        │   │   └── InDoubtError                the same of a commit in two phases; resolve() settles it
        │   └── PartialCommitError              committed on some databases, refused by another
        ├── IntegrityError
        │   └── UniqueViolationError, ForeignKeyViolationError, NotNullViolationError, CheckViolationError
        └── DataError, ProgrammingError, InternalError, NotSupportedError

Each also derives from the class of ``sqlalchemy.exc`` that existing handlers catch.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Final

from sqlalchemy import exc as core_exc
from typing_extensions import override


def near(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, to end a message with, if something known looks like *word*; else nothing."""
    matches = get_close_matches(word, list(known), n=2)
    return f"; did you mean {' or '.join(map(repr, matches))}?" if matches else ""


class AioSessionError(Exception):
    """Root of every error of this package."""


class ArgumentError(AioSessionError, core_exc.ArgumentError):
    """An argument cannot mean anything; raised before any I/O."""


class MappingError(ArgumentError, core_exc.InvalidRequestError):
    """Mappings cannot work; *problems* lists every one that was found."""

    def __init__(self, *problems: str) -> None:
        self.problems: Final = problems
        text = problems[0] if len(problems) == 1 else "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(text if len(problems) == 1 else f"{len(problems)} mapping problems:\n{text}")


class UnknownAttributeError(ArgumentError, TypeError):
    """A constructor was given a keyword that is no attribute of the class."""

    def __init__(self, owner: type, attribute: str, known: Iterable[str]) -> None:
        super().__init__(f"{owner.__name__} has no attribute {attribute!r}{near(attribute, known)}")
        self.owner: Final = owner
        self.attribute: Final = attribute


class InvalidRequestError(AioSessionError, core_exc.InvalidRequestError):
    """The call does not fit the present state of the session, object or connection."""


class UnmappedError(InvalidRequestError):
    """A class or an object that is not mapped was given where an entity is needed."""

    def __init__(self, subject: object) -> None:
        kind = f"class {subject.__qualname__}" if isinstance(subject, type) else f"an object of {type(subject)!r}"
        message = f"{kind} is not mapped; derive the class from a DeclarativeBase or map it with map_imperatively()"
        if isinstance(subject, type) and getattr(subject, "__mapper__", None) is not None:
            message = f"{subject.__qualname__} is a mapped class; one of its objects is needed here"
        super().__init__(message)
        self.subject: Final = subject


class NotLoadedError(InvalidRequestError):
    """An attribute was read whose value is not in memory; reading never does I/O."""

    def __init__(self, *, owner: type, attribute: str, key: object, reason: str, remedy: str) -> None:
        super().__init__(f"{owner.__name__}.{attribute} of {key} is not loaded: {reason}. {remedy}")
        self.owner: Final = owner
        self.attribute: Final = attribute
        self.key: Final = key
        self.reason: Final = reason
        self.remedy: Final = remedy


_A_SESSION_EACH: Final = "give each task its own session, or use `async with session.fork() as other`"


class ConcurrentUseError(InvalidRequestError):
    """A second operation was begun while another one of the session or connection is in flight; nothing was touched."""

    def __init__(
        self,
        *,
        operation: str,
        task: str,
        where: str,
        running: tuple[str, str, str],
        subject: str = "session",
        remedy: str = _A_SESSION_EACH,
    ) -> None:
        running_operation, running_task, running_where = running
        super().__init__(
            f"{operation} in {task} (at {where}) cannot start: {running_operation} of the same {subject} is in flight "
            f"in {running_task} (at {running_where}). A {subject} runs one operation at a time; {remedy}"
        )
        self.operation: Final = operation
        self.task: Final = task
        self.where: Final = where
        self.running_operation: Final = running_operation
        self.running_task: Final = running_task
        self.running_where: Final = running_where


class ReentrantUseError(ConcurrentUseError):
    """The handler of an event awaited a method of the session that is waiting for this very handler."""

    def __init__(self, *, operation: str, task: str, where: str, running: tuple[str, str, str], event: str) -> None:
        super().__init__(operation=operation, task=task, where=where, running=running)
        self.event: Final = event
        waiting, _, since = running
        text = (
            f"{operation} (at {where}) cannot start in a handler of {event!r}: {waiting} of the same session, begun at "
            f"{since}, waits for the handler. {_instead(event)}"
        )
        self.args = (text,)


def _instead(event: str) -> str:
    """Say what a handler may do."""
    if event == "before_flush":
        return "Add, change and delete objects there, and this flush writes them"
    if event == "do_orm_execute":
        return "Use `await state.invoke_statement()` to execute, and state.statement to change what is executed"
    if event in {"after_commit", "after_rollback", "after_soft_rollback"}:
        return "The transaction has ended; do it after the call, or with a session of its own"
    if event.startswith(("before_", "after_")) and event.endswith(("insert", "update", "delete", "begin")):
        return "Execute SQL on the connection that the handler is given"
    return "Do it before or after the call, or with a session of its own"


class PendingRollbackError(InvalidRequestError, core_exc.PendingRollbackError):
    """The transaction has failed and must be rolled back before the session can go on."""

    def __init__(self, cause: BaseException | None) -> None:
        because = "" if cause is None else f" because of {type(cause).__name__}: {cause}".rstrip(": ")
        super().__init__(f"this transaction has failed{because}; call `await session.rollback()` before going on")
        self.cause: Final = cause


class ResourceClosedError(InvalidRequestError, core_exc.ResourceClosedError):
    """A session, connection, transaction or result was used after it was closed."""


class UnboundExecutionError(InvalidRequestError, core_exc.UnboundExecutionError):
    """No engine or connection is known for a statement or class."""


_AN_ENGINE_EACH: Final = (
    "create one engine per event loop, or `await engine.dispose()` on the old loop before using it on a new one. In "
    "tests each test has a loop of its own by default: make the engine in a fixture, or set pytest-asyncio's "
    "loop_scope. Starlette's TestClient has one too: use httpx.AsyncClient with ASGITransport"
)


class WrongEventLoopError(InvalidRequestError):
    """An engine, or a connection of one, was used on another event loop than the one it belongs to."""

    def __init__(self, subject: str = "this engine's connections belong", remedy: str = _AN_ENGINE_EACH) -> None:
        super().__init__(f"{subject} to another event loop; {remedy}")


class NoResultFound(InvalidRequestError, core_exc.NoResultFound):  # noqa: N818 - the name that people catch
    """One row was required and none came."""


class MultipleResultsFound(InvalidRequestError, core_exc.MultipleResultsFound):  # noqa: N818 - the name people catch
    """One row at most was required and more came."""


class ObjectNotFoundError(NoResultFound):
    """The row of an object is not in the database (any more)."""

    def __init__(self, owner: type, identity: object) -> None:
        super().__init__(f"no row of {owner.__name__} with primary key {identity}")
        self.owner: Final = owner
        self.identity: Final = identity


class FlushError(AioSessionError):
    """Pending changes cannot be written as they are."""


_MOST_NAMED: Final = 5


class StaleDataError(FlushError):
    """A write matched another number of rows than objects: somebody else changed or deleted them."""

    def __init__(self, *, table: str, operation: str, expected: int, matched: int, objects: Sequence[str] = ()) -> None:
        more = len(objects) - _MOST_NAMED
        shown = ", ".join(objects[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        who = "rows were" if not objects else f"{shown} was" if len(objects) == 1 else f"some of {shown} were"
        super().__init__(
            f"{operation} on table {table!r} was expected to match {expected} row(s) and matched {matched}: {who} "
            f"changed or deleted elsewhere; roll back, load them again and repeat the change"
        )
        self.objects: Final = tuple(objects)
        """The objects whose rows were meant, as text, with the version that was expected."""
        self.table: Final = table
        self.operation: Final = operation
        self.expected: Final = expected
        self.matched: Final = matched


class StaleVersionError(StaleDataError):
    """An object that is merged carries another version than the row has by now."""

    def __init__(self, subject: str, *, table: str, version: object, current: object) -> None:
        super().__init__(table=table, operation="merge", expected=1, matched=0)
        message = (
            f"{subject} cannot be merged: the object that was given has version {version!r}, the row has {current!r}; "
            f"somebody changed it meanwhile: load it again and repeat the change, or leave the version out of what you "
            f"merge to overwrite the latest row"
        )
        self.args = (message,)
        self.version: Final = version
        self.current: Final = current


class CircularDependencyError(FlushError, core_exc.CircularDependencyError):
    """Rows need each other to exist first; one of the relations has to use ``post_update=True``."""

    def __init__(self, message: str, cycle: Sequence[object] = ()) -> None:
        Exception.__init__(self, message)
        self.cycles = set()
        self.edges = set()
        self.cycle: Final = tuple(cycle)


class PoolTimeoutError(AioSessionError, core_exc.TimeoutError):
    """No connection became free in time; *holders* says who has them and since when."""

    def __init__(self, *, timeout: float, size: int, holders: Sequence[str], waiting: int) -> None:
        listing = "".join(f"\n  - {holder}" for holder in holders)
        super().__init__(
            f"no connection became free within {timeout:g} s: all {size} are in use and {waiting} more task(s) wait. "
            f"Close sessions sooner or raise pool_size/max_overflow. Held by:{listing}"
        )
        self.timeout: Final = timeout
        self.size: Final = size
        self.holders: Final = tuple(holders)
        self.waiting: Final = waiting


class DatabaseError(AioSessionError, core_exc.DatabaseError):
    """The database or its driver refused a statement; the driver's own error is the cause and ``orig``."""

    retryable: ClassVar[bool] = False
    code: Any = ""  # Core's numbers link to pages about Core

    def __init__(
        self,
        statement: str | None,
        parameters: Sequence[object] | None,
        orig: BaseException,
        *,
        hide_parameters: bool = False,
    ) -> None:
        core_exc.DatabaseError.__init__(self, statement, parameters, orig, hide_parameters=hide_parameters)

    @property
    def sql(self) -> str | None:
        """The text of the statement that failed."""
        return self.statement


class OperationalError(DatabaseError, core_exc.OperationalError):
    """The database could not do it now: connection, resources, locks."""


class SerializationError(OperationalError):
    """The transaction could not be serialized with others; repeat it from its beginning."""

    retryable = True


class DeadlockError(OperationalError):
    """The transaction was chosen as the victim of a deadlock; repeat it from its beginning."""

    retryable = True


class LockNotAvailableError(OperationalError):
    """A lock was not to be had (NOWAIT, lock timeout, busy database file)."""

    retryable = True


class DisconnectError(OperationalError):
    """The connection to the database is lost."""


class StatementTimeoutError(OperationalError):
    """The server cancelled the statement because it took too long."""


class CommitOutcomeUnknownError(OperationalError):
    """COMMIT, or a write that commits itself, was sent and its reply never came: the work may or may not be there.

    ``await error.resolve()`` asks the database and returns True (committed), False (rolled back) or None (the
    database cannot tell). PostgreSQL can tell of a transaction that began with a write (unless its engine was made
    with ``track_commits=False``), but not of a commit that was sent as one statement without BEGIN. On None, look for a
    row that only this work writes, then repeat the work or leave it. Raises if the database cannot be reached.
    """

    def __init__(self, orig: BaseException, resolve: Callable[[], Awaitable[bool | None]]) -> None:
        super().__init__("COMMIT", None, orig)
        self._resolve = resolve

    async def resolve(self) -> bool | None:
        """Ask the database whether the transaction was committed; None if it cannot tell."""
        return await self._resolve()


class InDoubtError(CommitOutcomeUnknownError):
    """A commit in two phases was interrupted where nobody can say whether it was decided: all databases will agree.

    ``await error.resolve()`` settles it: it reads the decision, rolls everything back if there is none, finishes what
    is prepared, and returns True (committed) or False (rolled back). Recovery does the same if nobody else does. Raises
    if the database that holds the decision cannot be reached; what is prepared keeps its locks until then. None if it
    is called so late (half an hour) that the decision may have been carried out and forgotten.
    """

    def __init__(self, orig: BaseException, resolve: Callable[[], Awaitable[bool | None]], global_id: str) -> None:
        super().__init__(orig, resolve)
        self.global_id: Final = global_id
        """The name of the unit of work, as it stands in the table of decisions."""


class PartialCommitError(OperationalError):
    """A transaction over several databases was committed on some and not on others.

    *committed* and *refused* name the databases, by their URLs without passwords, in the order in which they were
    asked; the first of the refused is the one whose COMMIT failed (see the cause), the others were rolled back.
    """

    def __init__(self, orig: BaseException, committed: Sequence[str], refused: Sequence[str]) -> None:
        super().__init__("COMMIT", None, orig)
        self.committed: Final = tuple(committed)
        self.refused: Final = tuple(refused)

    @override
    def __str__(self) -> str:
        return (
            f"the work was committed on {', '.join(self.committed)} but not on {', '.join(self.refused)}: {self.orig}. "
            f"Databases commit one after the other; what is committed stays. Call `await session.rollback()`, look at "
            f"what is there, and repeat or undo the rest"
        )


class IntegrityError(DatabaseError, core_exc.IntegrityError):
    """A constraint was violated."""


class UniqueViolationError(IntegrityError):
    """A unique constraint or primary key was violated."""


class ForeignKeyViolationError(IntegrityError):
    """A foreign key points nowhere, or a row that is still referenced was deleted."""


class NotNullViolationError(IntegrityError):
    """A column that may not be NULL got none."""


class CheckViolationError(IntegrityError):
    """A check or exclusion constraint was violated."""


class DataError(DatabaseError, core_exc.DataError):
    """A value does not fit its column: type, range, length, encoding."""


class ProgrammingError(DatabaseError, core_exc.ProgrammingError):
    """The statement is wrong: syntax, unknown table or column, missing privilege."""


class InternalError(DatabaseError, core_exc.InternalError):
    """The database's own failure, or a transaction already aborted."""


class NotSupportedError(DatabaseError, core_exc.NotSupportedError):
    """The database cannot do this."""
