"""What aiosession makes of a URL: ``sqlite+threads:///file.db``."""

import sqlite3
import threading
from collections.abc import Mapping
from typing import Any, Final, cast

from sqlalchemy import URL, Dialect
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from aiosession.drivers.protocol import Capabilities, DriverOptions
from aiosession.errors import ArgumentError, DatabaseError
from aiosession_sqlite3 import errors
from aiosession_sqlite3.connection import ThreadsConnection
from aiosession_sqlite3.worker import Worker

NAME: Final = "sqlite+threads"
CAPABILITIES: Final = Capabilities(
    returning=sqlite3.sqlite_version_info >= (3, 35),
    arrays=False,
    fetch_each=True,
    two_phase=False,
    server_side_cancel=True,
    row_locks=False,
    single_writer=True,
    concurrent_reads=True,
    counts_many=True,
    copies=False,
    combines_writes=False,
    max_parameters=32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999,
    returning_sees_triggers=False,
)
_OPTIONS: Final[Mapping[str, type[int] | type[float]]] = {"timeout": float, "cached_statements": int}
"""What a URL may say after its question mark."""


class ThreadsDriver:
    """SQLite files through sqlite3, with a thread for each connection; see `aiosession.drivers.protocol.Driver`."""

    def __init__(self, url: URL, options: DriverOptions) -> None:
        self._file: Final = _file(url)
        self._arguments: Final[dict[str, Any]] = {**_arguments(url), **options.connect_args}
        self._dialect: Final = SQLiteDialect_pysqlite(
            dbapi=sqlite3,
            json_serializer=options.json_serializer,
            json_deserializer=cast("Any", options.json_deserializer),
        )
        # What Core would ask the first connection for; here no connection is ever made by the dialect.
        self._dialect.server_version_info = sqlite3.sqlite_version_info
        self._dialect.default_schema_name = "main"
        self._opening: Final = threading.Lock()

    @property
    def name(self) -> str:
        """The name in URLs."""
        return NAME

    @property
    def dialect(self) -> Dialect:
        """Core's dialect for SQLite."""
        return self._dialect

    @property
    def capabilities(self) -> Capabilities:
        """What SQLite can do."""
        return CAPABILITIES

    async def connect(self) -> ThreadsConnection:
        """Open a connection in a thread of its own."""
        worker = Worker(self._open)
        await worker.open()
        return ThreadsConnection(worker)

    def _open(self) -> sqlite3.Connection:
        """Open the file, in the thread; BEGIN and COMMIT are ours to send."""
        raw: sqlite3.Connection = sqlite3.connect(
            self._file, **{**self._arguments, "isolation_level": None, "check_same_thread": False}
        )
        try:
            self._dialect.on_connect()(cast("Any", raw))  # functions that Core expects
            raw.execute("PRAGMA foreign_keys = 1").close()
            with self._opening:  # the first one changes the file, for which SQLite does not wait
                raw.execute("PRAGMA journal_mode = WAL").close()
        except BaseException:
            raw.close()
            raise
        return raw

    def translate(self, error: BaseException) -> type[DatabaseError] | None:
        """Return the class that stands for sqlite3's *error*."""
        return errors.translate(error)

    def is_disconnect(self, error: BaseException) -> bool:
        """Say whether *error* means that the connection has been closed."""
        return errors.is_disconnect(error)

    async def dispose(self) -> None:
        """Nothing lives beside the connections."""


def _file(url: URL) -> str:
    if url.host or url.port or url.username or url.password or url.database in (None, "", ":memory:"):
        raise ArgumentError(
            f"{url.render_as_string()} names no file: write {NAME}:///relative/file.db or {NAME}:////absolute/file.db"
        )
    return str(url.database)


def _arguments(url: URL) -> dict[str, int | float]:
    """Return what a URL says to ``sqlite3.connect()``."""
    arguments: dict[str, int | float] = {}
    for name, value in url.query.items():
        if name not in _OPTIONS:
            raise ArgumentError(f"{NAME} has no option {name!r} in its URL; it has {', '.join(_OPTIONS)}")
        try:
            arguments[name] = _OPTIONS[name](str(value))
        except ValueError as error:
            raise ArgumentError(f"{NAME}: the option {name!r} is a number, not {value!r}") from error
    return arguments
