"""Each process of a test run works on a database of its own, whatever the run was told."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncmy
import asyncpg
import pytest
from sqlalchemy import make_url

from aiosession.testing.databases import NoDatabaseError, database_of
from aiosession.testing.mariadb import MariadbServer
from aiosession.testing.postgres import PostgresCluster
from tests.kit.test_plugin import CONFTEST, MODEL

TESTS = """
    import os
    from pathlib import Path
    import pytest
    from sqlalchemy import select
    from model import Author

    @pytest.mark.parametrize("turn", range(4))
    async def test_nobody_else_is_here(aiosession_engine, aiosession_session, turn):
        aiosession_session.add(Author(name="Ann"))
        await aiosession_session.commit()
        assert os.environ["PYTEST_XDIST_WORKER"] in aiosession_engine.url.database
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"
    )
    pytester.makepyfile(model=MODEL, conftest=CONFTEST, test_workers=TESTS)
    return pytester


def run(suite: pytest.Pytester, url: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("-q", "-n", "2", "-p", "no:randomly", f"--aiosession-url={url}")


@pytest.mark.postgres
def test_workers_on_postgresql_have_databases_of_their_own(suite: pytest.Pytester, postgres: PostgresCluster) -> None:
    run(suite, postgres.url()).assert_outcomes(passed=4)

    made = databases(postgres, "%_gw_")
    for name in made:
        ask(postgres, f"DROP DATABASE {name}")
    assert made == ["postgres_gw0", "postgres_gw1"]


@pytest.mark.mariadb
def test_workers_on_mariadb_have_databases_of_their_own(suite: pytest.Pytester, mariadb: MariadbServer) -> None:
    run(suite, mariadb.url()).assert_outcomes(passed=4)

    assert {"test_gw0", "test_gw1"} <= set(asyncio.run(mariadb_databases(mariadb)))


@pytest.mark.mariadb
def test_a_url_of_mysql_gets_a_database_beside_it(mariadb: MariadbServer, tmp_path: Path) -> None:
    url = mariadb.url().replace("mariadb+", "mysql+")

    assert database_of("gw8", url, tmp_path) == f"{url}_gw8" == database_of("gw8", url, tmp_path)
    assert "test_gw8" in asyncio.run(mariadb_databases(mariadb))


def test_workers_on_sqlite_have_files_beside_the_one_of_the_run(suite: pytest.Pytester) -> None:
    run(suite, f"sqlite+aiosqlite:///{suite.path / 'shop.db'}").assert_outcomes(passed=4)

    assert sorted(file.name for file in suite.path.glob("*.db")) == ["shop_gw0.db", "shop_gw1.db"]


@pytest.mark.postgres
def test_a_database_that_is_there_is_used_and_stays(postgres: PostgresCluster, tmp_path: Path, role: str) -> None:
    url = postgres.url().replace("postgres@", f"{role}@")
    ask(postgres, f"CREATE DATABASE postgres_gw7 OWNER {role}")
    try:
        own = database_of("gw7", url, tmp_path)
        assert make_url(own).database == "postgres_gw7"
        assert databases(postgres, "%_gw_") == ["postgres_gw7"]
    finally:
        ask(postgres, "DROP DATABASE postgres_gw7")


@pytest.mark.postgres
def test_a_role_that_may_not_make_databases_is_told_what_to_do(
    postgres: PostgresCluster, tmp_path: Path, role: str
) -> None:
    url = postgres.url().replace("postgres@", f"{role}@")

    with pytest.raises(NoDatabaseError, match=r"'postgres_gw0' cannot be made: permission denied.*by hand"):
        database_of("gw0", url, tmp_path)


@pytest.mark.parametrize(("name", "complaint"), [("", "names none"), ("/" + 59 * "x", "too long")])
def test_a_url_that_has_no_name_to_add_to_is_refused(name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(NoDatabaseError, match=complaint):
        database_of("gw10", f"postgresql+asyncpg://me@host{name}", tmp_path)


@pytest.mark.parametrize("url", ["sqlite+aiosqlite://", "sqlite://", "sqlite:///:memory:", "sqlite:///x?mode=memory"])
def test_a_database_in_memory_is_a_file_for_all_engines_of_the_run(url: str, tmp_path: Path) -> None:
    own = database_of(None, url, tmp_path)
    assert make_url(own).database == str(tmp_path / "test.db")
    assert not make_url(own).query


def test_without_workers_the_database_is_the_one_that_was_named(tmp_path: Path) -> None:
    for url in ("sqlite+aiosqlite:///shop.db", "postgresql+asyncpg://me:secret@host/shop"):
        assert database_of(None, url, tmp_path) == url


@pytest.fixture
def role(postgres: PostgresCluster) -> Iterator[str]:
    """Make a role that may connect, and nothing else."""
    ask(postgres, "CREATE ROLE modest LOGIN")
    yield "modest"
    ask(postgres, "DROP ROLE modest")


def ask(postgres: PostgresCluster, sql: str, *values: object) -> list[str]:
    async def main() -> list[str]:
        connection = await asyncpg.connect(postgres.url(driver="postgresql"))
        try:
            return [str(row[0]) for row in await connection.fetch(sql, *values)]
        finally:
            await connection.close()

    return asyncio.run(main())


def databases(postgres: PostgresCluster, like: str) -> list[str]:
    return ask(postgres, "SELECT datname FROM pg_database WHERE datname LIKE $1 ORDER BY datname", like)


async def mariadb_databases(server: MariadbServer) -> list[str]:
    connection = await asyncmy.connect(host="127.0.0.1", port=server.port, user="aiosession", autocommit=True)
    try:
        cursor = connection.cursor()
        await cursor.execute("SHOW DATABASES LIKE '%\\_gw%'")
        return [str(row[0]) for row in await cursor.fetchall()]
    finally:
        connection.close()
