"""Keep both sides of relations in step in memory, and let objects follow their owner into its session.

User code changes one side; everything that follows happens silently here, so nothing comes back. Objects follow the
direction in which the user made the change, never a back-reference.
"""

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import Relationship
from aiosession.mapping.relationships import Direction
from aiosession.state.attribute_events import tell_append, tell_appends, tell_remove, tell_replace, tell_set
from aiosession.state.changes import (
    gain_parent,
    lose_parent,
    mark_dirty,
    note_change,
    note_collection_change,
    value_before,
)
from aiosession.state.collections import content_for, difference, new_collection, unlink_collection
from aiosession.state.contents import add_silently, holds, members, refill, remove_silently
from aiosession.state.lifecycle import TRANSIENT
from aiosession.state.state import STATE_KEY, EntityState, is_stale, state_of
from aiosession.state.unloaded import check_history
from aiosession.state.values import NO_VALUE


class RelationRules:
    """What changing a relation needs to know of it, worked out once."""

    __slots__ = (
        "back",
        "deletes_orphans",
        "is_foreign_key_side",
        "key",
        "name",
        "plain",
        "relationship",
        "saves",
        "single_parent",
        "target_class",
        "tracks_parents",
        "uselist",
    )

    def __init__(self, relationship: Relationship) -> None:
        self.relationship = relationship
        self.key = relationship.key
        self.name = f"{relationship.parent.name}.{relationship.key}"
        self.target_class: type[Any] = relationship.target.class_
        self.uselist = relationship.uselist
        self.saves = Cascade.SAVE_UPDATE in relationship.cascade and not relationship.viewonly
        self.deletes_orphans = Cascade.DELETE_ORPHAN in relationship.cascade
        self.single_parent = relationship.single_parent
        self.tracks_parents = self.deletes_orphans or self.single_parent
        self.is_foreign_key_side = relationship.direction is Direction.MANY_TO_ONE
        self.back: RelationRules | None = None  # the other side, if there is one that is kept in step
        # What a member may hold without leading anywhere but back to its owner.
        self.plain = frozenset((STATE_KEY, *relationship.target.column_attributes))

    @override
    def __repr__(self) -> str:
        return f"<RelationRules {self.name}>"


def rules_of(relationship: Relationship) -> RelationRules:
    """Return the rules of a relation, configuring the mappers if that has not happened."""
    memo = relationship.parent.memo
    rules: RelationRules | None = memo.get(relationship)
    if rules is None:
        rules = memo[relationship] = RelationRules(relationship)
        if relationship.back is not None and not relationship.viewonly:
            rules.back = rules_of(relationship.back)
            if not rules.back.uselist:
                rules.plain |= {rules.back.key}
    return rules


class OwnerLink:
    """The tie of a collection to the object and relation that it belongs to; it does not keep the object alive."""

    __slots__ = ("rules", "state")

    def __init__(self, state: EntityState, rules: RelationRules) -> None:
        self.state = state
        self.rules = rules

    def before(self, collection: Any, incoming: Sequence[object]) -> Sequence[object]:
        """Refuse what cannot be a member; else note how the collection was. Return what is to become a member."""
        relationship = self.rules.relationship
        if relationship.events is not None:
            incoming = tell_appends(relationship, self.state(), collection, incoming)
        self.admit(collection, incoming)
        return incoming

    def check(self, incoming: Sequence[object]) -> None:
        """Refuse what cannot be a member."""
        for member in incoming:
            check_member(self.state, self.rules, member)

    def admit(self, collection: Any, incoming: Sequence[object]) -> None:
        """Do what `before` does, telling nobody."""
        state, rules = self.state, self.rules
        obj = state()
        if obj is None:
            raise InvalidRequestError(
                f"the {rules.relationship.parent.name} that this collection ({rules.name}) belongs to is gone; keep a "
                f"reference to it while you change its collections"
            )
        for member in incoming:
            check_member(state, rules, member)
        if not rules.relationship.viewonly:
            note_collection_change(state, obj, rules.key, collection)

    def after(self, collection: Any, removed: Sequence[object], added: Sequence[object]) -> None:
        """Carry out what follows from members having gone and come."""
        obj = self.state()
        if obj is None:
            return
        relationship = self.rules.relationship
        for member in removed:
            if relationship.events is not None:
                tell_remove(relationship, obj, member)
            _left(self.state, obj, self.rules, member)
        for member in added:
            _joined(self.state, obj, self.rules, member)


