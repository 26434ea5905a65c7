"""Be the attributes of mapped classes: SQL on the class, tracked values on objects.

Reading is one dictionary lookup; whatever is not there is decided by :func:`on_unloaded`, and nowhere else.
"""

from dataclasses import replace
from typing import Any

from typing_extensions import override

from aiosession.errors import InvalidRequestError
from aiosession.events.catalogue import ATTRIBUTE
from aiosession.events.dispatch import Dispatch
from aiosession.events.listening import Place, register
from aiosession.mapping.expressions import ColumnExpression, RelationshipExpression
from aiosession.mapping.mapper import AnyMapper, Attribute, Relationship
from aiosession.state.attribute_events import add_validators, dispatch_of, tell_remove, tell_set
from aiosession.state.changes import note_change, value_before
from aiosession.state.copying import make_copyable, restore_values
from aiosession.state.instance_events import keep_constructor
from aiosession.state.relations import (
    RelationRules,
    init_collection,
    is_known_empty,
    is_known_none,
    replace_collection,
    rules_of,
    set_object,
    target_in_memory,
)
from aiosession.state.state import STATE_KEY, EntityState, state_of
from aiosession.state.unloaded import check_history, not_loaded
from aiosession.state.values import NO_VALUE


class ScalarAttribute(ColumnExpression[Any]):
    """A column of a mapped class: SQL on the class, its value on an object."""

    __slots__ = ()

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        try:
            return obj.__dict__[self.key]
        except KeyError:
            return on_unloaded(state_of(obj), obj, self.attribute)

    def __set__(self, obj: Any, value: object) -> None:
        values = obj.__dict__
        name = self.key
        state: EntityState | None = values.get(STATE_KEY)
        if state is not None and state.key is not None:
            committed = state.committed
            if committed is None or name not in committed:
                note_change(state, obj, name, value_before(state, obj, name))
        values[name] = value

    def __delete__(self, obj: Any) -> None:
        _delete_value(state_of(obj), obj, self.key)


class WatchedAttribute(ScalarAttribute):
    """A column whose changes somebody listens to, or whose old value has to be known (``active_history``)."""

    __slots__ = ()

    @override
    def __set__(self, obj: Any, value: object) -> None:
        state = state_of(obj)
        old = value_before(state, obj, self.key)
        if old is NO_VALUE and state.key is not None and self.attribute.active_history:
            check_history(state, self.attribute)
        super().__set__(obj, tell_set(self.attribute, state, obj, value, old))

    @override
    def __delete__(self, obj: Any) -> None:
        tell_remove(self.attribute, obj, value_before(state_of(obj), obj, self.key))
        super().__delete__(obj)


class ReadOnlyAttribute(ScalarAttribute):
    """A SQL expression that is loaded with an object and never written."""

    __slots__ = ()

    @override
    def __set__(self, obj: Any, value: object) -> None:
        raise InvalidRequestError(f"{type(obj).__name__}.{self.key} is computed by a SQL expression and cannot be set")


class RelationAttribute(RelationshipExpression[Any]):
    """A relation of a mapped class: SQL on the class, an object or collection of objects on an object."""

    __slots__ = ("_rules",)
    _rules: RelationRules

    @property
    def rules(self) -> RelationRules:
        """What changing the relation follows; worked out when first needed."""
        try:
            return self._rules
        except AttributeError:
            self._rules = rules_of(self.relationship)
            return self._rules

    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        if obj is None:
            return self
        try:
            return obj.__dict__[self.key]
        except KeyError:
            return on_unloaded(state_of(obj), obj, self.relationship)

    def __set__(self, obj: Any, value: object) -> None:
        set_relation(state_of(obj), obj, self.rules, value)

    def __delete__(self, obj: Any) -> None:
        rules = self.rules
        state = state_of(obj)
        if rules.uselist:
            set_relation(state, obj, rules, {} if isinstance(obj.__dict__.get(self.key), dict) else [])
        else:
            set_object(state, obj, rules, None)


def set_relation(state: EntityState, obj: Any, rules: RelationRules, value: object) -> None:
    """Set a relation, of one object or of many."""
    if not rules.uselist:
        set_object(state, obj, rules, value)
        return
    old = obj.__dict__.get(rules.key)
    if old is None:
        old = on_unloaded(state, obj, rules.relationship)
    replace_collection(state, obj, rules, old, value)


