"""Make an engine from a URL and options; everything is checked here and nothing is sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Final, Literal, Unpack

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError as CoreArgumentError
from typing_extensions import TypedDict

from aiosession import errors
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import Driver, DriverOptions
from aiosession.drivers.registry import load_driver
from aiosession.drivers.shown_url import shown
from aiosession.engine import options as execution
from aiosession.engine.engine import AsyncEngine, EngineSettings
from aiosession.engine.logger import Echo, slow_logger, statement_logger
from aiosession.events import StatementHooks
from aiosession.sql.cache import StatementCache


class EngineOptions(TypedDict, total=False):
    """What `create_async_engine` takes besides the URL."""

    pool_size: int
    max_overflow: int
    pool_timeout: float
    pool_recycle: float
    pool_pre_ping: bool
    pool_use_lifo: bool
    echo: Echo
    isolation_level: str | None
    connect_args: Mapping[str, Any]
    hide_parameters: bool
    query_cache_size: int
    json_serializer: Callable[[Any], str]
    json_deserializer: Callable[[str], Any]
    execution_options: Mapping[str, Any]
    logging_name: str
    track_commits: bool
    read_only: bool
    slow_statement: float | None
    idle_in_transaction_warning: float | None
    pooler: Literal["transaction"] | None
    statement_deadlines: bool


@dataclass(frozen=True, slots=True)
class _Options:
    """The same with their defaults."""

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 30.0
    pool_recycle: float = -1.0
    pool_pre_ping: bool = False
    pool_use_lifo: bool = True
    echo: Echo = False
    isolation_level: str | None = None
    connect_args: Mapping[str, Any] = field(default_factory=dict)
    hide_parameters: bool = False
    query_cache_size: int = 500
    json_serializer: Callable[[Any], str] | None = None
    json_deserializer: Callable[[str], Any] | None = None
    execution_options: Mapping[str, Any] = field(default_factory=dict)
    logging_name: str | None = None
    track_commits: bool = True
    read_only: bool = False
    slow_statement: float | None = None
    idle_in_transaction_warning: float | None = None
    pooler: Literal["transaction"] | None = None
    statement_deadlines: bool = False


_NAMES: Final = tuple(each.name for each in fields(_Options))
_KINDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "pool_size": ((int,), "a whole number"),
    "max_overflow": ((int,), "a whole number"),
    "query_cache_size": ((int,), "a whole number"),
    "pool_timeout": ((int, float), "a number of seconds"),
    "pool_recycle": ((int, float), "a number of seconds"),
    "pool_pre_ping": ((bool,), "True or False"),
    "pool_use_lifo": ((bool,), "True or False"),
    "hide_parameters": ((bool,), "True or False"),
    "track_commits": ((bool,), "True or False"),
    "read_only": ((bool,), "True or False"),
    "statement_deadlines": ((bool,), "True or False"),
    "connect_args": ((Mapping,), "a mapping"),
    "execution_options": ((Mapping,), "a mapping"),
    "logging_name": ((str, NoneType), "a name"),
    "slow_statement": ((int, float, NoneType), "a number of seconds, or None"),
    "idle_in_transaction_warning": ((int, float, NoneType), "a number of seconds, or None"),
}
_CHOICES: Final[dict[str, tuple[object, ...]]] = {"echo": (True, False, "debug"), "pooler": (None, "transaction")}
_LEAST: Final = {"query_cache_size": 1, "slow_statement": 0}
_ELSEWHERE: Final = {
    "poolclass": "there is one kind of pool; see pool_size and max_overflow",
    "pool": "an engine makes its own pool; see pool_size and max_overflow",
    "creator": "pass connect_args",
    "async_creator": "pass connect_args",
    "future": "there is no other style",
    "echo_pool": 'use logging.getLogger("aiosession.pool")',
    "paramstyle": "the driver decides",
    "pool_logging_name": 'use logging.getLogger("aiosession.pool")',
    "implicit_returning": "set it on the Table",
}


def create_async_engine(url: str | URL, **options: Unpack[EngineOptions]) -> AsyncEngine:
    """Return an engine for *url*, such as ``postgresql+asyncpg://user:secret@host/name`` or ``sqlite:///file.db``.

    Connects when the first statement is run. Pool: *pool_size* connections are kept, *max_overflow* more are opened
    under load; *pool_timeout* seconds are waited for one; connections older than *pool_recycle* seconds are replaced;
    *pool_pre_ping* asks for a sign of life first. *echo* logs statements, *hide_parameters* keeps values out of logs
    and errors, *connect_args* goes to the driver, *query_cache_size* bounds the compiled statements. With
    *track_commits* PostgreSQL tells the number of each transaction that writes, in the answer to BEGIN, so that
    ``CommitOutcomeUnknownError.resolve()`` can ask what became of it. With *read_only* connections are opened so that
    the database refuses whatever would write. With *statement_deadlines* what is left of an enclosing timeout when a
    transaction begins (``anyio.fail_after``, `deadline`) becomes the server's limit for each of its statements.

    To look on: *slow_statement* logs statements that take so many seconds, as warnings of ``aiosession.slow``;
    *idle_in_transaction_warning* does that for those who sit in an open transaction for so long, as warnings of
    ``aiosession.pool``; *logging_name* tells engines apart in logs. ``pooler="transaction"`` says that the URL leads to
    pgbouncer, which lends a connection of the server for one transaction at a time.
    """
    chosen = _checked(options)
    address = _checked_url(url)
    driver = load_driver(address)(
        address,
        DriverOptions(
            connect_args=chosen.connect_args,
            json_serializer=chosen.json_serializer,
            json_deserializer=chosen.json_deserializer,
            track_commits=chosen.track_commits,
            read_only=chosen.read_only,
            pooled=chosen.pooler is not None,
        ),
    )
    _check_pooler(driver, chosen)
    _prepare_dialect(driver)
    pool, hooks = _pool(driver, chosen), _hooks(address, chosen)
    if chosen.idle_in_transaction_warning is not None:
        watch = pool.warn_of_idlers(chosen.idle_in_transaction_warning, chosen.logging_name or shown(address))
        hooks.before.add(watch.sent)
        hooks.after.add(watch.answered)
    return AsyncEngine(
        address,
        driver,
        pool,
        StatementCache(driver.dialect, chosen.query_cache_size, hide_parameters=chosen.hide_parameters),
        EngineSettings(_execution_options(chosen), hooks, chosen.hide_parameters),
    )


def _checked(options: Mapping[str, Any]) -> _Options:
    for name in options:
        _check_name(name)
    chosen = _Options(**options)
    for name, (kinds, wanted) in _KINDS.items():
        value = getattr(chosen, name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise errors.ArgumentError(f"{name} must be {wanted}, not {value!r}")
    _check_values(chosen)
    return chosen


def _check_values(chosen: _Options) -> None:
    for name in ("json_serializer", "json_deserializer"):
        value = getattr(chosen, name)
        if value is not None and not callable(value):
            raise errors.ArgumentError(f"{name} must be a function, not {value!r}")
    for name, choice in _CHOICES.items():
        if getattr(chosen, name) not in choice:
            wanted = ", ".join(map(repr, choice[:-1]))
            raise errors.ArgumentError(f"{name} must be {wanted} or {choice[-1]!r}, not {getattr(chosen, name)!r}")
    for name, least in _LEAST.items():
        value = getattr(chosen, name)
        if value is not None and not value >= least:
            raise errors.ArgumentError(f"{name} must be {least} or more, not {value}")
    limit = chosen.idle_in_transaction_warning
    if limit is not None and not limit > 0:
        raise errors.ArgumentError(f"idle_in_transaction_warning must be more than 0 seconds, not {limit}")


def _check_name(name: str) -> None:
    if name in _ELSEWHERE:
        raise errors.ArgumentError(f"create_async_engine() has no option {name!r}: {_ELSEWHERE[name]}")
    if name not in _NAMES:
        hint = errors.near(name, _NAMES) or f"; there are {', '.join(_NAMES)}"
        raise errors.ArgumentError(f"create_async_engine() has no option {name!r}{hint}")


def _checked_url(url: str | URL) -> URL:
    if not isinstance(url, str | URL):
        raise errors.ArgumentError(f"a database URL is a string or a URL object, not {url!r}")
    try:
        return make_url(url)
    except (CoreArgumentError, ValueError) as error:
        raise errors.ArgumentError(
            "this is not a database URL; it looks like postgresql+asyncpg://user:password@host:port/name or "
            f"sqlite:///path/to/file.db ({_without_secrets(str(error))})"
        ) from None


def _without_secrets(message: str) -> str:
    """Return Core's complaint without the URL, which may hold a password."""
    return message if "'" not in message else message[: message.index("'")].rstrip() + " given string"


