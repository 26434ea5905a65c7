"""How are handlers attached? ``listen(target, name, fn)``, checked before anything can happen.

What can be listened to is told by the layers that own the targets: each registers a `Finder`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiosession.errors import ArgumentError, InvalidRequestError, near
from aiosession.events.catalogue import Event, Events
from aiosession.events.dispatch import Dispatch, Handler, Listener

F = TypeVar("F", bound=Handler)


@dataclass(frozen=True, slots=True)
class Place:
    """A target, ready to have handlers attached."""

    name: str
    """What the target is called in messages."""
    events: Events
    dispatch: Dispatch
    needs_propagate: bool = False
    """Nothing happens to the target itself, only to classes derived from it."""
    activate: Callable[[], None] | None = None
    """Called when ``active_history`` is asked for."""


Finder = Callable[[object], Place | None]
_finders: Final[list[Finder]] = []


def register(finder: Finder) -> Finder:
    """Have *finder* asked for targets; it returns None for those that it does not know."""
    _finders.insert(0, finder)  # higher layers come later and know better
    return finder


def listen(  # noqa: PLR0913 - the known arguments
    target: object,
    name: str,
    fn: Handler,
    *,
    once: bool = False,
    insert: bool = False,
    named: bool = False,
    retval: bool = False,
    propagate: bool = False,
    active_history: bool = False,
) -> None:
    """Have *fn* called whenever the event *name* happens to *target*; it may be ``async`` where the event is awaited.

    Args:
        target: A session, a subclass of `AsyncSession`, an `async_sessionmaker`; a mapped class, its mapper, `Mapper`
            for all of them; an attribute of a mapped class.
        name: One of the target's events; others are refused with the list of those that it has.
        fn: The handler; one that cannot be called with the event's arguments is refused.
        once: Call it a single time.
        insert: Call it before those that are attached already.
        named: Pass all arguments by keyword.
        retval: The handler returns the value that is used instead (attribute events).
        propagate: Also for classes derived from the target (mapped classes and their attributes).
        active_history: The old value has to be known: setting the attribute while it is not loaded is an error.

    """
    place = _place(target)
    event = _event(place, name)
    _check(place, event, fn, named=named)
    if place.needs_propagate and not propagate:
        raise ArgumentError(
            f"{place.name} is not mapped itself, so nothing would happen; pass propagate=True to listen to the classes "
            f"derived from it"
        )
    if active_history and place.activate is not None:
        place.activate()
    call = _named(event, fn) if named else fn
    if not retval and event.name in _REPLACING:
        call = _unheeded(call)
    if once:
        listener = Listener(fn, lambda *args: _call_once(place.dispatch, name, listener, call, args), propagate)
    else:
        listener = Listener(fn, call, propagate)
    place.dispatch.add(name, listener, first=insert)


def listens_for(target: object, name: str, **how: bool) -> Callable[[F], F]:
    """Return a decorator that attaches a function; takes what `listen` takes."""

    def decorate(fn: F) -> F:
        listen(target, name, fn, **how)
        return fn

    return decorate


def remove(target: object, name: str, fn: Handler) -> None:
    """Detach a handler that was attached to this very target."""
    place = _place(target)
    listener = place.dispatch.find(_event(place, name).name, fn)
    if listener is None:
        raise InvalidRequestError(f"{fn!r} does not listen to {name!r} of {place.name}")
    place.dispatch.discard(name, listener)


def contains(target: object, name: str, fn: Handler) -> bool:
    """Whether a handler is attached to this very target."""
    place = _place(target)
    return place.dispatch.find(_event(place, name).name, fn) is not None


_REPLACING: Final = frozenset({"set", "append", "bulk_replace"})
"""Events whose handlers may return another value, if they were attached with ``retval=True``."""


def _place(target: object) -> Place:
    for finder in _finders:
        place = finder(target)
        if place is not None:
            return place
    raise ArgumentError(
        f"nothing of {target!r} can be listened to; listen to a session, AsyncSession or a subclass of it, an "
        f"async_sessionmaker, a mapped class, Mapper, or an attribute such as User.name"
    )


def _event(place: Place, name: str) -> Event:
    try:
        return place.events[name]
    except KeyError:
        raise ArgumentError(
            f"{place.name} has no event {name!r}{near(name, place.events)}; it has {', '.join(place.events)}"
        ) from None


def _check(place: Place, event: Event, fn: Handler, *, named: bool) -> None:
    if not callable(fn):
        raise ArgumentError(f"the handler of {event.name!r} has to be a function, not {fn!r}")
    if event.plain_because is not None and _is_async(fn):
        raise ArgumentError(
            f"the handler of {event.name!r} of {place.name} cannot be async: {event.plain_because}; make it a plain "
            f"function"
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # written in C, without telling
        return
    try:
        if named:
            signature.bind(**dict.fromkeys(event.arguments))
        else:
            signature.bind(*event.arguments)
    except TypeError as error:
        how = "by keyword" if named else "in this order"
        raise ArgumentError(
            f"the handler {fn!r} of {event.name!r} is called with {', '.join(event.arguments)} {how}, which it does "
            f"not take: {error}"
        ) from None


def _is_async(fn: Handler) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004 - not whether it can be called


def _named(event: Event, fn: Handler) -> Handler:
    return lambda *args: fn(**dict(zip(event.arguments, args, strict=True)))


def _unheeded(fn: Handler) -> Handler:
    """Return *fn*, what it returns replaced by the value that it was given."""

    def call(*args: Any) -> Any:
        fn(*args)
        return args[1]

    return call


def _call_once(dispatch: Dispatch, name: str, listener: Listener, call: Handler, args: tuple[Any, ...]) -> Any:
    dispatch.discard(name, listener)
    return call(*args)
