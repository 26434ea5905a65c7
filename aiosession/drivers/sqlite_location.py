"""Say which database file a URL means, and with which options it is opened.

``sqlite://`` and ``:memory:`` mean a database in memory that all connections of one engine share.
"""

import itertools
import math
import os
import re
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import quote, urlencode

from sqlalchemy import URL

from aiosession.drivers import arguments
from aiosession.drivers.shown_url import shown
from aiosession.errors import ArgumentError

NAME: Final = "sqlite+aiosqlite"

_URI_OPTIONS: Final = ("mode", "cache", "vfs", "immutable", "nolock", "psow")
_OPTIONS: Final = ("uri", "timeout", "cached_statements", "pragmas", *_URI_OPTIONS)
_KINDS: Final[dict[str, type]] = {"uri": bool, "timeout": float, "cached_statements": int}
_MEMORY_NAMES: Final = frozenset({None, "", ":memory:", "file::memory:"})
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRAGMA_VALUE: Final = re.compile(r"-?[A-Za-z0-9_]+")
_MEMDB_SINCE: Final = (3, 36, 0)
_BUSY_TIMEOUT: Final = 5.0
_CACHED_STATEMENTS: Final = 512

_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Location:
    """A database and how to open it."""

    database: str
    is_uri: bool
    is_memory: bool
    timeout: float
    cached_statements: int
    pragmas: Mapping[str, str]

    def open(self) -> sqlite3.Connection:
        """Open a connection that commits by itself outside of BEGIN; blocks."""
        connection = sqlite3.connect(
            self.database,
            timeout=self.timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=self.cached_statements,
            uri=self.is_uri,
        )
        try:
            for name, value in self.pragmas.items():
                self._set(connection, name, value)
            connection.create_function("regexp", 2, _regexp, deterministic=True)
            connection.create_function("floor", 1, _floor, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set(self, connection: sqlite3.Connection, name: str, value: str) -> None:
        if name != "journal_mode":
            connection.execute(f"PRAGMA {name}={value}").close()
            return
        if _value(connection, "PRAGMA journal_mode") == value.lower():
            return
        # SQLite does not wait for its lock when the mode of a file changes, so we do.
        ends = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute(f"PRAGMA journal_mode={value}").close()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                    return
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                    raise
                time.sleep(0.005)
            else:
                return


def location(url: URL, connect_args: Mapping[str, object], *, read_only: bool = False) -> Location:
    """Return the database that *url* names; complain about what SQLite cannot understand."""
    if url.username or url.password or url.host or url.port or "\0" in (url.database or ""):
        raise ArgumentError(
            f"{shown(url)} is no SQLite URL: write sqlite:///relative/file.db, sqlite:////absolute/file.db "
            f"or sqlite:// for a database in memory"
        )
    options = arguments.checked_options(NAME, {**url.query, **connect_args}, _OPTIONS)
    options = arguments.converted(NAME, options, _KINDS)
    is_memory = url.database in _MEMORY_NAMES or options.get("mode") == "memory"
    if read_only:
        if is_memory:
            raise ArgumentError("a database in memory that is opened with read_only=True would stay empty for ever")
        options["mode"] = "ro"
    if is_memory:
        database, is_uri = _memory_name(), True
    else:
        database, is_uri = _file_name(cast("str", url.database), options)
    return Location(
        database=database,
        is_uri=is_uri,
        is_memory=is_memory,
        timeout=cast("float", options.get("timeout", _BUSY_TIMEOUT)),
        cached_statements=cast("int", options.get("cached_statements", _CACHED_STATEMENTS)),
        pragmas=_pragmas(options.get("pragmas", {}), is_memory=is_memory),
    )


def _memory_name() -> str:
    """Return a name that no other engine of this process uses."""
    name = f"aiosession-{os.getpid()}-{next(_numbers)}"
    if sqlite3.sqlite_version_info >= _MEMDB_SINCE:
        return f"file:/{name}?vfs=memdb"
    return f"file:{name}?mode=memory&cache=shared"


def _file_name(database: str, options: Mapping[str, object]) -> tuple[str, bool]:
    """Return what sqlite3 calls the file, and whether that is a URI."""
    uri_options = {name: str(options[name]) for name in _URI_OPTIONS if name in options}
    is_uri = bool(options.get("uri", False)) or bool(uri_options)
    if not is_uri:
        return database, False
    start = database if database.startswith("file:") else f"file:{quote(database)}"
    if not uri_options:
        return start, True
    return f"{start}{'&' if '?' in start else '?'}{urlencode(uri_options)}", True


def _pragmas(given: object, *, is_memory: bool) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{NAME}: option 'pragmas' needs a mapping of names to values, not {given!r}")
    pragmas = {"foreign_keys": "ON"} if is_memory else {"foreign_keys": "ON", "journal_mode": "WAL"}
    for name, value in given.items():
        if not _WORD.fullmatch(str(name)) or not _PRAGMA_VALUE.fullmatch(str(value)):
            raise ArgumentError(f"{NAME}: {name!r}={value!r} is no pragma; values are words or whole numbers")
        pragmas[str(name).lower()] = str(value)
    return pragmas


def _value(connection: sqlite3.Connection, sql: str) -> object:
    cursor = connection.execute(sql)
    try:
        return cursor.fetchone()[0]
    finally:
        cursor.close()


def _regexp(pattern: str, text: str | None) -> bool | None:
    """Answer the operator REGEXP, which SQLite leaves to the application."""
    return None if text is None else re.search(pattern, text) is not None


def _floor(number: float | None) -> int | None:
    """Stand in for the mathematical function that not every SQLite is built with."""
    return None if number is None else math.floor(number)