def _check_pooler(driver: Driver, chosen: _Options) -> None:
    if chosen.pooler is not None and driver.dialect.name != "postgresql":
        raise errors.ArgumentError(
            f"pooler={chosen.pooler!r} is for PostgreSQL behind pgbouncer; {driver.name} does not know any such thing"
        )


def _prepare_dialect(driver: Driver) -> None:
    """Let INSERT return generated keys as rows: drivers here know no ``lastrowid``."""
    driver.dialect.favor_returning_over_lastrowid = driver.capabilities.returning


def _pool(driver: Driver, chosen: _Options) -> Pool:
    return Pool(
        driver.connect,
        PoolOptions(
            size=chosen.pool_size,
            overflow=chosen.max_overflow,
            timeout=chosen.pool_timeout,
            recycle=chosen.pool_recycle,
            pre_ping=chosen.pool_pre_ping,
            lifo=chosen.pool_use_lifo,
        ),
    )


def _hooks(address: URL, chosen: _Options) -> StatementHooks:
    hooks = StatementHooks()
    name, place, hides = chosen.logging_name, shown(address), chosen.hide_parameters
    logger = statement_logger(chosen.echo, name, place, hide_parameters=hides)
    if logger is not None:
        hooks.after.add(logger)
    if chosen.slow_statement is not None:
        hooks.after.add(slow_logger(chosen.slow_statement, name, place, hide_parameters=hides))
    return hooks


def _execution_options(chosen: _Options) -> dict[str, Any]:
    given = dict(chosen.execution_options)
    if chosen.isolation_level is not None:
        given["isolation_level"] = chosen.isolation_level
    if chosen.read_only:
        given["read_only"] = True
    if chosen.statement_deadlines:
        given["statement_deadlines"] = True
    return execution.checked(given)
