"""Put rows of several databases together as if they came from one.

Each database is asked for all that may be wanted of it; order, DISTINCT, LIMIT and OFFSET then hold for all rows
together. What cannot be put together is refused before anything is sent. Pure: no I/O here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

from sqlalchemy import JSON, BindParameter, ClauseElement, Dialect, Enum, FromClause, Label, Over, Select, SelectBase
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import FunctionFilter, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect

from aiosession import core
from aiosession.engine.result import row_strategy
from aiosession.engine.row import ResultShape
from aiosession.errors import ArgumentError
from aiosession.sql.purity import AGGREGATE_FUNCTIONS, PURE_FUNCTIONS, is_plain_text

Values: TypeAlias = Sequence[Any]
Combine: TypeAlias = Callable[[list[Any]], Any]

NULLS_SORT_HIGH: Final = frozenset({"postgresql"})
"""Dialects to which NULL is greater than any value; to the others it is less."""

_COMBINED: Final[Mapping[str, Combine]] = {"count": sum, "sum": sum, "min": min, "max": max}
_ONE_SHARD: Final = "or ask one shard: .options(set_shard_id(...))"


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one database: its rows, and what each of them is ordered by."""

    rows: Sequence[Values]
    keys: Sequence[Values]


@dataclass(frozen=True, slots=True)
class Merge:
    """How the rows of one SELECT are put together."""

    statement: core.AnySelect
    """What each database is asked."""
    terms: Sequence[core.SortTerm]
    limit: int | None
    offset: int
    is_distinct: bool
    combine: Sequence[Combine]
    """For statements that aggregate everything into one row: what makes one of the values of a column."""
    nulls_first: bool
    """Whether NULLs come first in an ascending order of which nothing else is said."""

    @property
    def is_cut(self) -> bool:
        """Whether not all rows are wanted."""
        return self.limit is not None or self.offset > 0

    def rows(self, parts: Sequence[Part], shape: ResultShape) -> Sequence[Values]:
        """Return the rows of all *parts*."""
        if self.combine:
            return [_combined(self.combine, [part.rows[0] for part in parts])]
        rows = _in_order(parts, self.terms, nulls_first=self.nulls_first) if self.terms else _all_rows(parts)
        if self.is_distinct:
            strategy = row_strategy(shape)
            unique: dict[object, Values] = {}
            for row in rows:
                unique.setdefault(strategy(row), row)
            rows = list(unique.values())
        return rows[self.offset : None if self.limit is None else self.offset + self.limit]


def merge_of(statement: object, parameters: Mapping[str, Any] | None, dialect: Dialect) -> Merge:
    """Return how the rows of *statement* are put together; `ArgumentError` if they cannot be."""
    if not isinstance(statement, Select):
        raise _refused(f"the rows of a {type(statement).__name__} of several shards")
    _check_clauses(statement)
    combine = _combination(statement)
    terms = [] if combine else core.sort_terms(statement)
    _check_terms(terms, dialect)
    limit, offset = (_number(clause, parameters) for clause in core.slice_clauses(statement))
    asked = statement
    if limit is not None or offset:
        asked = asked.offset(None).limit(None if limit is None else limit + (offset or 0))
    keys = [term.expression.label(None) for term in terms if term.expression is not None]
    return Merge(
        asked.add_columns(*keys) if keys else asked,
        terms,
        limit,
        offset or 0,
        core.is_distinct(statement),
        combine,
        dialect.name not in NULLS_SORT_HIGH,
    )


# What is refused ------------------------------------------------------------------------------------------------------


def _refused(what: str, instead: str = "") -> ArgumentError:
    return ArgumentError(f"{what} cannot be put together; {instead}{_ONE_SHARD if instead else _ONE_SHARD[3:]}")


def _check_clauses(statement: core.AnySelect) -> None:
    if core.is_grouped(statement):
        raise _refused("groups (GROUP BY, HAVING) of several shards", "select the rows and group them in Python, ")
    if core.is_extended(statement):
        raise _refused("the rows of DISTINCT ON, or of another clause of one dialect, of several shards")
    if core.has_fetch(statement):
        raise _refused("the rows of FETCH of several shards", "use limit(), ")
    froms = statement.get_final_froms()
    if not froms:
        raise _refused("the values of a SELECT that reads no table, which every shard answers,")
    for element in (part for each in froms for part in visitors.iterate(each)):
        if isinstance(element, SelectBase) and not _is_row_by_row(element):
            raise _refused(
                "a subquery in FROM that limits, groups or aggregates would do so on each shard by itself, and the "
                "results"
            )


def _is_row_by_row(select: SelectBase) -> bool:
    """Whether each row of a subquery comes of rows of one shard, whatever there is on others."""
    if not isinstance(select, Select):
        return False
    if core.is_limited(select) or core.is_grouped(select):
        return False
    return not any(_aggregates(column) for column in core.raw_columns(select))


def _check_terms(terms: Iterable[core.SortTerm], dialect: Dialect) -> None:
    for term in terms:
        if term.expression is None:
            raise ArgumentError(
                "rows of several shards cannot be ordered by text; order by columns or expressions such as User.name"
            )
        kind = term.expression.type
        is_native = isinstance(kind, Enum) and kind.native_enum and dialect.supports_native_enum
        if is_native or isinstance(kind, JSON):
            raise ArgumentError(
                f"rows of several shards cannot be ordered by {term.expression}: Python does not compare values of "
                f"the type {kind!r} as the database does; order by something else, {_ONE_SHARD}"
            )


