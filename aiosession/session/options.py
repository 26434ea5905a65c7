"""Which options does a session take? Unknown ones are refused with the nearest known name."""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any, NoReturn

from aiosession.drivers.protocol import TransactionOptions
from aiosession.engine.options import isolation_level as checked_level
from aiosession.errors import ArgumentError, near

DEFAULT_OPTIONS = TransactionOptions()
"""How the transaction of a session begins that nothing was said about."""


def transaction_options(isolation_level: str | None) -> TransactionOptions:
    """Return how transactions of a session with this isolation level begin."""
    if isolation_level is None:
        return DEFAULT_OPTIONS
    return TransactionOptions(isolation_level=checked_level(isolation_level))


def refuse_unknown(unknown: Mapping[str, object], known: Iterable[str], what: str) -> NoReturn:
    """Raise `ArgumentError` for options that *what* does not have."""
    names = sorted(known)
    listed = ", ".join(f"{name!r}{near(name, names)}" for name in unknown)
    raise ArgumentError(f"the options of {what} are {', '.join(names)}; it has no {listed}")


def option_names(callable_: Any) -> list[str]:
    """Return the names of the keyword arguments that a constructor or method takes."""
    return [name for name, each in signature(callable_).parameters.items() if each.kind != each.VAR_KEYWORD]


def check_stale_reads(value: str) -> None:
    """Raise `ArgumentError` unless *value* is something that stale_reads can be."""
    if value not in {"return", "raise"}:
        raise ArgumentError(f"stale_reads is 'return' or 'raise', not {value!r}")
