"""Whatever a commit consists of: as one statement it does what several statements do."""

import asyncio
from dataclasses import dataclass

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from aiosession import AsyncEngine, AsyncSession, IntegrityError, StaleDataError, create_async_engine
from tests.ledger_model import ACCOUNT, ENTRY, Account, Base, Entry, Owner, make_rows, seen


@dataclass(frozen=True)
class Step:
    what: str
    key: int
    value: int


steps = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(["account", "owner", "rename", "entry", "new owner", "new account", "drop", "loss"]),
        key=st.integers(101, 103),
        value=st.integers(0, 4),
    ),
    max_size=6,
)


async def carry_out(session: AsyncSession, step: Step) -> None:
    account, owner = await session.get(Account, step.key), await session.get(Owner, step.key)
    match step.what:
        case "account" if account is not None and account not in session.deleted:
            account.balance = step.value
        case "owner" if owner is not None:
            owner.name = f"name {step.value}"
        case "rename" if owner is not None:
            owner.code = f"code {step.value}"
        case "entry":
            session.add_all([Entry(amount=number, account_id=step.key) for number in range(step.value)])
        case "new owner":
            session.add(Owner(name=f"name {step.value}", code=f"code {step.value}"))
        case "new account":
            session.add(Account(id=10 + step.value, balance=step.value))
        case "drop" if account is not None:
            await session.delete(account)


async def outcome(engine: AsyncEngine, todo: list[Step]) -> tuple[object, ...]:
    """Return what comes of some changes: the error, the objects, and the rows."""
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE owner, account, entry, badge RESTART IDENTITY CASCADE"))
    await make_rows(engine)
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        kept: list[object] = []
        error = None
        session.autoflush = False
        for step in todo:
            await carry_out(session, step)
            if step.what == "loss":  # somebody else takes a row away
                await other.execute(delete(ENTRY).where(ENTRY.c.account_id == step.key))
                await other.execute(delete(ACCOUNT).where(ACCOUNT.c.id == step.key))
                await other.commit()
            kept += session
        try:
            await session.commit()
        except (IntegrityError, StaleDataError) as caught:
            error = type(caught)
            await session.rollback()
        objects = sorted((type(obj).__name__, obj.id or 0) for obj in session)  # type: ignore[attr-defined]
        rows = [await seen(engine, *entity.__table__.c) for entity in (Owner, Account, Entry)]
        return error, objects, rows


TWO_FAULTS = [Step("entry", 101, 1), Step("drop", 101, 0), Step("loss", 101, 0)]
"""A row that refers to nothing any more, and one that is gone: either may be told."""


@example(todo=TWO_FAULTS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(todo=steps)
def test_one_statement_does_what_several_do(postgresql_url: str, todo: list[Step]) -> None:
    async def both() -> tuple[tuple[object, ...], tuple[object, ...]]:
        engine = create_async_engine(postgresql_url)
        try:
            async with engine.begin() as connection:
                await connection.create_all(Base.metadata)
            return await outcome(engine, todo), await outcome(engine.execution_options(combine_writes=False), todo)
        finally:
            await engine.dispose()

    together, apart = asyncio.run(both())

    assert together[1:] == apart[1:]
    assert (together[0] is None) == (apart[0] is None)
