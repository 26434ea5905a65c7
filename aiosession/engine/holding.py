"""Who holds a connection, and what did they ask last? Notes for the pool, put into words when somebody asks."""

from typing import Final

from sqlalchemy import TableClause
from typing_extensions import override

from aiosession import aio
from aiosession.mapping.mapper import Mapper

_LONGEST: Final = 200


class Asked:
    """What was asked last; shared by a session, or connection, and the notes on what it holds."""

    __slots__ = ("what",)

    def __init__(self) -> None:
        self.what: object = None
        """A statement, SQL text, or the mapper of objects that were read or written; None if it was nothing yet."""

    @override
    def __str__(self) -> str:
        what = self.what
        if what is None:
            return "none"
        if isinstance(what, Mapper):
            return f"about objects of class {what.name}"
        if isinstance(what, TableClause):
            return f"about rows of table {what.name}"
        try:
            text = " ".join(str(what).split())
        except Exception:  # some SQL has no text without its dialect
            text = f"a {type(what).__name__}"
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class Holding:
    """What the pool says about somebody who holds a connection."""

    __slots__ = ("_asked", "_place", "_what")

    def __init__(self, what: str, asked: Asked) -> None:
        self._what: Final = what
        self._asked: Final = asked
        self._place: Final = aio.users_place(2)

    @property
    def last(self) -> str:
        """What was asked last."""
        return "" if self._asked.what is None else str(self._asked)

    @override
    def __str__(self) -> str:
        return f"{self._what} {self._place.describe()}"
