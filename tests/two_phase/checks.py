"""What has to be true after anything: all databases have a unit of work or none has, and nothing is left."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text

from aiosession import AsyncEngine, AsyncSession, TwoPhase, async_sessionmaker, recover
from aiosession.errors import InDoubtError
from tests.two_phase.model import APP, add_unit, binds_of, prepared, presence


async def is_everywhere(observers: Sequence[AsyncEngine], unit: str) -> bool:
    """Say whether all databases have a unit of work; none of them has it otherwise."""
    found = await presence(observers, unit)
    assert len(set(found)) == 1, f"some databases have the unit of work, others do not: {found}"
    return found[0]


async def recovered(observers: Sequence[AsyncEngine], unit: str) -> bool:
    """Have recovery settle everything; say whether the unit of work is committed."""
    await no_victim_works(observers)
    for found in await recover(observers, app=APP):
        assert found.is_settled, found
    assert await prepared(observers) == []
    return await is_everywhere(observers, unit)


async def no_victim_works(observers: Sequence[AsyncEngine]) -> None:
    """Wait until servers have noticed that a line is dead: until then they carry out what was sent last."""
    for observer in observers:
        if observer.name == "postgresql":
            async with observer.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                while await connection.scalar(_WORKING):
                    pass
        elif observer.name == "mariadb":
            async with observer.connect() as connection:
                while await connection.scalar(_WORKING_IN_MARIADB):
                    pass


_WORKING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND (state = 'active' OR state LIKE 'idle in transaction%')"
)
_WORKING_IN_MARIADB = text(
    "SELECT count(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
    "ON id = trx_mysql_thread_id WHERE id <> CONNECTION_ID()"
)


async def truth_of(report: BaseException | None, observers: Sequence[AsyncEngine], unit: str) -> None:
    """Compare what the caller of commit() was told with what is in the databases when everything is settled."""
    answer = await report.resolve() if isinstance(report, InDoubtError) else report is None
    committed = await recovered(observers, unit)
    assert answer == committed, f"the caller was told {report!r} ({answer}); committed: {committed}"
    if isinstance(report, InDoubtError):
        assert await report.resolve() is committed


async def works(engines: Sequence[AsyncEngine], observers: Sequence[AsyncEngine]) -> None:
    """Commit one more unit of work with the engines, which nobody holds connections of."""
    for engine in engines:
        status = engine.pool.status()
        assert (status.holders, status.waiting) == ((), 0)
    maker: async_sessionmaker[AsyncSession] = async_sessionmaker(binds=binds_of(engines), twophase=TwoPhase(app=APP))
    async with maker() as session:
        unit = add_unit(session, engines, str(uuid4()))
        await session.commit()
    assert await is_everywhere(observers, unit)
