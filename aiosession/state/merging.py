"""Copy the state of objects onto objects of a session: all of ``merge()`` that needs no database.

What is to be copied is taken down when the merge begins, so that changes made while it waits do not get half into it.
Nothing in the session is changed before everything is known.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiosession.errors import InvalidRequestError, StaleVersionError
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.mapper import AnyMapper, IdentityKey, Relationship
from aiosession.state.attributes import set_loaded_collection
from aiosession.state.cascade import cascading
from aiosession.state.contents import members
from aiosession.state.lifecycle import DELETED
from aiosession.state.relations import rules_of, target_in_memory
from aiosession.state.settle import set_loaded
from aiosession.state.state import EntityState, is_stale, state_of
from aiosession.state.values import NO_VALUE, is_expression, is_same
from aiosession.state.workspace import Workspace


class Given:
    """One object that is to be merged, as it was when the merge began; ``target`` is what it is merged into."""

    __slots__ = ("arrivals", "is_here", "key", "obj", "related", "state", "target", "values")

    def __init__(self, obj: Any, state: EntityState, workspace: Workspace) -> None:
        self.obj: Final = obj
        self.state: Final = state
        self.is_here: Final = workspace.has(state)
        self.values: Final[dict[str, object]] = {}
        self.related: Final[dict[Relationship, tuple[Given, ...]]] = {}
        self.arrivals: Final[set[Relationship]] = set()
        self.key: Final = _key_of(state)
        self.target: Any = obj if self.is_here else None

    @property
    def mapper(self) -> AnyMapper:
        """The mapper of the object's class."""
        return self.state.mapper


class Survey:
    """Everything that the merge cascade reaches from some objects, nearest first.

    An object that the session has already is merged into itself, and nothing behind it is looked at. With
    *follows_back* False a relation is not followed back the way it was come along: the other side sets it.
    """

    def __init__(self, workspace: Workspace, objects: Iterable[object], *, follows_back: bool = False) -> None:
        self.workspace: Final = workspace
        self._found: Final[dict[EntityState, Given]] = {}
        self._waiting: Final[deque[Given]] = deque()
        self._follows_back: Final = follows_back
        self.roots: Final = [self._take(obj) for obj in objects]
        while self._waiting:
            self._look_at(self._waiting.popleft())

    @property
    def given(self) -> Iterable[Given]:
        """Everything found."""
        return self._found.values()

    def by_mapper(self) -> dict[AnyMapper, list[Given]]:
        """Return what has to be merged into something else, by class."""
        grouped: dict[AnyMapper, list[Given]] = {}
        for each in self.given:
            if not each.is_here:
                grouped.setdefault(each.mapper, []).append(each)
        return grouped

    def _take(self, obj: object) -> Given:
        state = state_of(obj)
        found = self._found.get(state)
        if found is None:
            found = self._found[state] = Given(obj, state, self.workspace)
            self._waiting.append(found)
        return found

    def _look_at(self, given: Given) -> None:
        if given.is_here:
            return
        held = given.state.values()
        mapper = given.mapper
        names = (*mapper.column_attributes, *mapper.expression_attributes)
        given.values.update((name, held[name]) for name in names if name in held)
        for relationship in cascading(mapper, Cascade.MERGE):
            if relationship.key in held and (self._follows_back or relationship.back not in given.arrivals):
                related = _members(held[relationship.key], relationship)
                given.related[relationship] = reached = tuple([self._take(member) for member in related])
                for each in reached:
                    each.arrivals.add(relationship)


def _members(value: Any, relationship: Relationship) -> tuple[object, ...]:
    if relationship.uselist:
        return members(value)
    return () if value is None else (value,)


def _key_of(state: EntityState) -> IdentityKey | None:
    """Return the identity key of an object, also of one without a row that has a complete primary key."""
    if state.key is not None:
        return state.key
    held = state.values()
    primary_key = [held.get(attribute.key) for attribute in state.mapper.primary_key_attributes]
    if any(value is None or is_expression(value) for value in primary_key):
        return None
    return state.mapper.identity_key(primary_key)


def pending_by_key(workspace: Workspace) -> dict[IdentityKey, object]:
    """Return the pending objects that have a complete primary key."""
    keyed = ((_key_of(state), obj) for state, obj in workspace.new.items())
    return {key: obj for key, obj in keyed if key is not None}


def has_to_be_known(relationship: Relationship) -> bool:
    """Whether a relation has to be loaded before it is set: the flush could not see what it replaces."""
    if not rules_of(relationship).is_foreign_key_side:
        return True
    return relationship.active_history or Cascade.DELETE_ORPHAN in relationship.cascade


# With the database in view --------------------------------------------------------------------------------------------


def transfer(survey: Survey, held: dict[IdentityKey, Any]) -> None:
    """Copy everything onto its targets as user code would: *held* has those there are; the others are made."""
    workspace = survey.workspace
    merged = [each for each in survey.given if not each.is_here]
    for given in merged:
        given.target = None if given.key is None else held.get(given.key)
        if given.target is not None:
            _check_target(workspace, given)
    for given in merged:
        if given.target is None:
            given.target = _new_target(workspace, given, held)
    for given in merged:
        _copy_columns(given)
    for given in merged:
        for relationship, related in given.related.items():
            _copy_relation(given.target, relationship, [each.target for each in related])


