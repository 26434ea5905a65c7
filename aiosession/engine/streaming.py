"""Hand out the rows of a statement while they arrive; the connection is busy until the last one or ``close()``."""

import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast, overload

from typing_extensions import TypeVarTuple, override

from aiosession import aio, errors
from aiosession.engine.result import (
    Strategy,
    Take,
    Values,
    hashable,
    only,
    row_strategy,
    taking_column,
    taking_mappings,
    taking_rows,
)
from aiosession.engine.row import ResultShape, Row, RowMapping

T = TypeVar("T")
Item = TypeVar("Item")
Ts = TypeVarTuple("Ts")

Chunks = AsyncGenerator[Sequence[Values], None]
_LONGEST: Final = 200


class Origin:
    """Where a stream was opened, by whom and with which statement; and whether its connection is still there."""

    __slots__ = ("_is_open", "_place", "_sql", "_task")

    def __init__(self, sql: str, is_open: Callable[[], bool]) -> None:
        self._sql: Final = sql
        self._is_open: Final = is_open
        self._place: Final = aio.users_place(2)
        self._task: Final = aio.task_name()

    def left_open(self) -> None:
        """Warn that nobody can close the stream any more."""
        if self._is_open() and not sys.is_finalizing():
            warnings.warn(
                f"the stream opened at {self._place.describe()} in {self._task} was not closed, nor read to its end; "
                f"its statement was {' '.join(self._sql.split())[:_LONGEST]}. Use `async with`, or `await "
                f"result.close()`",
                ResourceWarning,
                stacklevel=3,
            )


class RowSource:
    """Chunks of rows as they come from the driver, read by one result and the views made of it."""

    __slots__ = ("_buffer", "_chunks", "_is_exhausted", "_is_read", "_origin", "_position", "closed")

    def __init__(self, chunks: Chunks, origin: Origin | None = None) -> None:
        self._chunks: Final = chunks
        self._origin: Final = origin
        self._is_read = False
        self._buffer: list[Values] = []
        self._position = 0  # of the first row that is not taken: rows taken one by one leave the buffer together
        self._is_exhausted = False
        self.closed: str | None = None

    def __del__(self) -> None:
        if self._is_read and not self._is_exhausted and self._origin is not None:
            self._origin.left_open()

    async def take(self, size: int | None) -> Sequence[Values]:
        """Return the next *size* rows, fewer at the end; all of them if None."""
        if self.closed is not None:
            raise errors.ResourceClosedError(f"this result was closed by {self.closed}; its rows are gone")
        while not self._is_exhausted and (size is None or self._waiting < size):
            await self._read()
        start = self._position
        if size is not None and size < self._waiting:
            self._position = start + size
            return self._buffer[start : self._position]
        rows, self._buffer, self._position = self._buffer, [], 0
        return rows[start:] if start else rows

    async def prime(self) -> None:
        """Read the first rows, so that a statement that fails does so now."""
        await self._read()

    async def chunk(self) -> Sequence[Values]:
        """Return the next rows, as many as arrived together; none at the end."""
        while not self._waiting and not self._is_exhausted:
            await self._read()
        return await self.take(self._waiting)

    @property
    def _waiting(self) -> int:
        return len(self._buffer) - self._position

    async def _read(self) -> None:
        self._is_read = True
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            await self._end()
        except BaseException:
            await self.close("an error")
            raise
        else:
            del self._buffer[: self._position]
            self._position = 0
            self._buffer.extend(chunk)

    async def close(self, how: str) -> None:
        """Stop reading and let go of the connection."""
        if self.closed is None:
            self.closed = how
        self._buffer, self._position = [], 0
        await self._end()

    async def _end(self) -> None:
        if self._is_exhausted:
            return
        self._is_exhausted = True
        await self._chunks.aclose()


