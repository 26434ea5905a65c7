"""Have functions called when something happens: ``events.listen(target, name, fn)``.

Targets are sessions, their classes and makers; mapped classes; attributes of mapped classes.
"""

from aiosession.events.hooks import Hook, StatementEvent, StatementHooks
from aiosession.events.listening import contains, listen, listens_for, remove
from aiosession.events.operations import OperationEvent, OperationHooks, session_operations

__all__ = [
    "Hook",
    "OperationEvent",
    "OperationHooks",
    "StatementEvent",
    "StatementHooks",
    "contains",
    "listen",
    "listens_for",
    "remove",
    "session_operations",
]