def check_member(state: EntityState, rules: RelationRules, member: object) -> None:
    """Refuse an object of the wrong class, or one that is in another session and would have to follow."""
    if not isinstance(member, rules.target_class):
        raise ArgumentError(
            f"{rules.name} takes objects of {rules.target_class.__name__}; got {member!r} ({type(member).__name__})"
        )
    if rules.single_parent:
        _check_only_parent(state, rules, state_of(member))
    workspace = state.workspace if rules.saves else None
    if workspace is None:
        return
    other = state_of(member)
    if other.workspace not in (None, workspace):
        raise InvalidRequestError(
            f"{other.describe()} is already in the {other.workspace.describe()} and cannot be put into {rules.name} "
            f"of an object in the {workspace.describe()}; expunge it there first"
        )


def _check_only_parent(state: EntityState, rules: RelationRules, other: EntityState) -> None:
    """Refuse a second parent of an object that may have one only; as far as parents were set in memory."""
    parent = None if other.parents is None else other.parents.get(rules.relationship)
    if parent is not None and parent is not state and parent() is not None:
        raise InvalidRequestError(
            f"{other.describe()} is in {rules.name} of {parent.describe()} already, and single_parent=True allows one "
            f"{rules.relationship.parent.name} only; take it out there first"
        )


def init_collection(state: EntityState, obj: Any, rules: RelationRules) -> Any:
    """Give an object an empty collection, which is no change, and return it."""
    collection = new_collection(rules.relationship.collection_class, OwnerLink(state, rules))
    obj.__dict__[rules.key] = collection
    return collection


def load_collection(state: EntityState, obj: Any, rules: RelationRules, loaded: Sequence[object]) -> Any:
    """Give an object the members that the database has, in the collection it already has if it has one."""
    collection = value_before(state, obj, rules.key)
    if collection is NO_VALUE or collection is None:
        collection = init_collection(state, obj, rules)
    else:
        obj.__dict__[rules.key] = collection
    refill(collection, loaded)
    return collection


def is_known_empty(state: EntityState, key: str) -> bool:
    """Whether a relation that was never touched cannot have anything in it: this session made the row."""
    if state.key is None:
        return True
    if not state.inserted_here or (state.expired is not None and key in state.expired):
        return False
    workspace = state.workspace
    return workspace is None or not (workspace.parks_stale and is_stale(state, key))


def is_known_none(state: EntityState, rules: RelationRules) -> bool:
    """Whether a relation to one object that is not in memory is known to hold none, or was changed."""
    if state.key is None or (state.committed is not None and rules.key in state.committed):
        return True
    if not rules.is_foreign_key_side:
        return is_known_empty(state, rules.key)
    values = state.values()
    attributes = [state.mapper.by_column.get(column) for column, _ in rules.relationship.local_remote_pairs]
    return any(attribute is not None and values.get(attribute.key, NO_VALUE) is None for attribute in attributes)


def set_object(state: EntityState, obj: Any, rules: RelationRules, value: object) -> None:
    """Set a relation that holds one object."""
    key = rules.key
    old = value_before(state, obj, key)
    if rules.relationship.events is not None:
        value = tell_set(rules.relationship, state, obj, value, old)
    if value is not None:
        check_member(state, rules, value)
    if old is value:
        obj.__dict__[key] = value
        return
    replaced = old
    if old is NO_VALUE:
        replaced = target_in_memory(state, rules)
        old = _known(state, rules, replaced)
    if not rules.relationship.viewonly:
        note_change(state, obj, key, old)
    obj.__dict__[key] = value
    if value is not None:
        _joined(state, obj, rules, value)
    if replaced is not None and replaced is not value:
        _left(state, obj, rules, replaced)


def _known(state: EntityState, rules: RelationRules, replaced: object | None) -> object:
    """Return what is replaced, where ``active_history`` says that it has to be known; refuse if it is not."""
    if not rules.relationship.active_history or state.key is None:
        return NO_VALUE
    if replaced is None and not is_known_none(state, rules):
        check_history(state, rules.relationship)
    return replaced


def replace_collection(state: EntityState, obj: Any, rules: RelationRules, old: Any, value: object) -> None:
    """Replace a collection as a whole; only members that differ come and go."""
    if old is value:
        return
    link = OwnerLink(state, rules)
    collection = new_collection(rules.relationship.collection_class, link)
    content = content_for(collection, value, rules.name)
    if rules.relationship.events is not None:
        content = tell_replace(rules.relationship, obj, content, members(old))
    link.admit(old, content)
    refill(collection, content)
    obj.__dict__[rules.key] = collection
    unlink_collection(old)
    link.after(collection, *difference(members(old), members(collection)))


