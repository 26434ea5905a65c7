"""Private MariaDB servers for tests: made in a temporary folder, on a free port, gone at the end.

The server's programs are looked for in the folder ``AIOSESSION_MARIADB_BIN``, then on the PATH and in the folders in
which packages put them. Everything here blocks: call it outside of an event loop, or in a thread.
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

from aiosession.testing.server import PrivateServer, ServerUnavailableError

HOW_TO_GET: Final = "no MariaDB server: install the package mariadb-server (10.5 or newer)"
"""One line for the reason of a skipped test."""

SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bind-address": "127.0.0.1",
        "skip-name-resolve": "1",
        "skip-log-bin": "1",
        "innodb-flush-log-at-trx-commit": "0",
        "innodb-flush-method": "nosync",
        "innodb-doublewrite": "0",
        "innodb-buffer-pool-size": "64M",
        "innodb-log-file-size": "16M",
        "innodb-lock-wait-timeout": "10",
        "key-buffer-size": "1M",
        "aria-pagecache-buffer-size": "1M",
        "character-set-server": "utf8mb4",
        "collation-server": "utf8mb4_nopad_bin",
        "performance-schema": "0",
        "max-connections": "200",
    }
)
"""What a server is started with: quick, and not durable if the machine fails; texts differ if a byte does."""

_USER: Final = "aiosession"
_PROGRAMS: Final = {
    "install": ("mariadb-install-db", "mysql_install_db"),
    "server": ("mariadbd", "mysqld"),
}
_USUAL: Final = ("/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")


class MariadbUnavailableError(ServerUnavailableError):
    """No server can be had here; the message says why, or where the programs are to be had."""


def find_binaries() -> dict[str, Path] | None:
    """Return the programs that ``install`` a server and are the ``server``, None if one of them is missing."""
    chosen = os.environ.get("AIOSESSION_MARIADB_BIN", "")
    folders = os.pathsep.join((chosen, os.environ.get("PATH", ""), *_USUAL))
    found: dict[str, Path] = {}
    for role, names in _PROGRAMS.items():
        place = next((path for name in names if (path := shutil.which(name, path=folders))), None)
        if place is None:
            return None
        found[role] = Path(place)
    return found


class MariadbServer(PrivateServer):
    """A running server of our own; `stop` it, or leave that to the end of the process."""

    unavailable = MariadbUnavailableError
    accounts = ("mysql", "nobody")
    foreign = ("MYSQL_", "MARIADB_")
    sign_of_life = b"ready for connections"
    polite = signal.SIGTERM
    rude = signal.SIGKILL

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise MariadbUnavailableError(HOW_TO_GET)
        self._binaries = binaries
        self._settings = {**SETTINGS, **(settings or {})}
        super().__init__("aiosession-mariadb-")

    def url(self, database: str = "test", *, driver: str = "mariadb+asyncmy") -> str:
        """Return the URL of a database on this server."""
        return f"{driver}://{_USER}@127.0.0.1:{self.port}/{database}"

    @override
    def _create(self) -> None:
        accounts = self._folder / "accounts.sql"
        accounts.write_text(
            "CREATE DATABASE IF NOT EXISTS test;\n"
            f"CREATE USER IF NOT EXISTS {_USER}@'127.0.0.1';\n"
            f"GRANT ALL ON *.* TO {_USER}@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        accounts.chmod(0o644)
        own = [f"--datadir={self._data}", f"--tmpdir={self._folder}", "--auth-root-authentication-method=normal"]
        quick = [f"--{name}={value}" for name, value in self._settings.items() if name.startswith("innodb-")]
        self._run(self._binaries["install"], "--no-defaults", *own, "--skip-test-db", *quick)

    @override
    def _command(self) -> Sequence[str]:
        own = {
            "datadir": str(self._data),
            "port": str(self.port),
            "socket": str(self._folder / "socket"),
            "tmpdir": str(self._folder),
            "pid-file": str(self._folder / "pid"),
            "init-file": str(self._folder / "accounts.sql"),
        }
        settings = [f"--{name}={value}" for name, value in (self._settings | own).items()]
        return [str(self._binaries["server"]), "--no-defaults", *settings]


@contextmanager
def mariadb_server(settings: Mapping[str, str] | None = None) -> Iterator[MariadbServer]:
    """Run a server for the length of a ``with`` block."""
    server = MariadbServer(settings)
    try:
        yield server
    finally:
        server.stop()
