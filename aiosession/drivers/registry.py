"""Which driver does a URL mean? The built-in ones and those of other packages, found by entry points."""

from collections.abc import Mapping
from importlib import import_module, metadata
from types import MappingProxyType
from typing import Final, cast

from sqlalchemy import URL

from aiosession.drivers.protocol import DriverFactory
from aiosession.errors import ArgumentError, near

GROUP: Final = "aiosession.drivers"
"""The entry-point group: names are URL schemes (``postgresql+asyncpg``), values are classes of drivers."""

BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql+asyncpg": "aiosession.drivers.asyncpg:AsyncpgDriver",
        "mariadb+asyncmy": "aiosession.drivers.asyncmy:AsyncmyDriver",
        "mysql+asyncmy": "aiosession.drivers.asyncmy:AsyncmyDriver",
        "postgresql+psycopg": "aiosession.drivers.psycopg:PsycopgDriver",
        "sqlite+aiosqlite": "aiosession.drivers.aiosqlite:AiosqliteDriver",
    }
)
DEFAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "postgresql": "postgresql+asyncpg",
        "postgres": "postgresql+asyncpg",
        "mariadb": "mariadb+asyncmy",
        "mysql": "mysql+asyncmy",
        "sqlite": "sqlite+aiosqlite",
    }
)
"""What a URL without a driver means."""
_EXTRAS: Final[Mapping[str, str]] = MappingProxyType({"psycopg": "psycopg", "asyncmy": "mysql"})


def driver_names() -> list[str]:
    """Return the names of all drivers that are installed, but for the scripted ones of the test kit."""
    names = {*BUILT_IN, *(entry.name for entry in metadata.entry_points(group=GROUP))}
    return sorted(name for name in names if not name.endswith("+scripted"))


def load_driver(url: URL) -> DriverFactory:
    """Return the class of driver that *url* asks for."""
    name = DEFAULTS.get(url.drivername, url.drivername)
    target = BUILT_IN.get(name) or _entry_point(name)
    if target is None:
        known = driver_names()
        backend = name.partition("+")[0]
        same = [each for each in known if each.partition("+")[0] == backend]
        raise ArgumentError(
            f"no driver for {url.drivername!r} is installed; installed are {', '.join(known)}"
            f"{near(name, same or DEFAULTS)}"
        )
    return _load(name, target)


def _entry_point(name: str) -> str | None:
    return next((entry.value for entry in metadata.entry_points(group=GROUP) if entry.name == name), None)


def _load(name: str, target: str) -> DriverFactory:
    module, _, attribute = target.partition(":")
    try:
        return cast("DriverFactory", getattr(import_module(module), attribute))
    except ModuleNotFoundError as error:
        missing = str(error.name)
        extra = _EXTRAS.get(missing)
        remedy = f"pip install 'aiosession[{extra}]'" if extra else f"pip install {missing}"
        raise ArgumentError(f"the driver {name} needs the package {missing!r}: {remedy}") from error
