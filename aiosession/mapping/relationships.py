"""Record what the user said in ``relationship()``.

The record of the arguments, before anything is resolved or checked. What they come to is
:class:`aiosession.mapping.mapper.Relationship`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from aiosession.mapping.cascade import Cascade


class Direction(Enum):
    """Which side of a relation holds the foreign key."""

    ONE_TO_MANY = "one-to-many"
    MANY_TO_ONE = "many-to-one"
    MANY_TO_MANY = "many-to-many"


LazyStrategy = Literal["select", "selectin", "joined", "raise", "raise_on_sql", "noload"]
CollectionFactory = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class BackrefArguments:
    """The relation to be made on the other side: its name and its own arguments."""

    key: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class RelationshipArguments:
    """The arguments of one ``relationship()``; strings and callables are resolved when mappers are configured."""

    argument: object = None
    secondary: object = None
    uselist: bool | None = None
    collection_class: type[Any] | CollectionFactory | None = None
    primaryjoin: object = None
    secondaryjoin: object = None
    foreign_keys: object = None
    remote_side: object = None
    order_by: object = None
    back_populates: str | None = None
    backref: BackrefArguments | None = None
    cascade: Cascade | None = None
    viewonly: bool = False
    lazy: LazyStrategy = "select"
    passive_deletes: bool | Literal["all"] = False
    passive_updates: bool = True
    post_update: bool = False
    single_parent: bool = False
    innerjoin: bool = False
    active_history: bool = False
    overlaps: frozenset[str] = frozenset()
    info: Mapping[Any, Any] = field(default_factory=dict)
    doc: str | None = None