def _number(clause: ClauseElement | None, parameters: Mapping[str, Any] | None) -> int | None:
    """Return what LIMIT or OFFSET comes to."""
    if clause is None:
        return None
    value: Any = None
    if isinstance(clause, BindParameter):
        value = (parameters or {}).get(clause.key, clause.effective_value)
    if not isinstance(value, int):
        raise _refused("the rows of several shards with a LIMIT or OFFSET that is no number", "give a number, ")
    return value


# Aggregates -----------------------------------------------------------------------------------------------------------


def _combination(statement: core.AnySelect) -> Sequence[Combine]:
    """Return what makes one value of those of all shards, for each column; nothing for rows that do not aggregate."""
    columns = core.raw_columns(statement)
    found = [_aggregates(column) for column in columns]
    if not any(found):
        return ()
    names = [_plain_aggregate(column) for column in columns]
    if "" in names or core.is_limited(statement):
        raise _refused(
            "aggregates of several shards other than a plain count(), sum(), min() and max() in every column",
            "select their parts (sum() and count() for an average) or the rows, ",
        )
    return [_COMBINED[name] for name in names]


def _aggregates(element: ClauseElement) -> bool:
    """Whether a column makes its value of several rows, or may do so for all we know."""
    if isinstance(element, SelectBase | ScalarSelect | FromClause) and not isinstance(element, FunctionElement):
        return False
    name = str(getattr(element, "name", "")).lower()
    if isinstance(element, FunctionElement) and (name in AGGREGATE_FUNCTIONS or name not in PURE_FUNCTIONS):
        return True
    if isinstance(element, Over) or (getattr(element, "is_literal", False) and not is_plain_text(name)):
        return True
    return any(_aggregates(part) for part in element.get_children())


def _plain_aggregate(element: ClauseElement) -> str:
    """Return the name of the aggregate function that a column is, if its values can be combined; else nothing."""
    while isinstance(element, Label):
        element = element.element
    function = element.func if isinstance(element, FunctionFilter) else element
    name = str(getattr(function, "name", "")).lower()
    if not isinstance(function, FunctionElement) or name not in _COMBINED:
        return ""
    is_distinct = any(
        isinstance(part, UnaryExpression) and part.operator is operators.distinct_op
        for part in visitors.iterate(function)
    )
    return "" if is_distinct and name in {"count", "sum"} else name


def _combined(combine: Sequence[Combine], rows: Sequence[Values]) -> Values:
    columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
    try:
        return tuple(make(values) if values else None for make, values in zip(combine, columns, strict=True))
    except TypeError as error:
        raise ArgumentError(f"values of several shards cannot be combined: {error}") from error


# Order ----------------------------------------------------------------------------------------------------------------


def _all_rows(parts: Iterable[Part]) -> list[Values]:
    return [row for part in parts for row in part.rows]


def _in_order(parts: Sequence[Part], terms: Sequence[core.SortTerm], *, nulls_first: bool) -> list[Values]:
    """Return the rows of all parts in order; an error if the databases order the rows of a part in another way."""
    found = [
        (number, place, key, row)
        for number, part in enumerate(parts)
        for place, (key, row) in enumerate(zip(part.keys, part.rows, strict=True))
    ]
    try:
        for index in reversed(range(len(terms))):
            term = terms[index]
            comes_first = (nulls_first != term.descending) if term.nulls_first is None else term.nulls_first
            of_null = int(comes_first == term.descending)
            found.sort(key=_sort_key(index, of_null), reverse=term.descending)
    except TypeError as error:
        raise ArgumentError(
            f"rows of several shards cannot be ordered by these expressions, whose values Python does not compare: "
            f"{error}"
        ) from error
    _check_order(found, len(parts))
    return [row for *_, row in found]


def _sort_key(index: int, of_null: int) -> Callable[[tuple[int, int, Values, Values]], tuple[int, Any]]:
    def key(entry: tuple[int, int, Values, Values]) -> tuple[int, Any]:
        value = entry[2][index]
        if value is None:
            return of_null, None
        if isinstance(value, float | Decimal) and value != value:
            raise TypeError("one of them is NaN")
        return 1 - of_null, value

    return key


def _check_order(found: Iterable[tuple[int, int, Values, Values]], parts: int) -> None:
    """Refuse an order in which the rows of one database do not come as that database has ordered them."""
    last = [-1] * parts
    for number, place, key, _ in found:
        if place < last[number]:
            raise ArgumentError(
                f"rows of several shards cannot be ordered by these expressions: Python compares values such as "
                f"{key!r} in another way than the database (a collation that is not by code points?); order by "
                f"collate(column, 'C') on PostgreSQL, 'BINARY' on SQLite, or by something else"
            )
        last[number] = place


def without_keys(rows: Sequence[Values], count: int) -> Iterator[Values]:
    """Yield *rows* without the *count* values at their ends that they are only ordered by."""
    return (tuple(row[:-count]) for row in rows) if count else iter(rows)
