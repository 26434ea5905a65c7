"""Say in a test how many statements something may take."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import ArgumentError
from aiosession.session.scoped import async_scoped_session
from aiosession.session.session import AsyncSession
from aiosession.session.sessionmaker import async_sessionmaker
from aiosession.testing.isolation import bound
from aiosession.testing.statements import StatementLog, verbs_of

Target: TypeAlias = AsyncEngine | AsyncConnection | AsyncSession | async_sessionmaker[Any] | async_scoped_session[Any]
"""What statements are listened to: an engine, or whatever is bound to some."""

_LONGEST: Final = 160
_CONTROL: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})
_KINDS: Final = _CONTROL | {"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP"}
_REMEDY: Final = (
    "Load for all objects at once: options(selectinload(...)) on the query, `await session.load(objects, ...)`, or one "
    "query with in_() in the place of get() in a loop"
)


@contextmanager
def assert_statements(
    target: Target, count: int | None = None, *, most: int | None = None, **kinds: int
) -> Iterator[StatementLog]:
    """Check how many statements the block sends; BEGIN, COMMIT and savepoints do not count unless they are named.

    Args:
        target: An engine, connection, session, sessionmaker or registry; all engines behind it are listened to.
        count: How many statements exactly.
        most: How many statements at most.
        kinds: How many of a kind exactly, by verb: ``select=2, insert=0, commit=1``. Writes that went out as one
            statement count one by one here.

    Yields:
        The `StatementLog` of the block.

    Raises:
        AssertionError: There were more or fewer; it lists what was sent. An error of the block comes first.

    Example:
        ``with assert_statements(session, 2): await session.scalars(query)``

    """
    if count is None and most is None and not kinds:
        raise ArgumentError("assert_statements() takes a count, most=, or counts by verb such as select=1")
    unknown = [kind for kind in kinds if kind.upper() not in _KINDS]
    if unknown:
        raise ArgumentError(f"{', '.join(unknown)}: statements are counted as {', '.join(sorted(_KINDS)).lower()}")
    with StatementLog(*engines_of(target)) as log:
        yield log
    problems = []
    if count is not None and log.count != count:
        problems.append(f"{count} statements were expected, {log.count} were sent")
    if most is not None and log.count > most:
        problems.append(f"{most} statements were expected at most, {log.count} were sent")
    for kind, expected in kinds.items():
        sent = log.count_of(kind)
        if sent != expected:
            problems.append(f"{expected} {kind.upper()} were expected, {sent} were sent")
    if problems:
        raise AssertionError("\n".join([*problems, *_listed(log, every=any(map(_is_control, kinds)))]))


@contextmanager
def assert_no_n_plus_one(target: Target, *, most: int = 1, ignore: str | None = None) -> Iterator[StatementLog]:
    """Check that the block does not send the same SELECT again and again: one for each object instead of one for all.

    Put it around what works on *several* objects: with one object there is nothing to see.

    Args:
        target: An engine, connection, session, sessionmaker or registry; all engines behind it are listened to.
        most: How often a SELECT of the same text may be sent, whatever its parameters.
        ignore: A regular expression; SELECTs in which it is found are not looked at.

    Yields:
        The `StatementLog` of the block.

    Raises:
        AssertionError: A SELECT was sent more often; it names the statement. An error of the block comes first.

    """
    with StatementLog(*engines_of(target)) as log:
        yield log
    ignored = re.compile(ignore) if ignore else None
    texts = Counter(_even(event.sql) for event in log if verbs_of(event) == ["SELECT"])
    repeated = {text: times for text, times in texts.items() if times > most and not (ignored and ignored.search(text))}
    if repeated:
        listed = "\n".join(f"  {times} times: {_shortened(text)}" for text, times in repeated.items())
        raise AssertionError(f"the same SELECT was sent again and again:\n{listed}\n{_REMEDY}")


def engines_of(target: Target) -> list[AsyncEngine]:
    """Return the engines behind something that is bound to them."""
    if isinstance(target, AsyncEngine):
        return [target]
    if isinstance(target, AsyncConnection):
        return [target.engine]
    if isinstance(target, async_scoped_session):
        return engines_of(target.session_factory)  # type: ignore[arg-type]  # something else is refused there
    if isinstance(target, async_sessionmaker):
        binds: list[Any] = list(bound(target))
    elif isinstance(target, AsyncSession):
        binds = [target.bind, *target.binds.binds.values()]
    else:
        raise ArgumentError(f"statements are listened to on an engine or what is bound to one, not on {target!r}")
    found = {id(engine): engine for bind in binds if bind is not None for engine in engines_of(bind)}
    if not found:
        raise ArgumentError(f"{target!r} is bound to no engine that could be listened to; name the engine")
    return list(found.values())


def _is_control(kind: str) -> bool:
    return kind.upper() in _CONTROL


def _listed(log: StatementLog, *, every: bool) -> list[str]:
    events = log.events if every else log.statements
    return [f"  {number}. {_shortened(_even(event.sql))}" for number, event in enumerate(events, 1)] or ["  (nothing)"]


def _even(sql: str) -> str:
    return " ".join(sql.split())


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
