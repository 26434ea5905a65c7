"""Which database does a process of a test run work on? Its own: worker gw1 of pytest-xdist has ``shop_gw1``."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import URL, text

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncConnection
from aiosession.errors import DatabaseError

T = TypeVar("T")

_IN_MEMORY: Final = frozenset({None, "", ":memory:", "file::memory:"})
_EXISTS: Final = {
    "postgresql": text("SELECT count(*) FROM pg_database WHERE datname = :name"),
    **dict.fromkeys(
        ("mariadb", "mysql"), text("SELECT count(*) FROM information_schema.schemata WHERE schema_name = :name")
    ),
}
_LONGEST_NAME: Final = 63
"""Bytes; PostgreSQL cuts what is longer, which would be the database of another worker."""


class NoDatabaseError(RuntimeError):
    """A worker has no database of its own; the message says what to do."""


def database_of(worker: str | None, url: str, folder: Path) -> str:
    """Return the URL of a database that no other worker of the run uses.

    A database on a server is made if it is not there, and stays for the next run, or another one that uses it already.
    SQLite in memory would be another database for each engine, and becomes a file.

    Args:
        worker: The name that pytest-xdist gives to this process; None without it.
        url: The database of the run.
        folder: Where a file goes that nobody has named.

    Raises:
        NoDatabaseError: There is none, and it cannot be made.

    """
    given = create_async_engine(url).url  # which says what is wrong with it
    if given.get_backend_name() == "sqlite":
        return _text(_file(given, worker, folder))
    if worker is None:
        return url
    own = _of_worker(given, worker)
    run_apart(lambda: _make(given, own.database or ""))
    return _text(own)


def _of_worker(url: URL, worker: str) -> URL:
    """Return the URL of a worker's own database."""
    if not url.database:
        raise NoDatabaseError(
            "each worker of pytest-xdist has a database beside the one of the URL, which names none: write its name at "
            "the end, .../shop"
        )
    name = f"{url.database}_{worker}"
    if len(name.encode()) > _LONGEST_NAME:
        raise NoDatabaseError(f"{name!r} is too long for a database (at most {_LONGEST_NAME} bytes): use a shorter one")
    return url.set(database=name)


def _file(url: URL, worker: str | None, folder: Path) -> URL:
    """Return the URL of a file in place of memory, and for a worker that of a file of its own."""
    if url.database in _IN_MEMORY or url.query.get("mode") == "memory":
        return url.set(database=str(folder / "test.db")).difference_update_query(["uri", "mode", "cache"])
    file = Path(url.database or "")
    return url if worker is None else url.set(database=str(file.with_name(f"{file.stem}_{worker}{file.suffix}")))


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


async def _make(url: URL, name: str) -> None:
    """Make a database beside the one of *url*, if it is not there."""
    async with _beside(url) as connection:
        if await _is_there(connection, name):
            return
        try:
            await connection.execute(text(f"CREATE DATABASE {_quoted(connection, name)}"))
        except DatabaseError as error:
            if await _is_there(connection, name):  # another run was faster
                return
            raise NoDatabaseError(
                f"each worker of pytest-xdist needs a database of its own, and {name!r} cannot be made: {error.orig}. "
                f"Let the role of the URL make databases, make them by hand (..._gw0, ..._gw1 for -n 2), or override "
                f"the fixture aiosession_url"
            ) from error


async def _is_there(connection: AsyncConnection, name: str) -> bool:
    return bool(await connection.scalar(_EXISTS[connection.dialect.name], {"name": name}))


@asynccontextmanager
async def _beside(url: URL) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def run_apart(work: Callable[[], Awaitable[T]]) -> T:
    """Run *work* on an event loop in a thread of its own, so that those of the tests are not touched."""

    async def main() -> T:
        return await work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, main()).result()


def _quoted(connection: AsyncConnection, name: str) -> str:
    return str(connection.dialect.identifier_preparer.quote_identifier(name))
