"""Say which operations travel from an object along a relation."""

from collections.abc import Iterable
from enum import Flag, auto

from aiosession.errors import ArgumentError, near


class Cascade(Flag):
    """The operations on a parent that also happen to the objects of a relation."""

    SAVE_UPDATE = auto()
    MERGE = auto()
    REFRESH_EXPIRE = auto()
    EXPUNGE = auto()
    DELETE = auto()
    DELETE_ORPHAN = auto()
    ALL = SAVE_UPDATE | MERGE | REFRESH_EXPIRE | EXPUNGE | DELETE
    DEFAULT = SAVE_UPDATE | MERGE
    NONE = 0

    @classmethod
    def parse(cls, text: "str | Iterable[str] | Cascade") -> "Cascade":
        """Read ``"all, delete-orphan"`` or a sequence of such words; unknown words are refused, "none" beats all."""
        if isinstance(text, Cascade):
            return text
        words = text.split(",") if isinstance(text, str) else list(text)
        result, is_none = cls.NONE, False
        for word in filter(None, (word.strip() for word in words)):
            is_none = is_none or word == "none"
            if word not in _WORDS:
                hint = near(word, _WORDS) or f"; known are {', '.join(sorted(_WORDS))}"
                raise ArgumentError(f"unknown cascade {word!r}{hint}")
            result |= _WORDS[word]
        return cls.NONE if is_none else result


_WORDS = {
    "save-update": Cascade.SAVE_UPDATE,
    "merge": Cascade.MERGE,
    "refresh-expire": Cascade.REFRESH_EXPIRE,
    "expunge": Cascade.EXPUNGE,
    "delete": Cascade.DELETE,
    "delete-orphan": Cascade.DELETE_ORPHAN,
    "all": Cascade.ALL,
    "none": Cascade.NONE,
}
