"""Find the foreign keys that can join two tables."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Table
from sqlalchemy import exc as core_exc
from typing_extensions import override

from aiosession.mapping.mapper import ColumnPairs


@dataclass(frozen=True, slots=True)
class ForeignKeyPath:
    """One foreign key: pairs of (referred column, referring column)."""

    pairs: ColumnPairs

    @override
    def __str__(self) -> str:
        referring = ", ".join(str(pair[1]) for pair in self.pairs)
        referred = ", ".join(str(pair[0]) for pair in self.pairs)
        return f"{referring} → {referred}"


def paths_between(left: Table, right: Table, only: Collection[Column[Any]] | None = None) -> tuple[ForeignKeyPath, ...]:
    """Return the foreign keys of either table that refer to the other; *only* those made of these columns if given."""
    found = list(_paths(left, right))
    if left is not right:
        found += _paths(right, left)
    if only is not None:
        found = [path for path in found if any(pair[1] in only for pair in path.pairs)]
    return tuple(found)


def paths_from(
    referring: Table, referred: Table, only: Collection[Column[Any]] | None = None
) -> tuple[ForeignKeyPath, ...]:
    """Return the foreign keys of *referring* that refer to *referred*."""
    found = _paths(referring, referred)
    return tuple(path for path in found if only is None or any(pair[1] in only for pair in path.pairs))


def _paths(referring: Table, referred: Table) -> Iterator[ForeignKeyPath]:
    constraints = sorted(referring.foreign_key_constraints, key=lambda constraint: list(constraint.column_keys))
    for constraint in constraints:
        if _refers_to(constraint, referred):
            yield ForeignKeyPath(tuple((element.column, element.parent) for element in constraint.elements))


def _refers_to(constraint: ForeignKeyConstraint, table: Table) -> bool:
    try:
        return constraint.referred_table is table
    except core_exc.NoReferenceError:
        return False


def unresolved(*tables: Table) -> tuple[str, ...]:
    """Describe the foreign keys of *tables* that name a table or column which does not exist."""
    problems = []
    for foreign_key in (key for table in dict.fromkeys(tables) for key in table.foreign_keys):
        try:
            foreign_key.column  # noqa: B018 - resolving is what raises
        except core_exc.NoReferenceError:
            problems.append(f"{foreign_key.parent} refers to {foreign_key.target_fullname!r}, which does not exist")
    return tuple(sorted(problems))
