"""The doctor finds what is wrong with a database, and what will be."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from aiosession import AsyncEngine, create_async_engine
from aiosession.command import run
from aiosession.doctor import Diagnosis, Level, diagnose
from aiosession.doctor.patient import in_doubt
from aiosession.drivers import mysql
from aiosession.errors import ArgumentError, NotSupportedError
from aiosession.testing.mariadb import MariadbServer
from aiosession.testing.pgbouncer import Pgbouncer
from tests.session_model import make_tables

ROOT = Path(__file__).parents[2]


def said(diagnosis: Diagnosis, subject: str) -> tuple[Level, str]:
    """Return the one finding about a subject."""
    (finding,) = diagnosis.about(subject)
    return finding.level, finding.text


async def command(*arguments: str) -> int:
    """Run the command in another thread, where it has an event loop of its own."""
    return await asyncio.to_thread(run, arguments)


async def test_a_database_that_works_is_not_called_broken(engine: AsyncEngine) -> None:
    await make_tables(engine)

    found = await diagnose(engine)

    assert found.level is not Level.FAIL, str(found)
    assert found.url == engine.url.render_as_string()
    assert said(found, "server")[0] is Level.OK
    assert not [each for each in found.findings if "could not be asked" in each.text]
    assert engine.status().pool.holders == ()


@pytest.mark.without("sqlite", "has no limit of connections")
async def test_more_connections_than_the_server_has_are_a_failure(engine: AsyncEngine) -> None:
    level, words = said(await diagnose(engine, processes=40), "connections")

    assert level is Level.FAIL
    assert words.startswith("40 x 15 = 600 at most, room for 197" if engine.name == "postgresql" else "40 x 15 = 600")
    assert said(await diagnose(engine, processes=40, connections=2), "connections")[0] is Level.OK


async def test_a_pool_without_a_limit_is_warned_about(postgresql_url: str) -> None:
    engine = create_async_engine(postgresql_url, max_overflow=-1)
    level, words = said(await diagnose(engine), "connections")
    await engine.dispose()

    assert level is Level.WARN
    assert "set max_overflow" in words


@pytest.mark.postgres
async def test_settings_of_postgresql_are_judged(postgresql_url: str) -> None:
    settings = {
        "default_transaction_isolation": "serializable",
        "idle_in_transaction_session_timeout": "300000",
        "statement_timeout": "30000",
    }
    engine = create_async_engine(postgresql_url, connect_args={"server_settings": settings})
    found = await diagnose(engine, twophase=True)
    await engine.dispose()

    assert said(found, "isolation")[0] is Level.WARN
    assert 'isolation_level="SERIALIZABLE"' in said(found, "isolation")[1]
    assert said(found, "timeouts") == (
        Level.OK,
        "idle_in_transaction_session_timeout = 5 min, statement_timeout = 30 s, lock_timeout = off",
    )
    assert said(found, "durability")[0] is Level.WARN  # our clusters are quick, not durable
    assert said(found, "two-phase") == (
        Level.WARN,
        "max_prepared_transactions = 64, max_connections = 200; if all sessions prepare at once, some are refused",
    )
    assert said(found, "role") == (Level.OK, "a primary")


@pytest.mark.postgres
async def test_foreign_prepared_transactions_are_found(postgresql_url: str) -> None:
    engine = create_async_engine(postgresql_url)
    async with engine.connect() as connection:
        transaction = connection.begin_twophase("somebody-elses")
        await transaction
        await connection.execute(text("CREATE TABLE t (id integer)"))
        await transaction.prepare()

        level, words = said(await diagnose(engine), "in doubt")

        await transaction.rollback()
    await engine.dispose()

    assert level is Level.WARN
    assert "somebody-elses in postgres, 0 s old, not of aiosession" in words


@pytest.mark.mariadb
async def test_prepared_transactions_of_mariadb_are_found(mariadb_url: str) -> None:
    engine = create_async_engine(mariadb_url)
    async with engine.connect() as connection:
        transaction = connection.begin_twophase("somebody-elses")
        await transaction
        await connection.execute(text("SELECT 1"))
        await transaction.prepare()
        (finding,) = (await diagnose(engine)).about("in doubt")
        await transaction.rollback()
    await engine.dispose()

    assert finding.level is Level.WARN
    assert "somebody-elses" in finding.text


@pytest.mark.parametrize(
    ("age", "level", "words"),
    [
        (timedelta(seconds=5), Level.OK, "young enough"),
        (timedelta(minutes=5), Level.WARN, "5 min old; they hold locks: run `python -m aiosession recover`"),
        (None, Level.WARN, "python -m aiosession recover"),
    ],
)
def test_our_own_prepared_transactions_are_for_recovery_when_they_are_old(
    age: timedelta | None, level: Level, words: str
) -> None:
    (finding,) = in_doubt([("as1:shop:0123:1", age, "")])

    assert finding.level is level
    assert words in finding.text


@pytest.mark.postgres
async def test_those_who_sit_in_a_transaction_are_named(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiosession.doctor.postgres._LONG", 0)
    engine = create_async_engine(postgresql_url, connect_args={"server_settings": {"application_name": "sitter"}})
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 'sitting'"))
        level, words = said(await diagnose(engine), "idle in transaction")
    await engine.dispose()

    assert level is Level.WARN
    assert "sitter for 0 s after SELECT 'sitting'" in words


@pytest.mark.mariadb
async def test_tables_without_transactions_are_a_failure(mariadb_url: str) -> None:
    engine = create_async_engine(mariadb_url)
    async with engine.connect() as connection:
        await connection.exec_driver_sql("CREATE TABLE old_style (id integer) ENGINE = MyISAM")
        level, words = said(await diagnose(engine), "storage")
    await engine.dispose()

    assert level is Level.FAIL
    assert "old_style (MyISAM)" in words


@pytest.mark.mariadb
async def test_a_pool_that_replaces_connections_in_time_is_all_right(mariadb_url: str) -> None:
    levels = []
    for options in ({}, {"pool_pre_ping": True}, {"pool_recycle": 3600}, {"pool_recycle": 100_000}):
        engine = create_async_engine(mariadb_url, **options)
        levels.append(said(await diagnose(engine), "timeouts")[0])
        await engine.dispose()

    assert levels == [Level.WARN, Level.OK, Level.OK, Level.WARN]


@pytest.mark.mariadb
async def test_a_url_that_names_the_wrong_kind_of_server_is_told(mariadb: MariadbServer, mariadb_url: str) -> None:
    engine = create_async_engine(mariadb_url.replace("mariadb+", "mysql+"))
    level, words = said(await diagnose(engine), "server")
    await engine.dispose()

    assert level is Level.FAIL
    assert "write mariadb+asyncmy://" in words


@pytest.mark.parametrize(
    ("info", "complaint"),
    [
        ("5.5.5-10.4.20-MariaDB-log", "this is MariaDB 5.5.5-10.4.20-MariaDB-log, and MariaDB 10.5 is the oldest"),
        ("5.7.44", "this is MySQL 5.7.44, and MySQL 8 is the oldest"),
    ],
)
def test_old_servers_are_refused(info: str, complaint: str) -> None:
    with pytest.raises(NotSupportedError, match=complaint):
        mysql.check_server(info)
    mysql.check_server("5.5.5-10.5.1-MariaDB")
    mysql.check_server("8.0.36")


@pytest.mark.mariadb
async def test_an_old_server_is_refused_when_it_is_connected_to(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql, "version", lambda _info: (10, 4, 1))
    engine = create_async_engine(mariadb_url)
    with pytest.raises(NotSupportedError, match=r"MariaDB 10\.5 is the oldest"):
        await engine.connect()
    level, words = said(await diagnose(engine), "connection")
    await engine.dispose()

    assert level is Level.FAIL
    assert "MariaDB 10.5 is the oldest" in words


async def test_broken_references_of_sqlite_are_found(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db")
    await make_tables(engine)
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        await connection.exec_driver_sql("INSERT INTO book (id, title, author_id) VALUES (1, 'One', 9)")
        await connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    found = await diagnose(engine)
    await engine.dispose()

    assert said(found, "foreign keys") == (Level.WARN, "1 rows refer to rows that are not there, in book")
    assert said(found, "journal") == (Level.OK, "wal")


@pytest.mark.postgres
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_a_pooler_is_found_out(bouncer: Pgbouncer, postgresql_url: str, library: str) -> None:
    url = bouncer.url(driver=f"postgresql+{library}")
    engine = create_async_engine(url, pooler="transaction")
    known, unknown = await diagnose(engine), await diagnose(engine, pooler="none")
    await engine.dispose()
    straight = create_async_engine(postgresql_url.replace("asyncpg", library))
    direct, needless = await diagnose(straight), await diagnose(straight, pooler="transaction")
    await straight.dispose()

    assert said(known, "pooler")[0] is Level.OK
    assert said(unknown, "pooler")[0] is Level.FAIL
    assert 'create_async_engine(..., pooler="transaction")' in said(unknown, "pooler")[1]
    assert said(known, "connections")[1].startswith("to a pooler, whose max_client_conn has to allow 15")
    assert said(direct, "pooler") == (Level.OK, "none in between")
    assert said(needless, "pooler")[0] is Level.WARN


@pytest.mark.postgres
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_a_pooler_that_lends_for_sessions_is_no_harm(bouncer_for_sessions: Pgbouncer, library: str) -> None:
    engine = create_async_engine(bouncer_for_sessions.url(driver=f"postgresql+{library}"))
    level, words = said(await diagnose(engine), "pooler")
    await engine.dispose()

    assert level is Level.OK
    assert words.startswith("one that keeps a connection of the server for each client")


async def test_a_database_that_cannot_be_reached_is_a_failure_without_the_password() -> None:
    found = await diagnose(create_async_engine("postgresql+asyncpg://ann:secret@localhost:1/shop?password=hunter2"))

    assert found.level is Level.FAIL
    assert said(found, "connection")[1].startswith("cannot be reached: ConnectionRefusedError")
    assert "secret" not in f"{found} {found.as_dict()} {found!r}"
    assert "hunter" not in f"{found} {found.as_dict()} {found!r}"


@pytest.mark.parametrize(
    "wrong", [{"processes": 0}, {"processes": "two"}, {"connections": -1}, {"pooler": "session"}], ids=str
)
async def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        await diagnose(create_async_engine("sqlite+aiosqlite://"), **wrong)


async def test_what_is_diagnosed_is_an_engine() -> None:
    with pytest.raises(ArgumentError, match="takes an engine, as create_async_engine"):
        await diagnose("sqlite+aiosqlite://")  # type: ignore[arg-type]


@pytest.mark.postgres
@pytest.mark.parametrize("library", ["asyncpg", "psycopg"])
async def test_a_pooler_is_found_out_with_a_pool_of_one(bouncer: Pgbouncer, library: str) -> None:
    url = bouncer.url(driver=f"postgresql+{library}")
    engine = create_async_engine(url, pooler="transaction", pool_size=1, max_overflow=0, pool_timeout=0)
    found = await diagnose(engine)
    await engine.dispose()

    assert said(found, "pooler")[0] is Level.OK
    assert not [each for each in found.findings if "could not be asked" in each.text]


async def test_the_command_prints_a_line_for_each_thing(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "sqlite" in database_url:
        await make_and_close(database_url)

    status = await command("doctor", database_url)
    lines = capsys.readouterr().out.splitlines()

    assert status == 0
    assert lines[0] == create_async_engine(database_url).url.render_as_string()
    assert all(line.split()[0] in {"ok", "warn"} for line in lines[1:])
    assert await command("doctor", database_url, "--strict") == (1 if any("  warn" in each for each in lines) else 0)


async def make_and_close(url: str) -> None:
    engine = create_async_engine(url)
    await make_tables(engine)
    await engine.dispose()


async def test_the_command_prints_json(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    await make_and_close(sqlite_url)

    assert await command("doctor", "--json", sqlite_url, sqlite_url) == 0
    found = json.loads(capsys.readouterr().out)

    assert [each["level"] for each in found] == ["ok", "ok"]
    assert {"level", "subject", "text"} == set(found[0]["findings"][0])


async def test_the_command_makes_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("doctor", f"sqlite:///{tmp_path}/nowhere.db") == 1

    assert "fail  connection: cannot be reached" in capsys.readouterr().out
    assert os.listdir(tmp_path) == []


async def test_wrong_commands_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("docter", "sqlite://") == 2
    assert "Examine databases" in capsys.readouterr().err
    assert await command("--help") == 0
    assert "recover" in capsys.readouterr().out
    assert await command("doctor", "sqlight://") == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["aiosession", "aiosession.recover"])
def test_the_commands_can_be_run_from_the_shell(module: str, tmp_path: Path) -> None:
    arguments = ["recover"] if module == "aiosession" else []
    url = f"sqlite:///{tmp_path}/test.db"

    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, url], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "nothing" in done.stdout
