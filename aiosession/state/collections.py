"""Be the collections of relations: lists, sets and dictionaries that tell their owner what comes and goes.

Each mutator says what is about to come (``before``, which may refuse), does its work, and says what came and went. A
collection without owner is a plain one; copies and pickles are plain. Classes of users are subclassed once, so that
their methods work as they wrote them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, SupportsIndex, TypeVar

from typing_extensions import override

from aiosession.errors import ArgumentError
from aiosession.state.contents import holds, members

T = TypeVar("T")

if TYPE_CHECKING:
    _List = list[Any]
    _Set = set[Any]

    class _Bag:
        def append(self, member: object) -> Any: ...
        def add(self, member: object) -> Any: ...
        def remove(self, member: object) -> Any: ...
        def __iter__(self) -> Iterator[Any]: ...

else:
    _List = _Set = _Bag = object


class Link(Protocol):
    """What a collection tells its owner."""

    def before(self, collection: Any, incoming: Sequence[object]) -> Sequence[object]:
        """Refuse *incoming* if one of them cannot be a member; else note how the collection was.

        Return what is to become a member in their places: a handler may have chosen others. A list is changed itself.
        """
        ...

    def check(self, incoming: Sequence[object]) -> None:
        """Refuse *incoming* if one of them cannot be a member."""
        ...

    def after(self, collection: Any, removed: Sequence[object], added: Sequence[object]) -> None:
        """Take note of what went and what came."""
        ...


class Instrumented:
    """What all instrumented collections share: the link to their owner."""

    __slots__ = ()

    def _owner_link(self) -> Link | None:
        link: Link | None = getattr(self, "_link", None)  # unset in what set and list operators return
        return link

    def _set_link(self: Any, link: Link | None) -> None:
        self._link = link

    def _watched(self, incoming: Sequence[object], change: Callable[[], T]) -> T:
        link = self._owner_link()
        if link is None:
            return change()
        link.before(self, incoming)
        old = members(self)
        result = change()
        removed, added = difference(old, members(self))
        link.after(self, removed, added)
        return result


def difference(old: Sequence[object], new: Sequence[object]) -> tuple[list[object], list[object]]:
    """Return which objects went and which came, each one once, in order, compared by identity."""
    before = {id(member): member for member in old}
    after = {id(member): member for member in new}
    removed = [member for key, member in before.items() if key not in after]
    added = [member for key, member in after.items() if key not in before]
    return removed, added


class ListMutators(Instrumented, _List):
    """Every way to change a list, watched; a mixin in front of list or a subclass of it."""

    __slots__ = ()

    @override
    def append(self, member: object, /) -> None:
        link = self._owner_link()
        if link is None:
            super().append(member)
            return
        (member,) = link.before(self, (member,))
        super().append(member)
        link.after(self, (), (member,))

    @override
    def extend(self, incoming: Iterable[object], /) -> None:
        content = list(incoming)
        self._watched(content, lambda: super(ListMutators, self).extend(content))

    @override
    def insert(self, index: SupportsIndex, member: object, /) -> None:
        link = self._owner_link()
        if link is not None:
            (member,) = link.before(self, (member,))
        super().insert(index, member)
        if link is not None:
            link.after(self, (), (member,))

    @override
    def remove(self, member: object, /) -> None:
        self.pop(self.index(member))

    @override
    def pop(self, index: SupportsIndex = -1, /) -> object:
        link = self._owner_link()
        if link is None:
            return super().pop(index)
        link.before(self, ())
        member = super().pop(index)
        if not holds(self, member):  # it may be in the list more than once
            link.after(self, (member,), ())
        return member

    @override
    def clear(self) -> None:
        self._watched((), super().clear)

    @override
    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        super().sort(key=key, reverse=reverse)

    @override
    def __setitem__(self, index: Any, value: Any) -> None:
        content = list(value) if isinstance(index, slice) else [value]

        def change() -> None:
            super(ListMutators, self).__setitem__(index, content if isinstance(index, slice) else content[0])

        self._watched(content, change)

    @override
    def __delitem__(self, index: Any) -> None:
        self._watched((), lambda: super(ListMutators, self).__delitem__(index))

    @override
    def __iadd__(self, incoming: Iterable[object]) -> Any:
        self.extend(incoming)
        return self

    @override
    def __imul__(self, times: SupportsIndex) -> Any:
        self._watched((), lambda: super(ListMutators, self).__imul__(times))
        return self

    @override
    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return (list, (list(self),))


class SetMutators(Instrumented, _Set):
    """Every way to change a set, watched; a mixin in front of set or a subclass of it."""

    __slots__ = ()

    @override
    def add(self, member: object, /) -> None:
        link = self._owner_link()
        if link is None or member in self:
            super().add(member)
            return
        (member,) = link.before(self, (member,))
        super().add(member)
        link.after(self, (), (member,))

    @override
    def remove(self, member: object, /) -> None:
        self._watched((), lambda: super(SetMutators, self).remove(member))

    @override
    def discard(self, member: object, /) -> None:
        self._watched((), lambda: super(SetMutators, self).discard(member))

    @override
    def pop(self) -> object:
        return self._watched((), super().pop)

    @override
    def clear(self) -> None:
        self._watched((), super().clear)

    @override
    def update(self, *others: Iterable[object]) -> None:
        incoming = [member for other in others for member in other]
        self._watched(incoming, lambda: super(SetMutators, self).update(incoming))

    @override
    def difference_update(self, *others: Iterable[object]) -> None:
        self._watched((), lambda: super(SetMutators, self).difference_update(*others))

    @override
    def intersection_update(self, *others: Iterable[object]) -> None:
        self._watched((), lambda: super(SetMutators, self).intersection_update(*others))

    @override
    def symmetric_difference_update(self, other: Iterable[object], /) -> None:
        content = set(other)
        incoming = [member for member in content if member not in self]
        self._watched(incoming, lambda: super(SetMutators, self).symmetric_difference_update(content))

    @override
    def copy(self) -> set[object]:
        return set(self)

    @override
    def __ior__(self, other: Any) -> Any:
        return self._in_place(other, self.update)

    @override
    def __iand__(self, other: Any) -> Any:
        return self._in_place(other, self.intersection_update)

    @override
    def __isub__(self, other: Any) -> Any:
        return self._in_place(other, self.difference_update)

    @override
    def __ixor__(self, other: Any) -> Any:
        return self._in_place(other, self.symmetric_difference_update)

    def _in_place(self, other: Any, change: Callable[[Any], None]) -> Any:
        if not isinstance(other, set | frozenset):
            return NotImplemented
        change(other)
        return self

    @override
    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return (set, (list(self),))


class KeyedDict(dict[Any, Any]):
    """A dictionary of members, each under the key that a function makes of it."""

    def __init__(self, keyfunc: Callable[[Any], Any]) -> None:
        super().__init__()
        self._keyfunc = keyfunc

    def key_of(self, member: object) -> object:
        """Return the key that a member belongs under."""
        return self._keyfunc(member)


if TYPE_CHECKING:
    _Dict = KeyedDict
else:
    _Dict = object


class DictMutators(Instrumented, _Dict):
    """Every way to change a dictionary of members, watched; a mixin in front of dict or a subclass of it."""

    __slots__ = ()

    @override
    def __setitem__(self, key: object, member: object) -> None:
        self._check_keys({key: member})
        self._watched((member,), lambda: super(DictMutators, self).__setitem__(key, member))

    @override
    def __delitem__(self, key: object) -> None:
        self._watched((), lambda: super(DictMutators, self).__delitem__(key))

    def set(self, member: object) -> None:
        """Add a member under the key that it says."""
        self[self.key_of(member)] = member

    def remove(self, member: object) -> None:
        """Take out a member, under the key that it says."""
        del self[self.key_of(member)]

    @override
    def setdefault(self, key: object, member: object = None, /) -> object:
        if key not in self:
            self[key] = member
        return self[key]

    @override
    def pop(self, key: object, *default: object) -> object:
        return self._watched((), lambda: super(DictMutators, self).pop(key, *default))

    @override
    def popitem(self) -> tuple[object, object]:
        return self._watched((), super().popitem)

    @override
    def clear(self) -> None:
        self._watched((), super().clear)

    @override
    def update(self, *others: Any, **named: object) -> None:
        entries = dict(*others, **named)
        self._check_keys(entries)
        self._watched(list(entries.values()), lambda: super(DictMutators, self).update(entries))

    @override
    def copy(self) -> dict[object, object]:
        return dict(self)

    @override
    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def _check_keys(self, entries: dict[Any, Any]) -> None:
        link = self._owner_link()
        if link is None:
            return
        link.check(list(entries.values()))
        for key, member in entries.items():
            proper = self.key_of(member)
            if proper != key:
                raise ArgumentError(
                    f"cannot put {member!r} under the key {key!r}: its own key is {proper!r}; set the attribute first, "
                    f"or use collection.set(member)"
                )

    @override
    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return (dict, (list(self.items()),))


class BagMutators(Instrumented, _Bag):
    """Changes to a collection class of the user's own kind: ``append`` or ``add``, ``remove``, iteration."""

    __slots__ = ()

    @override
    def append(self, member: object) -> Any:
        """Add a member, in the way of the user's class."""
        return self._watched((member,), lambda: super(BagMutators, self).append(member))

    @override
    def add(self, member: object) -> Any:
        """Add a member, in the way of the user's class."""
        return self._watched((member,), lambda: super(BagMutators, self).add(member))

    @override
    def remove(self, member: object) -> Any:
        """Take out a member, in the way of the user's class."""
        return self._watched((), lambda: super(BagMutators, self).remove(member))

    def refill_silently(self, wanted: Sequence[object]) -> None:
        """Make *wanted* the members, telling nobody."""
        put = super().append if hasattr(super(), "append") else super().add
        for member in list(self):
            super().remove(member)
        for member in wanted:
            put(member)


