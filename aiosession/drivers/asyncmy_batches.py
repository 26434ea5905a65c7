"""Put statements together for one round trip, and tell their answers apart.

The answers to statements that are sent together come in the order of the statements: what a row got back is known by
its place, whatever numbers the server gave out to others in the meantime.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiosession.drivers.mysql_values import Quote, filled_text

_MOST_BYTES: Final = 512 * 1024
_MOST_STATEMENTS: Final = 500
_PLACES: Final = r"\(\s*%s(?:\s*,\s*%s)*\s*\)"
_INSERT: Final = re.compile(rf"(\s*INSERT\s+INTO\s.+?\sVALUES\s*)({_PLACES})\s*", re.IGNORECASE | re.DOTALL)
"""An INSERT of one row in which every value is a parameter."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one statement."""

    columns: tuple[str, ...] | None
    rows: Sequence[Sequence[object]]
    count: int


async def answers(cursor: Any, text: bytes, expected: int) -> list[Answer]:
    """Send *text* and read all answers; *expected* is their number, 0 for as many as there are."""
    await cursor.execute(text)
    found = [await _answer(cursor)]
    while await cursor.nextset():
        found.append(await _answer(cursor))
    if expected and len(found) != expected:
        raise ValueError(f"the text holds {len(found)} statements where {expected} should be: {text[:200]!r}")
    return found


async def _answer(cursor: Any) -> Answer:
    if not cursor.description:
        return Answer(None, (), cursor.rowcount)
    rows = await cursor.fetchall()
    return Answer(tuple(column[0] for column in cursor.description), rows, cursor.rowcount)


def each(sql: str, rows: Sequence[Sequence[object]], quote: Quote) -> list[bytes]:
    """Return a statement for each row."""
    text = sql.encode()
    return [filled_text(text, row, quote) for row in rows]


def many(sql: str, rows: Sequence[Sequence[object]], quote: Quote) -> list[bytes]:
    """Return statements that write all rows: an INSERT takes many at once."""
    found = _INSERT.fullmatch(sql) if len(rows) > 1 else None
    if found is None:
        return each(sql, rows, quote)
    start, values = filled_text(found[1].encode(), (), quote), each(found[2], rows, quote)
    return [start + b", ".join(batch) for batch in batches(values, most=len(values))]


def batches(texts: Sequence[bytes], *, most: int = _MOST_STATEMENTS) -> Iterator[Sequence[bytes]]:
    """Yield *texts* in groups that are sent together."""
    start = size = 0
    for place, text in enumerate(texts):
        size += len(text) + 2
        if place > start and (size > _MOST_BYTES or place - start >= most):
            yield texts[start:place]
            start, size = place, len(text) + 2
    if start < len(texts):
        yield texts[start:]
