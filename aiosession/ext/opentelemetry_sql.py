"""What may be told of SQL in telemetry: a summary that groups statements, and the text without values.

Both as the semantic conventions for database spans have it, "Generating a summary of the query" and "Sanitization":
https://opentelemetry.io/docs/specs/semconv/db/database-spans/
"""

import re
from functools import lru_cache
from typing import Final

LONGEST_SUMMARY: Final = 255

_NAME: Final = r'(?:[\w$]+|"[^"]+"|`[^`]+`)(?:\.(?:[\w$]+|"[^"]+"|`[^`]+`))*'
_PASSED_OVER: Final = r"--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'" + r'|"[^"]*"|`[^`]*`'
"""Comments, literals, and quoted names that are not what an operation is about."""
_PARTS: Final = re.compile(
    rf"\b(?P<written>INSERT|REPLACE)\b(?:\s+OR\s+\w+)?\s+INTO\s+(?P<into>{_NAME})"
    rf"|\b(?P<deleted>DELETE)\s+FROM\s+(?:ONLY\s+)?(?P<gone>{_NAME})"
    rf"|(?<!FOR\s)(?<!KEY\s)(?<!DO\s)(?<!ON\s)\b(?P<updated>UPDATE)\s+(?:ONLY\s+)?(?P<changed>(?!SET\b){_NAME})"
    rf"|\b(?P<defined>(?:CREATE|DROP|ALTER|TRUNCATE)\s+(?:UNIQUE\s+)?\w+)\s+"
    rf"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?P<object>{_NAME})"
    rf"|\b(?P<read>SELECT)\b"
    rf"|(?<!DISTINCT\s)\b(?:FROM|JOIN)\s+(?:ONLY\s+|LATERAL\s+)?(?P<source>{_NAME})(?![\w$.]|\s*\()"
    rf"|{_PASSED_OVER}",
    re.IGNORECASE | re.DOTALL,
)
_FIRST: Final = re.compile(r"[A-Za-z]+")
_NUMBER: Final = (
    r"\b0x[0-9a-f_]+\b|\b0b[01_]+\b|\b0o[0-7_]+\b"
    r"|(?<![\w$])\.\d+(?:e[+-]?\d+)?|\b\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?\b"
)
_KEPT: Final = r"(?P<kept>--[^\n]*|/\*.*?(?:\*/|\Z)"
_OF_STANDARD: Final = re.compile(
    _KEPT
    + r"|\"(?:[^\"]|\"\")*\"|`[^`]*`)"
    + r"|\be'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)"
    + r"|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)|"
    + _NUMBER,
    re.DOTALL | re.IGNORECASE,
)
_OF_MYSQL: Final = re.compile(
    _KEPT + r"|\#[^\n]*|`(?:[^`]|``)*`)" + r"|'(?:[^'\\]|\\.|'')*(?:'|\Z)|\"(?:[^\"\\]|\\.|\"\")*(?:\"|\Z)|" + _NUMBER,
    re.DOTALL | re.IGNORECASE,
)
"""Comments and quoted names, which are kept, and literals, whichever comes first."""
_OF_ONE_WORD: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE"})


@lru_cache(maxsize=1024)
def summary(sql: str) -> str:
    """Return operations and their targets in the order of the text: ``SELECT author book``; no values."""
    first = _FIRST.search(sql)
    if first is not None and first.group().upper() in _OF_ONE_WORD:
        return first.group().upper()
    words = [word for found in _PARTS.finditer(sql) for word in found.groups() if word]
    if not words:
        return first.group().upper() if first is not None else ""
    text = " ".join(" ".join(word.split()) for word in words)
    return text if len(text) <= LONGEST_SUMMARY else text[:LONGEST_SUMMARY].rpartition(" ")[0]


@lru_cache(maxsize=1024)
def target(sql: str) -> str | None:
    """Return the one table that a statement is about; None if there are several, or none."""
    words = summary(sql).split()
    return words[1] if len(words) == 2 and words[0].upper() in {"SELECT", "INSERT", "UPDATE", "DELETE"} else None


def sanitised(sql: str, system: str = "postgresql") -> str:
    """Return SQL without the values that are written out in it, and without comments, which may hold some."""
    pattern = _OF_MYSQL if system in {"mysql", "mariadb"} else _OF_STANDARD
    return pattern.sub(_without_value, sql)


def _without_value(found: re.Match[str]) -> str:
    kept = found["kept"]
    return "?" if kept is None else " " if kept.startswith(("--", "/*", "#")) else kept
