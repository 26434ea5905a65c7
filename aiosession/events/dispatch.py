"""Who is to be called? The handlers of one target, with those of the targets around it.

Worked out anew whenever a handler comes or goes, so that firing looks into one dictionary, empty as a rule.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiosession.events.hooks import Hook

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A handler as it was attached."""

    fn: Handler
    call: Handler
    """What is called: *fn*, adapted to the event's arguments."""
    propagates: bool


@dataclass(frozen=True, slots=True)
class Source:
    """Where a dispatch gets handlers from besides its own."""

    dispatch: "Dispatch"
    only_propagating: bool = False


class Dispatch:
    """The handlers of one target by event; ``hooks`` has those that are to be called, inherited ones first."""

    __slots__ = ("__weakref__", "_changed", "_derived", "hooks", "own", "sources")

    def __init__(self, *sources: Source, changed: Callable[[], None] | None = None) -> None:
        self.sources: Final = sources
        self.own: Final[dict[str, list[Listener]]] = {}
        self.hooks: dict[str, Hook[...]] = {}
        self._changed = changed
        self._derived: Final[weakref.WeakSet[Dispatch]] = weakref.WeakSet()
        for source in sources:
            source.dispatch._derived.add(self)  # noqa: SLF001 - of this class
        self._collect()

    def add(self, name: str, listener: Listener, *, first: bool = False) -> None:
        """Attach a handler."""
        listeners = self.own.setdefault(name, [])
        listeners.insert(0 if first else len(listeners), listener)
        self._spread()

    def discard(self, name: str, listener: Listener) -> None:
        """Detach a handler; nothing happens if it is not there any more."""
        listeners = self.own.get(name, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self.own[name]
            self._spread()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have *changed* called whenever the handlers change, and now if there are some."""
        self._changed = changed
        if self.hooks:
            changed()

    def find(self, name: str, fn: Handler) -> Listener | None:
        """Return how *fn* was attached here, None if it was not."""
        return next((each for each in self.own.get(name, ()) if each.fn == fn), None)

    def _spread(self) -> None:
        for dispatch in (self, *self._derived):
            dispatch._collect()  # noqa: SLF001 - of this class

    def _collect(self) -> None:
        hooks: dict[str, Hook[...]] = {}
        for source in (*self.sources, Source(self)):
            for name, listeners in source.dispatch.own.items():
                for listener in listeners:
                    if listener.propagates or not source.only_propagating:
                        hook = hooks.get(name)
                        if hook is None:
                            hook = hooks[name] = Hook(name)
                        hook.add(listener.call)
        self.hooks = hooks
        if self._changed is not None:
            self._changed()


class ClassDispatches:
    """The dispatches of classes: each one gets the handlers of its bases, or those of them that propagate."""

    def __init__(self, *, only_propagating: bool, everywhere: Dispatch | None = None) -> None:
        self._known: Final[weakref.WeakKeyDictionary[type[Any], Dispatch]] = weakref.WeakKeyDictionary()
        self._only_propagating: Final = only_propagating
        self._everywhere: Final = () if everywhere is None else (Source(everywhere),)

    def of(self, class_: type[Any]) -> Dispatch:
        """Return the dispatch of a class."""
        found = self._known.get(class_)
        if found is None:
            bases = [base for base in reversed(class_.__mro__[1:]) if base is not object]
            inherited = [Source(self.of(base), self._only_propagating) for base in bases]
            found = self._known[class_] = Dispatch(*self._everywhere, *inherited)
        return found


EVERY_MAPPER: Final = Dispatch()
"""Handlers that were attached to `Mapper` itself: they are for all mapped classes."""

mapped_classes: Final = ClassDispatches(only_propagating=True, everywhere=EVERY_MAPPER)
session_classes: Final = ClassDispatches(only_propagating=False)
