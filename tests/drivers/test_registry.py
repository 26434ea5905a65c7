"""A URL finds its driver, or an error that says what to do."""

from importlib import metadata

import pytest
from sqlalchemy import make_url

from aiosession.drivers import registry
from aiosession.drivers.aiosqlite import AiosqliteDriver
from aiosession.drivers.asyncmy import AsyncmyDriver
from aiosession.drivers.asyncpg import AsyncpgDriver
from aiosession.drivers.psycopg import PsycopgDriver
from aiosession.errors import ArgumentError
from aiosession.testing.scripted import ScriptedDriver


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://h/d", AsyncpgDriver),
        ("postgresql+asyncpg://h/d", AsyncpgDriver),
        ("postgresql+psycopg://h/d", PsycopgDriver),
        ("sqlite://", AiosqliteDriver),
        ("sqlite+aiosqlite:///file.db", AiosqliteDriver),
        ("mariadb://h/d", AsyncmyDriver),
        ("mysql+asyncmy://h/d", AsyncmyDriver),
        ("mysql+scripted://", ScriptedDriver),
        ("sqlite+scripted://", ScriptedDriver),
    ],
)
def test_a_url_finds_its_driver(url: str, expected: object) -> None:
    assert registry.load_driver(make_url(url)) is expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("postgresql+asyncgp", "did you mean 'postgresql\\+asyncpg'"),
        ("sqllite", "did you mean 'sqlite'"),
        ("oracle", "installed are mariadb\\+asyncmy, mysql\\+asyncmy, postgresql\\+asyncpg, postgresql\\+psycopg"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        registry.load_driver(make_url(f"{name}://h/d"))


def _install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    entry = metadata.EntryPoint(name, value, registry.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: (entry,))


def test_other_packages_can_bring_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, "acme+fast", "aiosession.testing.scripted:ScriptedDriver")

    assert registry.load_driver(make_url("acme+fast://h/d")) is ScriptedDriver
    assert "acme+fast" in registry.driver_names()


@pytest.mark.parametrize(
    ("module", "words"),
    [("psycopg", r"pip install 'aiosession\[psycopg\]'"), ("no_such_module", "pip install no_such_module")],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, module: str, words: str) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    _install(monkeypatch, "acme+fast", "acme:Driver")
    monkeypatch.setattr(registry, "import_module", fail)

    with pytest.raises(ArgumentError, match=words):
        registry.load_driver(make_url("acme+fast://h/d"))
