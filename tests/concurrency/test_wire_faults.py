"""Whatever happens on the line, the caller hears the truth, and the next one gets a working connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from sqlalchemy import insert, make_url, text

from aiosession import AsyncEngine, AsyncSession, aio, create_async_engine
from aiosession.drivers import pool
from aiosession.engine import stack
from aiosession.errors import CommitOutcomeUnknownError, OperationalError
from aiosession.transaction import loose, unit
from tests.concurrency.proxy import Fault, How, Proxy, When, proxy_to
from tests.concurrency.scenarios import engine_of
from tests.session_model import Author, Book, make_tables, names_seen_by

BOUND = 3.0
SHORT = 0.1
TOLERABLE = 0.3
NAME = "Newcomer"
VALUE = NAME.encode()

pytestmark = pytest.mark.postgres


@pytest.fixture
async def observer(postgresql_url: str) -> AsyncIterator[AsyncEngine]:
    observer = create_async_engine(postgresql_url)
    await make_tables(observer)
    yield observer
    await observer.dispose()


@pytest.fixture
async def proxy(postgresql_url: str, observer: AsyncEngine) -> AsyncIterator[Proxy]:
    async def kill() -> None:
        async with observer.connect() as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
                    "WHERE pid <> pg_backend_pid() AND application_name = 'victim'"
                )
            )

    port = make_url(postgresql_url).port
    assert port is not None
    async with proxy_to(port, kill) as proxy:
        yield proxy


NAMED: dict[str, dict[str, Any]] = {
    "postgresql+asyncpg": {"server_settings": {"application_name": "victim"}},
    "postgresql+psycopg": {"application_name": "victim"},
}


@pytest.fixture(params=NAMED)
async def engine(request: pytest.FixtureRequest, postgresql_url: str, proxy: Proxy) -> AsyncIterator[AsyncEngine]:
    """Open an engine of one connection, behind the proxy."""
    engine = create_async_engine(
        make_url(postgresql_url).set(drivername=request.param, port=proxy.port),
        pool_size=1,
        max_overflow=0,
        connect_args=NAMED[request.param],
    )
    yield engine
    proxy.heal()
    await engine.dispose()


async def lone_write(session: AsyncSession) -> None:
    session.add(Author(name=NAME))
    await session.commit()


async def two_tables(session: AsyncSession) -> None:
    session.add_all([Author(name=NAME), Book(title="on its own")])
    await session.commit()


async def flush_and_commit(session: AsyncSession) -> None:
    session.add(Author(name=NAME))
    await session.flush()
    await session.commit()


async def block(session: AsyncSession) -> None:
    async with session.begin():
        session.add(Author(name=NAME))


async def savepoint(session: AsyncSession) -> None:
    async with session.begin(), session.begin_nested():
        session.add(Author(name=NAME))


async def connection_block(session: AsyncSession) -> None:
    async with engine_of(session).begin() as connection:
        await connection.execute(insert(Author).values(name=NAME))


WORK: dict[str, tuple[Callable[[AsyncSession], Awaitable[None]], tuple[bytes, ...]]] = {
    "lone write": (lone_write, (VALUE,)),
    "two tables": (two_tables, (VALUE,)),
    "flush and commit": (flush_and_commit, (b"BEGIN", VALUE, b"COMMIT")),
    "block": (block, (b"BEGIN", VALUE, b"COMMIT")),
    "connection": (connection_block, (b"BEGIN", VALUE, b"COMMIT")),
    "savepoint": (savepoint, (b"BEGIN", b"SAVEPOINT", VALUE, b"RELEASE", b"COMMIT")),
}
PLACES = [
    pytest.param(work, trigger, id=f"{name}: {trigger.decode()}")
    for name, (work, triggers) in WORK.items()
    for trigger in triggers
]


async def reported(work: Awaitable[None]) -> BaseException | None:
    """Run *work* in bounded time and return what its caller hears."""
    try:
        async with asyncio.timeout(BOUND):
            await work
    except Exception as error:
        return error
    return None


async def check_truth(report: BaseException | None, observer: AsyncEngine) -> None:
    answer = await report.resolve() if isinstance(report, CommitOutcomeUnknownError) else None
    is_there = NAME in await names_seen_by(observer)
    assert answer in {None, is_there}
    if report is None:
        assert is_there, "the caller was told of success; the data is not there"
    elif not isinstance(report, CommitOutcomeUnknownError):
        assert isinstance(report, OperationalError)
        assert not is_there, f"the caller was told {report!r}; the data is there"


async def check_everything_is_whole(engine: AsyncEngine, observer: AsyncEngine) -> None:
    assert engine.pool.status().holders == ()
    async with observer.begin() as connection:  # nobody holds a lock
        await connection.execute(text("TRUNCATE author, book"))
    async with AsyncSession(engine) as session:
        assert await session.scalar(text("SELECT 42")) == 42
        session.add(Author(name="Next"))
        await session.commit()
    assert await names_seen_by(observer) == ["Next"]
    status = engine.pool.status()
    assert (status.holders, status.waiting) == ((), 0)
    assert (status.open, status.idle) == (1, 1)


@pytest.mark.parametrize("is_warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("how", [How.CUT, How.KILL])
@pytest.mark.parametrize(("work", "trigger"), PLACES)
async def test_a_lost_connection_is_reported_truthfully(
    engine: AsyncEngine,
    observer: AsyncEngine,
    proxy: Proxy,
    work: Callable[[AsyncSession], Awaitable[None]],
    trigger: bytes,
    how: How,
    when: When,
    is_warm: bool,
) -> None:
    if is_warm:
        await warm_up(engine, work, observer)
    proxy.arm(Fault(trigger, when, how))

    async with AsyncSession(engine) as session:
        report = await reported(work(session))
        assert proxy.has_struck
        await check_truth(report, observer)
        await session.rollback()
        await check_memory(session, report, observer)

    await check_everything_is_whole(engine, observer)


async def warm_up(engine: AsyncEngine, work: Callable[[AsyncSession], Awaitable[None]], observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await work(session)
    async with observer.begin() as connection:
        await connection.execute(text("DELETE FROM author"))


async def check_memory(session: AsyncSession, report: BaseException | None, observer: AsyncEngine) -> None:
    """After rollback() no object counts as persistent that is not in the database; the session works."""
    names = await names_seen_by(observer)
    assert not session.new
    for author in session:
        assert isinstance(author, Author)
        assert author.name in names
    if report is not None:
        assert await session.scalar(text("SELECT 1")) == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clean-up give up early."""
    for module, name in (
        (aio, "PATIENCE"),
        (aio, "GRACE"),
        (unit, "CLEANUP_DEADLINE"),
        (stack, "ROLLBACK_DEADLINE"),
        (pool, "RESET_DEADLINE"),
        (pool, "CLOSE_DEADLINE"),
    ):
        monkeypatch.setattr(module, name, SHORT)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize(("work", "trigger"), PLACES)
