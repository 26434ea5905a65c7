"""Send several writes in one round trip, where the driver can.

They are carried out in their order, as if one had been sent after the other; but all have to be known before the first
is answered, so none may contain what the database makes for one before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiosession.drivers.protocol import Answer, Request
from aiosession.transaction.bind import BindTransaction
from aiosession.unit_of_work.plan import Batch, Generated

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Sending(Generic[W]):
    """A write that is one statement: what is sent, and what its answer means."""

    request: Request
    read: Callable[[Answer], W]
    """Raises `StaleDataError` if rows were not met as they should be."""


async def send_together(wire: BindTransaction, sendings: Sequence[Sending[W]]) -> list[W]:
    """Send everything at once; a wrong number of rows counts before a failure to which it may have led."""
    answers: list[Answer] = []
    try:
        await wire.pipeline([each.request for each in sendings], answers)
    except Exception:
        for sending, answer in zip(sendings, answers, strict=False):
            sending.read(answer)
        raise
    return [sending.read(answer) for sending, answer in zip(sendings, answers, strict=True)]


def is_known(batch: Batch, made: Mapping[Generated, object]) -> bool:
    """Whether all values of *batch* are known, given what the database has made so far."""
    return all(
        type(value) is not Generated or value in made for place in batch.deferred for value in batch.values[place]
    )