def _joined(state: EntityState, obj: object, rules: RelationRules, member: object) -> None:
    other = state_of(member)
    if rules.tracks_parents:
        gain_parent(other, rules.relationship, state)
    back = rules.back
    if back is not None:
        _put(other, member, back, obj, rules)
    if rules.saves and state.workspace_ref is not None and other.workspace_ref is not state.workspace_ref:
        _follow(state, rules, other, member)


def _follow(state: EntityState, rules: RelationRules, other: EntityState, member: Any) -> None:
    workspace = state.workspace
    if workspace is None:
        return
    is_alone = rules.plain.issuperset(member.__dict__) and not other.pending
    if is_alone and other.lifecycle is TRANSIENT and other.mapper is rules.relationship.target:
        workspace.adopt(other, member)
    else:
        workspace.add(member)


def _left(state: EntityState, obj: object, rules: RelationRules, member: object) -> None:
    other = state_of(member)
    back = rules.back
    if back is not None:
        _take(other, member, back, obj)
    if rules.tracks_parents:
        lose_parent(other, rules.relationship, state)


def _put(state: EntityState, obj: Any, rules: RelationRules, other: object, forward: RelationRules) -> None:
    """Put *other* into the relation of *obj* because the other side says so."""
    if rules.tracks_parents:
        gain_parent(state_of(other), rules.relationship, state)
    if rules.uselist:
        _put_into_collection(state, obj, rules, other, forward)
        return
    old = value_before(state, obj, rules.key)
    if old is other:
        return
    if rules.relationship.events is not None:
        tell_set(rules.relationship, state, obj, other, old, forward.relationship)
    note_change(state, obj, rules.key, old)
    obj.__dict__[rules.key] = other
    if old is NO_VALUE:
        old = target_in_memory(state, rules)
    if old is not None and old is not other:
        _take(state_of(old), old, forward, obj)


def _put_into_collection(
    state: EntityState, obj: Any, rules: RelationRules, other: object, forward: RelationRules
) -> None:
    collection = obj.__dict__.get(rules.key)
    if collection is None:
        if not is_known_empty(state, rules.key):
            if rules.relationship.events is not None:
                tell_append(rules.relationship, obj, other, forward.relationship)
            state.pending_for(rules.key).add(other)
            mark_dirty(state, obj)
            return
        collection = init_collection(state, obj, rules)
    # A new object that points here for the first time cannot be in the collection: no need to look.
    if (state_of(other).key is not None or forward.uselist) and holds(collection, other):
        return
    if rules.relationship.events is not None:
        tell_append(rules.relationship, obj, other, forward.relationship)
    note_collection_change(state, obj, rules.key, collection)
    displaced = add_silently(collection, other)
    if displaced is not None and displaced is not other:
        _left(state, obj, rules, displaced)


def _take(state: EntityState, obj: Any, rules: RelationRules, other: object) -> None:
    """Take *other* out of the relation of *obj* because the other side says so."""
    values = obj.__dict__
    held = values.get(rules.key, NO_VALUE)
    if rules.uselist:
        _take_from_collection(state, obj, rules, other, held)
    elif held is other or held is NO_VALUE:
        if rules.relationship.events is not None:
            tell_set(rules.relationship, state, obj, None, other, rules.relationship.back)
        note_change(state, obj, rules.key, other)
        values[rules.key] = None
    if rules.tracks_parents:
        lose_parent(state_of(other), rules.relationship, state)


def _take_from_collection(state: EntityState, obj: Any, rules: RelationRules, other: object, held: object) -> None:
    if held is not NO_VALUE:
        if holds(held, other):
            if rules.relationship.events is not None:
                tell_remove(rules.relationship, obj, other, rules.relationship.back)
            note_collection_change(state, obj, rules.key, held)
            remove_silently(held, other)
    elif not is_known_empty(state, rules.key):
        if rules.relationship.events is not None:
            tell_remove(rules.relationship, obj, other, rules.relationship.back)
        state.pending_for(rules.key).remove(other)
        mark_dirty(state, obj)


def target_in_memory(state: EntityState, rules: RelationRules) -> object | None:
    """Return what an unloaded many-to-one points to, if its foreign key and that object are in memory."""
    relationship = rules.relationship
    workspace = state.workspace
    if workspace is None or state.key is None or not relationship.uses_get:
        return None
    values = state.values()
    committed = state.committed or {}
    primary_key = []
    for column in relationship.get_columns:
        attribute = state.mapper.by_column.get(column)
        if attribute is None:
            return None
        value = committed.get(attribute.key, values.get(attribute.key))
        if value is None or value is NO_VALUE:
            return None
        primary_key.append(value)
    return workspace.identify(relationship.target.identity_key(primary_key, state.place))
