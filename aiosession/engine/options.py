"""Check execution options: what may be said about how statements are run."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from aiosession import aio, errors
from aiosession.drivers.protocol import TransactionOptions
from aiosession.sql.schemas import checked_schemas

AUTOCOMMIT: Final = "AUTOCOMMIT"

_NAMES: Final = frozenset(
    {
        "isolation_level",
        "schema_translate_map",
        "read_only",
        "statement_deadlines",
        "deferrable",
        "yield_per",
        "populate_existing",
        "autoflush",
        "combine_writes",
        "synchronize_session",
        "identity_token",
    }
)
_LEVELS: Final = frozenset({"READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", AUTOCOMMIT})
_BELOW_SNAPSHOT: Final = frozenset({"READ UNCOMMITTED", "READ COMMITTED"})


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return *options* normalised; refuse misspelt names and unknown levels. Other names are the application's own."""
    found = dict(options)
    for name in found:
        if name not in _NAMES:
            hint = errors.near(name, _NAMES)
            if hint or not isinstance(name, str):
                raise errors.ArgumentError(f"unknown execution option {name!r}{hint}")
    combines = found.get("combine_writes", True)
    if not isinstance(combines, bool):
        raise errors.ArgumentError(f"combine_writes is True or False, not {combines!r}")
    follows = found.get("statement_deadlines", False)
    if not isinstance(follows, bool):
        raise errors.ArgumentError(f"statement_deadlines is True or False, not {follows!r}")
    level = found.get("isolation_level")
    if level is not None:
        found["isolation_level"] = isolation_level(level)
    if found.get("schema_translate_map") is not None:
        found["schema_translate_map"] = checked_schemas(found["schema_translate_map"])
    return found


def isolation_level(level: object) -> str:
    """Return the name of an isolation level as the databases spell it."""
    name = str(level).upper().replace("_", " ")
    if name not in _LEVELS:
        hint = errors.near(name, _LEVELS) or f"; there are {', '.join(sorted(_LEVELS))}"
        raise errors.ArgumentError(f"unknown isolation level {level!r}{hint}")
    return name


def reads_need_transaction(level: str | None) -> bool:
    """Tell whether plain reads at *level* belong into the transaction, because they share its snapshot."""
    return level is not None and level != AUTOCOMMIT and level not in _BELOW_SNAPSHOT


def transaction_options(options: Mapping[str, Any]) -> TransactionOptions:
    """Return how transactions begin where these execution options hold."""
    return TransactionOptions(
        isolation_level=options.get("isolation_level"),
        read_only=bool(options.get("read_only", False)),
        deferrable=bool(options.get("deferrable", False)),
        follows_deadlines=bool(options.get("statement_deadlines", False)),
    )


def beginning(options: TransactionOptions, *, write: bool, branch: str | None = None) -> TransactionOptions:
    """Return how a transaction begins now: what is left of the caller's time is known now."""
    limit = aio.time_left() if options.follows_deadlines else None
    return replace(options, write=write, branch=branch, statement_timeout=limit)
