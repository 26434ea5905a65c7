"""What was found out about a database? Findings, good and bad ones, each with what to do about it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from typing_extensions import override


class Level(Enum):
    """How bad something is."""

    OK = "ok"
    WARN = "warn"
    """It works, until something happens."""
    FAIL = "fail"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    text: str
    """What was found and, unless it is good, what to do."""

    @override
    def __str__(self) -> str:
        return f"{self.level.value:4}  {self.subject}: {self.text}"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found out about one database; ``print()`` shows it line by line."""

    url: str
    """Without the password."""
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        found = {each.level for each in self.findings}
        return next((level for level in (Level.FAIL, Level.WARN) if level in found), Level.OK)

    def about(self, subject: str) -> tuple[Finding, ...]:
        """Return the findings about a subject."""
        return tuple(each for each in self.findings if each.subject == subject)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as what JSON can hold."""
        findings = [{"level": each.level.value, "subject": each.subject, "text": each.text} for each in self.findings]
        return {"url": self.url, "level": self.level.value, "findings": findings}

    @override
    def __str__(self) -> str:
        return "\n".join([self.url, *(f"  {each}" for each in self.findings)])


def as_json(diagnoses: Iterable[Diagnosis]) -> str:
    """Return diagnoses as a JSON array."""
    return json.dumps([each.as_dict() for each in diagnoses], indent=2)


def ok(subject: str, text: str) -> Finding:
    """Return a good finding."""
    return Finding(Level.OK, subject, text)


def warn(subject: str, text: str) -> Finding:
    """Return a finding that calls for attention."""
    return Finding(Level.WARN, subject, text)


def fail(subject: str, text: str) -> Finding:
    """Return a finding with which it does not work."""
    return Finding(Level.FAIL, subject, text)
