"""Make objects of rows.

A loader is generated for each entity in each statement: its source names the columns of that statement only, so that a
new row costs one object, one dictionary and one state. Objects that are in memory already are brought up to date by
:func:`renew`. Pure: no I/O here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import CodeType
from typing import Any, Final, TypeAlias

from aiosession.loading.shapes import EntityShape, RelationShape
from aiosession.state.group import LoadGroup
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.state import STATE_KEY, EntityState
from aiosession.state.workspace import Workspace

Row: TypeAlias = Sequence[Any]
Processor: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class EntitySlots:
    """Where in a statement's rows the columns of an entity are."""

    shape: EntityShape
    positions: tuple[int, ...]
    joined: tuple["JoinedSlots", ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The attributes that get values, in the order of ``positions``."""
        return tuple(column.key for column in self.shape.columns)


@dataclass(frozen=True, slots=True)
class JoinedSlots:
    """A relation whose rows come in the same statement."""

    relation: RelationShape
    slots: EntitySlots


@dataclass(slots=True)
class LoadRun:
    """What one execution of a statement means for the objects that it loads."""

    workspace: Workspace
    overwrite: bool = False
    """Replace what is in memory, changes included (``populate_existing``)."""
    reread: bool = False
    """The rows are newer than what is in memory, stale or not (they were locked); changes in memory stay."""
    token: object | None = None
    """What the keys of the objects are told apart by, if they come from one of several databases."""
    criteria: tuple[object, ...] = ()
    """What relations that are loaded later are limited to."""
    unfinished: list[tuple[tuple[RelationShape, ...], list[EntityState]]] = field(default_factory=list)
    """Owners some of whose relations need statements of their own."""
    made: list[Any] = field(default_factory=list)
    """New objects that handlers have still to be told of, and that only if somebody listens."""
    renewed: list[tuple[Any, frozenset[str]]] = field(default_factory=list)
    """Objects that were brought up to date, with the attributes that were; likewise."""

    def __post_init__(self) -> None:
        if self.token is not None:
            self.workspace.has_tokens = True


Load: TypeAlias = Callable[[Sequence[Row], LoadRun, LoadGroup[EntityState]], list[Any]]


@dataclass(frozen=True, slots=True)
class EntityLoader:
    """Makes the objects of one entity in a statement, and of those joined to it."""

    shape: EntityShape
    load: Load
    joined: tuple["JoinedLoader", ...]
    watched: Callable[[], Load]
    """Return a function that does what *load* does and notes in the run what it made and renewed."""

    @property
    def multiplies_rows(self) -> bool:
        """Whether an owner may appear in several rows because of a joined collection."""
        return any(joined.relation.relationship.uselist or joined.loader.multiplies_rows for joined in self.joined)


@dataclass(frozen=True, slots=True)
class JoinedLoader:
    """Makes the objects of a relation whose rows come in the same statement."""

    relation: RelationShape
    loader: EntityLoader


def entity_loader(slots: EntitySlots, processors: Sequence[Processor | None]) -> EntityLoader:
    """Return the loader of an entity in rows whose columns need these *processors* (None: as they are)."""
    joined = tuple(JoinedLoader(each.relation, entity_loader(each.slots, processors)) for each in slots.joined)
    watched = cache(lambda: _generate(slots, processors, is_watched=True))
    return EntityLoader(slots.shape, _generate(slots, processors), joined, watched)


_FUNCTION: Final = """\
def load(rows, run, group):
    workspace = run.workspace
    states = workspace.identity_map.states
    epoch = workspace.epoch
    workspace_ref = workspace.ref
    reread = run.overwrite or run.reread
    token = run.token
    siblings = group.states.append
    found = []
    append = found.append
    if len(states) < len(rows):{expecting_new}
    else:{expecting_known}
    return found
"""

_HEAD: Final = """
        for row in rows:
            {unpack}
            if {absent}:
                append(None)
                continue
            key = (class_, ({key},), token)"""

_FIND_BEFORE: Final = """
            known = states.get(key)
            if known is not None:"""

# One look-up less for a row that is not in memory, one object too many for a row that is.
_FIND_AFTER: Final = """
            entity = new(class_)
            state = EntityState(entity)
            known = states.setdefault(key, state)
            if known is not state:"""

_KNOWN: Final = """
                present = known()
                if present is not None:
                    if reread or known.epoch != epoch or known.expired or not names <= present.__dict__.keys():
                        renew(run, known, present, {{{values}}})
                    if known.group is not group:
                        known.group = group
                        siblings(known)
                    append(present)
                    continue
                states[key] = state"""

_MAKE: Final = """
            entity = new(class_)
            state = EntityState(entity)
            states[key] = state"""

_FILL: Final = """
            state.mapper = mapper
            state.key = key
            state.lifecycle = PERSISTENT
            state.workspace_ref = workspace_ref
            state.epoch = epoch
            state.expired = None
            state.committed = None
            state.pending = None
            state.parked = None
            state.group = group
            entity.__dict__ = {{STATE_KEY: state, {values}}}
            siblings(state)
            append(entity)"""

_NEW: Final = """
            siblings(state)
            append(entity)"""

_KNOWN_ONLY: Final = _KNOWN.removesuffix("\n                states[key] = state")


def _generate(slots: EntitySlots, processors: Sequence[Processor | None], *, is_watched: bool = False) -> Load:
    """Return the function that makes the objects of *slots*; for each row an object, or None for an absent one."""
    mapper = slots.shape.mapper
    namespace: dict[str, Any] = {
        "EntityState": EntityState,
        "PERSISTENT": PERSISTENT,
        "STATE_KEY": STATE_KEY,
        "class_": mapper.class_,
        "mapper": mapper,
        "names": frozenset(slots.keys),
        "new": object.__new__,
        "renew": renew_watched if is_watched else renew,
    }
    namespace.update((f"process_{position}", processors[position]) for position in slots.positions)
    source = _source(slots, processors)
    if is_watched:
        source = source.replace(_NEW, _NEW + "\n            run.made.append(entity)")
    exec(_compiled(source), namespace)  # the source is ours; names of attributes go in as literals
    load: Load = namespace["load"]
    return load


def _source(slots: EntitySlots, processors: Sequence[Processor | None]) -> str:
    names = [f"value_{position}" for position in slots.positions]
    if slots.positions == tuple(range(len(processors))):
        lines = [f"{', '.join(names)}, = row"]
    else:
        lines = [f"value_{position} = row[{position}]" for position in slots.positions]
    busy = [position for position in slots.positions if processors[position] is not None]
    lines += [f"value_{position} = process_{position}(value_{position})" for position in busy]
    by_key = dict(zip(slots.keys, names, strict=True))
    primary_key = [by_key[attribute.key] for attribute in slots.shape.mapper.primary_key_attributes]
    parts = {
        "unpack": "\n            ".join(lines),
        "absent": " or ".join(f"{name} is None" for name in primary_key),
        "key": ", ".join(primary_key),
        "values": ", ".join(f"{key!r}: {name}" for key, name in by_key.items()),
    }
    expecting_new = _HEAD + _FIND_AFTER + _KNOWN + _FILL
    expecting_known = _HEAD + _FIND_BEFORE + _KNOWN_ONLY + _MAKE + _FILL
    return _FUNCTION.format(
        expecting_new=expecting_new.format(**parts), expecting_known=expecting_known.format(**parts)
    )


@lru_cache(maxsize=512)
def _compiled(source: str) -> CodeType:
    return compile(source, "<row loader>", "exec")


def renew(run: LoadRun, state: EntityState, entity: Any, values: Mapping[str, object]) -> None:
    """Bring an object in memory up to date with its row: what is changed and not flushed stays, unless overwritten."""
    workspace = run.workspace
    if run.overwrite and state.committed:
        workspace.expire(state, [key for key in values if key in state.committed])
    known = entity.__dict__
    committed, expired, parked = state.committed, state.expired, state.parked
    stale = run.overwrite or run.reread or state.epoch != workspace.epoch
    for key, value in values.items():
        if committed is not None and key in committed:
            continue
        if stale or key not in known or (expired is not None and key in expired):
            known[key] = value
            if parked:
                parked.pop(key, None)
    if state.epoch != workspace.epoch:
        _mark_unread(state, known, values)
        state.epoch = workspace.epoch
    elif expired is not None:
        expired.difference_update(values)


def renew_watched(run: LoadRun, state: EntityState, entity: Any, values: Mapping[str, object]) -> None:
    """Do what `renew` does, and note it."""
    renew(run, state, entity, values)
    run.renewed.append((entity, frozenset(values)))


def _mark_unread(state: EntityState, known: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Keep stale what was loaded earlier and did not come with this row."""
    attributes = state.mapper.attributes
    unread = {key for key in (*known, *(state.parked or ())) if key not in values and key in attributes}
    state.expired = unread or None
