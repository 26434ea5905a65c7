"""What do the relations of a mapper mean for writing? Worked out once per mapper.

Only relations that write count. Where both sides of a relation are mapped, changes in memory always show on both, and
the side that holds the foreign key is the one that is looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column

from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.relationships import Direction

ColumnKeys = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ForeignKey:
    """A relation as a foreign key: ``pairs`` are (attribute referred to, attribute that refers)."""

    relationship: Relationship
    key: str
    pairs: ColumnKeys
    is_late: bool
    """Written by an UPDATE of its own (post_update)."""


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """A relation through a table that only connects: which of its columns get which attribute of which side."""

    relationship: Relationship
    key: str
    columns: tuple[Column[Any], ...]
    sources: tuple[tuple[bool, str], ...]
    """For each column: whether it comes from the parent (else the target), and from which attribute."""
    is_followed: bool
    """Whether this flush changes the rows when a key changes (not passive_updates, on either side)."""


@dataclass(frozen=True, slots=True)
class CarriedKey:
    """Attributes that the database carries to rows of *mapper*: (attribute referred to, attribute that refers)."""

    mapper: AnyMapper
    pairs: ColumnKeys


@dataclass(frozen=True, slots=True, eq=False)
class MapperRelations:
    """The writing relations of one mapper."""

    references: tuple[ForeignKey, ...]
    """Many-to-one: this row holds the foreign key."""
    collections: tuple[ForeignKey, ...]
    """One-to-many without another side: the rows of the members hold the foreign key."""
    mirrored: tuple[ForeignKey, ...]
    """One-to-many whose other side is mapped."""
    following: tuple[ForeignKey, ...]
    """One-to-many whose foreign keys follow a changed primary key by UPDATEs of this flush (not passive_updates)."""
    held: tuple[tuple[AnyMapper, ForeignKey], ...]
    """The foreign keys that this row holds, because of relations on either side, with what they refer to."""
    carried: tuple[CarriedKey, ...]
    """Foreign keys that refer to this row and that the database changes together with it (passive_updates)."""
    carried_names: frozenset[str]
    """The attributes of this row that those refer to."""
    associations: tuple[Association, ...]
    owning: tuple[Relationship, ...]
    """Relations with the delete-orphan cascade."""
    linking: frozenset[str]
    """The names of the collections without another side, and of the associations."""
    is_owned: bool
    """Whether some relation to this mapper has the delete-orphan cascade."""
    requires: frozenset[AnyMapper]
    """Mappers whose rows come first, because of relations."""

    @property
    def children(self) -> tuple[ForeignKey, ...]:
        """All one-to-many relations."""
        return self.collections + self.mirrored


def relations_of(mapper: AnyMapper) -> MapperRelations:
    """Return the writing relations of *mapper*."""
    found: MapperRelations | None = mapper.memo.get(MapperRelations)
    if found is None:
        found = mapper.memo[MapperRelations] = _work_out(mapper)
    return found


def _work_out(mapper: AnyMapper) -> MapperRelations:
    writing = [each for each in mapper.relationships.values() if not each.viewonly]
    children = [each for each in writing if each.direction is Direction.ONE_TO_MANY]
    references = tuple(_foreign_key(each) for each in writing if each.direction is Direction.MANY_TO_ONE)
    incoming = [
        _foreign_key(each) for each in mapper.incoming if not each.viewonly and each.direction is Direction.ONE_TO_MANY
    ]
    carried = _carried(mapper, children)
    return MapperRelations(
        references=references,
        collections=tuple(_foreign_key(each) for each in children if not _is_mirrored(each)),
        mirrored=tuple(_foreign_key(each) for each in children if _is_mirrored(each)),
        following=tuple(_foreign_key(each) for each in children if not each.passive_updates),
        held=(
            *((each.relationship.target, each) for each in references),
            *((each.relationship.parent, each) for each in incoming if not _is_mirrored(each.relationship)),
        ),
        carried=carried,
        carried_names=frozenset(source for each in carried for source, _ in each.pairs),
        associations=tuple(_association(each) for each in writing if each.direction is Direction.MANY_TO_MANY),
        owning=tuple(each for each in writing if Cascade.DELETE_ORPHAN in each.cascade),
        linking=frozenset(
            each.key
            for each in writing
            if each.direction is Direction.MANY_TO_MANY or (each in children and not _is_mirrored(each))
        ),
        is_owned=any(Cascade.DELETE_ORPHAN in each.cascade for each in mapper.incoming),
        requires=frozenset(
            [each.relationship.target for each in references if not each.is_late]
            + [each.relationship.parent for each in incoming if not each.is_late]
        ),
    )


def _carried(mapper: AnyMapper, children: Sequence[Relationship]) -> tuple[CarriedKey, ...]:
    ours = {CarriedKey(each.target, _foreign_key(each).pairs) for each in children if not each.passive_updates}
    referring = [each for each in mapper.incoming if not each.viewonly and each.direction is Direction.MANY_TO_ONE]
    found = [CarriedKey(each.target, _foreign_key(each).pairs) for each in children]
    found += [CarriedKey(each.parent, _foreign_key(each).pairs) for each in referring if each.passive_updates]
    return tuple(each for each in dict.fromkeys(found) if each not in ours)


def _is_mirrored(relationship: Relationship) -> bool:
    back = relationship.back
    return back is not None and not back.viewonly and back.direction is Direction.MANY_TO_ONE


def _foreign_key(relationship: Relationship) -> ForeignKey:
    is_reference = relationship.direction is Direction.MANY_TO_ONE
    referred, referring = (
        (relationship.target, relationship.parent) if is_reference else (relationship.parent, relationship.target)
    )
    back = relationship.back
    return ForeignKey(
        relationship=relationship,
        key=relationship.key,
        pairs=tuple(
            (referred.attribute_of(source).key, referring.attribute_of(destination).key)
            for source, destination in relationship.synchronize_pairs
        ),
        is_late=relationship.post_update or (back is not None and back.post_update),
    )


def _association(relationship: Relationship) -> Association:
    sources = {
        destination: (True, relationship.parent.attribute_of(source).key)
        for source, destination in relationship.synchronize_pairs
    }
    sources.update(
        (destination, (False, relationship.target.attribute_of(source).key))
        for source, destination in relationship.secondary_synchronize_pairs
    )
    table = relationship.secondary
    columns = () if table is None else tuple(column for column in table.columns if column in sources)
    return Association(
        relationship=relationship,
        key=relationship.key,
        columns=columns,
        sources=tuple(sources[column] for column in columns),
        is_followed=not all(each.passive_updates for each in (relationship, relationship.back) if each is not None),
    )
