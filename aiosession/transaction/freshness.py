"""How new must be what is read? A token that one session gives and another one takes, also in another process.

It says for each primary how far in its log of changes a replica has to be. As text it looks like
``db1%3A5432%2Fshop=16B3748``: names are percent-encoded, positions hexadecimal, and several are joined by ``&``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

from typing_extensions import override

from aiosession.engine.replica import NEVER
from aiosession.errors import ArgumentError

_ONLY_PRIMARY: Final = "*"
_MOST_DIGITS: Final = 16
_HEXADECIMAL: Final = frozenset("0123456789ABCDEFabcdef")


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a session has committed, for others that have to see it: made by ``session.freshness()``.

    ``str()`` makes text of it, `parse` makes it of text; it can be pickled, compared, and joined with others by ``|``.
    A text made up by somebody else does no harm: it can only have reads sent to the primary.
    """

    positions: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", MappingProxyType(dict(self.positions)))

    @classmethod
    def parse(cls, text: str) -> "Freshness":
        """Return the token that *text* stands for, which ``str()`` made."""
        if not isinstance(text, str):
            raise ArgumentError(f"a token of freshness is a Freshness or its text, not {text!r}")
        positions: dict[str, float] = {}
        for part in text.split("&") if text else ():
            name, equals, position = part.partition("=")
            if not name or not equals or not _is_position(position):
                raise ArgumentError(f"{text[:100]!r} is no token of freshness; pass on what str(token) returned")
            positions[unquote(name)] = NEVER if position == _ONLY_PRIMARY else int(position, 16)
        return cls(positions)

    def __or__(self, other: "Freshness") -> "Freshness":
        """Return what is as fresh as both."""
        return Freshness({name: max(self.of(name), other.of(name)) for name in {**self.positions, **other.positions}})

    def of(self, name: str) -> float:
        """Return the position for one database; -1 if nothing is said about it."""
        return self.positions.get(name, -1)

    @override
    def __hash__(self) -> int:
        return hash(frozenset(self.positions.items()))

    @override
    def __str__(self) -> str:
        return "&".join(
            f"{quote(name, safe='')}={_ONLY_PRIMARY if position == NEVER else f'{int(position):X}'}"
            for name, position in sorted(self.positions.items())
        )

    @override
    def __reduce__(self) -> tuple[object, tuple[dict[str, float]]]:
        return Freshness, (dict(self.positions),)


def _is_position(text: str) -> bool:
    return text == _ONLY_PRIMARY or (0 < len(text) <= _MOST_DIGITS and _HEXADECIMAL.issuperset(text))


def freshness_of(token: object) -> Freshness:
    """Return a token that was given as such or as text."""
    return token if isinstance(token, Freshness) else Freshness.parse(token)  # type: ignore[arg-type]  # it is checked
