"""Which objects does a session hold? A set of them that compares by identity, for looking at."""

from collections.abc import Iterable, Iterator, Set
from typing import Any, Final, Self

from typing_extensions import override


class ObjectSet(Set[Any]):
    """Objects at the moment of asking; whether two are the same is a question of identity, never of ``__eq__``."""

    __slots__ = ("_objects",)

    def __init__(self, objects: Iterable[object] = ()) -> None:
        self._objects: Final = {id(obj): obj for obj in objects}

    @override
    def __contains__(self, obj: object) -> bool:
        return id(obj) in self._objects

    @override
    def __iter__(self) -> Iterator[Any]:
        return iter(self._objects.values())

    @override
    def __len__(self) -> int:
        return len(self._objects)

    @classmethod
    @override
    def _from_iterable(cls, it: Iterable[Any]) -> Self:
        return cls(it)

    @override
    def __repr__(self) -> str:
        return f"ObjectSet({list(self._objects.values())!r})"
