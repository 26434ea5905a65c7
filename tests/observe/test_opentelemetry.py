"""OpenTelemetry hears of statements, flushes and commits, and of pools, by the names of its conventions."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import select, text

from aiosession import AsyncEngine, AsyncSession, create_async_engine, create_replicated_engine
from aiosession.errors import ArgumentError, InvalidRequestError, PoolTimeoutError, UniqueViolationError
from aiosession.events import session_operations
from aiosession.ext.opentelemetry import Instrumentation, instrument
from aiosession.ext.opentelemetry_sql import sanitised, summary, target
from tests.session_model import Author, Book, make_tables


class Telemetry:
    """What OpenTelemetry was told, kept in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def watch(self, engine: AsyncEngine, **options: Any) -> Instrumentation:
        return instrument(engine, tracer_provider=self.tracers, meter_provider=self.meters, **options)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> ReadableSpan:
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def clear(self) -> None:
        self._spans.clear()

    def metrics(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.meters.shutdown()
    telemetry.tracers.shutdown()


@pytest.fixture
async def watched(engine: AsyncEngine, telemetry: Telemetry) -> AsyncEngine:
    await make_tables(engine)
    telemetry.watch(engine)
    return engine


@pytest.fixture(autouse=True)
def _nobody_listens_at_the_end() -> Iterator[None]:
    yield
    for hook in (session_operations.before, session_operations.after):
        for handler in hook:
            hook.remove(handler)


async def test_a_statement_is_a_span_with_the_attributes_of_the_conventions(
    watched: AsyncEngine, telemetry: Telemetry
) -> None:
    async with AsyncSession(watched) as session:
        await session.execute(select(Author).where(Author.name == "secret value"))

    span = telemetry.named("SELECT author")
    attributes = dict(span.attributes or {})
    assert span.kind is SpanKind.CLIENT
    assert attributes["db.system.name"] == watched.name
    assert attributes["db.namespace"] == watched.url.database
    assert attributes["db.query.summary"] == "SELECT author"
    assert attributes["db.operation.name"] == "SELECT"
    assert attributes["db.collection.name"] == "author"
    assert attributes["db.response.returned_rows"] == 0
    assert str(attributes["db.query.text"]).startswith("SELECT author.id")
    assert "secret value" not in str(attributes)
    assert attributes.get("server.address") == watched.url.host
    assert attributes.get("server.port") == watched.url.port
    assert (span.end_time or 0) > (span.start_time or 0)
    assert span.status.status_code is StatusCode.UNSET


async def test_statements_belong_to_the_flush_and_the_flush_to_the_commit(
    watched: AsyncEngine, telemetry: Telemetry
) -> None:
    async with AsyncSession(watched) as session:
        session.add(Author(id=1, name="Ann", books=[Book(id=1, title="One")]))
        await session.commit()

    commit, flush = telemetry.named("aiosession commit"), telemetry.named("aiosession flush")
    assert commit.parent is None
    assert commit.context and flush.parent and flush.context  # noqa: PT018 - for the type checker
    assert flush.parent.span_id == commit.context.span_id
    inserts = [span for span in telemetry.spans if span.name.startswith("INSERT")]
    assert inserts
    assert all(span.parent and span.parent.span_id == flush.context.span_id for span in inserts)
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_spans_belong_to_the_span_of_the_caller(watched: AsyncEngine, telemetry: Telemetry) -> None:
    with telemetry.tracers.get_tracer("the application").start_as_current_span("request") as request:
        async with AsyncSession(watched) as session:
            await session.get(Author, 1)

    span = telemetry.named("SELECT author")
    assert span.parent
    assert span.parent.span_id == request.get_span_context().span_id


async def test_an_error_is_told_by_its_code_and_without_values(watched: AsyncEngine, telemetry: Telemetry) -> None:
    async with AsyncSession(watched) as session:
        session.add(Author(id=1, name="secret value"))
        await session.commit()
    telemetry.clear()
    async with AsyncSession(watched) as session:
        session.add(Author(id=2, name="secret value"))
        with pytest.raises(UniqueViolationError):
            await session.flush()

    codes = {"postgresql": "23505", "mariadb": "1062", "sqlite": "SQLITE_CONSTRAINT_UNIQUE"}
    failed = [span for span in telemetry.spans if span.status.status_code is StatusCode.ERROR]
    assert {span.name.partition(" ")[0] for span in failed} == {"INSERT", "aiosession"}
    for span in failed:
        attributes = dict(span.attributes or {})
        assert attributes["error.type"] == codes[watched.name]
        assert attributes["db.response.status_code"] == codes[watched.name]
        assert "secret value" not in f"{attributes} {span.status.description} {span.events}"


async def test_many_executions_are_a_batch(watched: AsyncEngine, telemetry: Telemetry) -> None:
    async with watched.begin() as connection:
        await connection.execute(
            text("INSERT INTO author (id, name) VALUES (:id, :name)"), [{"id": n, "name": f"n{n}"} for n in range(3)]
        )

    attributes = dict(telemetry.named("INSERT author").attributes or {})
    assert attributes["db.operation.name"] == "BATCH INSERT"
    assert attributes["db.operation.batch.size"] == 3


async def test_text_without_parameters_is_told_without_its_values(watched: AsyncEngine, telemetry: Telemetry) -> None:
    async with watched.connect() as connection:
        await connection.exec_driver_sql("SELECT id FROM author WHERE name = 'secret value' OR id = 4711")

    text_ = str(dict(telemetry.named("SELECT author").attributes or {})["db.query.text"])
    assert text_ == "SELECT id FROM author WHERE name = ? OR id = ?"


async def test_text_can_be_left_out(engine: AsyncEngine, telemetry: Telemetry) -> None:
    instrumentation = telemetry.watch(engine, query_text=False, sessions=False)
    async with AsyncSession(engine) as session:
        await session.execute(text("SELECT 1"))
        await session.commit()
    instrumentation.uninstrument()

    assert not [span for span in telemetry.spans if "db.query.text" in (span.attributes or {})]
    assert not [name for name in telemetry.names if name.startswith("aiosession")]


async def test_a_cancelled_statement_is_an_error(postgresql_url: str, telemetry: Telemetry) -> None:
    engine = create_async_engine(postgresql_url)
    telemetry.watch(engine)
    async with engine.connect() as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.execute(text("SELECT pg_sleep(60)")), 0.05)
    await engine.dispose()

    span = telemetry.named("SELECT")
    assert dict(span.attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"


async def test_metrics_of_statements_and_pools(watched: AsyncEngine, telemetry: Telemetry) -> None:
    async with AsyncSession(watched) as session:
        session.add(Author(id=1, name="Ann"))
        await session.commit()
        await session.execute(select(Author))
        async with watched.connect():
            found = telemetry.metrics()

    durations = found["db.client.operation.duration"]
    (read,) = [point for point in durations if point.attributes["db.query.summary"] == "SELECT author"]
    assert read.count == 1
    assert read.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
    assert "db.query.text" not in read.attributes
    (rows,) = [p for p in found["db.client.response.returned_rows"] if p.attributes["db.operation.name"] == "SELECT"]
    assert (rows.count, rows.sum) == (1, 1)
    states = {p.attributes["db.client.connection.state"]: p.value for p in found["db.client.connection.count"]}
    assert states["used"] == 1
    assert states["idle"] == watched.status().pool.idle - 1
    (limit,) = found["db.client.connection.max"]
    assert limit.value == 15
    (waiting,) = found["db.client.connection.pending_requests"]
    assert waiting.value == 0
    name = limit.attributes["db.client.connection.pool.name"]
    assert name.endswith(f"/{watched.url.database}")
    assert found["db.client.connection.use_time"][0].count >= 2
    assert found["db.client.connection.wait_time"][0].count >= 3


async def test_connections_that_are_opened_and_timeouts_are_counted(tmp_path: Path, telemetry: Telemetry) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/t.db", pool_size=1, max_overflow=0, pool_timeout=0)
    telemetry.watch(engine)
    async with engine.connect():
        with pytest.raises(PoolTimeoutError):
            await engine.connect()
    found = telemetry.metrics()
    await engine.dispose()

    assert found["db.client.connection.create_time"][0].count == 1
    assert found["db.client.connection.timeouts"][0].value == 1


async def test_after_uninstrument_nothing_is_told(
    watched: AsyncEngine, telemetry: Telemetry, engine: AsyncEngine
) -> None:
    with pytest.raises(InvalidRequestError, match="instrumented already"):
        telemetry.watch(watched)
    telemetry.clear()
    other = create_async_engine("sqlite+aiosqlite://")
    instrumentation = telemetry.watch(other)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    async with other.connect() as connection:
        await connection.execute(text("SELECT 1"))
    await other.dispose()

    assert telemetry.spans == []
    assert not other.events
    telemetry.watch(other).uninstrument()


async def test_suppressed_instrumentation_is_silent(watched: AsyncEngine, telemetry: Telemetry) -> None:
    token = context.attach(context.set_value("suppress_instrumentation", True))
    async with AsyncSession(watched) as session:
        await session.get(Author, 1)
    context.detach(token)

    assert not [name for name in telemetry.names if name.startswith("SELECT")]


async def test_two_instrumented_engines_make_one_span_of_a_flush(tmp_path: Path, telemetry: Telemetry) -> None:
    engines = [create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/{number}.db") for number in range(2)]
    for engine in engines:
        await make_tables(engine)
        telemetry.watch(engine)
    async with AsyncSession(binds={Author: engines[0], Book: engines[1]}) as session:
        session.add_all([Author(id=1, name="Ann"), Book(id=1, title="One")])
        await session.commit()
    for engine in engines:
        await engine.dispose()

    assert telemetry.names.count("aiosession flush") == 1
    assert telemetry.names.count("aiosession commit") == 1


async def test_reads_of_replicas_are_spans_too(tmp_path: Path, telemetry: Telemetry) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/t.db"
    engine = create_replicated_engine(url, replicas=[url])
    await make_tables(engine)
    telemetry.watch(engine)
    async with AsyncSession(engine) as session:
        await session.get(Author, 1)
    await engine.dispose()

    assert telemetry.names == ["SELECT author"]


def test_only_engines_can_be_instrumented() -> None:
    with pytest.raises(ArgumentError, match="instrument\\(\\) takes an engine"):
        instrument("sqlite://")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM t WHERE x = 'FROM nowhere'", "SELECT t"),
        ("SELECT * FROM t JOIN u ON t.id = u.id -- FROM w", "SELECT t u"),
        ("INSERT INTO s.t (a) SELECT b FROM u", "INSERT s.t SELECT u"),
        ('INSERT INTO "T" (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2', 'INSERT "T"'),
        ("UPDATE t SET a = (SELECT max(b) FROM u)", "UPDATE t SELECT u"),
        ("SELECT a FROM t FOR UPDATE", "SELECT t"),
        ("SELECT a FROM t FOR NO KEY UPDATE OF t", "SELECT t"),
        ("DELETE FROM ONLY t", "DELETE t"),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE t"),
        ("SELECT * FROM unnest($1) AS x", "SELECT"),
        ("SELECT a IS DISTINCT FROM b FROM t", "SELECT t"),
        ("WITH x AS (SELECT 1 FROM t) SELECT * FROM x", "SELECT t SELECT x"),
        ("SELECT \"o'x\" FROM \"T's\" WHERE a = 'FROM secret'", 'SELECT "T\'s"'),
        ('SELECT a AS "x FROM y" FROM t', "SELECT t"),
        ("SELECT `x JOIN y` FROM `it's` JOIN u", "SELECT `it's` u"),
        ("SELECT a FROM t /* JOIN secret", "SELECT t"),
        ("COMMIT PREPARED 'as1:shop:1'", "COMMIT"),
        ("PRAGMA foreign_keys", "PRAGMA"),
        ("", ""),
    ],
)
def test_summaries(sql: str, expected: str) -> None:
    assert summary(sql) == expected


