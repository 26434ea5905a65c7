"""Look into ORDER BY, LIMIT and OFFSET of a SELECT."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Label, Select, UnaryExpression
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ClauseElement, _label_reference, _textual_label_reference


@dataclass(frozen=True, slots=True)
class SortTerm:
    """One of the expressions that rows are ordered by."""

    expression: ColumnElement[Any] | None
    """None where it is text, of which nobody knows what it stands for."""
    descending: bool
    nulls_first: bool | None
    """None where the database decides."""


def sort_terms(select: Select[*tuple[Any, ...]]) -> list[SortTerm]:
    """Return what *select* is ordered by; names of selected columns as these columns."""
    return [_sort_term(clause, select) for clause in select._order_by_clauses]


def _sort_term(clause: Any, select: Select[*tuple[Any, ...]]) -> SortTerm:
    descending, nulls_first = False, None
    while True:
        modifier = getattr(clause, "modifier", None) if isinstance(clause, UnaryExpression) else None
        if modifier is operators.nulls_first_op or modifier is operators.nulls_last_op:
            nulls_first = modifier is operators.nulls_first_op
        elif modifier is operators.desc_op:
            descending = True
        elif isinstance(clause, _textual_label_reference):
            return SortTerm(select.selected_columns.get(clause.element), descending, nulls_first)
        elif modifier is not operators.asc_op and not isinstance(clause, _label_reference | Label):
            break
        clause = clause.element
    return SortTerm(clause if isinstance(clause, ColumnElement) else None, descending, nulls_first)


def slice_clauses(select: Select[*tuple[Any, ...]]) -> tuple[ClauseElement | None, ClauseElement | None]:
    """Return LIMIT and OFFSET of *select*."""
    return select._limit_clause, select._offset_clause


def has_fetch(select: Select[*tuple[Any, ...]]) -> bool:
    """Tell whether *select* has FETCH FIRST."""
    return select._fetch_clause is not None


def is_distinct(select: Select[*tuple[Any, ...]]) -> bool:
    """Tell whether *select* is DISTINCT."""
    return bool(select._distinct)


def is_extended(select: Select[*tuple[Any, ...]]) -> bool:
    """Tell whether *select* has clauses of one dialect, DISTINCT ON among them."""
    extensions = (
        select._post_select_clause,
        select._pre_columns_clause,
        select._post_criteria_clause,
        select._post_body_clause,
    )
    return bool(select._distinct_on) or any(each is not None for each in extensions)
