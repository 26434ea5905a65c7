"""Hold the rows that a statement returned, all in memory, and hand them out as rows, scalars or mappings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast, overload

from typing_extensions import TypeVarTuple, override

from aiosession import errors
from aiosession.engine.row import ResultShape, Row, RowMapping

T = TypeVar("T")
Item = TypeVar("Item")
Ts = TypeVarTuple("Ts")

Values = Sequence[Any]
Take = Callable[[Sequence[Values]], list[Any]]
Strategy = Callable[[Any], object]

NOT_ROWS: Final = ResultShape(())


class OneColumn(Sequence[Values]):
    """Rows of one value each, held as their values."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values: Final = values

    @override
    def __len__(self) -> int:
        return len(self.values)

    @override
    def __iter__(self) -> Iterator[Values]:
        return zip(self.values, strict=True)

    @overload
    def __getitem__(self, place: int) -> Values: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Values]: ...
    @override
    def __getitem__(self, place: int | slice) -> Values | Sequence[Values]:
        return OneColumn(self.values[place]) if isinstance(place, slice) else (self.values[place],)


class BufferedRows(Generic[Item]):
    """What results, scalars and mappings have in common: rows in memory, a position, a way to make items of them."""

    __slots__ = ("_closed", "_keys_of", "_position", "_rows", "_seen", "_shape", "_take")

    def __init__(self, shape: ResultShape, rows: Sequence[Values], take: Take) -> None:
        self._shape: Final = shape
        self._rows: Sequence[Values] = rows
        self._take: Final = take
        self._position = 0
        self._closed: str | None = None
        self._keys_of: Strategy | None = None
        self._seen: set[object] = set()

    @property
    def closed(self) -> bool:
        """Whether this result was closed, by ``close()`` or by a method that consumes it."""
        return self._closed is not None

    def close(self) -> None:
        """Let go of the rows; later calls raise `ResourceClosedError`."""
        self._close("close()")

    def all(self) -> list[Item]:
        """Return all remaining items."""
        return self._next_items(None)

    def fetchmany(self, size: int | None = None) -> list[Item]:
        """Return the next *size* items, fewer at the end; all of them without a size."""
        return self._next_items(size)

    def fetchone(self) -> Item | None:
        """Return the next item, None at the end."""
        found = self._next_items(1)
        return found[0] if found else None

    def first(self) -> Item | None:
        """Return the first remaining item, None if there is none; closes the result."""
        found = self._next_items(1)
        self._close("first()")
        return found[0] if found else None

    def one(self) -> Item:
        """Return the only item; `NoResultFound` or `MultipleResultsFound` otherwise."""
        found = self._next_items(2)
        self._close("one()")
        return only(found)

    def one_or_none(self) -> Item | None:
        """Return the only item, None if there is none; `MultipleResultsFound` if there are more."""
        found = self._next_items(2)
        self._close("one_or_none()")
        return only(found) if found else None

    def partitions(self, size: int | None = None) -> Iterator[list[Item]]:
        """Yield lists of at most *size* items."""
        while chunk := self._next_items(size):
            yield chunk

    def unique(self, strategy: Strategy | None = None) -> Self:
        """Leave out items that came before; *strategy* gives what they are compared by."""
        self._keys_of = strategy if strategy is not None else self._default_strategy()
        return self

    def __iter__(self) -> Iterator[Item]:
        self._check_open()
        start = self._position
        chosen = () if self._keys_of is not None else self._take(self._rows[start:])
        for number, item in enumerate(chosen, start):
            if self._position != number or self._keys_of is not None or self._closed is not None:
                break  # the result was used within the loop: one by one from here
            self._position = number + 1
            yield item
        while items := self._next_items(1):
            yield items[0]

    def __next__(self) -> Item:
        items = self._next_items(1)
        if not items:
            raise StopIteration
        return items[0]

    def _default_strategy(self) -> Strategy:
        return row_strategy(self._shape)

    def _close(self, how: str) -> None:
        self._closed = how
        self._rows = ()

    def _check_open(self) -> None:
        if self._closed is not None:
            raise errors.ResourceClosedError(f"this result was closed by {self._closed}; its rows are gone")

    def _next_items(self, size: int | None) -> list[Item]:
        """Return the next *size* items, all if None."""
        self._check_open()
        if self._keys_of is not None:
            return list(islice(self._unseen(), size))
        start = self._position
        end = len(self._rows) if size is None else min(start + size, len(self._rows))
        self._position = end
        chosen = self._rows if start == 0 and end == len(self._rows) else self._rows[start:end]
        return self._take(chosen)

    def _unseen(self) -> Iterator[Item]:
        keys_of = self._keys_of
        while self._position < len(self._rows) and keys_of is not None:
            (item,) = self._take(self._rows[self._position : self._position + 1])
            self._position += 1
            key = keys_of(item)
            if key not in self._seen:
                self._seen.add(key)
                yield item


