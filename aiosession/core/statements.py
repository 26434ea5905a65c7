"""Look into statements, and make ones like them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Select
from sqlalchemy.sql.cache_key import CacheKey as CoreCacheKey
from sqlalchemy.sql.elements import BindParameter, ClauseElement, ColumnElement

S = TypeVar("S", bound=ClauseElement)


class CacheKey:
    """What makes two statements the same SQL, and the parameters in which they may differ."""

    __slots__ = ("key", "original", "parameters")

    def __init__(self, original: CoreCacheKey) -> None:
        self.key: Final[tuple[object, ...]] = original.key
        self.original: Final = original
        values = original.params
        self.parameters: Final[Sequence[BindParameter[object]]] = (
            original.bindparams if not values else [with_value(bind, values) for bind in original.bindparams]
        )


def cache_key(statement: ClauseElement) -> CacheKey | None:
    """Return the cache key of *statement*, or None if part of it cannot be cached."""
    found = statement._generate_cache_key()
    return None if found is None else CacheKey(found)


def with_value(bind: BindParameter[Any], values: Mapping[str, object]) -> BindParameter[object]:
    """Return *bind* with the value that ``statement.params()`` gave it."""
    if bind.key not in values:
        return bind
    replace = cast("Callable[..., BindParameter[object]]", bind._with_value)
    return replace(values[bind.key], maintain_key=True, required=False)


def raw_columns(select: Select[*tuple[object, ...]]) -> list[ClauseElement]:
    """Return what was given to ``select()``: columns, tables, entities."""
    return cast("list[ClauseElement]", list(select._raw_columns))


def with_options(statement: object) -> tuple[object, ...]:
    """Return what was given to ``options()``."""
    return cast("tuple[object, ...]", getattr(statement, "_with_options", ()))


def setup_joins(select: object) -> tuple[tuple[object, object, object, Mapping[str, bool]], ...]:
    """Return the joins of *select* as (target, on clause, left side, {"isouter", "full"})."""
    return cast("tuple[tuple[object, object, object, Mapping[str, bool]], ...]", getattr(select, "_setup_joins", ()))


def memoized_entities(select: Select[*tuple[object, ...]]) -> tuple[object, ...]:
    """Return the earlier column lists of a select whose columns were replaced after joins were added."""
    return cast("tuple[object, ...]", select._memoized_select_entities)


def from_objects(select: Select[*tuple[object, ...]]) -> tuple[object, ...]:
    """Return what was given to ``select_from()``."""
    return cast("tuple[object, ...]", select._from_obj)


def order_by_clauses(select: Select[*tuple[object, ...]]) -> tuple[ColumnElement[object], ...]:
    """Return the ORDER BY expressions."""
    return cast("tuple[ColumnElement[object], ...]", select._order_by_clauses)


def has_limit(statement: object) -> bool:
    """Tell whether a SELECT or union has LIMIT or FETCH."""
    return (
        getattr(statement, "_limit_clause", None) is not None or getattr(statement, "_fetch_clause", None) is not None
    )


def is_sliced(select: Select[*tuple[object, ...]]) -> bool:
    """Tell whether *select* has LIMIT, OFFSET or FETCH."""
    return has_limit(select) or select._offset_clause is not None


def is_limited(select: Select[*tuple[object, ...]]) -> bool:
    """Tell whether *select* has LIMIT, OFFSET, FETCH or DISTINCT, so that joining collections changes its meaning."""
    return is_sliced(select) or bool(select._distinct) or bool(select._distinct_on)


def is_grouped(select: Select[*tuple[object, ...]]) -> bool:
    """Tell whether *select* has GROUP BY or HAVING."""
    return bool(select._group_by_clauses) or bool(select._having_criteria)


def rewritten(
    select: S,
    *,
    columns: Sequence[object] | None = None,
    joins: Sequence[object] | None = None,
    order_by: Sequence[object] | None = None,
) -> S:
    """Return a copy of *select* in which the given parts are replaced as they are, without coercion."""
    copy = select._generate()  # type: ignore[attr-defined]  # private in Core
    if columns is not None:
        copy._raw_columns = list(columns)
    if joins is not None:
        copy._setup_joins = tuple(joins)
        copy._memoized_select_entities = ()
    if order_by is not None:
        copy._order_by_clauses = tuple(order_by)
    return cast(S, copy)


def statement_options(statement: object) -> Mapping[str, object]:
    """Return the execution options of *statement*."""
    return cast("Mapping[str, object]", getattr(statement, "_execution_options", {}))


def for_update(statement: object) -> object | None:
    """Return the FOR UPDATE argument of *statement*, if it locks rows."""
    return cast("object | None", getattr(statement, "_for_update_arg", None))
