"""Define one row of a result: a tuple whose values also answer to column names and column objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final, Generic, cast

from sqlalchemy.exc import NoSuchColumnError as CoreNoSuchColumnError
from typing_extensions import TypeVarTuple, override

from aiosession import errors

Ts = TypeVarTuple("Ts")

Values = tuple[Any, ...]


class NoSuchColumnError(errors.InvalidRequestError, CoreNoSuchColumnError):
    """A result has no column of that name, or several."""


class Row(tuple[*Ts], Generic[*Ts]):
    """One row: a tuple whose values can also be read as attributes named like the columns.

    ``row._mapping`` finds values by column name or column object; names that are not identifiers are only there.
    """

    __slots__ = ()
    _shape: ClassVar["ResultShape"]

    @property
    def _fields(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self._shape.keys

    @property
    def _mapping(self) -> "RowMapping":
        """The row as a mapping from column names (or column objects) to values."""
        return RowMapping(self._shape, self)

    def _asdict(self) -> dict[str, Any]:
        """Return the row as a dictionary from column names to values."""
        return dict(zip(self._shape.keys, cast("Values", self), strict=True))

    def _tuple(self) -> tuple[*Ts]:
        """Return the row as a plain tuple."""
        return cast("tuple[*Ts]", tuple(cast("Values", self)))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._shape.absent(name))

    @override
    def __repr__(self) -> str:
        return tuple.__repr__(self)

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._shape.keys, tuple(cast("Values", self)))


class RowMapping(Mapping[Any, Any]):
    """A row looked up by column name or column object."""

    __slots__ = ("_shape", "_values")

    def __init__(self, shape: "ResultShape", values: Sequence[object]) -> None:
        self._shape: Final = shape
        self._values: Final = values

    @override
    def __getitem__(self, key: object) -> Any:
        return self._values[self._shape.position(key)]

    @override
    def __contains__(self, key: object) -> bool:
        return self._shape.has(key)

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._shape.keys)

    @override
    def __len__(self) -> int:
        return len(self._shape.keys)

    @override
    def __repr__(self) -> str:
        return repr(dict(zip(self._shape.keys, self._values, strict=True)))


class ResultShape:
    """The columns of a result: their names, the objects that find them, and the class of its rows.

    *objects* holds for each column what finds it in a mapping besides its name; *entities* the positions of mapped
    objects, which are told apart by identity. Make one shape per statement and keep it.
    """

    __slots__ = ("_objects", "_places", "entities", "keys", "row_class")

    def __init__(
        self,
        keys: Iterable[str],
        objects: Sequence[Iterable[object]] = (),
        *,
        entities: Iterable[int] = (),
    ) -> None:
        self.keys: Final = tuple(keys)
        self.entities: Final = frozenset(entities)
        self._objects: Final = tuple(objects)
        self._places: dict[object, int] | None = None
        self.row_class: Final = _row_class(self)

    def position(self, key: object) -> int:
        """Return the position of the column called *key* or found by it."""
        place = self._lookup().get(key)
        if place is None:
            raise NoSuchColumnError(self.absent(key))
        if place < 0:
            raise NoSuchColumnError(_ambiguous(key, self.keys))
        return place

    def has(self, key: object) -> bool:
        """Tell whether there is a column called *key* or found by it."""
        return key in self._lookup()

    def chosen(self, keys: Iterable[object]) -> tuple[tuple[int, ...], "ResultShape"]:
        """Return the positions of some columns and the shape that rows of only these have."""
        places = tuple(key if isinstance(key, int) else self.position(key) for key in keys)
        objects = [self._objects[place] for place in places] if self._objects else ()
        entities = [new for new, old in enumerate(places) if old in self.entities]
        return places, ResultShape([self.keys[place] for place in places], objects, entities=entities)

    def absent(self, key: object) -> str:
        """Say that there is no column *key*, or several, and what there is."""
        if self.keys.count(key) > 1:
            return _ambiguous(key, self.keys)
        hint = errors.near(key, self.keys) if isinstance(key, str) else ""
        shown = repr(key) if isinstance(key, str) else str(key)
        return f"there is no column {shown} in this row, only {', '.join(map(repr, self.keys)) or 'none'}{hint}"

    def _lookup(self) -> dict[object, int]:
        if self._places is None:
            places: dict[object, int] = {}
            for place, found in enumerate(self._objects):
                for item in found:
                    if not isinstance(item, str):
                        places.setdefault(item, place)
            for place, key in enumerate(self.keys):
                places[key] = -1 if key in places else place
            self._places = places
        return self._places


def _row_class(shape: ResultShape) -> type[Row[*tuple[Any, ...]]]:
    """Return the class of the rows of one shape, with a property per column."""
    members: dict[str, object] = {"__slots__": (), "_shape": shape, "__module__": __name__}
    for place, key in enumerate(shape.keys):
        if key.startswith("_"):
            continue
        if shape.keys.count(key) == 1:  # else the look-up fails and says so
            members[key] = property(itemgetter(place))
    return type("Row", (Row,), members)


def _ambiguous(key: object, keys: Sequence[str]) -> str:
    count = sum(1 for each in keys if each == key)
    return f"{count} columns of this row are called {key!r}; label them, or use the position or the column object"


def _rebuilt(keys: tuple[str, ...], values: tuple[object, ...]) -> Row[*tuple[Any, ...]]:
    """Return an unpickled row."""
    return ResultShape(keys).row_class(values)
