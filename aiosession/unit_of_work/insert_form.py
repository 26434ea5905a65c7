"""Which INSERT do new rows take? The types of their values decide it, so each answer is kept for the next flush."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.writes import WriteKind, WriteShape
from aiosession.unit_of_work.checks import is_read_as_text
from aiosession.unit_of_work.columns import NULL, ColumnRole, columns_of
from aiosession.unit_of_work.plan import Generated

Kinds = Mapping[ColumnRole, frozenset[type]]
"""The types of the values that each column gets."""

_BLANKS: Final = frozenset({type(None), type(NULL)})
_MOST_KNOWN: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class InsertForm:
    """What the rows of one INSERT have in common."""

    shape: WriteShape
    roles: tuple[ColumnRole, ...]
    """What stands in each column of the shape."""
    read: tuple[ColumnRole, ...]
    """Columns of other types than text that get texts, which they may not be able to read."""
    deferred: frozenset[int]
    decided: tuple[tuple[str, int], ...]
    returned: tuple[str, ...]
    unknown: tuple[str, ...]


def known_forms(mapper: AnyMapper) -> dict[object, InsertForm]:
    """Return the forms that *mapper* has had so far."""
    found: dict[object, InsertForm] = mapper.memo.setdefault(InsertForm, {})
    if len(found) > _MOST_KNOWN:
        found.clear()
    return found


def insert_form(mapper: AnyMapper, written: Sequence[ColumnRole], kinds: Kinds, changed: Set[ColumnRole]) -> InsertForm:
    """Return the form in which rows are inserted that have values for *written*.

    In the columns *changed* some values are not what the objects have.
    """
    returned = _returned(mapper, written)
    known = {*written, *returned}
    return InsertForm(
        shape=WriteShape(
            WriteKind.INSERT,
            mapper.table,
            columns=tuple(role.column for role in written),
            returning=tuple(role.column for role in returned),
        ),
        roles=tuple(written),
        read=tuple(role for role in written if str in kinds[role] and is_read_as_text(role.column.type)),
        deferred=frozenset(place for place, role in enumerate(written) if Generated in kinds[role]),
        decided=tuple(
            (role.key, place)
            for place, role in enumerate(written)
            if role.key and (role in changed or not kinds[role].isdisjoint(_BLANKS))
        ),
        returned=tuple(role.key for role in returned),
        unknown=tuple(role.key for role in columns_of(mapper).fetched if role not in known and role.key),
    )


def _returned(mapper: AnyMapper, written: Sequence[ColumnRole]) -> list[ColumnRole]:
    """Return what the database has to tell: generated keys, and what it fills in if that is wanted at once."""
    columns = columns_of(mapper)
    missing = [role for role in columns.fetched if role.key and role not in written]
    if not mapper.eager_defaults:
        missing = [role for role in missing if role.is_primary_key or role is columns.made_version]
    if not missing or any(role.column is columns.numbered for role in missing):
        return missing
    # Rows are told apart by their keys.
    keys = [columns.by_key[each.key] for each in mapper.primary_key_attributes]
    return [*keys, *(role for role in missing if not role.is_primary_key)]
