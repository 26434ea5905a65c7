"""Which options does a session take? Unknown ones are refused with the nearest known name."""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any, NoReturn

from aiosession.drivers.protocol import TransactionOptions
from aiosession.engine.options import isolation_level as checked_level
from aiosession.errors import ArgumentError, near
from aiosession.transaction.joining import JoinMode

DEFAULT_OPTIONS = TransactionOptions()
"""How the transaction of a session begins that nothing was said about."""


def changed_options(
    usual: TransactionOptions, *, isolation_level: str | None, read_only: bool | None, deferrable: bool | None
) -> TransactionOptions | None:
    """Return how a transaction begins of which this is said; None if nothing is."""
    if isolation_level is None and read_only is None and deferrable is None:
        return None
    for name, value in (("read_only", read_only), ("deferrable", deferrable)):
        if value is not None and not isinstance(value, bool):
            raise ArgumentError(f"{name} is True or False, not {value!r}")
    return TransactionOptions(
        isolation_level=usual.isolation_level if isolation_level is None else checked_level(isolation_level),
        read_only=usual.read_only if read_only is None else read_only,
        deferrable=usual.deferrable if deferrable is None else deferrable,
    )


def join_mode(name: str) -> JoinMode:
    """Return what a ``join_transaction_mode`` stands for."""
    try:
        return JoinMode(name)
    except ValueError:
        known = [mode.value for mode in JoinMode]
        raise ArgumentError(
            f"join_transaction_mode is one of {', '.join(known)}, not {name!r}{near(str(name), known)}"
        ) from None


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
