"""What may be told of SQL in telemetry: a summary that groups statements, and the text without values.

Both as the semantic conventions for database spans have it, "Generating a summary of the query" and "Sanitization":
https://opentelemetry.io/docs/specs/semconv/db/database-spans/
"""

import re
from functools import lru_cache
from typing import Final

LONGEST_SUMMARY: Final = 255

_NAME: Final = r'(?:[\w$]+|"[^"]+"|`[^`]+`)(?:\.(?:[\w$]+|"[^"]+"|`[^`]+`))*'
_HIDDEN: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_PARTS: Final = re.compile(
    rf"\b(?P<written>INSERT|REPLACE)\b(?:\s+OR\s+\w+)?\s+INTO\s+(?P<into>{_NAME})"
    rf"|\b(?P<deleted>DELETE)\s+FROM\s+(?:ONLY\s+)?(?P<gone>{_NAME})"
    rf"|(?<!FOR\s)(?<!KEY\s)(?<!DO\s)(?<!ON\s)\b(?P<updated>UPDATE)\s+(?:ONLY\s+)?(?P<changed>(?!SET\b){_NAME})"
    rf"|\b(?P<defined>(?:CREATE|DROP|ALTER|TRUNCATE)\s+(?:UNIQUE\s+)?\w+)\s+"
    rf"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<object>{_NAME})"
    rf"|\b(?P<read>SELECT)\b"
    rf"|(?<!DISTINCT\s)\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?(?P<source>{_NAME})(?![\w$.]|\s*\()",
    re.IGNORECASE,
)
_FIRST: Final = re.compile(r"[A-Za-z]+")
_LITERAL: Final = re.compile(
    r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", re.DOTALL | re.IGNORECASE
)
_OF_ONE_WORD: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE"})


@lru_cache(maxsize=1024)
def summary(sql: str) -> str:
    """Return operations and their targets in the order of the text: ``SELECT author book``; no values."""
    first = _FIRST.search(sql)
    if first is not None and first.group().upper() in _OF_ONE_WORD:
        return first.group().upper()
    words = [word for found in _PARTS.finditer(_HIDDEN.sub("?", sql)) for word in found.groups() if word]
    if not words:
        return first.group().upper() if first is not None else ""
    text = " ".join(" ".join(word.split()) for word in words)
    return text if len(text) <= LONGEST_SUMMARY else text[:LONGEST_SUMMARY].rpartition(" ")[0]


@lru_cache(maxsize=1024)
def target(sql: str) -> str | None:
    """Return the one table that a statement is about; None if there are several, or none."""
    words = summary(sql).split()
    return words[1] if len(words) == 2 and words[0].upper() in {"SELECT", "INSERT", "UPDATE", "DELETE"} else None


def sanitised(sql: str) -> str:
    """Return SQL without the values that are written out in it."""
    return _LITERAL.sub("?", sql)
