"""OpenTelemetry: a span for each statement, flush and commit, and metrics of statements and pools.

Names and attributes are those of the stable semantic conventions for databases (and, for pools and returned rows, of
those in development): https://opentelemetry.io/docs/specs/semconv/db/. Values of parameters are never recorded, and
SQL that comes without parameters has its literals replaced.

Needs ``pip install aiosession[opentelemetry]``, and an SDK that the application sets up.
"""

import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from aiosession import ArgumentError, AsyncEngine, InvalidRequestError, ReplicatedEngine
from aiosession.events import OperationEvent, StatementEvent, session_operations
from aiosession.ext.opentelemetry_sql import sanitised, summary, target

__all__ = ["Instrumentation", "instrument"]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.33.0"
DURATIONS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Bounds of buckets for durations, in seconds, as the conventions have them."""
ROWS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
"""Bounds of buckets for numbers of rows."""

_NAME: Final = "aiosession"
_PORTS: Final = {"postgresql": 5432, "mariadb": 3306, "mysql": 3306}
_SUPPRESSED: Final = ("suppress_instrumentation",)
_SPAN: Final = "opentelemetry span"
_TOKEN: Final = "opentelemetry token"
Attributes: TypeAlias = dict[str, Any]

_instrumented: Final["weakref.WeakSet[Any]"] = weakref.WeakSet()
"""The pools whose engines are instrumented."""


def instrument(
    engine: AsyncEngine,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    query_text: bool = True,
    sessions: bool = True,
) -> "Instrumentation":
    """Have an engine, and the replicas of a replicated one, tell OpenTelemetry what they do.

    ```python
    from aiosession.ext.opentelemetry import instrument

    instrumentation = instrument(engine)
    ```

    Args:
        engine: What is to be watched.
        tracer_provider: Makes the spans; None for the global one.
        meter_provider: Makes the metrics; None for the global one.
        query_text: Record ``db.query.text``; without parameters' values, which are never recorded.
        sessions: Make spans of the flushes, prepares and commits of all sessions, which their statements belong to.

    Raises:
        InvalidRequestError: The engine is instrumented already.

    """
    if not isinstance(engine, AsyncEngine):
        raise ArgumentError(f"instrument() takes an engine, as create_async_engine() makes it, not {engine!r}")
    engines = [engine, *engine.replicas] if isinstance(engine, ReplicatedEngine) else [engine]
    if any(each.pool in _instrumented for each in engines):
        raise InvalidRequestError("this engine is instrumented already; call uninstrument() on what that returned")
    tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider, schema_url=SCHEMA_URL)
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider, schema_url=SCHEMA_URL)
    return Instrumentation(engines, tracer, meter, query_text=query_text, sessions=sessions)


class Instrumentation:
    """What `instrument` has attached; `uninstrument` takes it off again."""

    def __init__(
        self,
        engines: Sequence[AsyncEngine],
        tracer: trace.Tracer,
        meter: metrics.Meter,
        *,
        query_text: bool,
        sessions: bool,
    ) -> None:
        measures = _Measures.made_by(meter)
        self._watched: Final = [_Watched(each, tracer, measures, query_text=query_text) for each in engines]
        self._operations: Final = _Operations(tracer) if sessions else None
        self._is_on = True
        for watched in self._watched:
            watched.attach()
        if self._operations is not None:
            self._operations.attach()
        for name, unit, told, callback in (
            ("count", "{connection}", "Connections that are idle, or used.", self._counts),
            ("max", "{connection}", "The most connections that can be open.", self._limits),
            ("pending_requests", "{request}", "Tasks that wait for a connection.", self._waiting),
        ):
            meter.create_observable_up_down_counter(f"db.client.connection.{name}", [callback], unit, told)

    def uninstrument(self) -> None:
        """Stop telling; does nothing the second time."""
        if not self._is_on:
            return
        self._is_on = False
        for watched in self._watched:
            watched.detach()
        if self._operations is not None:
            self._operations.detach()

    def _counts(self, _options: CallbackOptions) -> Iterable[Observation]:
        for watched, (held, idle, _) in self._numbers():
            for state, number in (("used", held), ("idle", idle)):
                yield Observation(number, {**watched.of_pool, "db.client.connection.state": state})

    def _limits(self, _options: CallbackOptions) -> Iterable[Observation]:
        for watched, _ in self._numbers():
            if watched.capacity is not None:
                yield Observation(watched.capacity, watched.of_pool)

    def _waiting(self, _options: CallbackOptions) -> Iterable[Observation]:
        for watched, (_, _, waiting) in self._numbers():
            yield Observation(waiting, watched.of_pool)

    def _numbers(self) -> "Iterable[tuple[_Watched, tuple[int, int, int]]]":
        for watched in self._watched if self._is_on else ():
            pool = watched.pool()
            if pool is not None:
                yield watched, pool.numbers()


@dataclass(frozen=True, slots=True)
class _Measures:
    """The instruments that statements and pools write to."""

    duration: metrics.Histogram
    rows: metrics.Histogram
    waited: metrics.Histogram
    used: metrics.Histogram
    created: metrics.Histogram
    timeouts: metrics.Counter

    @classmethod
    def made_by(cls, meter: metrics.Meter) -> "_Measures":
        def seconds(name: str, told: str) -> metrics.Histogram:
            bounds = list(DURATIONS)
            return meter.create_histogram(f"db.client.{name}", "s", told, explicit_bucket_boundaries_advisory=bounds)

        return cls(
            seconds("operation.duration", "Duration of statements."),
            meter.create_histogram(
                "db.client.response.returned_rows",
                "{row}",
                "Rows that statements returned.",
                explicit_bucket_boundaries_advisory=list(ROWS),
            ),
            seconds("connection.wait_time", "How long tasks waited for a connection."),
            seconds("connection.use_time", "How long connections were held."),
            seconds("connection.create_time", "How long it took to open connections."),
            meter.create_counter("db.client.connection.timeouts", "{timeout}", "Tasks that got no connection in time."),
        )


class _Watched:
    """One engine: makes spans and measures of its statements, and is told of its pool."""

    def __init__(self, engine: AsyncEngine, tracer: trace.Tracer, measures: _Measures, *, query_text: bool) -> None:
        self.pool: Final = weakref.ref(engine.pool)
        self.capacity: Final = engine.status().pool.capacity
        self._events: Final = engine.events
        self._tracer: Final = tracer
        self._measures: Final = measures
        self._tells_text: Final = query_text
        self._common: Final = _of_engine(engine)
        self.of_pool: Final[Attributes] = {"db.client.connection.pool.name": _pool_name(engine, self._common)}

    def attach(self) -> None:
        """Begin to listen."""
        self._events.after.add(self.statement)
        pool = self.pool()
        if pool is not None:
            pool.listener = self
            _instrumented.add(pool)

    def detach(self) -> None:
        """Stop listening."""
        self._events.after.remove(self.statement)
        pool = self.pool()
        if pool is not None:
            pool.listener = None
            _instrumented.discard(pool)

    def statement(self, event: StatementEvent) -> None:
        """Record a statement that has ended."""
        if any(context.get_value(key) for key in _SUPPRESSED):
            return
        seconds = event.duration or 0.0
        described = self._described(event)
        failed = {} if event.error is None else _of_error(event.error)
        measured = self._common | described | failed
        self._measures.duration.record(seconds, measured)
        if event.returns_rows and event.error is None and event.row_count is not None:
            self._measures.rows.record(event.row_count, measured)
        self._span(event, seconds, described, failed)

    def _described(self, event: StatementEvent) -> Attributes:
        many = len(event.parameters) if event.many and isinstance(event.parameters, Sequence) else 0
        found = {"db.query.summary": summary(event.sql)}
        if event.kind:
            found["db.operation.name"] = f"BATCH {event.kind}" if many > 1 else event.kind
        table = target(event.sql)
        if table is not None:
            found["db.collection.name"] = table
        return found

    def _span(self, event: StatementEvent, seconds: float, described: Attributes, failed: Attributes) -> None:
        ended = time.time_ns()
        attributes = self._common | described
        if self._tells_text:
            attributes["db.query.text"] = (
                event.sql if event.parameters else sanitised(event.sql, self._common["db.system.name"])
            )
        if event.many and isinstance(event.parameters, Sequence) and len(event.parameters) > 1:
            attributes["db.operation.batch.size"] = len(event.parameters)
        name = described["db.query.summary"] or self._common["db.system.name"]
        began = ended - int(seconds * 1e9)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=began)
        if event.returns_rows and event.row_count is not None:
            span.set_attribute("db.response.returned_rows", event.row_count)
        if event.error is not None:
            _fail(span, event.error, failed)
        span.end(ended)

    def waited(self, seconds: float) -> None:
        """Record how long somebody waited for a connection."""
        self._measures.waited.record(seconds, self.of_pool)

    def created(self, seconds: float) -> None:
        """Record how long it took to open a connection."""
        self._measures.created.record(seconds, self.of_pool)

    def used(self, seconds: float) -> None:
        """Record how long a connection was held."""
        self._measures.used.record(seconds, self.of_pool)

    def timed_out(self) -> None:
        """Count somebody who got no connection in time."""
        self._measures.timeouts.add(1, self.of_pool)


class _Operations:
    """Makes spans of what sessions do, which the spans of their statements are children of."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer: Final = tracer
        self._open = 0
        self._is_on = False

    def attach(self) -> None:
        """Begin to listen."""
        self._is_on = True
        session_operations.before.add(self.begin)
        session_operations.after.add(self.end)

    def detach(self) -> None:
        """Stop listening; what is under way is still told of when it ends."""
        self._is_on = False
        session_operations.before.remove(self.begin)
        self._leave()

    def _leave(self) -> None:
        if not self._is_on and not self._open:
            session_operations.after.remove(self.end)

    def begin(self, event: OperationEvent) -> None:
        """Begin a span, unless another instrumentation has."""
        if _SPAN in event.memo:
            return
        span = self._tracer.start_span(f"{_NAME} {event.name}", kind=SpanKind.INTERNAL)
        event.memo[_SPAN] = span
        event.memo[_TOKEN] = context.attach(trace.set_span_in_context(span))
        event.memo[self] = span
        self._open += 1

    def end(self, event: OperationEvent) -> None:
        """End the span that was begun here."""
        span: Span | None = event.memo.pop(self, None)
        if span is None:
            return
        self._open -= 1
        self._leave()
        context.detach(event.memo.pop(_TOKEN))
        if event.error is not None:
            _fail(span, event.error, _of_error(event.error))
        span.end()