class InstrumentedList(ListMutators, list[Any]):
    """The list of a relation."""

    __slots__ = ("_link",)


class InstrumentedSet(SetMutators, set[Any]):
    """The set of a relation."""

    __slots__ = ("_link",)


class InstrumentedDict(DictMutators, KeyedDict):
    """The dictionary of a relation."""


def keyfunc_mapping(keyfunc: Callable[[Any], Any]) -> Callable[[], KeyedDict]:
    """Return a ``collection_class`` that keeps members in a dictionary, under what *keyfunc* makes of each."""
    return lambda: InstrumentedDict(keyfunc)


def attribute_keyed_dict(name: str) -> Callable[[], KeyedDict]:
    """Return a ``collection_class`` that keeps members in a dictionary, under the value of an attribute."""

    def key(member: object) -> object:
        return getattr(member, name)

    return keyfunc_mapping(key)


def column_keyed_dict(column: Any) -> Callable[[], KeyedDict]:
    """Return a ``collection_class`` that keeps members in a dictionary, under the value of one or several columns."""
    columns = column if isinstance(column, tuple | list) else (column,)

    def key(member: Any) -> object:
        mapper = type(member).__mapper__
        found = tuple(getattr(member, mapper.attribute_of(each).key) for each in columns)
        return found[0] if len(found) == 1 else found

    return keyfunc_mapping(key)


