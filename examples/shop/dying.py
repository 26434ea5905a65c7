"""Where in a commit may a process die? Everywhere; these are the places that make a difference."""

import itertools
import os
import signal
from dataclasses import dataclass
from enum import Enum

from aiosession.events import StatementEvent
from examples.shop.databases import Databases


class Step(Enum):
    """A moment of a commit over both databases, in their order."""

    PREPARING = "preparing"
    """The account is about to be told PREPARE TRANSACTION: nothing is prepared."""
    PREPARED = "prepared"
    """The account has promised; nothing is decided."""
    DECIDING = "deciding"
    """The decision is written but not committed."""
    DECIDED = "decided"
    """The orders have committed, and with them the unit of work."""
    FOLLOWED = "followed"
    """The account has committed too; nobody has been told."""


@dataclass(frozen=True, slots=True)
class Death:
    """When a process is to die: as it comes to a step for the given time."""

    step: Step
    number: int


def die_by(death: Death, databases: Databases) -> None:
    """Have this process killed by SIGKILL."""
    accounts, orders = databases.accounts.events, databases.orders.events
    hook, beginning = {
        Step.PREPARING: (accounts.before, "PREPARE TRANSACTION"),
        Step.PREPARED: (accounts.after, "PREPARE TRANSACTION"),
        Step.DECIDING: (orders.after, "INSERT INTO aiosession_decision"),
        Step.DECIDED: (orders.after, "COMMIT"),
        Step.FOLLOWED: (accounts.after, "COMMIT PREPARED"),
    }[death.step]
    times = itertools.count(1)

    def die(event: StatementEvent) -> None:
        if event.sql.startswith(beginning) and next(times) == death.number:
            os.kill(os.getpid(), signal.SIGKILL)

    hook.add(die)