class ScalarResult(BufferedRows[T]):
    """The values of one column."""

    __slots__ = ("_is_entity",)

    def __init__(self, shape: ResultShape, rows: Sequence[Values], index: int = 0) -> None:
        super().__init__(shape, rows, taking_column(index))
        self._is_entity: Final = index in shape.entities

    @override
    def _default_strategy(self) -> Strategy:
        return id if self._is_entity else hashable


class MappingResult(BufferedRows[RowMapping]):
    """Rows as mappings from column names to values."""

    __slots__ = ()

    def __init__(self, shape: ResultShape, rows: Sequence[Values]) -> None:
        super().__init__(shape, rows, taking_mappings(shape))

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._shape.keys


class Result(BufferedRows[Row[*Ts]], Generic[*Ts]):
    """The rows of an executed statement.

    *rowcount* is the number of affected rows, -1 if unknown. A statement that returns no rows refuses to fetch.
    """

    __slots__ = ("_inserted_primary_key", "_statement", "rowcount")

    def __init__(
        self,
        shape: ResultShape,
        rows: Sequence[Values],
        *,
        rowcount: int | None = None,
        inserted_primary_key: Row[*tuple[Any, ...]] | None = None,
        without_rows: str | None = None,
    ) -> None:
        super().__init__(shape, rows, taking_rows(shape))
        self.rowcount: Final = len(rows) if rowcount is None else rowcount
        self._inserted_primary_key: Final = inserted_primary_key
        self._statement: Final = without_rows

    @property
    def returns_rows(self) -> bool:
        """Whether the statement could return rows, also if there were none."""
        return self._statement is None

    @property
    def inserted_primary_key(self) -> Row[*tuple[Any, ...]]:
        """The primary key of the row that a single INSERT without RETURNING wrote."""
        if self._inserted_primary_key is None:
            raise errors.InvalidRequestError(
                "the primary key is known only for an insert() of one row without returning(); "
                "with returning(), read it from the returned row"
            )
        return self._inserted_primary_key

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        self._check_open()
        return self._shape.keys

    def freeze(self) -> "Callable[[], Result[*Ts]]":
        """Take the rows that are left, and return a function that makes a new result of them at every call."""
        rows = self._remaining("freeze()")
        shape, rowcount, statement = self._shape, self.rowcount, self._statement
        return lambda: Result(shape, rows, rowcount=rowcount, without_rows=statement)

    def merge(self, *others: "Result[*Ts]") -> "Result[*Ts]":
        """Return one result of the rows that are left here and in *others*, which come of the same statement."""
        parts = (self, *others)
        rows: list[Values] = []
        for part in parts if self.returns_rows else ():
            rows += part._remaining("merge()")  # noqa: SLF001 - of its own class
        counts = [part.rowcount for part in parts]
        return Result(self._shape, rows, rowcount=-1 if min(counts) < 0 else sum(counts), without_rows=self._statement)

    @overload
    def scalars(self: "Result[T, *tuple[Any, ...]]", index: Literal[0] = 0) -> ScalarResult[T]: ...
    @overload
    def scalars(self, index: Any) -> ScalarResult[Any]: ...
    def scalars(self, index: object = 0) -> ScalarResult[Any]:
        """Return the values of one column: the first one, or the one at or called *index*."""
        place = index if isinstance(index, int) else self._shape.position(index)
        if self._statement is None and not -len(self._shape.keys) <= place < len(self._shape.keys):
            raise errors.ArgumentError(f"there is no column {place} in a row of {len(self._shape.keys)}")
        return self._pass_on(ScalarResult(self._shape, self._remaining("scalars()"), place))

    def mappings(self) -> MappingResult:
        """Return the rows as mappings."""
        return self._pass_on(MappingResult(self._shape, self._remaining("mappings()")))

    def columns(self, *columns: object) -> "Result[*tuple[Any, ...]]":
        """Return rows of only some columns, chosen by position, name or column object."""
        places, shape = self._shape.chosen(columns)
        rows = [tuple(row[place] for place in places) for row in self._remaining("columns()")]
        return Result(shape, rows, rowcount=self.rowcount)

    def scalar(self: "Result[T, *tuple[Any, ...]]") -> T | None:
        """Return the first value of the first row, None if there is no row; closes the result."""
        row = self.first()
        return None if row is None else cast("tuple[T, ...]", row)[0]

    def scalar_one(self: "Result[T, *tuple[Any, ...]]") -> T:
        """Return the first value of the only row; `NoResultFound` or `MultipleResultsFound` otherwise."""
        return cast("tuple[T, ...]", self.one())[0]

    def scalar_one_or_none(self: "Result[T, *tuple[Any, ...]]") -> T | None:
        """Return the first value of the only row, None if there is none; `MultipleResultsFound` if there are more."""
        row = self.one_or_none()
        return None if row is None else cast("tuple[T, ...]", row)[0]

    @override
    def _check_open(self) -> None:
        if self._statement is not None:
            raise errors.ResourceClosedError(
                f"this statement returns no rows: {self._statement}; see `.rowcount`, or add returning() to it"
            )
        super()._check_open()

    def _remaining(self, how: str) -> Sequence[Values]:
        """Return the rows not read yet, leaving this result closed."""
        self._check_open()
        rows = self._rows[self._position :] if self._position else self._rows
        self._close(how)
        return rows

    def _pass_on(self, view: "ViewT") -> "ViewT":
        """Hand the wish for unique rows on to *view*."""
        return view.unique() if self._keys_of is not None else view


