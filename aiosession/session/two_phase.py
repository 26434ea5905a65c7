"""How does a session commit on several databases as one? What its option ``twophase`` makes of each transaction."""

from collections.abc import Callable

from aiosession.engine.engine import AsyncEngine
from aiosession.session.binds import BindTable
from aiosession.transaction.two_phase import Coordinator, two_phase_options
from aiosession.transaction.unit import SessionTransaction


def coordinators(twophase: object, binds: BindTable) -> Callable[[SessionTransaction], Coordinator] | None:
    """Return what makes the coordinator of a transaction; None if the databases are to commit one after the other."""
    options = two_phase_options(twophase)
    if options is None:
        return None

    def make(level: SessionTransaction) -> Coordinator:
        return Coordinator(options, _unable(binds), level.share_of)

    return make


def _unable(binds: BindTable) -> AsyncEngine | None:
    """Return an engine of the session that prepares no transactions: it is going to decide if it is used at all."""
    engines = (bind for bind in (*binds.binds.values(), binds.bind) if isinstance(bind, AsyncEngine))
    return next((engine for engine in engines if not engine.capabilities.two_phase), None)
