"""Remember the statements that an engine sends, to assert on them instead of on internals."""

import re
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final

from aiosession.engine.engine import AsyncEngine
from aiosession.events import StatementEvent

_TRANSACTION_CONTROL: Final = frozenset({"PREPARE", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE"})
_NAME: Final = r'(?:"[^"]+"|`[^`]+`|[\w$]+)'
_TABLE: Final = re.compile(
    rf"\b(INSERT\s+(?:OR\s+\w+\s+)?INTO|UPDATE|DELETE\s+FROM|FROM)\s+(?:ONLY\s+)?(?:{_NAME}\.)?({_NAME})",
    re.IGNORECASE,
)


class StatementLog:
    """The statements that went to the given engines since the log was made, or cleared; a context manager too."""

    def __init__(self, *engines: AsyncEngine) -> None:
        self._engines: Final[Sequence[AsyncEngine]] = engines
        self.events: list[StatementEvent] = []
        """Everything, BEGIN and COMMIT included, in order."""
        self.attach()

    def attach(self) -> None:
        """Start to listen."""
        for engine in self._engines:
            engine.events.after.add(self._remember)

    def detach(self) -> None:
        """Stop to listen; what was heard stays."""
        for engine in self._engines:
            engine.events.after.remove(self._remember)

    def _remember(self, event: StatementEvent) -> None:
        self.events.append(event)

    def clear(self) -> None:
        """Forget what was heard."""
        self.events.clear()

    @property
    def statements(self) -> list[StatementEvent]:
        """The statements without transaction control."""
        return [event for event in self.events if event.kind not in _TRANSACTION_CONTROL]

    @property
    def count(self) -> int:
        """How many statements there were, transaction control not counted."""
        return len(self.statements)

    @property
    def kinds(self) -> list[str]:
        """The verbs of everything that was sent, BEGIN and COMMIT included."""
        return [event.kind for event in self.events]

    @property
    def sql(self) -> list[str]:
        """The texts of the statements, white space evened out."""
        return [" ".join(event.sql.split()) for event in self.statements]

    def of_kind(self, kind: str) -> list[StatementEvent]:
        """Return the statements with this verb."""
        return [event for event in self.events if event.kind == kind.upper()]

    def count_of(self, kind: str) -> int:
        """Return how many statements with this verb there were.

        Writes that went out as one statement (``WITH ... INSERT ..., ... UPDATE ...``) count one by one; any other that
        begins with WITH is a SELECT.
        """
        return sum(verbs_of(event).count(kind.upper()) for event in self.events)

    def tables(self, kind: str) -> list[str]:
        """Return the (first) table of each statement with this verb, in order.

        Writes that went out as one statement (``WITH ... INSERT ..., ... UPDATE ...``) count one by one.
        """
        return [table for event in self.events for table in _tables(event, kind.upper())]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StatementEvent]:
        return iter(self.statements)

    def __enter__(self) -> "StatementLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def __str__(self) -> str:  # type: ignore[explicit-override]  # typing.override is younger than Python 3.11
        return "\n".join(self.sql)


def _tables(event: StatementEvent, kind: str) -> list[str]:
    if event.kind == kind:
        found = _TABLE.search(event.sql)
        return [found.group(2).strip('"`')] if found else []
    if event.kind != "WITH":
        return []
    return [found[2].strip('"`') for found in _TABLE.finditer(event.sql) if found[1].split()[0].upper() == kind]


def verbs_of(event: StatementEvent) -> list[str]:
    """Return what a statement does: its verb, or those of the writes that went out as one."""
    if event.kind != "WITH":
        return [event.kind]
    writes = [found[1].split()[0].upper() for found in _TABLE.finditer(event.sql)]
    return [verb for verb in writes if verb != "FROM"] or ["SELECT"]
