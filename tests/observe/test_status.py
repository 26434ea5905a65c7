"""An engine tells who holds its connections, since when and what for."""

import asyncio

import pytest
from sqlalchemy import text

from aiosession import AsyncEngine, AsyncSession, EngineStatus, create_async_engine, create_replicated_engine
from aiosession.errors import ProgrammingError
from tests.session_model import Author, make_tables


async def test_a_transaction_is_told_of_with_task_place_state_and_last_statement(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann"))
        await session.flush()
        await session.execute(text("SELECT 42"))

        (holder,) = engine.status().pool.holders

    assert holder.note.startswith("the transaction of a session, begun at")
    assert "test_status.py" in holder.note
    assert holder.task == f"task {asyncio.current_task().get_name()!r}"  # type: ignore[union-attr]
    assert holder.state == "in transaction"
    assert holder.last == "SELECT 42"
    assert holder.age >= 0
    assert holder.connection > 0


async def test_a_connection_is_told_of_with_the_place_where_it_was_opened(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 7"))
        (holder,) = engine.status().pool.holders

    assert holder.note.startswith("a connection, opened at")
    assert "test_status.py" in holder.note
    assert holder.last == "SELECT 7"
    assert engine.status().pool.holders == ()


async def test_the_longest_wait_for_a_connection_is_told() -> None:
    engine = create_async_engine("sqlite+aiosqlite://", pool_size=1, max_overflow=0)
    holding = await engine.connect()
    waiting = asyncio.create_task(engine.connect().start())
    await asyncio.sleep(0)

    status = engine.status()
    await holding.close()
    await (await waiting).close()
    await engine.dispose()

    assert status.pool.longest_wait > 0
    assert "1 waiting, the longest for" in str(status)
    assert engine.status().pool.longest_wait == 0


async def test_a_status_prints_as_a_table(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 7"))
        lines = str(engine.status()).splitlines()

    assert lines[0].startswith(engine.url.render_as_string())
    assert "at most 15" in lines[0]
    assert "1 held, 0 idle; 0 waiting" in lines[0]
    assert lines[1].split()[:3] == ["connection", "held", "for"]
    assert lines[2].endswith("SELECT 7")


def test_a_status_shows_no_password() -> None:
    status = create_async_engine("postgresql+asyncpg://ann:secret@localhost/shop").status()

    assert isinstance(status, EngineStatus)
    assert "secret" not in str(status)
    assert "secret" not in repr(status)


@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
def test_secrets_in_the_query_of_a_url_are_not_shown(library: str) -> None:
    query = "password=hunter2&passfile=hunter3" + ("&sslpassword=hunter4" if library == "psycopg" else "")
    url = f"postgresql+{library}://ann@localhost/shop?{query}&host=db"
    engine = create_async_engine(url, slow_statement=0, idle_in_transaction_warning=1)
    logged = [getattr(handler, "_engine", "") for handler in engine.events.after]
    watch = engine.pool._watch
    assert watch is not None

    for text_ in (repr(engine), str(engine.status()), repr(engine.status()), *logged, watch._engine):
        assert "hunter" not in text_
    assert "password=***" in repr(engine)
    assert "host=db" in repr(engine)
    assert engine.url.query["password"] == "hunter2"


def test_a_pool_without_a_limit_says_so() -> None:
    assert "no limit" in str(create_async_engine("sqlite+aiosqlite://", max_overflow=-1).status())


async def test_a_replicated_engine_tells_of_its_replicas_too() -> None:
    engine = create_replicated_engine("sqlite+aiosqlite:///a.db", replicas=["sqlite+aiosqlite:///nowhere/b.db"])
    (replica,) = engine.status().replicas

    assert replica.is_up
    assert replica.pool.open == 0
    assert "replica sqlite+aiosqlite:///nowhere/b.db, up: 0 connections" in str(engine.status())


async def test_a_replica_that_is_down_says_why(tmp_path: object) -> None:
    engine = create_replicated_engine(
        f"sqlite+aiosqlite:///{tmp_path}/a.db", replicas=["sqlite+aiosqlite:///nowhere/b.db"]
    )
    async with AsyncSession(engine) as session:
        with pytest.raises(ProgrammingError, match="no such table"):
            await session.get(Author, 1)
    shown = str(engine.status())
    await engine.dispose()

    assert "down, 1 failures in a row, OperationalError: unable to open database file, tried again in" in shown
