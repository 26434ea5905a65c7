"""Read what libpq writes down of its talk with the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import AsyncConnection


class Wire:
    """What libpq wrote down of its talk with the server."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def sent(self) -> list[str]:
        """Return the kinds of the messages to the server, in order."""
        lines = [line.split("\t") for line in self._file.read_text().splitlines()]
        return [line[3] for line in lines if len(line) > 3 and line[1] == "F"]  # others are what SQL goes on in

    @property
    def round_trips(self) -> int:
        """How often the server was asked and waited for."""
        return self.sent().count("Query") + self.sent().count("Sync")


@contextmanager
def traced(connection: object, folder: Path) -> Iterator[Wire]:
    """Have libpq write down what goes over the wire of a connection of psycopg."""
    assert isinstance(connection, AsyncConnection)
    file = folder / "trace"
    with file.open("wb") as trace:
        connection.pgconn.trace(trace.fileno())
        yield Wire(file)
        connection.pgconn.untrace()