_instrumented: Final[dict[type[Any], type[Any]]] = {list: InstrumentedList, set: InstrumentedSet}
_MIXINS: Final = ((list, ListMutators), (set, SetMutators), (dict, DictMutators))


def new_collection(factory: Callable[[], Any], link: Link | None) -> Any:
    """Return an empty collection of the kind that *factory* makes, with its link to the owner."""
    if factory is list:
        collection: Any = InstrumentedList()
    else:
        collection = _adopt(factory)
    collection._set_link(link)  # noqa: SLF001 - of this module
    return collection


def unlink_collection(collection: Any) -> None:
    """Make a collection that was replaced a plain one."""
    if isinstance(collection, Instrumented):
        collection._set_link(None)  # noqa: SLF001 - of this module


def _adopt(factory: Callable[[], Any]) -> Any:
    if isinstance(factory, type):
        return instrumented_class(factory)()
    made = factory()
    if isinstance(made, Instrumented):
        return made
    kind: Any = instrumented_class(type(made))
    collection = kind.__new__(kind)  # the factory knows the arguments of __init__, we have its result
    if hasattr(made, "__dict__"):
        collection.__dict__.update(made.__dict__)
    return collection


def instrumented_class(kind: type[Any]) -> type[Any]:
    """Return *kind* with its mutators watched; made once for each class."""
    found = _instrumented.get(kind)
    if found is not None:
        return found
    if issubclass(kind, Instrumented):
        return kind
    made: type[Any] = type(kind.__name__, (_mixin_for(kind), kind), {"__module__": kind.__module__})
    _instrumented[kind] = made
    return made


def _mixin_for(kind: type[Any]) -> type[Instrumented]:
    if issubclass(kind, dict) and not hasattr(kind, "key_of"):
        raise ArgumentError(
            f"{kind.__name__} cannot be a collection_class: a dictionary has to know the key of each member; use "
            f"attribute_keyed_dict(), column_keyed_dict() or keyfunc_mapping(), or give it a key_of(member) method"
        )
    for base, mixin in _MIXINS:
        if issubclass(kind, base):
            return mixin
    has_adder = hasattr(kind, "append") or hasattr(kind, "add")
    if has_adder and hasattr(kind, "remove") and hasattr(kind, "__iter__"):
        return BagMutators
    raise ArgumentError(
        f"{kind.__name__} cannot be a collection_class: it has to be a list, set or dictionary, or have append() or "
        f"add(), remove() and iteration"
    )


def content_for(collection: Any, value: Any, where: str) -> list[object]:
    """Return the members that assigning *value* to a relation's collection means; ArgumentError names the relation."""
    if isinstance(collection, dict):
        if not isinstance(value, dict):
            raise ArgumentError(f"{where} is a dictionary; it cannot be set to {value!r}")
        _check_entries(collection, value)
        return list(value.values())
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise ArgumentError(f"{where} is a collection; it cannot be set to {value!r}; assign a list of objects")
    return list(value)


def _check_entries(collection: Any, value: dict[object, object]) -> None:
    for key, member in value.items():
        if collection.key_of(member) != key:
            raise ArgumentError(
                f"cannot put {member!r} under the key {key!r}: its own key is {collection.key_of(member)!r}"
            )
