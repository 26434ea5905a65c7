"""Two hundred clients at a time, some of which hang up: nothing is left behind and nobody was lied to."""

import pytest

from aiosession import AsyncEngine, AsyncSession
from examples.atlas.crowd import crowd
from examples.atlas.database import rebuild
from examples.atlas.loader import load, read_source


@pytest.mark.slow
@pytest.mark.without("mariadb", reason="it stores no time zones")
async def test_a_crowd_leaves_nothing_behind_and_every_answer_is_true(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await rebuild(engine)
    async with AsyncSession(engine) as session:
        await load(session, read_source(("IS",)))

    report, problems = await crowd(engine, observer, clients=200, requests=2)

    assert problems == []
    assert report.answers.total() == 400
    assert report.promised
