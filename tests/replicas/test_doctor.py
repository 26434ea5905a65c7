"""The doctor knows a standby from a primary."""

from aiosession import create_async_engine
from aiosession.doctor import Level, diagnose
from tests.replicas.conftest import Pair


async def test_a_standby_is_told_from_its_primary(pair: Pair) -> None:
    found = []
    for server in (pair.primary, pair.replica):
        engine = create_async_engine(server.url())
        found.append(await diagnose(engine, twophase=True))
        await engine.dispose()

    primary, standby = found
    assert [finding.text for finding in primary.about("role")] == ["a primary"]
    (role,) = standby.about("role")
    assert role.level is Level.WARN
    assert role.text.startswith("a standby, 0 s behind: it refuses writes")
    assert not [each for each in standby.findings if "could not be asked" in each.text]