def _check_target(workspace: Workspace, given: Given) -> None:
    state = state_of(given.target)
    if not workspace.has(state):
        raise InvalidRequestError(
            f"{state.describe()} left the session while merge() was waiting for the database; merge again"
        )
    version = given.mapper.version_id
    if version is None:
        return
    known = state.values().get(version.key)
    incoming = given.values.get(version.key)
    if known is not None and incoming is not None and not is_same(known, incoming):
        raise StaleVersionError(state.describe(), table=given.mapper.table.name, version=incoming, current=known)


def _new_target(workspace: Workspace, given: Given, held: dict[IdentityKey, Any]) -> Any:
    if given.key is not None and given.key in held:
        return held[given.key]
    target = object.__new__(given.mapper.class_)
    workspace.add(target)
    if given.key is not None:
        held[given.key] = target
    return target


def _copy_columns(given: Given) -> None:
    target = given.target
    held: dict[str, object] = target.__dict__
    writable = given.mapper.column_attributes
    for name, value in given.values.items():
        if name in writable and not is_same(held.get(name, NO_VALUE), value):
            setattr(target, name, value)


def _copy_relation(target: Any, relationship: Relationship, related: list[Any]) -> None:
    if relationship.uselist:
        _copy_collection(target, relationship.key, list({id(each): each for each in related}.values()))
        return
    key = relationship.key
    value = related[0] if related else None
    state = state_of(target)
    if key not in target.__dict__ and _is_row_of(state, relationship, value):
        set_loaded(state, key, value)
    elif target.__dict__.get(key, NO_VALUE) is not value:
        setattr(target, key, value)


def _is_row_of(state: EntityState, relationship: Relationship, value: object | None) -> bool:
    """Whether an unloaded relation to one object is known to hold *value*: by the foreign key that the row has."""
    rules = rules_of(relationship)
    if value is not None:
        return target_in_memory(state, rules) is value
    if state.key is None or not rules.is_foreign_key_side:
        return False
    stored = {**state.values(), **(state.committed or {})}
    attributes = [state.mapper.by_column.get(column) for column, _ in relationship.local_remote_pairs]
    return any(attribute is not None and stored.get(attribute.key, NO_VALUE) is None for attribute in attributes)


def _copy_collection(target: Any, key: str, related: list[Any]) -> None:
    current = getattr(target, key)
    present = [id(each) for each in members(current)]
    wanted = [id(each) for each in related]
    if present == wanted or (not isinstance(current, list) and set(present) == set(wanted)):
        return
    if isinstance(current, dict):
        setattr(target, key, {current.key_of(each): each for each in related})  # type: ignore[attr-defined]
    else:
        setattr(target, key, related)


# Without a look at the database ---------------------------------------------------------------------------------------


def stamp(survey: Survey) -> None:
    """Copy everything as if it had just been loaded: targets stay clean, nothing is asked of the database."""
    merged = [each for each in survey.given if not each.is_here]
    keys = [_key_of_clean(given) for given in merged]
    for given, key in zip(merged, keys, strict=True):
        given.target = _loaded_target(survey.workspace, given, key)
    for given in merged:
        _stamp_columns(survey.workspace, given)
    for given in merged:
        state = state_of(given.target)
        for relationship, related in given.related.items():
            targets = [each.target for each in related]
            if relationship.uselist:
                set_loaded_collection(state, relationship.key, targets)
            else:
                set_loaded(state, relationship.key, targets[0] if targets else None)


def _key_of_clean(given: Given) -> IdentityKey:
    """Return the key of an object that can be taken as it is; refuse others."""
    state = given.state
    if state.key is None:
        raise InvalidRequestError(
            f"merge(load=False) takes objects that have rows; {state.describe()} has none: flush it where it was made, "
            f"or merge with load=True"
        )
    if state.committed or state.pending:
        changed = ", ".join(sorted({*(state.committed or ()), *(state.pending or ())}))
        raise InvalidRequestError(
            f"merge(load=False) takes objects without changes; {state.describe()} has unflushed ones ({changed}): "
            f"flush them where they were made, or merge with load=True"
        )
    if state.was_deleted or state.status is DELETED:
        raise InvalidRequestError(f"merge(load=False) cannot take {state.describe()}: its row was deleted")
    return state.key


def _loaded_target(workspace: Workspace, given: Given, key: IdentityKey) -> Any:
    present = workspace.identify(key)
    if present is not None:
        return present
    target = object.__new__(given.mapper.class_)
    workspace.make_persistent(state_of(target), key)
    return target


def _stamp_columns(workspace: Workspace, given: Given) -> None:
    state = state_of(given.target)
    if state.committed or state.expired or state.parked:
        for name, value in given.values.items():
            set_loaded(state, name, value)
    else:
        state.values().update(given.values)
    stamped = {*given.values, *(relationship.key for relationship in given.related)}
    if state.epoch != workspace.epoch:
        state.epoch = workspace.epoch
        state.expired = _unstamped(state, stamped)
    if stale := {name for name in stamped if is_stale(given.state, name)}:
        state.expired = (state.expired or set()) | stale


def _unstamped(state: EntityState, stamped: set[str]) -> set[str] | None:
    known: Mapping[str, object] = {**state.values(), **(state.parked or {})}
    return {name for name in known if name in state.mapper.attributes and name not in stamped} or None