def test_a_summary_is_short() -> None:
    sql = "SELECT 1 FROM " + " JOIN ".join(f"table_{number}" for number in range(100))

    assert len(summary(sql)) <= 255
    assert target(sql) is None


def test_values_are_taken_out() -> None:
    assert sanitised("SELECT 'it''s', 1.5, $tag$x$tag$, t1.a1 FROM t1") == "SELECT ?, ?, ?, t1.a1 FROM t1"


@pytest.mark.parametrize(
    ("system", "sql", "expected"),
    [
        ("postgresql", "-- it's\nSELECT 1 WHERE a = 'secret'", "SELECT ? WHERE a = ?"),
        ("postgresql", "SELECT \"o'x\" FROM t WHERE a = 'secret'", 'SELECT "o\'x" FROM t WHERE a = ?'),
        ("postgresql", r"SELECT E'it\'s secret', 'a\', 0xDEADBEEF, $1", "SELECT ?, ?, ?, $?"),
        ("mariadb", r"""SELECT 'a\'secret', "secret", `it's`, 0xDEADBEEF # it's""", "SELECT ?, ?, `it's`, ?"),
        ("sqlite", "SELECT x'C0FFEE' /* it's */ , 'secret'", "SELECT x? , ?"),
    ],
)
def test_values_are_taken_out_as_the_database_quotes_them(system: str, sql: str, expected: str) -> None:
    assert " ".join(sanitised(sql, system).split()) == expected


async def test_what_is_under_way_at_uninstrument_comes_to_its_end(engine: AsyncEngine, telemetry: Telemetry) -> None:
    await make_tables(engine)
    instrumentation = telemetry.watch(engine)
    engine.events.after.add(lambda event: instrumentation.uninstrument() if "author" in event.sql else None)
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann"))
        await session.commit()

    assert not trace.get_current_span().get_span_context().is_valid
    assert "aiosession flush" in telemetry.names
    assert not session_operations.after


async def test_who_waited_before_is_not_measured(tmp_path: Path, telemetry: Telemetry) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/test.db", pool_size=1, max_overflow=0)
    first = await engine.pool.acquire()
    waiting = asyncio.create_task(engine.pool.acquire())
    await asyncio.sleep(0)
    instrumentation = telemetry.watch(engine)
    await engine.pool.release(first)
    await engine.pool.release(await waiting)
    instrumentation.uninstrument()
    await engine.dispose()

    assert "db.client.connection.wait_time" not in telemetry.metrics()
