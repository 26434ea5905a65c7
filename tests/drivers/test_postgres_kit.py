"""The private PostgreSQL cluster starts, crashes, comes back, and leaves nothing behind."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from aiosession.testing import postgres as kit
from aiosession.testing.postgres import PostgresCluster, PostgresUnavailableError, find_binaries, postgres_cluster

pytestmark = pytest.mark.skipif(find_binaries() is None, reason=kit.HOW_TO_GET)


async def _value(cluster: PostgresCluster, sql: str) -> object:
    connection = await asyncpg.connect(cluster.url(driver="postgresql"))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.postgres
def test_a_cluster_survives_a_crash_and_goes_away_at_the_end() -> None:
    with postgres_cluster({"work_mem": "5MB"}) as cluster:
        assert asyncio.run(_value(cluster, "SHOW max_prepared_transactions")) == "64"
        assert asyncio.run(_value(cluster, "SHOW work_mem")) == "5MB"
        port = cluster.port
        cluster.kill()
        with pytest.raises(OSError, match="onnect"):
            asyncio.run(_value(cluster, "SELECT 1"))
        cluster.start()
        assert cluster.port == port
        assert asyncio.run(_value(cluster, "SELECT 1")) == 1
        folder = cluster._folder

    assert not folder.exists()
    cluster.stop()


def test_without_programs_the_error_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "find_binaries", lambda: None)

    with pytest.raises(PostgresUnavailableError, match="install the package postgresql"):
        PostgresCluster()


def test_the_chosen_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "initdb").touch()
    monkeypatch.setenv("AIOSESSION_PG_BIN", str(tmp_path))

    assert find_binaries() == tmp_path
