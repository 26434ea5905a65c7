"""What several writes that are sent at once mean."""

from collections.abc import Sequence
from typing import cast

import pytest

from aiosession.drivers.protocol import Answer, Request
from aiosession.transaction.bind import BindTransaction
from aiosession.unit_of_work.together import Sending, send_together


class Line:
    """Answers with counts, and fails after the last of them if there are more requests."""

    def __init__(self, *counts: int) -> None:
        self.counts = counts
        self.asked: list[str] = []

    async def pipeline(self, requests: Sequence[Request], answers: list[Answer]) -> None:
        self.asked += [request.sql for request in requests]
        answers.extend(self.counts)
        if len(self.counts) < len(requests):
            raise RuntimeError("the database refused")


class WrongCountError(Exception):
    pass


def _one_row(answer: Answer) -> Answer:
    if answer != 1:
        raise WrongCountError
    return answer


SENDINGS = [Sending(Request(sql, (), fetches=False), _one_row) for sql in ("A", "B", "C")]


def _wire(*counts: int) -> BindTransaction:
    return cast("BindTransaction", Line(*counts))


async def test_each_answer_is_read_by_its_own_write() -> None:
    assert await send_together(_wire(1, 1, 1), SENDINGS) == [1, 1, 1]


async def test_a_wrong_number_of_rows_is_an_error() -> None:
    with pytest.raises(WrongCountError):
        await send_together(_wire(1, 0, 1), SENDINGS)


async def test_a_failure_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="refused"):
        await send_together(_wire(1, 1), SENDINGS)


async def test_a_wrong_number_of_rows_counts_before_the_failure_that_came_of_it() -> None:
    with pytest.raises(WrongCountError):
        await send_together(_wire(1, 0), SENDINGS)
