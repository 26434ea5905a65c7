"""Make the relation on the other side that ``backref`` asks for."""

from dataclasses import fields
from typing import Any, cast

from aiosession.errors import ArgumentError, MappingError, near
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, Relationship
from aiosession.mapping.relationships import BackrefArguments, RelationshipArguments

_OPTIONS = frozenset(field.name for field in fields(RelationshipArguments)) - {
    "argument",
    "secondary",
    "back_populates",
    "backref",
}
_JOIN_OPTIONS = frozenset({"primaryjoin", "secondaryjoin", "foreign_keys", "remote_side"})


def check_options(backref: BackrefArguments) -> None:
    """Refuse options that ``backref()`` does not have."""
    for name in backref.options:
        if name not in _OPTIONS:
            raise ArgumentError(f"backref({backref.key!r}) has no option {name!r}{near(name, sorted(_OPTIONS))}")


def existing_reverse(relationship: Relationship, target: AnyMapper) -> Relationship | None:
    """Return the relation that *relationship*'s backref made on *target* earlier, if it did."""
    backref = relationship.arguments.backref
    found = None if backref is None else target.attributes.get(backref.key)
    return found if isinstance(found, Relationship) and found.reverse_of is relationship else None


def make_reverse(relationship: Relationship, target: AnyMapper) -> Relationship:
    """Return the relation for the backref of *relationship*, to be added to *target*."""
    backref = cast("BackrefArguments", relationship.arguments.backref)
    if backref.key in target.attributes:
        raise MappingError(
            f"its backref {backref.key!r} would replace an attribute of that name of {target.name}; use "
            f"back_populates= on both sides instead"
        )
    arguments = _reverse_arguments(relationship, backref)
    return Relationship(backref.key, target, arguments, default_cascade(arguments), relationship)


def inherits_join(relationship: Relationship) -> bool:
    """Tell whether a relation made by a backref joins the way of the relation it belongs to, seen from its side."""
    return not (
        relationship.reverse_of is None
        or relationship.reverse_of.arguments.backref is None
        or _JOIN_OPTIONS & relationship.reverse_of.arguments.backref.options.keys()
    )


def default_cascade(arguments: RelationshipArguments) -> Cascade:
    """Return the cascade that was given, or the default one."""
    if arguments.cascade is not None:
        return arguments.cascade
    return Cascade.MERGE if arguments.viewonly else Cascade.DEFAULT


def _reverse_arguments(relationship: Relationship, backref: BackrefArguments) -> RelationshipArguments:
    own = relationship.arguments
    through = own.secondary is not None
    values: dict[str, Any] = {
        "argument": relationship.parent.class_,
        "secondary": own.secondary,
        "primaryjoin": own.secondaryjoin if through else own.primaryjoin,
        "secondaryjoin": own.primaryjoin if through else None,
        "foreign_keys": own.foreign_keys,
        "viewonly": own.viewonly,
        "post_update": own.post_update,
        "passive_updates": own.passive_updates,
        "overlaps": own.overlaps,
        "back_populates": relationship.key,
        **backref.options,
    }
    cascade = values.get("cascade")
    values["cascade"] = None if cascade is None else Cascade.parse(cascade)
    return RelationshipArguments(**values)
