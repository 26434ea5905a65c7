"""How will a database carry out a statement? Ask it for its plan, in the words that it has for that.

Sources: PostgreSQL's manual, EXPLAIN; "EXPLAIN QUERY PLAN" of SQLite; MariaDB's knowledge base, EXPLAIN and ANALYZE.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from typing_extensions import override

from aiosession.drivers.protocol import Reply
from aiosession.engine.wire import verb
from aiosession.errors import ArgumentError, InvalidRequestError, near

Format = Literal["text", "json"]

SAVEPOINT: Final = "aiosession_explain"
"""What a write that is carried out to be measured is rolled back to."""

_ANOTHER: Final = re.compile(r";[\s;]*[^\s;'\"]")
"""A semicolon after which a statement may begin, which none does with a quotation mark. Some databases carry out what
follows it; where quoted text ends depends on their settings, so that this is all that is looked at."""
_FORMATS: Final = ("text", "json")
_OPTIONS: Final = (
    "buffers",
    "costs",
    "generic_plan",
    "memory",
    "serialize",
    "settings",
    "summary",
    "timing",
    "verbose",
    "wal",
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a database carries out a statement; ``print()`` shows it."""

    sql: str
    """The statement that was asked about, without EXPLAIN."""
    text: str
    """The plan as text; JSON, indented, if that was asked for."""
    rows: tuple[tuple[Any, ...], ...]
    """What the database answered, as it is."""
    data: Any = None
    """What the JSON says; None for a plan that is text."""

    @override
    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    analyze: bool = False
    format: Format = "text"
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.format not in _FORMATS:
            raise ArgumentError(f"format is 'text' or 'json', not {self.format!r}")
        if not isinstance(self.analyze, bool):
            raise ArgumentError(f"analyze is True or False, not {self.analyze!r}")

    def prefix(self, system: str) -> str:
        """Return what stands in front of a statement to have a database of this kind explain it."""
        if self.options and system != "postgresql":
            raise ArgumentError(f"only EXPLAIN of PostgreSQL has options ({', '.join(self.options)}), not {system}")
        if system == "postgresql":
            return self._of_postgresql()
        if system == "sqlite":
            if self.analyze or self.format != "text":
                raise ArgumentError("SQLite explains a plan as text, and measures nothing; leave out analyze, format")
            return "EXPLAIN QUERY PLAN "
        if system == "mysql" and self.analyze and self.format == "json":
            raise ArgumentError("MySQL measures as text only: leave out analyze or format")
        verb = "ANALYZE " if self.analyze and system == "mariadb" else "EXPLAIN "
        verb += "ANALYZE " if self.analyze and system == "mysql" else ""
        return f"{verb}FORMAT=JSON " if self.format == "json" else verb

    def _of_postgresql(self) -> str:
        chosen = ["ANALYZE"] if self.analyze else []
        for name, value in self.options.items():
            if name not in _OPTIONS:
                raise ArgumentError(f"EXPLAIN of PostgreSQL has no option {name!r}{near(name, _OPTIONS)}")
            if not isinstance(value, bool):
                raise ArgumentError(f"{name} is True or False, not {value!r}")
            chosen.append(f"{name.upper()} {'ON' if value else 'OFF'}")
        if self.format == "json":
            chosen.append("FORMAT JSON")
        return f"EXPLAIN ({', '.join(chosen)}) " if chosen else "EXPLAIN "


class Runs(Protocol):
    """Whatever can run a statement of which nothing is known."""

    async def run(self, sql: str, parameters: Sequence[object] = ()) -> Reply:
        """Run one statement."""
        ...


async def ask(wire: Runs, system: str, request: Request, sql: str, values: Sequence[object]) -> Explanation:
    """Have a statement explained."""
    if verb(sql) in {"EXPLAIN", "ANALYZE", "ANALYSE"}:
        raise ArgumentError("this statement is an EXPLAIN already; execute it, or pass the statement that it is about")
    if _ANOTHER.search(sql):
        raise ArgumentError(
            "one statement is explained at a time, and after a semicolon another one could begin; pass each by itself, "
            "and a value that has a semicolon in it as a parameter"
        )
    reply = await wire.run(request.prefix(system) + sql, values)
    rows = tuple(tuple(row) for row in reply.rows)
    if request.format == "json":
        data = rows[0][0] if rows else None
        data = json.loads(data) if isinstance(data, str | bytes) else data
        return Explanation(sql, json.dumps(data, indent=2, default=str), rows, data)
    return Explanation(sql, _text(system, reply.columns or (), rows), rows)


def check_can_undo(isolation_level: str | None) -> None:
    """Refuse to carry out a write, to measure it, where nothing can be rolled back."""
    if isolation_level == "AUTOCOMMIT":
        raise InvalidRequestError(
            "explain(analyze=True) carries a write out and rolls it back, which cannot be done in AUTOCOMMIT; leave "
            "out analyze, or use a transaction"
        )


def _text(system: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    if system == "sqlite":
        return "\n".join(_tree(rows))
    if len(columns) == 1:
        return "\n".join(str(row[0]) for row in rows)
    lines = [tuple(columns), *(tuple("" if value is None else str(value) for value in row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _tree(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return SQLite's steps, those that are part of another one below it."""
    depths: dict[object, int] = {}
    lines = []
    for number, parent, _, detail in rows:
        depths[number] = depths.get(parent, -1) + 1
        lines.append(f"{'  ' * depths[number]}{detail}")
    return lines
