"""Any call to the driver may fail, hang or lose the line: what is reported, kept and sent afterwards is right."""

import asyncio
from collections.abc import Callable

import pytest

from aiosession import AsyncEngine, AsyncSession, aio
from aiosession.drivers import pool
from aiosession.drivers.protocol import TransactionStatus
from aiosession.errors import CommitOutcomeUnknownError, DisconnectError, OperationalError
from aiosession.testing.scripted import DriverCall, ScriptedDriver
from aiosession.transaction import unit
from tests.session_model import Author, Book
from tests.without_loop import scripted

SHORT = 0.02
BOUND = 2.0

Trouble = Callable[[ScriptedDriver, int], None]

TROUBLES: dict[str, Trouble] = {
    "error": lambda driver, number: driver.fail_at(number, OperationalError("a statement", (), OSError("disk full"))),
    "other error": lambda driver, number: driver.fail_at(number, ZeroDivisionError()),
    "drop": lambda driver, number: driver.drop_at(number),
    "hang": lambda driver, number: driver.hang_at(number),
}
KEYS = {"author": iter(range(1, 10_000)), "book": iter(range(1, 10_000))}


def answer(call: DriverCall) -> list[tuple[object, ...]] | int | None:
    """Give every new row a number, and find every row that is to be changed."""
    words = call.sql.replace('"', "").split()
    if words[:2] != ["INSERT", "INTO"] or "RETURNING" not in words:
        return None
    count = max((len(each) for each in call.parameters if isinstance(each, list)), default=1)
    table = words[2].partition("(")[0]
    return [(next(KEYS[table]),) for _ in range(count)]


@pytest.fixture
def database() -> tuple[AsyncEngine, ScriptedDriver]:
    engine, driver = scripted("postgresql")
    driver.plan = answer
    return engine, driver


def authors() -> list[Author]:
    return [Author(name=name, books=[Book(title="One"), Book(title="Two")]) for name in ("Ann", "Bea")]


async def flush_and_commit(session: AsyncSession) -> None:
    session.add_all(authors())
    await session.flush()
    async with session.begin_nested():
        session.add(Author(name="Cid"))
    await session.commit()


async def number_of_calls(engine: AsyncEngine, driver: ScriptedDriver) -> int:
    """Return how many calls the work takes, from connecting to COMMIT."""
    async with AsyncSession(engine) as session:
        await flush_and_commit(session)
    await engine.dispose()
    return driver.verbs.index("commit") + 1


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (aio, "PATIENCE"),
        (aio, "GRACE"),
        (unit, "CLEANUP_DEADLINE"),
        (unit, "COMMIT_DEADLINE"),
        (pool, "RESET_DEADLINE"),
        (pool, "CLOSE_DEADLINE"),
    ):
        monkeypatch.setattr(module, name, SHORT)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_in_any_call(database: tuple[AsyncEngine, ScriptedDriver], trouble: str) -> None:
    engine, driver = database
    for number in range(await number_of_calls(engine, driver)):
        place = len(driver.calls) + number
        TROUBLES[trouble](driver, place + 1)

        async with AsyncSession(engine) as session:
            report = await reported(session)
            check_report(report, driver.verbs[place], trouble)
            await session.rollback()
            assert [*session, *session.new, *session.dirty] == []

            await flush_and_commit(session)
            assert driver.verbs[-1] == "commit"

        check_pool(engine)
        await engine.dispose()


async def reported(session: AsyncSession) -> BaseException | None:
    """Return what the caller hears; one who waits for a statement gives up after a while."""
    work = asyncio.create_task(flush_and_commit(session))
    _, waiting = await asyncio.wait([work], timeout=4 * SHORT)
    for each in waiting:
        each.cancel()
    async with asyncio.timeout(BOUND):
        (report,) = await asyncio.gather(work, return_exceptions=True)
    return report


def check_report(report: BaseException | None, verb: str, trouble: str) -> None:
    """Only a COMMIT without an answer is of unknown outcome."""
    if verb == "commit" and trouble in {"drop", "hang"}:
        assert isinstance(report, CommitOutcomeUnknownError)
    elif trouble == "drop":
        assert isinstance(report, DisconnectError)
    elif trouble == "hang":
        assert isinstance(report, asyncio.CancelledError)
    else:
        assert isinstance(report, OperationalError | ZeroDivisionError)
        assert not isinstance(report, CommitOutcomeUnknownError)


def check_pool(engine: AsyncEngine) -> None:
    status = engine.pool.status()
    assert (status.holders, status.waiting) == ((), 0)
    assert status.open == status.idle
    for slot in engine.pool._idle:  # nobody else may see an idle connection
        assert slot.connection is not None
        assert slot.connection.status is TransactionStatus.IDLE
