"""Tell handlers that an object is made: only classes that somebody listens to have their constructor wrapped."""

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from aiosession.events.dispatch import Dispatch, mapped_classes

_WRAPPED: Final = "_aiosession_plain_init"
"""Where a wrapped constructor holds the one that it wraps."""


def keep_constructor(class_: type[Any]) -> Callable[[], None]:
    """Return a function that wraps a class's constructor if somebody listens to ``init``, and else puts it back.

    It does not keep the class alive.
    """
    reference = weakref.ref(class_)

    def adjust() -> None:
        found = reference()
        if found is not None:
            _adjust(found, mapped_classes.of(found))

    return adjust


def _adjust(class_: type[Any], dispatch: Dispatch) -> None:
    own = class_.__dict__.get("__init__")
    is_wrapped = hasattr(own, _WRAPPED)
    if "init" in dispatch.hooks:
        if not is_wrapped:
            type.__setattr__(class_, "__init__", _wrapped(class_, own))
    elif is_wrapped:
        plain = getattr(own, _WRAPPED)
        if plain is None:
            type.__delattr__(class_, "__init__")
        else:
            type.__setattr__(class_, "__init__", plain)


def _wrapped(class_: type[Any], own: Any) -> Any:
    construct = class_.__init__

    @wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the constructor
        hook = type(self).__mapper__.events.hooks.get("init") if type(self) is class_ else None
        if hook is not None:
            hook.now(self, args, kwargs)
        construct(self, *args, **kwargs)

    setattr(__init__, _WRAPPED, own)
    return __init__
