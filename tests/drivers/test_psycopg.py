"""What is particular to PostgreSQL through psycopg."""

import asyncio
import json
import logging
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Integer, String, make_url, select, text
from sqlalchemy import bindparam as parameter

from aiosession import errors
from aiosession.drivers.pool import Pool, PoolOptions
from aiosession.drivers.protocol import Answer, DriverOptions, Request, TransactionOptions, TransactionStatus
from aiosession.drivers.psycopg import PsycopgConnection, PsycopgDriver
from aiosession.testing.conformance import connected, status
from tests.libpq_trace import traced

pytestmark = pytest.mark.postgres


def _driver(url: str, **options: Any) -> PsycopgDriver:
    return PsycopgDriver(make_url(url), DriverOptions(connect_args=options))


async def test_json_is_text_on_the_way_in_and_python_on_the_way_out(psycopg_driver: PsycopgDriver) -> None:
    value = {"a": [1, None, "ä", "\\"], "b": {"c": 1.5}}
    given = json.dumps(value)

    async with connected(psycopg_driver) as connection:
        rows = await connection.fetch(
            "SELECT $1::json, $2::jsonb, $3::jsonb[], $4::json[][]", (given, given, [given, "1"], [[given], ["null"]])
        )

    assert tuple(rows[0]) == (value, value, [value, 1], [[value], [None]])


async def test_json_is_read_by_the_given_function(psycopg_url: str) -> None:
    options = DriverOptions(json_deserializer=lambda text: ("read", text))
    driver = PsycopgDriver(make_url(psycopg_url), options)

    async with connected(driver) as connection:
        rows = await connection.fetch("""SELECT '{"a": 1}'::json, '{"a":1}'::jsonb""")

    assert tuple(rows[0]) == (("read", '{"a": 1}'), ("read", '{"a": 1}'))


@pytest.mark.parametrize(
    ("kind", "elements"),
    [
        ("int", [1, None, -5]),
        ("bigint", [1, 2**62]),
        ("text", ["a", 'quote " and \\', "{,}", "", "NULL", " ", None, "Ünï ✓"]),
        ("text", [["a", "b"], ["c", None]]),
        ("float", [1.5, float("inf"), 2]),
        ("numeric", [Decimal("1.50"), 2, Decimal("1E+30")]),
        ("boolean", [True, False, None]),
        ("bytea", [b"\x00\xff\\", b""]),
        ("uuid", [UUID(int=5)]),
        ("date", [date(2024, 2, 29)]),
        ("timestamp", [datetime(2024, 2, 29, 12, 30, 1, 5)]),
        ("interval", [timedelta(days=-1, hours=3)]),
        ("int", []),
    ],
)
async def test_lists_are_arrays_of_any_elements(psycopg_driver: PsycopgDriver, kind: str, elements: list[Any]) -> None:
    async with connected(psycopg_driver) as connection:
        rows = await connection.fetch(f"SELECT $1::{kind}[]", (elements,))

    assert rows[0][0] == elements


@pytest.mark.parametrize("value", [["a\0b"], [object()], ["\ud800"], [("x", object())]])
async def test_what_no_array_can_hold_is_refused(psycopg_driver: PsycopgDriver, value: list[Any]) -> None:
    async with connected(psycopg_driver) as connection:
        with pytest.raises(Exception, match=r".") as caught:
            await connection.fetch("SELECT $1::text[]", (value,))

        assert psycopg_driver.translate(caught.value) is errors.DataError
        assert connection.status is TransactionStatus.IDLE


async def test_placeholders_are_the_servers_and_percent_signs_are_plain(psycopg_driver: PsycopgDriver) -> None:
    async with connected(psycopg_driver) as connection:
        assert await connection.fetch("SELECT $1::int % 3, '%s %% %(x)s'", (7,)) == [(1, "%s %% %(x)s")]
        assert await connection.fetch("SELECT 7 % 3, '%'") == [(1, "%")]


def test_core_compiles_for_the_servers_placeholders(psycopg_driver: PsycopgDriver) -> None:
    statement = select(parameter("a", type_=Integer) % 3, parameter("b", "%", String)).where(text("'%' = :c"))

    assert str(statement.compile(dialect=psycopg_driver.dialect)).replace("\n", "") == (
        "SELECT $1::INTEGER % $2::INTEGER AS anon_1, $3::VARCHAR AS anon_2 WHERE '%' = $4"
    )


async def test_a_statement_is_prepared_when_it_is_run_again(psycopg_driver: PsycopgDriver, tmp_path: Path) -> None:
    async with connected(psycopg_driver) as connection:
        trips = []
        for _ in range(4):
            with traced(connection.driver_connection, tmp_path) as wire:
                await connection.fetch("SELECT $1::int", (1,))
            trips.append((wire.round_trips, "Parse" in wire.sent()))

    assert trips == [(1, True), (2, True), (1, False), (1, False)]


