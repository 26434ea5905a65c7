"""The pytest plugin: a database for the run, and for each test a session in a transaction that is rolled back.

The asynchronous fixtures run under pytest-asyncio (in both of its modes) and under anyio's plugin, on the event loop of
the test that asks for them.
"""

import importlib
import importlib.util
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest
from sqlalchemy import MetaData

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.session.scoped import async_scoped_session
from aiosession.session.session import AsyncSession
from aiosession.session.sessionmaker import async_sessionmaker
from aiosession.testing import mariadb, postgres
from aiosession.testing.assertions import engines_of
from aiosession.testing.databases import NoDatabaseError, database_of, run_apart
from aiosession.testing.isolation import rolled_back
from aiosession.testing.statements import StatementLog

_ASYNCIO: Final[ModuleType | None] = (
    importlib.import_module("pytest_asyncio") if importlib.util.find_spec("pytest_asyncio") else None
)
_USUAL: Final = "sqlite+aiosqlite://"
_SERVERS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "postgresql": postgres.postgres_cluster,
    "mariadb": mariadb.mariadb_server,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask for the database of the run."""
    text = "database of the aiosession fixtures: a URL, or postgresql or mariadb for a private server (default: SQLite)"
    parser.addini("aiosession_url", text, default="")
    parser.getgroup("aiosession").addoption("--aiosession-url", default=None, help=text)


# The database of the run --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def aiosession_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name the database of the run; each worker of pytest-xdist has its own.

    It is what ``--aiosession-url`` or the ini option ``aiosession_url`` says: a URL, ``postgresql`` or ``mariadb`` for
    a private server, or, by default, a new SQLite file. Beside the database of a URL each worker has another one, with
    its own name at the end: ``shop_gw0``.
    """
    chosen = request.config.getoption("--aiosession-url") or request.config.getini("aiosession_url") or _USUAL
    worker: str | None = getattr(request.config, "workerinput", {}).get("workerid")
    with ExitStack() as stack:
        if chosen in _SERVERS:
            url, worker = stack.enter_context(_SERVERS[chosen]()).url(), None
        else:
            url = chosen
        try:
            own = database_of(worker, url, tmp_path_factory.mktemp("aiosession"))
        except NoDatabaseError as error:
            pytest.fail(str(error), pytrace=False)
        yield own


@pytest.fixture(scope="session")
def aiosession_metadata() -> MetaData:
    """Say which tables there are: **to be overridden**, with ``return Base.metadata``."""
    pytest.fail(
        "which tables do the tests need? Say it in conftest.py: "
        "@pytest.fixture(scope='session') def aiosession_metadata(): return Base.metadata",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def aiosession_schema(aiosession_url: str, request: pytest.FixtureRequest) -> None:
    """Make the tables of ``aiosession_metadata`` that are not there, once for the run; none is ever dropped.

    Override it to make them in another way, such as by migrations.
    """
    metadata: MetaData = request.getfixturevalue("aiosession_metadata")
    run_apart(lambda: _make_tables(aiosession_url, metadata))


async def _make_tables(url: str, metadata: MetaData) -> None:
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.create_all(metadata)
    finally:
        await engine.dispose()


# For each test ------------------------------------------------------------------------------------------------------


async def _engine(aiosession_url: str, aiosession_schema: None) -> AsyncIterator[AsyncEngine]:
    """Open an engine on the database of the run; at the end of the test nobody may hold a connection."""
    engine = create_async_engine(aiosession_url)
    yield engine
    holders = [str(holder) for holder in engine.pool.status().holders]
    await engine.dispose()
    if holders:
        pytest.fail(f"connections were not given back to the pool: {'; '.join(holders)}", pytrace=False)


@pytest.fixture
def aiosession_maker(aiosession_engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make the sessions of a test; override it to return the application's own sessionmaker or registry."""
    return async_sessionmaker(aiosession_engine)


async def _sessions(
    aiosession_maker: async_sessionmaker[Any] | async_scoped_session[Any],
) -> AsyncIterator[async_sessionmaker[Any]]:
    """Have all sessions of ``aiosession_maker`` live in a transaction that is rolled back at the end of the test."""
    engines = engines_of(aiosession_maker)
    async with rolled_back(aiosession_maker) as maker:
        yield maker
    for engine in engines:
        await engine.dispose()  # the next test may run on another event loop


async def _session(aiosession_sessions: async_sessionmaker[Any]) -> AsyncIterator[AsyncSession]:
    """Open a session in the transaction of the test, to be committed and rolled back at will."""
    async with aiosession_sessions() as session:
        yield session


@pytest.fixture
def aiosession_statements(aiosession_maker: async_sessionmaker[Any]) -> Iterator[StatementLog]:
    """Listen to the statements of the test."""
    with StatementLog(*engines_of(aiosession_maker)) as log:
        yield log


_ASYNCHRONOUS: Final[dict[str, Callable[..., AsyncIterator[Any]]]] = {
    "aiosession_engine": _engine,
    "aiosession_sessions": _sessions,
    "aiosession_session": _session,
}


def _copied(function: Callable[..., AsyncIterator[Any]], loop_scope: str | None) -> FunctionType:
    """Return the function of a fixture anew, marked for pytest-asyncio if it has the scope of an event loop."""
    assert isinstance(function, FunctionType)
    copied = FunctionType(function.__code__, function.__globals__, function.__name__)
    copied.__doc__ = function.__doc__
    if _ASYNCIO is not None and loop_scope is not None:
        _ASYNCIO.fixture(copied, loop_scope=loop_scope)  # which marks the function itself
    return copied


_MARKED: Final = {name: _copied(function, "function") for name, function in _ASYNCHRONOUS.items()}
aiosession_engine = pytest.fixture(_MARKED["aiosession_engine"], name="aiosession_engine")
aiosession_sessions = pytest.fixture(_MARKED["aiosession_sessions"], name="aiosession_sessions")
aiosession_session = pytest.fixture(_MARKED["aiosession_session"], name="aiosession_session")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Have our asynchronous fixtures run on the event loop of the test, by the plugin that runs the test."""
    name = fixturedef.argname
    if name not in _MARKED or fixturedef.func is not _MARKED[name]:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fixturedef, "func", _copied(_ASYNCHRONOUS[name], _loop_scope(request)))
        return (yield)


def _loop_scope(request: pytest.FixtureRequest) -> str | None:
    """Return the scope of pytest-asyncio's event loop for a test; None if anyio's plugin runs it."""
    if "anyio_backend" in request.fixturenames:
        return None
    if _ASYNCIO is None or not request.config.pluginmanager.has_plugin("asyncio"):
        pytest.fail(
            "the fixtures of aiosession are for asynchronous tests: install pytest-asyncio, or mark the test with "
            "@pytest.mark.anyio",
            pytrace=False,
        )
    marker = request.node.get_closest_marker("asyncio")
    chosen = None if marker is None else marker.kwargs.get("loop_scope")
    return str(chosen or request.config.getini("asyncio_default_test_loop_scope"))
