"""Write the statements of an engine to the standard library's logging, on request: all of them, or the slow ones.

A record's message is for people; its attributes (``extra``) are for machines: ``statement``, ``kind``, ``parameters``
(None if they are hidden), ``many``, ``duration_ms``, ``rows``, ``round_trips``, ``connection``, ``engine``, ``task``
and ``error``.
"""

import logging
from typing import Final, Literal

from aiosession import aio
from aiosession.events import StatementEvent

SLOW: Final = "aiosession.slow"
_LOGGER: Final = "aiosession.engine"
_LONGEST: Final = 300
_MOST_ROWS: Final = 8

Echo = bool | Literal["debug"]


class StatementLogger:
    """A handler of statement events that logs them: those that took *at_least* so many seconds."""

    def __init__(
        self, logger: logging.Logger, level: int, engine: str, *, hide_parameters: bool, at_least: float = 0.0
    ) -> None:
        self._logger: Final = logger
        self._level: Final = level
        self._engine: Final = engine
        self._hides_parameters: Final = hide_parameters
        self._at_least: Final = at_least

    def __call__(self, event: StatementEvent) -> None:
        """Log one statement: text, values, duration, and its error if it failed."""
        seconds = event.duration or 0.0
        if seconds < self._at_least or not self._logger.isEnabledFor(self._level):
            return
        failure = "" if event.error is None else f", failed: {type(event.error).__name__}"
        shown = self._shown(event)
        self._logger.log(
            self._level,
            "%s %s [%.1f ms%s]",
            event.sql,
            "(parameters hidden)" if shown is None else shown,
            seconds * 1000,
            failure,
            extra=self._fields(event, shown),
        )

    def _fields(self, event: StatementEvent, shown: str | None) -> dict[str, object]:
        return {
            "statement": event.sql,
            "kind": event.kind,
            "parameters": shown,
            "many": event.many,
            "duration_ms": round((event.duration or 0.0) * 1000, 3),
            "rows": event.row_count,
            "round_trips": event.round_trips,
            "connection": event.connection,
            "engine": self._engine,
            "task": aio.task_name(),
            "error": None if event.error is None else type(event.error).__name__,
        }

    def _shown(self, event: StatementEvent) -> str | None:
        """Return the values as text, shortened; None if they are to be hidden."""
        values = event.parameters
        if not values:
            return ""
        if self._hides_parameters:
            return None
        if event.many and isinstance(values, list | tuple) and len(values) > _MOST_ROWS:
            return f"{_shortened(repr(list(values[:_MOST_ROWS])))} ... {len(values)} rows"
        return _shortened(repr(values))


def statement_logger(echo: Echo, name: str | None, engine: str, *, hide_parameters: bool) -> StatementLogger | None:
    """Return what logs statements: if *echo* is set, or if the logger was set to INFO before the engine was made."""
    logger = logging.getLogger(_LOGGER if name is None else f"{_LOGGER}.{name}")
    if echo:
        logger.setLevel(logging.DEBUG if echo == "debug" else logging.INFO)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
            logging.getLogger("aiosession").addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        return None
    return StatementLogger(logger, logging.INFO, name or engine, hide_parameters=hide_parameters)


def slow_logger(at_least: float, name: str | None, engine: str, *, hide_parameters: bool) -> StatementLogger:
    """Return what logs, as warnings, the statements that took *at_least* so many seconds."""
    logger = logging.getLogger(SLOW if name is None else f"{SLOW}.{name}")
    return StatementLogger(logger, logging.WARNING, name or engine, hide_parameters=hide_parameters, at_least=at_least)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
