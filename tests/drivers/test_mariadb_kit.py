"""The private MariaDB server starts, crashes, comes back, and leaves nothing behind."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from aiosession import create_async_engine
from aiosession.errors import OperationalError
from aiosession.testing import mariadb as kit
from aiosession.testing.mariadb import MariadbServer, MariadbUnavailableError, find_binaries, mariadb_server


async def _value(server: MariadbServer, sql: str) -> object:
    engine = create_async_engine(server.url())
    try:
        async with engine.connect() as connection:
            return await connection.scalar(text(sql))
    finally:
        await engine.dispose()


@pytest.mark.slow
@pytest.mark.mariadb
@pytest.mark.skipif(find_binaries() is None, reason=kit.HOW_TO_GET)
def test_a_server_survives_a_crash_and_goes_away_at_the_end() -> None:
    with mariadb_server({"max-connections": "17"}) as server:
        assert asyncio.run(_value(server, "SELECT @@max_connections")) == 17
        port = server.port
        server.kill()
        with pytest.raises(OperationalError):
            asyncio.run(_value(server, "SELECT 1"))
        server.start()
        assert server.port == port
        assert asyncio.run(_value(server, "SELECT 1")) == 1
        folder = server._folder

    assert not folder.exists()
    server.stop()


def test_without_programs_the_error_says_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kit, "find_binaries", lambda: None)

    with pytest.raises(MariadbUnavailableError, match="install the package mariadb-server"):
        MariadbServer()


def test_the_chosen_folder_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("mariadb-install-db", "mariadbd"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("AIOSESSION_MARIADB_BIN", str(tmp_path))

    assert find_binaries() == {"install": tmp_path / "mariadb-install-db", "server": tmp_path / "mariadbd"}