def on_unloaded(state: EntityState, obj: Any, attribute: Attribute) -> Any:
    """Decide what reading an attribute gives whose value is not in memory; the only place that does.

    None or an empty collection where that is known to be the truth, which is no change; else NotLoadedError.
    """
    key = attribute.key
    if isinstance(attribute, Relationship):
        rules = rules_of(attribute)
        if rules.uselist:
            if is_known_empty(state, key):
                return init_collection(state, obj, rules)
        elif is_known_none(state, rules):
            return None
        elif (target := target_in_memory(state, rules)) is not None:
            return target
    elif state.key is None or (state.committed is not None and key in state.committed):
        return None
    raise not_loaded(state, attribute)


def _delete_value(state: EntityState, obj: Any, key: str) -> None:
    old = value_before(state, obj, key)
    if old is NO_VALUE and state.key is None:
        raise AttributeError(f"{type(obj).__name__}.{key} has no value to delete")
    note_change(state, obj, key, old)
    obj.__dict__.pop(key, None)


def instrument(mapper: AnyMapper) -> None:
    """Put the attributes of a mapped class on it; repeating it does no harm."""
    make_copyable(mapper)
    mapper.events.on_change(keep_constructor(mapper.class_))
    for attribute in mapper.attributes.values():
        instrument_attribute(mapper, attribute)


def instrument_attribute(mapper: AnyMapper, attribute: Attribute) -> None:
    """Put one mapped attribute on its class."""
    present = mapper.class_.__dict__.get(attribute.key)
    if isinstance(present, ScalarAttribute | RelationAttribute) and _subject(present) is attribute:
        return
    mapper.memo.clear()
    descriptor = descriptor_for(attribute)
    setattr(mapper.class_, attribute.key, descriptor)
    add_validators(mapper, attribute, lambda: listening(descriptor))
    if attribute.events is None and any(_is_heard(base, attribute.key) for base in mapper.class_.__mro__[1:]):
        listening(descriptor)


def _is_heard(base: type[Any], key: str) -> bool:
    mapper: AnyMapper | None = base.__dict__.get("__mapper__")
    attribute = None if mapper is None else mapper.attributes.get(key)
    return attribute is not None and attribute.events is not None


def listening(descriptor: ScalarAttribute | RelationAttribute) -> Dispatch:
    """Return the handlers of an attribute, which it calls from now on as long as there are any."""
    attribute = _subject(descriptor)
    mapper = attribute.parent if isinstance(attribute, Relationship) else attribute.mapper

    def adjust() -> None:
        if isinstance(descriptor, RelationAttribute | ReadOnlyAttribute) or attribute.events is None:
            return
        is_watched = attribute.events.hooks or attribute.active_history
        descriptor.__class__ = WatchedAttribute if is_watched else ScalarAttribute

    dispatch = dispatch_of(attribute, mapper, adjust)
    for derived in mapper.class_.__subclasses__():
        other = derived.__dict__.get(attribute.key)
        if isinstance(other, ScalarAttribute | RelationAttribute):
            listening(other)
    return dispatch


@register
def find_attribute(target: object) -> Place | None:
    """Find what listens to an attribute of a mapped class."""
    if not isinstance(target, ScalarAttribute | RelationAttribute):
        return None
    attribute = _subject(target)
    if isinstance(attribute, Relationship):
        names = ("append", "remove", "bulk_replace") if attribute.uselist else ("set", "remove")
        name = f"{attribute.parent.name}.{attribute.key}"
    else:
        names, name = ("set", "remove"), f"{attribute.mapper.name}.{attribute.key}"
    return Place(
        name,
        {each: ATTRIBUTE[each] for each in names},
        listening(target),
        activate=lambda: _keep_history(attribute),
    )


def _keep_history(attribute: Attribute) -> None:
    if isinstance(attribute, Relationship):
        attribute.arguments = replace(attribute.arguments, active_history=True)
    else:
        attribute.active_history = True


def descriptor_for(attribute: Attribute) -> ScalarAttribute | RelationAttribute:
    """Return the descriptor of a mapped attribute."""
    if isinstance(attribute, Relationship):
        return RelationAttribute(attribute)
    if attribute.is_read_only:
        return ReadOnlyAttribute(attribute)
    return WatchedAttribute(attribute) if attribute.active_history else ScalarAttribute(attribute)


def uninstrument(mapper: AnyMapper) -> None:
    """Take off a class again what :func:`instrument` put on it."""
    for key, value in list(mapper.class_.__dict__.items()):
        if isinstance(value, ScalarAttribute | RelationAttribute) or value is restore_values:
            delattr(mapper.class_, key)
    mapper.memo.clear()


def _subject(descriptor: ScalarAttribute | RelationAttribute) -> Attribute:
    return descriptor.relationship if isinstance(descriptor, RelationAttribute) else descriptor.attribute