async def test_a_caller_who_gives_up_on_a_silent_line_is_free_in_bounded_time(
    engine: AsyncEngine,
    observer: AsyncEngine,
    proxy: Proxy,
    work: Callable[[AsyncSession], Awaitable[None]],
    trigger: bytes,
    when: When,
) -> None:
    await warm_up(engine, work, observer)
    loop = asyncio.get_running_loop()
    proxy.arm(Fault(trigger, when, How.HOLE))

    session = AsyncSession(engine)

    async def until_patience_ends() -> None:
        async with asyncio.timeout(None) as timeout:
            proxy.on_strike = lambda: timeout.reschedule(loop.time() + SHORT)
            await work(session)

    with pytest.raises(TimeoutError):
        await until_patience_ends()
    gave_up = loop.time()
    await session.close()

    assert loop.time() - gave_up < BOUND
    proxy.heal()
    await check_everything_is_whole(engine, observer)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", When)
@pytest.mark.parametrize("patience", ["ours", "the driver's"])
@pytest.mark.parametrize(("work", "trigger"), [(lone_write, VALUE), (flush_and_commit, b"COMMIT"), (block, b"COMMIT")])
async def test_a_commit_on_a_silent_line_has_an_unknown_outcome(
    engine: AsyncEngine,
    observer: AsyncEngine,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[AsyncSession], Awaitable[None]],
    trigger: bytes,
    when: When,
    patience: str,
) -> None:
    await warm_up(engine, work, observer)
    if patience == "the driver's" and engine.url.drivername == "postgresql+asyncpg":
        await limit_commands(engine)
    else:  # psycopg itself has all the time in the world
        monkeypatch.setattr(unit, "COMMIT_DEADLINE", TOLERABLE)
        monkeypatch.setattr(loose, "COMMIT_DEADLINE", TOLERABLE)
    proxy.arm(Fault(trigger, when, How.HOLE))

    async with AsyncSession(engine) as session:
        async with asyncio.timeout(BOUND):
            with pytest.raises(CommitOutcomeUnknownError) as caught:
                await work(session)
        await session.rollback()

    assert proxy.has_struck
    proxy.heal()
    is_there = NAME in await names_seen_by(observer)
    assert await caught.value.resolve() in {None, is_there}
    assert (await caught.value.resolve() is None) == (work is lone_write)
    await check_everything_is_whole(engine, observer)


async def limit_commands(engine: AsyncEngine) -> None:
    """Have asyncpg itself give up on an answer, as its option ``command_timeout`` does."""
    connection = await engine.acquire()
    wrapped = cast("Any", connection.driver_connection)
    wrapped._config = wrapped._config._replace(command_timeout=TOLERABLE)  # so that BEGIN had more time
    await engine.release(connection)
