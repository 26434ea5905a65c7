"""Ask a statement for many keys at once.

One text for any number of keys where the database takes them as one parameter: arrays on PostgreSQL, ``json_each`` on
SQLite. Else an IN list, padded so that few texts are needed, in chunks that the database takes.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Dialect,
    Enum,
    Integer,
    String,
    TypeDecorator,
    Uuid,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy.sql.type_api import TypeEngine

from aiosession.drivers.protocol import Capabilities
from aiosession.sql.types import bind_processor

Key: TypeAlias = tuple[object, ...]
Parameters: TypeAlias = dict[str, object]

_JSON_TYPES: Final = (Integer, String, Uuid, Enum)
_CHUNK: Final = 1000


class KeyFilter:
    """The ``criterion`` that some columns hold one of many keys, for a WHERE, and the parameters for given keys."""

    __slots__ = ("_parameters", "criterion")

    def __init__(
        self, criterion: ColumnElement[bool], parameters: Callable[[Sequence[Key]], Iterator[Parameters]]
    ) -> None:
        self.criterion: Final = criterion
        self._parameters: Final = parameters

    def parameters(self, keys: Sequence[Key]) -> Iterator[Parameters]:
        """Yield the parameters of each statement that has to be sent for *keys*: mostly one."""
        return self._parameters(keys)


def key_filter(columns: Sequence[ColumnElement[Any]], dialect: Dialect, capabilities: Capabilities) -> KeyFilter:
    """Return the best criterion for keys of *columns* on a database."""
    if capabilities.arrays:
        return _with_arrays(columns)
    if dialect.name == "sqlite" and all(_fits_json(column.type) for column in columns):
        return _with_json(columns, dialect)
    return _with_lists(columns, capabilities.max_parameters)


def _with_arrays(columns: Sequence[ColumnElement[Any]]) -> KeyFilter:
    binds = [bindparam(f"keys_{i}", type_=ARRAY(column.type)) for i, column in enumerate(columns)]
    criterion: ColumnElement[bool]
    if len(columns) == 1:
        criterion = columns[0] == func.any(binds[0])
    else:
        names = [f"key_{i}" for i in range(len(columns))]
        given = func.unnest(*binds).table_valued(*names).render_derived()
        criterion = tuple_(*columns).in_(select(*(given.c[name] for name in names)))
    return KeyFilter(criterion, _array_parameters)


def _array_parameters(keys: Sequence[Key]) -> Iterator[Parameters]:
    yield {f"keys_{i}": list(values) for i, values in enumerate(zip(*keys, strict=True))}


def _fits_json(type_: TypeEngine[Any]) -> bool:
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return isinstance(type_, _JSON_TYPES)


def _with_json(columns: Sequence[ColumnElement[Any]], dialect: Dialect) -> KeyFilter:
    bind: BindParameter[str] = bindparam("keys", type_=String())
    given = func.json_each(bind).table_valued("value")
    criterion: ColumnElement[bool]
    if len(columns) == 1:
        criterion = columns[0].in_(select(given.c.value))
    else:
        parts = [func.json_extract(given.c.value, f"$[{i}]") for i in range(len(columns))]
        criterion = tuple_(*columns).in_(select(*parts))
    return KeyFilter(criterion, _json_parameters([bind_processor(column.type, dialect) for column in columns]))


def _json_parameters(
    processors: Sequence[Callable[[object], object] | None],
) -> Callable[[Sequence[Key]], Iterator[Parameters]]:
    def process(key: Key) -> object:
        values = [
            value if to_driver is None else to_driver(value) for value, to_driver in zip(key, processors, strict=True)
        ]
        return values[0] if len(values) == 1 else values

    def parameters(keys: Sequence[Key]) -> Iterator[Parameters]:
        yield {"keys": json.dumps([process(key) for key in keys])}

    return parameters


def _with_lists(columns: Sequence[ColumnElement[Any]], max_parameters: int) -> KeyFilter:
    subject = columns[0] if len(columns) == 1 else tuple_(*columns)
    size = max(1, min(_CHUNK, max_parameters // len(columns)))

    def parameters(keys: Sequence[Key]) -> Iterator[Parameters]:
        values: Sequence[object] = [key[0] for key in keys] if len(columns) == 1 else keys
        for start in range(0, len(values), size):
            yield {"keys": _padded(values[start : start + size], size)}

    return KeyFilter(subject.in_(bindparam("keys", expanding=True)), parameters)


def _padded(values: Sequence[object], limit: int) -> list[object]:
    # A power of two, so that few texts are compiled and prepared; repeating a value changes nothing.
    wanted = min(limit, 1 << (len(values) - 1).bit_length())
    return [*values, *[values[-1]] * (wanted - len(values))]
