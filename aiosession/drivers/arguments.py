"""Check what users write for a driver, before any I/O: options, isolation levels, savepoint names."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import URL, Dialect
from sqlalchemy import exc as core_exc

from aiosession.drivers.shown_url import shown
from aiosession.errors import ArgumentError, near

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def checked_options(driver: str, options: Mapping[str, object], known: Sequence[str]) -> dict[str, object]:
    """Return *options* if every name is *known*; else raise an error that names the wrong one."""
    for name in options:
        if name not in known:
            raise ArgumentError(f"{driver} takes no option {name!r}{near(name, known)}")
    return dict(options)


def converted(driver: str, options: Mapping[str, object], kinds: Mapping[str, type]) -> dict[str, object]:
    """Return *options* with text from a URL's query made into the number or truth value that is meant."""
    return {
        name: _converted(driver, name, value, kinds[name]) if name in kinds and isinstance(value, str) else value
        for name, value in options.items()
    }


def _converted(driver: str, name: str, value: str, kind: type) -> object:
    try:
        if kind is bool:
            return _truth(value)
        return kind(value)
    except ValueError:
        raise ArgumentError(f"{driver}: option {name!r} needs a value of type {kind.__name__}, not {value!r}") from None


def _truth(value: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(value)


def connect_arguments(dialect: Dialect, url: URL) -> dict[str, object]:
    """Return what the dialect makes of a URL; a URL it refuses is our `ArgumentError`."""
    try:
        _, options = dialect.create_connect_args(url)
    except (core_exc.ArgumentError, ValueError, TypeError, AssertionError) as error:
        raise ArgumentError(f"{shown(url)} is no URL that {dialect.name} understands: {error}") from error
    return dict(options)


def isolation_level(driver: str, name: str, known: Sequence[str]) -> str:
    """Return the isolation level *name* as SQL spells it; refuse what the database does not have."""
    level = " ".join(name.replace("_", " ").split()).upper()
    if level not in known:
        raise ArgumentError(f"{driver} has no isolation level {name!r}; it has {', '.join(known)}")
    return level


def savepoint_name(name: str) -> str:
    """Return *name* if it is safe as a savepoint's name: it cannot be a bound parameter."""
    if _IDENTIFIER.fullmatch(name) is None:
        raise ArgumentError(f"{name!r} is no name for a savepoint: use letters, digits and underscores, 63 at most")
    return name


def branch_name(name: str) -> str:
    """Return *name* if it is safe as the name of a prepared transaction: it cannot be a bound parameter."""
    if _BRANCH.fullmatch(name) is None:
        raise ArgumentError(
            f"{name!r} is no name for a prepared transaction: use letters, digits and . : _ - in it, 120 at most"
        )
    return name
