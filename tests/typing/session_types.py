"""What a user's editor infers about sessions; checked by mypy and pyright, never run."""

from typing import Any, assert_type

from sqlalchemy import func, select, text, update

from aiosession import (
    AsyncEngine,
    AsyncResult,
    AsyncScalarResult,
    AsyncSession,
    AsyncSessionTransaction,
    Attempt,
    Batch,
    DeclarativeBase,
    FailedAttempt,
    FlushPlan,
    Mapped,
    Mapper,
    PlannedRow,
    Query,
    Reason,
    Result,
    Retrying,
    ScalarResult,
    StaleDataError,
    Why,
    async_scoped_session,
    async_sessionmaker,
    identity_key,
    inspect,
    mapped_column,
    object_session,
    was_deleted,
)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Audited(AsyncSession):
    pass


async def queries(session: AsyncSession) -> None:
    assert_type(await session.get(User, 1), User | None)
    assert_type(await session.get_one(User, 1), User)
    assert_type(await session.execute(select(User)), Result[User])
    assert_type(await session.execute(select(User.id, User.name)), Result[int, str])
    assert_type((await session.execute(select(User.id, User.name))).all()[0]._tuple(), tuple[int, str])
    assert_type(await session.scalars(select(User)), ScalarResult[User])
    assert_type((await session.scalars(select(User.name))).all(), list[str])
    assert_type(await session.scalar(select(func.count(User.id))), int | None)
    assert_type(await session.stream(select(User)), AsyncResult[User])
    assert_type(await session.stream_scalars(select(User.name)), AsyncScalarResult[str])
    assert_type(await session.execute(update(User)), Result[*tuple[Any, ...]])
    assert_type(await session.execute(text("SELECT 1"), {"a": 1}), Result[*tuple[Any, ...]])


async def merges(session: AsyncSession, user: User) -> None:
    assert_type(await session.merge(user), User)
    assert_type(await session.merge_all([user], load=False), list[User])
    assert_type(AsyncSession.object_session(user), AsyncSession | None)
    assert_type(identity_key(User, 1), tuple[type[Any], tuple[object, ...], object | None])
    assert_type(AsyncSession.identity_key(instance=user), tuple[type[Any], tuple[object, ...], object | None])
    assert_type(was_deleted(user), bool)


async def transactions(session: AsyncSession) -> None:
    assert_type(await session.begin(), AsyncSessionTransaction)
    async with session.begin_nested() as savepoint:
        assert_type(savepoint, AsyncSessionTransaction)
    plan = await session.plan([User()])
    assert_type(plan, FlushPlan)
    assert_type(list(plan), list[Batch])
    assert_type(plan.by_bind, dict[str, list[Batch]])
    for row in plan.rows:
        assert_type(row, PlannedRow)
        assert_type(row.reason, Reason)
        assert_type(row.reason.why, Why)
    async with session.fork() as other:
        assert_type(other, AsyncSession)


async def factories(engine: AsyncEngine) -> None:
    assert_type(async_sessionmaker(engine), async_sessionmaker[AsyncSession])
    audited = async_sessionmaker(engine, class_=Audited)
    assert_type(audited, async_sessionmaker[Audited])
    async with audited.begin() as session:
        assert_type(session, Audited)


def looking(user: User) -> None:
    assert_type(inspect(User), Mapper[User])
    assert_type(object_session(user), AsyncSession | None)


async def query_builder(session: AsyncSession) -> None:
    query = session.query(User)
    assert_type(query, Query[User])
    assert_type(query.filter_by(name="a").order_by(User.id).limit(1), Query[User])
    assert_type(await query.all(), list[User])
    assert_type(await query.first(), User | None)
    assert_type(await query.one(), User)
    assert_type(await query.one_or_none(), User | None)
    assert_type(await query.get(1), User | None)
    assert_type(await query.count(), int)
    assert_type(await query.update({User.name: "b"}), int)
    assert_type(await query.delete(synchronize_session="fetch"), int)
    assert_type(session.query(User.id, User.name), Query[Any])
    assert_type(query.with_entities(User.id), Query[Any])
    async for user in query:
        assert_type(user, User)


async def registry(Session: async_scoped_session[Audited]) -> None:
    assert_type(Session(), Audited)
    assert_type(await Session.get(User, 1), User | None)
    assert_type(await Session.scalars(select(User)), ScalarResult[User])
    assert_type(Session.in_transaction(), bool)
    assert_type(Session.query(User), Query[User])
    async with Session.scope() as session:
        assert_type(session, Audited)


async def retrying(
    maker: async_sessionmaker[Audited], session: AsyncSession, Session: async_scoped_session[Audited]
) -> None:
    assert_type(maker.retrying(attempts=3), Retrying[Audited])
    async for attempt in maker.retrying(attempts=3, wait=0.1, on=(StaleDataError, LookupError)):
        assert_type(attempt, Attempt[Audited])
        async with attempt as fresh:
            assert_type(fresh, Audited)

    async def hear(failed: FailedAttempt) -> None:
        assert_type(failed.error, Exception)

    async for mine in session.retrying(before_sleep=hear):
        async with mine as same:
            assert_type(same, AsyncSession)

    @maker.retrying(timeout=5)
    async def transfer(session: Audited, source: int, target: int, *, amount: int = 1) -> str:
        return f"{source} {target} {amount}"

    assert_type(await transfer(1, 2, amount=3), str)
    await transfer(1, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await transfer(1, 2, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    @Session.retrying()
    async def count(session: AsyncSession, start: int) -> int:
        return start

    assert_type(await count(1), int)
    assert_type(await session.retrying()(count_from)(7), int)


async def count_from(session: AsyncSession, start: int) -> int:
    return start