ViewT = TypeVar("ViewT", bound=BufferedRows[Any])


def only(found: Sequence[Item]) -> Item:
    """Return the only element of *found*, which was read up to two."""
    if not found:
        raise errors.NoResultFound("no row was found where one is required")
    if len(found) > 1:
        raise errors.MultipleResultsFound("more than one row was found where one is required")
    return found[0]


def taking_rows(shape: ResultShape) -> Take:
    """Return what makes rows of tuples."""
    row_class = shape.row_class

    def take(rows: Sequence[Values]) -> list[Any]:
        return list(map(row_class, rows))

    return take


def taking_column(index: int) -> Take:
    """Return what takes one value of each tuple."""

    def take(rows: Sequence[Values]) -> list[Any]:
        return list(rows.values) if isinstance(rows, OneColumn) else [row[index] for row in rows]

    return take


def taking_mappings(shape: ResultShape) -> Take:
    """Return what makes mappings of tuples."""

    def take(rows: Sequence[Values]) -> list[Any]:
        return [RowMapping(shape, row) for row in rows]

    return take


def hashable(value: object) -> object:
    """Return *value* if it can be in a set, else something that stands for the same object."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def row_strategy(shape: ResultShape) -> Strategy:
    """Return what rows of *shape* are compared by: entities by identity, values by equality."""
    entities = shape.entities

    def key(row: Iterable[object] | RowMapping) -> object:
        values = row.values() if isinstance(row, RowMapping) else row
        return tuple(id(value) if place in entities else hashable(value) for place, value in enumerate(values))

    return key
