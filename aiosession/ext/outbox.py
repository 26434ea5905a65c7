"""Transactional outbox: events that are published if, and only if, the work that they tell of is committed.

`OutboxSession.publish` makes an event a row that is written in the same flush as everything else; a `Relay`, in another
task or process, hands the rows to a handler after the commit. Delivered at least once, those of a key in their order.
How rows are taken and handed over is in `aiosession.ext.relay`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, Unpack
from uuid import UUID, uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.types import TypeEngine
from typing_extensions import override

from aiosession import ArgumentError, AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker, registry
from aiosession.ext.relay import Handler, OutboxEvent, Relay, RelayOptions, check_seconds

__all__ = ["Handler", "Outbox", "OutboxEvent", "OutboxSession", "Relay", "to_json"]

Serializer: TypeAlias = Callable[[Any], Any]
"""Makes of an event what JSON has words for: dicts, lists, texts, numbers, True, False and None."""

_WITHOUT_ZONES: Final = ("mysql", "mariadb")
_LONGEST: Final = 255
_PLAIN: Final = (dict, list, tuple, str, int, float, bool, type(None))


def to_json(event: Any) -> Any:
    """Return what is stored of an event: fields of a dataclass, ``model_dump(mode="json")`` of pydantic, JSON as it is.

    Raises `ArgumentError` for what JSON has no words for; a serializer of your own then says what to store.
    """
    if dataclasses.is_dataclass(event) and not isinstance(event, type):
        event = dataclasses.asdict(event)
    elif callable(dump := getattr(event, "model_dump", None)) and not isinstance(event, type):
        event = dump(mode="json")
    try:
        json.dumps(event, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"an event of {type(event)!r} cannot be stored as JSON ({error}); publish a dict, a dataclass or a "
            f"pydantic model of plain values, or say Outbox(metadata, serializer=...) with a function that makes it"
        ) from error
    return event


class Moment(TypeDecorator[datetime]):
    """A time in UTC, with its time zone in Python whether the database keeps one or not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind = DATETIME(fsp=6) if dialect.name in _WITHOUT_ZONES else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=None) if value is not None and dialect.name in _WITHOUT_ZONES else value

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Outbox:
    """A table of events that wait for delivery: ``outbox = Outbox(Base.metadata)``.

    Sessions that publish are made by ``async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)``; a process
    somewhere runs ``outbox.relay(engine, handler).run()``. The table is created with the others of *metadata*.

    Args:
        metadata: The schema that the table becomes part of.
        table: The name of the table.
        schema: The schema of the database it is in.
        serializer: Makes JSON of an event; see `to_json`.

    """

    def __init__(
        self,
        metadata: MetaData,
        *,
        table: str = "outbox",
        schema: str | None = None,
        serializer: Serializer = to_json,
    ) -> None:
        if not callable(serializer):
            raise ArgumentError(f"serializer makes JSON of an event; {serializer!r} cannot be called")
        if f"{schema}.{table}" in metadata.tables or (schema is None and table in metadata.tables):
            raise ArgumentError(f"there is a table {table!r} already; give the outbox another name: Outbox(table=...)")
        self.table: Final = _make_table(table, metadata, schema)
        """The rows that wait, and dead letters (``dead_at`` is set): to be looked at, and put right, by SQL."""
        self._serializer: Final = serializer
        self._row: Final[type[Any]] = type("OutboxRow", (), {})
        registry(metadata=metadata).map_imperatively(self._row, self.table)

    def publish(
        self,
        session: AsyncSession | async_scoped_session[Any],
        event: Any,
        *,
        topic: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> UUID:
        """Have an event delivered once the session's transaction is committed; return its id. Sends nothing.

        The row is written by the next flush, together with those of other events; a rollback takes it back.

        Args:
            session: The session whose work the event tells of.
            event: Anything that the serializer makes JSON of.
            topic: What kind of event it is; the name of its class if that is not one of Python's own.
            key: What it is about, ``"order 7"``: events of a key are delivered in the order in which they were written.
            headers: Texts for the handler besides the event, an id for tracing for one.
            delay: Seconds that it waits at least.

        Raises `ArgumentError` for arguments that cannot be stored, and for what is no session.

        """
        if not isinstance(session, AsyncSession | async_scoped_session):
            raise ArgumentError(
                f"publish() takes the session whose work the event tells of, not {session!r}: "
                f"`async with Session.begin() as session: outbox.publish(session, event)`"
            )
        check_seconds("delay", delay)
        now = datetime.now(UTC)
        row, event_id = self._row(), uuid4()
        row.id = event_id
        row.topic = _checked_topic(event, topic)
        row.key = _checked_text("key", key)
        row.payload = self._serializer(event)
        row.headers = _checked_headers(headers)
        row.attempts = 0
        row.created_at, row.available_at = now, now + timedelta(seconds=delay)
        session.add(row)
        return event_id

    def relay(
        self, source: AsyncEngine | async_sessionmaker[Any], handler: Handler, **options: Unpack[RelayOptions]
    ) -> Relay:
        """Return what delivers the events of this outbox to *handler*: ``await relay.run()``, or ``drain()`` in tests.

        Args:
            source: The engine of the database that the table is in; or the `async_sessionmaker` that makes the sessions
                which publish, for its engine, its *binds* and its *schema_translate_map*. One whose sessions choose
                engines by a ``get_bind()`` of their own is refused.
            handler: ``async def handler(event: OutboxEvent)``, or a plain function that does not block; an event is
                delivered when it returns, and tried again later when it raises.
            options: *batch*, the most events that are taken at once (100). *every*: seconds between looks at a table
                in which there was nothing to do (1.0). *lease*: seconds for which taken events are kept from other
                relays (60.0); nothing of a batch is begun after half of it, and a handler that is still at work after
                three quarters is cancelled and has failed. *attempts*: after how many failures an
                event is a dead letter (10). *backoff*: seconds before the second attempt (1.0), doubled after each, up
                to *max_backoff* (300.0).

        """
        return Relay(self.table, source, handler, **options)


class OutboxSession(AsyncSession):
    """A session that publishes events: ``async_sessionmaker(engine, class_=OutboxSession, outbox=outbox)``.

    Args:
        outbox: Where events go.
        options: What `AsyncSession` takes.

    """

    __slots__ = ("_outbox",)

    def __init__(self, *args: Any, outbox: Outbox | None = None, **options: Any) -> None:
        if not isinstance(outbox, Outbox):
            raise ArgumentError(
                f"an OutboxSession is told where events go: async_sessionmaker(engine, class_=OutboxSession, "
                f"outbox=Outbox(metadata)); got outbox={outbox!r}"
            )
        self._outbox: Final = outbox
        super().__init__(*args, **options)

    def publish(
        self,
        event: Any,
        *,
        topic: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
    ) -> UUID:
        """Have an event delivered once this session's transaction is committed; return its id. See `Outbox.publish`."""
        return self._outbox.publish(self, event, topic=topic, key=key, headers=headers, delay=delay)

    @override
    def _options_of_fork(self) -> dict[str, Any]:
        return {**super()._options_of_fork(), "outbox": self._outbox}


def _make_table(name: str, metadata: MetaData, schema: str | None) -> Table:
    return Table(
        name,
        metadata,
        Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("id", Uuid, nullable=False, unique=True),
        Column("topic", String(_LONGEST), nullable=False),
        Column("key", String(_LONGEST)),
        Column("payload", JSON, nullable=False),
        Column("headers", JSON, nullable=False),
        Column("created_at", Moment, nullable=False),
        Column("available_at", Moment, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("last_error", Text),
        Column("dead_at", Moment),
        Index(f"{name}_key", "key", "position"),
        schema=schema,
        sqlite_autoincrement=True,  # no position is given twice
    )


def _checked_topic(event: object, topic: str | None) -> str:
    if topic is None:
        if isinstance(event, _PLAIN):
            raise ArgumentError(f"a {type(event).__name__} does not say what it tells of: publish(event, topic=...)")
        topic = type(event).__name__
    if topic == "":
        raise ArgumentError("a topic is a text that is not empty")
    return _checked_text("topic", topic) or ""


def _checked_text(name: str, value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and len(value) <= _LONGEST):
        raise ArgumentError(f"{name} is a text of at most {_LONGEST} characters, not {value!r}")
    return value


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    given: object = {} if headers is None else headers
    if not isinstance(given, Mapping):
        raise ArgumentError(f"headers are texts by name, a dict for one; got {given!r}")
    found: dict[Any, Any] = dict(given)
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise ArgumentError(f"headers are texts by name; got {name!r}: {value!r}")
    return found
