"""Tell handlers that attributes of objects change; they may put another value in the place of the one that comes.

Attributes that nobody listens to never come here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from aiosession.errors import MappingError, near
from aiosession.events.dispatch import Dispatch, Listener, Source
from aiosession.mapping.mapper import AnyMapper, Attribute
from aiosession.state.contents import holds
from aiosession.state.state import EntityState
from aiosession.state.unloaded import not_loaded
from aiosession.state.values import NO_VALUE

F = TypeVar("F", bound=Callable[..., Any])

VALIDATES: Final = "_aiosession_validates"
"""Where a validator says what it validates."""


@dataclass(frozen=True, slots=True)
class Initiator:
    """What brought a change about: the attribute that the user's code changed; another one for back-references."""

    attribute: Attribute
    op: Literal["set", "append", "remove", "bulk_replace"]

    @property
    def key(self) -> str:
        """The name of that attribute."""
        return self.attribute.key


def dispatch_of(attribute: Attribute, mapper: AnyMapper, changed: Callable[[], None]) -> Dispatch:
    """Return the handlers of an attribute, made with those that propagate from the bases of its class."""
    if attribute.events is None:
        sources = []
        for base in reversed(mapper.class_.__mro__[1:]):
            above: AnyMapper | None = base.__dict__.get("__mapper__")
            other = None if above is None else above.attributes.get(attribute.key)
            if other is not None and other is not attribute and other.events is not None:
                sources.append(Source(other.events, only_propagating=True))
        attribute.events = Dispatch(*sources, changed=changed)
    return attribute.events


def tell_set(
    attribute: Attribute, state: EntityState, obj: object, value: object, old: object, by: Attribute | None = None
) -> Any:
    """Tell that an attribute is set; return the value to set."""
    handlers = _handlers(attribute, "set")
    if handlers:
        if old is NO_VALUE and state.key is not None and attribute.active_history:
            raise not_loaded(state, attribute)
        initiator = Initiator(by or attribute, "set")
        for handler in handlers:
            value = handler(obj, value, old, initiator)
    return value


def tell_append(attribute: Attribute, obj: object, value: object, by: Attribute | None = None) -> Any:
    """Tell that an object comes into a collection; return the one to put there."""
    initiator = Initiator(by or attribute, "append")
    for handler in _handlers(attribute, "append"):
        value = handler(obj, value, initiator)
    return value


def tell_appends(attribute: Attribute, obj: object, collection: Any, incoming: Sequence[object]) -> Sequence[object]:
    """Tell that objects come into a collection; return those to put there, in the same list if it is one."""
    is_list = isinstance(collection, list)
    told = [
        member if not is_list and holds(collection, member) else tell_append(attribute, obj, member)
        for member in incoming
    ]
    if isinstance(incoming, list):
        incoming[:] = told
        return incoming
    return told


def tell_remove(attribute: Attribute, obj: object, value: object, by: Attribute | None = None) -> None:
    """Tell that an object leaves a collection, or that a value is deleted."""
    initiator = Initiator(by or attribute, "remove")
    for handler in _handlers(attribute, "remove"):
        handler(obj, value, initiator)


def tell_replace(attribute: Attribute, obj: object, values: list[object], old: Sequence[object]) -> list[object]:
    """Tell that a collection is replaced; return the members to be, each new one told of."""
    initiator = Initiator(attribute, "bulk_replace")
    for handler in _handlers(attribute, "bulk_replace"):
        answer = handler(obj, values, initiator)
        values = values if answer is None else list(answer)
    before = {id(member) for member in old}
    return [member if id(member) in before else tell_append(attribute, obj, member) for member in values]


def _handlers(attribute: Attribute, name: str) -> tuple[Callable[..., Any], ...]:
    hook = None if attribute.events is None else attribute.events.hooks.get(name)
    return () if hook is None else tuple(hook)


# Validators -----------------------------------------------------------------------------------------------------------


def validates(*names: str, include_removes: bool = False, include_backrefs: bool = True) -> Callable[[F], F]:
    """Make a method the validator of attributes: ``validate(self, key, value)`` returns the value to set, or raises.

    Args:
        names: The attributes; for collections, it is called with each member that comes.
        include_removes: Also call it for members that go: it takes a fourth argument, *is_remove*.
        include_backrefs: Also call it for changes that come from the other side of a relation.

    """

    def decorate(fn: F) -> F:
        setattr(fn, VALIDATES, (names, include_removes, include_backrefs))
        return fn

    return decorate


def check_validators(mapper: AnyMapper) -> None:
    """Refuse validators of attributes that a class does not have."""
    known = mapper.attributes
    wrong = [
        f"class {mapper.name}: @validates of {fn.__name__}() names {name!r}, which is no mapped attribute"
        f"{near(name, known)}"
        for fn, (names, _, _) in _validators(mapper.class_)
        for name in names
        if name not in known
    ]
    if wrong:
        raise MappingError(*wrong)


def add_validators(mapper: AnyMapper, attribute: Attribute, dispatch: Callable[[], Dispatch]) -> None:
    """Have the validators of a class, and of its bases, listen to an attribute."""
    for fn, (names, removes, backrefs) in _validators(mapper.class_):
        if attribute.key in names:
            _Validator(fn, attribute, removes=removes, backrefs=backrefs).listen(dispatch())


def _validators(class_: type[Any]) -> list[tuple[Callable[..., Any], tuple[tuple[str, ...], bool, bool]]]:
    found: dict[str, Any] = {}
    for base in reversed(class_.__mro__):
        found.update(base.__dict__)
    return [(fn, getattr(fn, VALIDATES)) for fn in found.values() if callable(fn) and hasattr(fn, VALIDATES)]


class _Validator:
    """A method that validates one attribute."""

    def __init__(self, fn: Callable[..., Any], attribute: Attribute, *, removes: bool, backrefs: bool) -> None:
        self.fn = fn
        self.attribute = attribute
        self.removes = removes
        self.backrefs = backrefs

    def listen(self, dispatch: Dispatch) -> None:
        """Attach the validator."""
        for name, call in (("set", self.on_set), ("append", self.on_append), ("remove", self.on_remove)):
            if name != "remove" or self.removes:
                dispatch.add(name, Listener(self.fn, call, propagates=False))

    def on_set(self, obj: object, value: object, old: object, initiator: Initiator) -> object:
        """Validate a value."""
        return self._validated(obj, value, initiator)

    def on_append(self, obj: object, value: object, initiator: Initiator) -> object:
        """Validate a member that comes."""
        return self._validated(obj, value, initiator)

    def on_remove(self, obj: object, value: object, initiator: Initiator) -> None:
        """Validate that a member goes."""
        if self._concerns(initiator):
            self.fn(obj, self.attribute.key, value, True)  # noqa: FBT003 - the known signature

    def _validated(self, obj: object, value: object, initiator: Initiator) -> object:
        if not self._concerns(initiator):
            return value
        if self.removes:
            return self.fn(obj, self.attribute.key, value, False)  # noqa: FBT003 - the known signature
        return self.fn(obj, self.attribute.key, value)

    def _concerns(self, initiator: Initiator) -> bool:
        return self.backrefs or initiator.attribute is self.attribute
