"""Which database does a process of a test run work on? Its own: worker gw1 of pytest-xdist has ``shop_gw1``."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
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
    "mariadb": text("SELECT count(*) FROM information_schema.schemata WHERE schema_name = :name"),
}


class NoDatabaseError(RuntimeError):
    """A worker has no database of its own; the message says what to do."""


@contextmanager
def database_of(worker: str | None, url: str, folder: Path) -> Iterator[str]:
    """Have a database for the block that no other worker of the run uses; yield its URL.

    A database on a server is made if it is not there, and dropped at the end by the one who made it. SQLite in memory
    would be another database for each engine, and becomes a file.

    Args:
        worker: The name that pytest-xdist gives to this process; None without it.
        url: The database of the run.
        folder: Where a file goes that nobody has named.

    Raises:
        NoDatabaseError: There is none, and it cannot be made.

    """
    given = create_async_engine(url).url  # which says what is wrong with it
    if given.get_backend_name() == "sqlite":
        yield _text(_file(given, worker, folder))
    elif worker is None or not given.database:
        yield url
    else:
        own = given.set(database=f"{given.database}_{worker}")
        is_made = run_apart(lambda: _make(given, own.database or ""))
        try:
            yield _text(own)
        finally:
            if is_made:
                run_apart(lambda: _drop(given, own.database or ""))


def _file(url: URL, worker: str | None, folder: Path) -> URL:
    """Return the URL of a file in place of memory, and for a worker that of a file of its own."""
    if url.database in _IN_MEMORY or url.query.get("mode") == "memory":
        return url.set(database=str(folder / "test.db")).difference_update_query(["uri", "mode", "cache"])
    file = Path(url.database or "")
    return url if worker is None else url.set(database=str(file.with_name(f"{file.stem}_{worker}{file.suffix}")))


def _text(url: URL) -> str:
    return url.render_as_string(hide_password=False)


async def _make(url: URL, name: str) -> bool:
    """Make a database beside the one of *url*; False if it is there."""
    try:
        async with _beside(url) as connection:
            if await connection.scalar(_EXISTS[_system(url)], {"name": name}):
                return False
            await connection.execute(text(f"CREATE DATABASE {_quoted(connection, name)}"))
    except DatabaseError as error:
        raise NoDatabaseError(
            f"each worker of pytest-xdist needs a database of its own, and {name!r} cannot be made: {error.orig}. Let "
            f"the role of the URL make databases, make them by hand (..._gw0, ..._gw1 for -n 2), or override the "
            f"fixture aiosession_url"
        ) from error
    return True


async def _drop(url: URL, name: str) -> None:
    """Drop a database, unless somebody is still connected to it: the next run uses it again."""
    with suppress(DatabaseError):
        async with _beside(url) as connection:
            await connection.execute(text(f"DROP DATABASE {_quoted(connection, name)}"))


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


def _system(url: URL) -> str:
    return "postgresql" if url.get_backend_name() == "postgresql" else "mariadb"


def _quoted(connection: AsyncConnection, name: str) -> str:
    return str(connection.dialect.identifier_preparer.quote_identifier(name))