def _of_engine(engine: AsyncEngine) -> Attributes:
    """Return the attributes that all statements of an engine have."""
    url = engine.url
    found: Attributes = {"db.system.name": engine.name}
    if url.database:
        found["db.namespace"] = url.database
    if url.host:
        found["server.address"] = url.host
        if url.port is not None and url.port != _PORTS.get(engine.name):
            found["server.port"] = url.port
    return found


def _pool_name(engine: AsyncEngine, common: Attributes) -> str:
    address = common.get("server.address", engine.name)
    port = engine.url.port or _PORTS.get(engine.name)
    place = f"{address}:{port}" if port is not None else address
    return f"{place}/{common['db.namespace']}" if "db.namespace" in common else place


def _of_error(error: BaseException) -> Attributes:
    """Return what an error is called: the database's own code, else the name of the class that was raised first."""
    original = getattr(error, "orig", None) or error
    code = _code(original)
    if code is not None:
        return {"error.type": code, "db.response.status_code": code}
    kind = type(original)
    name = kind.__qualname__
    return {"error.type": name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"}


def _code(error: BaseException) -> str | None:
    """Return the SQLSTATE of PostgreSQL, the name of SQLite's code, or the number of MariaDB's error."""
    if type(error).__module__.startswith("asyncmy") and error.args and isinstance(error.args[0], int):
        return str(error.args[0])
    found = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return str(found) if found else None


def _fail(span: Span, error: BaseException, attributes: Attributes) -> None:
    """Mark a span as failed, by the kind of its error: the text of one may hold values."""
    span.set_attributes(attributes)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
