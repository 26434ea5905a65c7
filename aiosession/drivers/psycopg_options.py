"""Which options does a connection of psycopg take? Those of libpq, and two of psycopg's own; checked before any I/O."""

from typing import Any, Final

from psycopg.pq import Conninfo
from sqlalchemy import URL, Dialect

from aiosession.drivers import arguments, postgres
from aiosession.drivers.protocol import DriverOptions
from aiosession.errors import ArgumentError

_OWN: Final = ("prepare_threshold", "prepared_max")
_KNOWN: Final = (*(option.keyword.decode() for option in Conninfo.get_defaults()), *_OWN)
# An ORM repeats itself, and has more shapes of statements than psycopg's defaults reckon with.
_DEFAULTS: Final[dict[str, int | None]] = {"prepare_threshold": 1, "prepared_max": 512}
# A statement that was prepared may be on another connection of the server than the one that a pooler lends next.
_POOLED: Final[dict[str, int | None]] = {**_DEFAULTS, "prepare_threshold": None}
_OFF: Final = frozenset({"none", "off", "no", "false"})


def connect_options(
    name: str, dialect: Dialect, url: URL, options: DriverOptions
) -> tuple[dict[str, Any], int | None, int | None]:
    """Return what to connect with; when statements are prepared, None for never; and how many are kept."""
    given = arguments.connect_arguments(dialect, url)
    given.pop("context", None)
    given = arguments.checked_options(name, given | dict(options.connect_args), _KNOWN)
    if options.read_only and not options.pooled:
        given["options"] = postgres.read_only_options(given.get("options"))
    defaults = _POOLED if options.pooled else _DEFAULTS
    threshold, kept = (_number(name, each, given.pop(each, defaults[each])) for each in _OWN)
    return given, threshold, kept


def _number(name: str, option: str, value: object) -> int | None:
    """Return the value of one of psycopg's own options: a number, or None for never."""
    if value is None or (isinstance(value, str) and value.lower() in _OFF):
        return None
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    raise ArgumentError(f"{name}: option {option!r} needs a whole number, or None, not {value!r}")