class StreamedRows(Generic[Item]):
    """What streamed results, scalars and mappings have in common."""

    __slots__ = ("_keys_of", "_seen", "_shape", "_source", "_take")

    def __init__(self, shape: ResultShape, source: RowSource, take: Take) -> None:
        self._shape: Final = shape
        self._source: Final = source
        self._take: Final = take
        self._keys_of: Strategy | None = None
        self._seen: set[object] = set()

    @property
    def closed(self) -> bool:
        """Whether this result was closed, by ``close()`` or by a method that consumes it."""
        return self._source.closed is not None

    async def close(self) -> None:
        """Stop reading; the connection is free for other statements."""
        await self._source.close("close()")

    async def all(self) -> list[Item]:
        """Return all remaining items."""
        return await self._items(None)

    async def fetchmany(self, size: int | None = None) -> list[Item]:
        """Return the next *size* items, fewer at the end; without a size, as many as arrived together."""
        return await (self._chunk() if size is None else self._items(size))

    async def fetchone(self) -> Item | None:
        """Return the next item, None at the end."""
        found = await self._items(1)
        return found[0] if found else None

    async def first(self) -> Item | None:
        """Return the first remaining item, None if there is none; closes the result."""
        found = await self._items(1)
        await self._source.close("first()")
        return found[0] if found else None

    async def one(self) -> Item:
        """Return the only item; `NoResultFound` or `MultipleResultsFound` otherwise."""
        found = await self._items(2)
        await self._source.close("one()")
        return only(found)

    async def one_or_none(self) -> Item | None:
        """Return the only item, None if there is none; `MultipleResultsFound` if there are more."""
        found = await self._items(2)
        await self._source.close("one_or_none()")
        return only(found) if found else None

    async def partitions(self, size: int | None = None) -> AsyncIterator[list[Item]]:
        """Yield lists of at most *size* items; without a size, as they arrive."""
        while items := await (self._chunk() if size is None else self._items(size)):
            yield items

    def unique(self, strategy: Strategy | None = None) -> Self:
        """Leave out items that came before; *strategy* gives what they are compared by."""
        self._keys_of = strategy if strategy is not None else self._default_strategy()
        return self

    async def __aiter__(self) -> AsyncIterator[Item]:
        while items := await self._chunk():
            for item in items:
                yield item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._source.close("the end of its block")

    def _default_strategy(self) -> Strategy:
        return row_strategy(self._shape)

    async def _items(self, size: int | None) -> list[Item]:
        """Return the next *size* items, all if None."""
        if self._keys_of is None:
            return self._take(await self._source.take(size))
        found: list[Item] = []
        while size is None or len(found) < size:
            rows = await self._source.take(None if size is None else size - len(found))
            if not rows:
                break
            found.extend(self._unseen(rows))
        return found

    async def _chunk(self) -> list[Item]:
        """Return the next items as they arrived; none only at the end."""
        while rows := await self._source.chunk():
            items = self._take(rows) if self._keys_of is None else self._unseen(rows)
            if items:
                return items
        return []

    def _unseen(self, rows: Sequence[Values]) -> list[Item]:
        keys_of = self._keys_of or hashable
        fresh = []
        for item in self._take(rows):
            key = keys_of(item)
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(item)
        return fresh


class AsyncScalarResult(StreamedRows[T]):
    """The values of one column, while they arrive."""

    __slots__ = ("_is_entity",)

    def __init__(self, shape: ResultShape, source: RowSource, index: int = 0) -> None:
        super().__init__(shape, source, taking_column(index))
        self._is_entity: Final = index in shape.entities

    @override
    def _default_strategy(self) -> Strategy:
        return id if self._is_entity else hashable


class AsyncMappingResult(StreamedRows[RowMapping]):
    """Rows as mappings from column names to values, while they arrive."""

    __slots__ = ()

    def __init__(self, shape: ResultShape, source: RowSource) -> None:
        super().__init__(shape, source, taking_mappings(shape))

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._shape.keys


class AsyncResult(StreamedRows[Row[*Ts]], Generic[*Ts]):
    """The rows of a statement, while they arrive; closed at the end, by ``close()`` or ``async with``."""

    __slots__ = ()

    def __init__(self, shape: ResultShape, source: RowSource) -> None:
        super().__init__(shape, source, taking_rows(shape))

    def keys(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self._shape.keys

    @overload
    def scalars(self: "AsyncResult[T, *tuple[Any, ...]]", index: Literal[0] = 0) -> AsyncScalarResult[T]: ...
    @overload
    def scalars(self, index: Any) -> AsyncScalarResult[Any]: ...
    def scalars(self, index: object = 0) -> AsyncScalarResult[Any]:
        """Return the values of one column: the first one, or the one at or called *index*."""
        place = index if isinstance(index, int) else self._shape.position(index)
        view: AsyncScalarResult[Any] = AsyncScalarResult(self._shape, self._source, place)
        return view.unique() if self._keys_of is not None else view

    def mappings(self) -> AsyncMappingResult:
        """Return the rows as mappings."""
        view = AsyncMappingResult(self._shape, self._source)
        return view.unique() if self._keys_of is not None else view

    async def scalar(self: "AsyncResult[T, *tuple[Any, ...]]") -> T | None:
        """Return the first value of the first row, None if there is no row; closes the result."""
        found = await self._items(1)
        await self._source.close("scalar()")
        return cast("tuple[T, ...]", found[0])[0] if found else None

    async def scalar_one(self: "AsyncResult[T, *tuple[Any, ...]]") -> T:
        """Return the first value of the only row; `NoResultFound` or `MultipleResultsFound` otherwise."""
        found = await self._items(2)
        await self._source.close("scalar_one()")
        return cast("tuple[T, ...]", only(found))[0]

    async def scalar_one_or_none(self: "AsyncResult[T, *tuple[Any, ...]]") -> T | None:
        """Return the first value of the only row, None if there is none; `MultipleResultsFound` if there are more."""
        found = await self._items(2)
        await self._source.close("scalar_one_or_none()")
        return cast("tuple[T, ...]", only(found))[0] if found else None
