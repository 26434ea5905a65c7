"""Bind statements whose text depends on values: IN lists and parameters rendered as literals.

Lists of the same lengths share one rendered text.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.sql.compiler import SQLCompiler

from aiosession import core

Processor = Callable[[object], object]
Refuse = Callable[[str, object, Exception], Exception]

_SHAPES_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where one value of the rendered statement comes from: a parameter, or an element of its list."""

    name: str
    element: int  # in the flattened list; -1 for a plain parameter
    processor: Processor | None


@dataclass(frozen=True, slots=True)
class _Rendered:
    sql: str
    slots: tuple[_Slot, ...]


class ExpandingParameters:
    """The parts of one compiled statement that are rendered when values are known."""

    __slots__ = ("_compiled", "_expanding", "_literal", "_shapes")

    def __init__(self, compiled: SQLCompiler, literal: frozenset[str]) -> None:
        self._compiled: Final = compiled
        self._expanding: Final = tuple(sorted(core.late_parameters(compiled)[0]))
        self._literal: Final = literal
        self._shapes: Final[OrderedDict[tuple[object, ...], _Rendered]] = OrderedDict()

    def bind(self, values: dict[str, object], refuse: Refuse) -> tuple[str, tuple[object, ...]]:
        """Return the rendered text and its values; *refuse* makes the error for a value its type does not take."""
        lists = {}
        for name in self._expanding:
            lists[name] = values[name] = _as_list(name, values[name], refuse)
        rendered = self._rendered(values, lists)
        flat = {name: _flattened(items) for name, items in lists.items()}
        bound = []
        for slot in rendered.slots:
            value = values[slot.name] if slot.element < 0 else flat[slot.name][slot.element]
            if slot.processor is not None:
                try:
                    value = slot.processor(value)
                except Exception as error:
                    raise refuse(slot.name, value, error) from error
            bound.append(value)
        return rendered.sql, tuple(bound)

    def _rendered(self, values: Mapping[str, object], lists: Mapping[str, Sequence[object]]) -> _Rendered:
        if self._literal:
            return self._render(values)
        shape = tuple((len(items), _arity(items)) for items in lists.values())
        found = self._shapes.get(shape)
        if found is None:
            found = self._shapes[shape] = self._render(values)
            if len(self._shapes) > _SHAPES_KEPT:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(shape)
        return found

    def _render(self, values: Mapping[str, object]) -> _Rendered:
        expansion = core.expand(self._compiled, values)
        origin = {key: (name, i) for name, keys in expansion.expanded.items() for i, key in enumerate(keys)}
        processors = core.bind_processors(self._compiled)
        slots = []
        for key in expansion.positions:
            name, element = origin.get(key, (key, -1))
            processor = expansion.processors.get(key) if element >= 0 else processors.get(key)
            slots.append(_Slot(name, element, processor if callable(processor) else None))
        return _Rendered(expansion.sql, tuple(slots))


def _as_list(name: str, value: object, refuse: Refuse) -> list[object]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | set | frozenset):
        try:
            return list(value)  # type: ignore[call-overload,no-any-return]  # anything else that iterates will do
        except TypeError as error:
            raise refuse(name, value, error) from error
    return list(value)


def _arity(items: Sequence[object]) -> int:
    """Return the length of the tuples in a list of tuples, 0 for a list of plain values."""
    if items and isinstance(items[0], Sequence) and not isinstance(items[0], str | bytes):
        return len(items[0])
    return 0


def _flattened(items: Sequence[object]) -> Sequence[object]:
    if not _arity(items):
        return items
    return [value for item in items if isinstance(item, Sequence) for value in item]
