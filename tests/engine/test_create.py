"""Making engines: everything is checked before anything is sent."""

import logging
from typing import Any

import pytest
from sqlalchemy import URL, bindparam, func, literal, select

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import ArgumentError, DataError, OperationalError

MEMORY = "sqlite://"


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "not a database URL"),
        ("not a url", "not a database URL"),
        ("postgresql+asyncpg//u:secret@h/d", "not a database URL"),
        ("oracle://u:secret@h/d", "no driver for 'oracle'"),
        ("postgresql+asincpg://u:secret@h/d", "postgresql\\+asyncpg"),
        (5, "a string or a URL"),
        (None, "a string or a URL"),
        ("postgresql://u:secret@h:port/d", "not a database URL"),
        ("sqlite:///a\0b", "no SQLite URL"),
    ],
)
def test_wrong_url_is_refused_and_keeps_its_secret(url: Any, hint: str) -> None:
    with pytest.raises(ArgumentError, match=hint) as caught:
        create_async_engine(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"pool_siz": 5}, "did you mean 'pool_size'"),
        ({"nonsense": 5}, "there are pool_size"),
        ({"poolclass": object}, "one kind of pool"),
        ({"pool_size": "5"}, "pool_size must be a whole number"),
        ({"pool_size": True}, "pool_size must be a whole number"),
        ({"pool_size": -1}, "pool_size"),
        ({"pool_timeout": "long"}, "pool_timeout must be a number"),
        ({"pool_pre_ping": 1}, "pool_pre_ping must be True or False"),
        ({"query_cache_size": 0}, "query_cache_size"),
        ({"connect_args": "x"}, "connect_args must be a mapping"),
        ({"isolation_level": "SERIALISABLE"}, "did you mean 'SERIALIZABLE'"),
        ({"echo": "yes"}, "echo must be True, False or 'debug'"),
        ({"json_serializer": 5}, "json_serializer must be a function"),
        ({"logging_name": 5}, "logging_name must be a name"),
        ({"execution_options": {"isolation_levle": 1}}, "did you mean 'isolation_level'"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ArgumentError, match=hint):
        create_async_engine(MEMORY, **options)


def test_making_an_engine_does_nothing_yet() -> None:
    engine = create_async_engine("postgresql://nobody@nowhere.invalid:1/nothing")

    assert engine.pool.status().open == 0


def test_url_object_will_do_and_password_is_not_shown() -> None:
    engine = create_async_engine(URL.create("postgresql+asyncpg", "u", "secret", "h", 5432, "d"))

    assert repr(engine) == "AsyncEngine(postgresql+asyncpg://u:***@h:5432/d)"
    assert (engine.name, engine.dialect.name) == ("postgresql", "postgresql")


def test_options_of_an_engine_do_not_change_the_other() -> None:
    engine = create_async_engine(MEMORY, isolation_level="serializable")
    other = engine.execution_options(isolation_level="AUTOCOMMIT")

    assert (engine.isolation_level, other.isolation_level) == ("SERIALIZABLE", "AUTOCOMMIT")
    assert other.pool is engine.pool
    assert other.statements is engine.statements


async def test_server_that_is_not_there_is_an_operational_error() -> None:
    engine = create_async_engine("postgresql://nobody@127.0.0.1:1/nothing", connect_args={"timeout": 2})

    with pytest.raises(OperationalError):
        await engine.connect()
    await engine.dispose()


async def test_pool_timeout_of_a_connection_names_the_holder() -> None:
    engine = create_async_engine(MEMORY, pool_size=1, max_overflow=0, pool_timeout=0.05)

    async with engine.connect():
        with pytest.raises(Exception, match="a connection"):
            await engine.connect()
    await engine.dispose()


async def test_engine_can_be_used_after_dispose(engine: AsyncEngine) -> None:
    for _ in range(2):
        async with engine.connect() as connection:
            assert await connection.scalar(select(literal(1))) == 1
        await engine.dispose()


class TestLogging:
    async def _log(self, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
        engine = create_async_engine(MEMORY, **options)
        with caplog.at_level(logging.INFO, logger="aiosession.engine"):
            async with engine.connect() as connection:
                await connection.scalar(select(func.upper(bindparam("word"))), {"word": "hidden-or-not"})
        await engine.dispose()
        return caplog.text

    async def test_echo_logs_statements_with_values(self, caplog: pytest.LogCaptureFixture) -> None:
        text = await self._log(caplog, echo=True)

        assert "SELECT upper(?)" in text
        assert "hidden-or-not" in text

    async def test_hidden_parameters_are_not_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        text = await self._log(caplog, echo=True, hide_parameters=True)

        assert "SELECT upper(?)" in text
        assert "hidden-or-not" not in text

    async def test_name_of_the_logger_can_be_chosen(self, caplog: pytest.LogCaptureFixture) -> None:
        await self._log(caplog, echo=True, logging_name="orders")

        assert {record.name for record in caplog.records} == {"aiosession.engine.orders"}

    async def test_without_echo_nothing_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        logging.getLogger("aiosession.engine").setLevel(logging.WARNING)

        assert await self._log(caplog) == ""

    async def test_hidden_parameters_are_not_in_errors(self) -> None:
        engine = create_async_engine(MEMORY, hide_parameters=True)

        async with engine.connect() as connection:
            with pytest.raises(DataError) as caught:
                await connection.execute(select(literal(2**70)))
        await engine.dispose()

        assert str(2**70) not in str(caught.value)
