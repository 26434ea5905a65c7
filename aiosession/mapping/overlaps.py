"""Find relations that write the same column without knowing of each other."""

import warnings
from collections.abc import Iterable
from typing import Any, TypeAlias

from sqlalchemy import Column
from sqlalchemy import exc as core_exc

from aiosession.mapping.mapper import Relationship

Writers: TypeAlias = dict[Column[Any], list[Relationship]]


class OverlappingRelationshipsWarning(core_exc.SAWarning):
    """Two relations write the same column; what is set through one may be overwritten through the other."""


def warn_of_overlaps(relationships: Iterable[Relationship], writers: Writers) -> None:
    """Warn of each pair of relations that write the same column; *writers* is extended."""
    for relationship in relationships:
        if relationship.viewonly:
            continue
        rivals: dict[Relationship, Column[Any]] = {}
        for _, column in relationship.synchronize_pairs + relationship.secondary_synchronize_pairs:
            others = writers.setdefault(column, [])
            rivals.update((other, column) for other in others if _is_rival(relationship, other))
            if relationship not in others:
                others.append(relationship)
        for other, column in rivals.items():
            warnings.warn(_text(relationship, other, column), OverlappingRelationshipsWarning, stacklevel=2)


def _is_rival(one: Relationship, other: Relationship) -> bool:
    return (
        one is not other
        and one.back is not other
        and other.back is not one
        and other.key not in one.arguments.overlaps
        and one.key not in other.arguments.overlaps
    )


def _text(one: Relationship, other: Relationship, column: Column[Any]) -> str:
    first = f"{one.parent.name}.{one.key}"
    second = f"{other.parent.name}.{other.key}"
    return (
        f"relationships {second} and {first} both write column {column}; if they are the two sides of one relation, "
        f"say back_populates on both; if one is only read, say viewonly=True on it; if this is meant, say "
        f"overlaps={other.key!r} on {first}"
    )
