"""Write the statements of an engine to the standard library's logging, on request."""

import logging
from typing import Final, Literal

from aiosession.events import StatementEvent

_LOGGER: Final = "aiosession.engine"
_LONGEST: Final = 300
_MOST_ROWS: Final = 8

Echo = bool | Literal["debug"]


class StatementLogger:
    """A handler of statement events that logs them."""

    def __init__(self, logger: logging.Logger, *, hide_parameters: bool) -> None:
        self._logger: Final = logger
        self._hides_parameters: Final = hide_parameters

    def __call__(self, event: StatementEvent) -> None:
        """Log one statement: text, values, duration, and its error if it failed."""
        failure = "" if event.error is None else f", failed: {type(event.error).__name__}"
        milliseconds = (event.duration or 0.0) * 1000
        self._logger.info("%s %s [%.1f ms%s]", event.sql, self._shown(event), milliseconds, failure)

    def _shown(self, event: StatementEvent) -> str:
        values = event.parameters
        if not values:
            return ""
        if self._hides_parameters:
            return "(parameters hidden)"
        if event.many and isinstance(values, list | tuple) and len(values) > _MOST_ROWS:
            return f"{_shortened(repr(list(values[:_MOST_ROWS])))} ... {len(values)} rows"
        return _shortened(repr(values))


def statement_logger(echo: Echo, name: str | None, *, hide_parameters: bool) -> StatementLogger | None:
    """Return what logs statements: if *echo* is set, or if the logger was set to INFO before the engine was made."""
    logger = logging.getLogger(_LOGGER if name is None else f"{_LOGGER}.{name}")
    if echo:
        logger.setLevel(logging.DEBUG if echo == "debug" else logging.INFO)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
            logging.getLogger("aiosession").addHandler(handler)
    return StatementLogger(logger, hide_parameters=hide_parameters) if logger.isEnabledFor(logging.INFO) else None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
