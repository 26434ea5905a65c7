"""Which events are there, with which arguments? Data only; where they happen is said where they are fired."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

IN_MEMORY: Final = "it happens in memory, in calls that do not wait, where nobody could await the handler"


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of thing that happens, and what its handlers are called with."""

    name: str
    arguments: tuple[str, ...]
    plain_because: str | None = None
    """Why handlers cannot be ``async``; None if they can."""


Events = Mapping[str, Event]


def _events(arguments: Mapping[str, str], plain_because: str | None = None) -> dict[str, Event]:
    return {name: Event(name, tuple(names.split()), plain_because) for name, names in arguments.items()}


LIFECYCLE: Final = _events(
    dict.fromkeys(
        (
            "transient_to_pending",
            "pending_to_transient",
            "pending_to_persistent",
            "persistent_to_transient",
            "persistent_to_deleted",
            "deleted_to_persistent",
            "deleted_to_detached",
            "persistent_to_detached",
            "detached_to_persistent",
            "loaded_as_persistent",
        ),
        "session instance",
    ),
    IN_MEMORY,
)
"""An object goes from one state to another; fired when it has got there."""

SESSION: Final = (
    _events(
        {
            "before_commit": "session",
            "after_commit": "session",
            "after_rollback": "session",
            "after_soft_rollback": "session previous_transaction",
            "before_flush": "session flush_context instances",
            "after_flush": "session flush_context",
            "after_flush_postexec": "session flush_context",
            "after_begin": "session transaction connection",
            "after_bulk_update": "update_context",
            "after_bulk_delete": "delete_context",
            "do_orm_execute": "orm_execute_state",
        }
    )
    | _events(
        {
            "after_transaction_create": "session transaction",
            "after_transaction_end": "session transaction",
            "before_attach": "session instance",
            "after_attach": "session instance",
        },
        IN_MEMORY,
    )
    | LIFECYCLE
)

WRITING: Final = _events(
    dict.fromkeys(
        ("before_insert", "after_insert", "before_update", "after_update", "before_delete", "after_delete"),
        "mapper connection target",
    )
)
"""The row of an object is written."""

INSTANCE: Final = _events(
    {
        "init": "target args kwargs",
        "load": "target context",
        "refresh": "target context attrs",
        "refresh_flush": "target flush_context attrs",
        "expire": "target attrs",
    },
    IN_MEMORY,
)

CLASS: Final = WRITING | INSTANCE | _events({"mapper_configured": "mapper class_"}, IN_MEMORY)

EVERY_CLASS: Final = CLASS | _events({"before_configured": "", "after_configured": ""}, IN_MEMORY)
"""Of all mapped classes together: also that the mappers of a registry are about to be, and have been, configured."""

ATTRIBUTE: Final = _events(
    {
        "set": "target value oldvalue initiator",
        "append": "target value initiator",
        "remove": "target value initiator",
        "bulk_replace": "target values initiator",
    },
    "attributes are set in plain code, where nobody could await the handler",
)
