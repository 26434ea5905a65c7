"""What private database servers for tests have in common: a process of our own, in a temporary folder, on a free port.

Everything here blocks: call it outside of an event loop, or in a thread.
"""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

_STARTS: Final = 5
_START_DEADLINE: Final = 30.0
_STOP_DEADLINE: Final = 10.0


class ServerUnavailableError(RuntimeError):
    """No server can be had here; the message says why, or where the programs are to be had."""


class PrivateServer:
    """A running server of our own; `stop` it, or leave that to the end of the process."""

    unavailable: ClassVar[type[ServerUnavailableError]]
    """What is raised where it cannot be had."""
    accounts: ClassVar[tuple[str, ...]]
    """Whom to run it as instead of root, which servers refuse to be: the first one that exists."""
    foreign: ClassVar[tuple[str, ...]]
    """Beginnings of environment variables that would point elsewhere."""
    sign_of_life: ClassVar[bytes]
    """What the log says when it takes connections."""
    polite: ClassVar[signal.Signals]
    """Asks it to stop."""
    rude: ClassVar[signal.Signals]
    """Ends it as a crash would."""

    def __init__(self, prefix: str) -> None:
        self._account = self._find_account()
        self._folder = Path(tempfile.mkdtemp(prefix=prefix))
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._server: subprocess.Popen[bytes] | None = None
        self.port = 0
        """Where it listens, on 127.0.0.1."""
        atexit.register(self.stop)
        try:
            if self._account is not None:
                shutil.chown(self._folder, self._account)
            self._create()
            self.start()
        except BaseException:
            self.stop()
            raise

    def _create(self) -> None:
        """Make the files of an empty database server."""
        raise NotImplementedError

    def _command(self) -> Sequence[str]:
        """Return the command that runs the server on our port."""
        raise NotImplementedError

    def _run(self, program: Path, *arguments: str) -> None:
        done = subprocess.run(
            [str(program), *arguments],
            user=self._account,
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise self.unavailable(f"{program.name} failed: {done.stderr.strip() or done.stdout.strip()}")

    def start(self) -> None:
        """Start the server, on another port than before if that is taken."""
        for _ in range(_STARTS):
            self.port = self.port or _free_port()
            if self._try_to_start():
                return
            self.port = 0
        raise self.unavailable(f"the server does not start: {self._log.read_text()[-2000:]}")

    def _try_to_start(self) -> bool:
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(
                list(self._command()),
                user=self._account,
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the keyboard is for the tests, not for the server
            )
        ends = time.monotonic() + _START_DEADLINE
        while time.monotonic() < ends and self._server.poll() is None:
            if self.sign_of_life in self._log.read_bytes():
                return True
            time.sleep(0.02)
        self._end_server(self.rude)
        return False

    def kill(self) -> None:
        """End the server the hard way, as a crash would; `start` brings it back on the same port."""
        self._end_server(self.rude)

    def _end_server(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(how)
        try:
            server.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            server.send_signal(self.rude)
            server.wait(_STOP_DEADLINE)

    def stop(self) -> None:
        """Stop the server and remove its files; may be called again."""
        self._end_server(self.polite)
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def _find_account(self) -> str | None:
        """Return whom to run the server as; None for the user that we are."""
        if os.name != "posix" or os.geteuid() != 0:
            return None
        known = {entry.pw_name for entry in pwd.getpwall()}
        for name in self.accounts:
            if name in known:
                return name
        raise self.unavailable("a database server does not run as root and there is no user to run it as")

    def _environment(self) -> dict[str, str]:
        """Return an environment in which no variable of the user's points elsewhere."""
        foreign = (*self.foreign, "LC_", "LANG")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
