"""A private PgBouncer for tests: in front of a private PostgreSQL, on a free port, gone at the end.

The program is looked for where ``AIOSESSION_PGBOUNCER`` says, then on the path. Everything here blocks: call it outside
of an event loop, or in a thread.
"""

import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from typing_extensions import override

from aiosession.testing.postgres import PostgresCluster
from aiosession.testing.server import PrivateServer, ServerUnavailableError

HOW_TO_GET: Final = "no PgBouncer: apt-get install pgbouncer, or name the program in AIOSESSION_PGBOUNCER"
"""One line for the reason of a skipped test."""

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pool_mode": "transaction",
        "default_pool_size": "3",
        "max_client_conn": "200",
        "auth_type": "any",
        "listen_addr": "127.0.0.1",
        "unix_socket_dir": "",
        "server_round_robin": "1",
        "query_wait_timeout": "20",
    }
)
"""Few connections to the server, taken in turns, so that nothing works that relies on getting the same one again."""

_USER: Final = "postgres"
_PLACES: Final = ("/usr/sbin", "/usr/bin", "/usr/local/bin")


class PgbouncerUnavailableError(ServerUnavailableError):
    """None can be had here; the message says why, or where the program is to be had."""


def find_binary() -> Path | None:
    """Return the program, None if there is none."""
    chosen = os.environ.get("AIOSESSION_PGBOUNCER")
    if chosen:
        return Path(chosen)
    found = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", ""), *_PLACES)))
    return None if found is None else Path(found)


class Pgbouncer(PrivateServer):
    """A running PgBouncer of our own; `stop` it, or leave that to the end of the process."""

    unavailable = PgbouncerUnavailableError
    accounts = ("postgres", "nobody")
    foreign = ("PG",)
    sign_of_life = b"process up"
    polite = signal.SIGTERM
    rude = signal.SIGKILL

    def __init__(self, cluster: PostgresCluster, settings: Mapping[str, str] | None = None) -> None:
        program = find_binary()
        if program is None:
            raise PgbouncerUnavailableError(HOW_TO_GET)
        self._program = program
        self._cluster = cluster
        self._settings = {**SETTINGS, **(settings or {})}
        super().__init__("aiosession-pgbouncer-")

    def url(self, database: str = "postgres", *, driver: str = "postgresql+asyncpg") -> str:
        """Return the URL of a database of the cluster, through here."""
        return f"{driver}://{_USER}@127.0.0.1:{self.port}/{database}"

    @override
    def _create(self) -> None:
        """Nothing: its one file is written when the port is known."""

    @override
    def _command(self) -> Sequence[str]:
        lines = ["[databases]", f"* = host=127.0.0.1 port={self._cluster.port} user={_USER}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in self._settings.items()]
        file = self._folder / "pgbouncer.ini"
        file.write_text("\n".join([*lines, f"listen_port = {self.port}", f"admin_users = {_USER}", ""]))
        file.chmod(0o644)
        return [str(self._program), str(file)]


@contextmanager
def pgbouncer(cluster: PostgresCluster, settings: Mapping[str, str] | None = None) -> Iterator[Pgbouncer]:
    """Run one for the length of a ``with`` block."""
    server = Pgbouncer(cluster, settings)
    try:
        yield server
    finally:
        server.stop()