@pytest.mark.parametrize("way", ["connect_args", "url"])
async def test_statements_need_not_be_prepared(psycopg_url: str, way: str) -> None:
    never = (
        _driver(psycopg_url, prepare_threshold=None)
        if way == "connect_args"
        else _driver(f"{psycopg_url}?prepare_threshold=None")
    )

    async with connected(never) as connection:
        for _ in range(10):
            await connection.fetch("SELECT $1::int", (1,))
        await connection.execute_many("SELECT $1::int", [(number,) for number in range(20)])
        await connection.fetch_each("SELECT $1::int", [(number,) for number in range(20)])

        assert await connection.fetch("SELECT name FROM pg_prepared_statements") == []


async def test_many_rows_are_one_round_trip(psycopg_driver: PsycopgDriver, tmp_path: Path) -> None:
    rows = [(number,) for number in range(500)]
    async with connected(psycopg_driver) as connection:
        with traced(connection.driver_connection, tmp_path) as wire:
            replies = await connection.fetch_each("SELECT $1::int", rows)
        assert (wire.round_trips, replies) == (1, [[row] for row in rows])

        await connection.script("CREATE TABLE t (a int)")
        with traced(connection.driver_connection, tmp_path) as wire:
            assert await connection.execute_many("INSERT INTO t VALUES ($1)", rows) == 500
        assert wire.round_trips == 1


async def test_a_pipeline_is_one_round_trip(psycopg_driver: PsycopgDriver, tmp_path: Path) -> None:
    requests = [
        Request("INSERT INTO t VALUES ($1), ($2)", (1, 2), fetches=False),
        Request("UPDATE t SET a = a + 10 RETURNING a", (), fetches=True),
        Request("DELETE FROM t WHERE a = $1", (11,), fetches=False),
    ]
    async with connected(psycopg_driver) as connection:
        assert isinstance(connection, PsycopgConnection)
        await connection.script("CREATE TABLE t (a int)")
        for _ in range(3):
            await connection.execute("TRUNCATE t")
            answers: list[Answer] = []
            with traced(connection.driver_connection, tmp_path) as wire:
                await connection.pipeline(requests, answers)
            assert answers == [2, [(11,), (12,)], 1]
            assert wire.round_trips == 1


@pytest.mark.parametrize("wrong", ["SELECT 1 / 0", "SELEC", "SELECT $1"])
async def test_a_pipeline_that_fails_tells_how_far_it_came(psycopg_driver: PsycopgDriver, wrong: str) -> None:
    parameters = (object(),) if "$" in wrong else ()
    requests = [
        Request("INSERT INTO t VALUES ($1)", (1,), fetches=False),
        Request(wrong, parameters, fetches=True),
        Request("INSERT INTO t VALUES ($1)", (2,), fetches=False),
    ]
    async with connected(psycopg_driver) as connection, connected(psycopg_driver) as observer:
        assert isinstance(connection, PsycopgConnection)
        await observer.script("CREATE TABLE t (a int)")
        await connection.begin(TransactionOptions())
        answers: list[Answer] = []

        with pytest.raises(psycopg.Error) as caught:
            await connection.pipeline(requests, answers)

        assert answers == [1]
        assert psycopg_driver.translate(caught.value) in (errors.DataError, errors.ProgrammingError)
        await connection.rollback()
        assert connection.status is TransactionStatus.IDLE
        assert await observer.fetch("SELECT * FROM t") == []


async def test_an_interrupted_pipeline_costs_no_connection(psycopg_driver: PsycopgDriver) -> None:
    requests = [Request("SELECT pg_sleep($1)", (seconds,), fetches=True) for seconds in (0.01, 30, 30)]
    async with connected(psycopg_driver) as connection:
        assert isinstance(connection, PsycopgConnection)
        await connection.begin(TransactionOptions())
        task = asyncio.create_task(connection.pipeline(requests, []))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await asyncio.wait_for(connection.reset(), 5)

        assert connection.status is TransactionStatus.IDLE
        assert await connection.fetch("SELECT 1") == [(1,)]


async def test_begin_with_the_number_of_the_transaction_is_one_round_trip(
    psycopg_driver: PsycopgDriver, tmp_path: Path
) -> None:
    async with connected(psycopg_driver) as connection:
        with traced(connection.driver_connection, tmp_path) as wire:
            await connection.begin(TransactionOptions())
        assert wire.round_trips == 1
        await connection.rollback()


async def test_a_rollback_is_one_round_trip_and_forgets_nothing(psycopg_driver: PsycopgDriver, tmp_path: Path) -> None:
    async with connected(psycopg_driver) as connection:
        for _ in range(3):
            await connection.fetch("SELECT $1::int", (1,))
        await connection.begin(TransactionOptions())
        await connection.savepoint("before")

        with traced(connection.driver_connection, tmp_path) as wire:
            await connection.rollback_to_savepoint("before")
            await connection.rollback()
            await connection.fetch("SELECT $1::int", (1,))

    assert wire.sent() == ["Query", "Query", "Bind", "Describe", "Execute", "Sync"]


async def test_the_pool_sends_nothing_of_its_own(psycopg_driver: PsycopgDriver, tmp_path: Path) -> None:
    pool = Pool(psycopg_driver.connect, PoolOptions(size=1, overflow=0))
    connection = await pool.acquire()

    with traced(connection.driver_connection, tmp_path) as wire:
        await pool.release(connection)
        assert await pool.acquire() is connection
        await connection.fetch("SELECT 1")
        await pool.release(connection)

    assert wire.sent() == ["Query"]
    await pool.dispose()


async def test_an_idle_connection_knows_that_the_server_has_ended_it(psycopg_driver: PsycopgDriver) -> None:
    async with connected(psycopg_driver) as victim, connected(psycopg_driver) as killer:
        pid = (await victim.fetch("SELECT pg_backend_pid()"))[0][0]
        await killer.fetch("SELECT pg_terminate_backend($1, 5000)", (pid,))

        assert victim.status is TransactionStatus.CLOSED


async def test_a_value_that_the_server_refuses_fails_the_transaction(psycopg_driver: PsycopgDriver) -> None:
    async with connected(psycopg_driver) as connection:
        await connection.begin(TransactionOptions())
        with pytest.raises(psycopg.DataError):
            await connection.fetch("SELECT $1::int", ("x",))

        assert connection.status is TransactionStatus.FAILED
        await connection.rollback()


async def test_a_stale_statement_in_a_transaction_is_an_operational_error(
    psycopg_driver: PsycopgDriver, psycopg_url: str
) -> None:
    async with connected(psycopg_driver) as connection, connected(_driver(psycopg_url)) as other:
        await other.script("CREATE TABLE t (a int)")
        for _ in range(4):
            await connection.fetch("SELECT * FROM t")
        await connection.begin(TransactionOptions())
        await other.script("ALTER TABLE t ADD b int")

        with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
            await connection.fetch("SELECT * FROM t")

        assert psycopg_driver.translate(caught.value) is errors.OperationalError
        await connection.rollback()
        assert await connection.fetch("SELECT * FROM t") == []


async def test_a_transaction_after_a_script_prepares_its_statements_anew(psycopg_driver: PsycopgDriver) -> None:
    async with connected(psycopg_driver) as connection, connected(psycopg_driver) as other:
        await other.script("CREATE TABLE t (a int)")
        for column in ("b", "c"):
            for _ in range(4):
                await connection.fetch("SELECT * FROM t")

            await other.execute(f"ALTER TABLE t ADD {column} int")

            await connection.begin(TransactionOptions())
            assert await connection.fetch("SELECT * FROM t") == []
            await connection.commit()


async def test_a_stream_left_early_closes_its_cursor(psycopg_driver: PsycopgDriver) -> None:
    async with connected(psycopg_driver) as connection:
        await connection.begin(TransactionOptions(write=False))
        chunks = connection.stream("SELECT generate_series(1, $1::int)", (10,), size=4)
        assert await anext(chunks) == [(1,), (2,), (3,), (4,)]
        await chunks.aclose()

        assert await connection.fetch("SELECT name FROM pg_cursors") == []
        await connection.rollback()


async def test_an_interrupted_statement_is_stopped_when_the_connection_is_reset(
    psycopg_driver: PsycopgDriver, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(psycopg_driver) as connection, connected(psycopg_driver) as other:
        pid = (await connection.fetch("SELECT pg_backend_pid()"))[0][0]
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(connection.fetch("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.05)

        task.cancel()
        began = loop.time()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert loop.time() - began < 0.05
        assert connection.status is TransactionStatus.ACTIVE
        assert await other.fetch("SELECT state FROM pg_stat_activity WHERE pid = $1", (pid,)) == [("active",)]
        await connection.reset()
        assert status(connection) is TransactionStatus.IDLE
        assert await other.fetch("SELECT state FROM pg_stat_activity WHERE pid = $1", (pid,)) == [("idle",)]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://x/y?prepare_treshold=5", "did you mean 'prepare_threshold'"),
        ("postgresql+psycopg://x/y?prepare_threshold=often", "needs a whole number, or None"),
        ("postgresql+psycopg://x/y?sslmod=require", "did you mean 'sslmode'"),
        ("postgresql+psycopg://x/y?row_factory=1", "takes no option 'row_factory'"),
    ],
)
def test_wrong_options_are_named_before_any_io(url: str, words: str) -> None:
    with pytest.raises(errors.ArgumentError, match=words):
        _driver(url)


async def test_options_of_libpq_go_through(psycopg_url: str) -> None:
    driver = _driver(f"{psycopg_url}?application_name=reports&options=-c%20search_path%3Dmine", connect_timeout=5)

    async with connected(driver) as connection:
        assert await connection.fetch("SELECT current_setting('application_name'), current_setting('search_path')") == [
            ("reports", "mine")
        ]
