"""Plain reads go to a replica; what writes, locks or may do so, and what belongs to a write, goes to the primary."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from typing_extensions import override

from aiosession import (
    AsyncEngine,
    AsyncSession,
    Operation,
    ReplicatedEngine,
    async_sessionmaker,
    create_replicated_engine,
    selectinload,
)
from aiosession.errors import ArgumentError, DatabaseError, OperationalError
from aiosession.testing.statements import StatementLog
from tests.replicas.library import Author, Book, names_in


async def name(session: AsyncSession, **how: Any) -> str:
    return str((await session.scalars(select(Author.name), **how)).first())


async def got(session: AsyncSession) -> str:
    return (await session.get_one(Author, 1)).name


async def queried(session: AsyncSession) -> str:
    return (await session.scalars(select(Author))).one().name


async def refreshed(session: AsyncSession) -> str:
    author = await session.get_one(Author, 1)
    await session.refresh(author)
    return author.name


async def loaded(session: AsyncSession) -> str:
    author = await session.get_one(Author, 1)
    await session.load(author, Author.books)
    return author.books[0].title


async def awaited(session: AsyncSession) -> str:
    author = await session.get_one(Author, 1)
    return str((await author.awaitable_attrs.books)[0].title)


async def eager(session: AsyncSession) -> str:
    return (await session.scalars(select(Author).options(selectinload(Author.books)))).one().books[0].title


async def of_table(session: AsyncSession) -> str:
    return str((await session.execute(select(Author.__table__.c.name))).scalar_one())


async def built(session: AsyncSession) -> str:
    return (await session.query(Author).one()).name


@pytest.mark.parametrize(
    "read",
    [got, queried, refreshed, loaded, awaited, eager, of_table, built],
    ids=lambda read: str(read.__name__),
)
async def test_plain_reads_are_answered_by_a_replica(
    engine: ReplicatedEngine, read: Callable[[AsyncSession], Any]
) -> None:
    async with AsyncSession(engine) as session:
        assert await read(session) == "replica 1"


async def test_writes_go_to_the_primary_only(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=2, name="new"))
        await session.commit()
        await session.execute(insert(Author).values(id=3, name="newer"))
        await session.execute(update(Author).where(Author.id == 1).values(name="changed"))
        await session.execute(delete(Author).where(Author.id == 2))
        await session.bulk_insert_mappings(Author, [{"id": 4, "name": "newest"}])
        await session.commit()

    assert await names_in(engine) == ["changed", "newer", "newest"]
    assert [await names_in(each) for each in engine.replicas] == [["replica 1"], ["replica 2"]]


async def test_reads_after_a_write_of_the_transaction_see_it(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        assert await name(session) == "replica 1"
        session.add(Author(id=2, name="new"))
        await session.flush()

        assert (await session.scalars(select(Author.name).order_by(Author.id))).all() == ["primary", "new"]


async def test_a_session_sees_what_it_has_committed(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=2, name="new"))
        await session.commit()

        assert (await session.get_one(Author, 1)).name == "primary"
    async with AsyncSession(engine) as session:
        assert (await session.get_one(Author, 1)).name == "replica 1"


async def test_what_a_flush_has_to_know_is_read_where_it_writes(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine.replicas[1]) as session:
        assert (await session.scalars(select(Book.id))).all() == [1]
    async with AsyncSession(engine) as session:
        await session.execute(insert(Book).values(id=2, title="late", author_id=1))
        await session.commit()
    async with AsyncSession(engine) as session:
        await session.delete(await session.get_one(Author, 1))
        await session.commit()

        assert (await session.scalars(select(Book.id))).all() == []


async def test_an_explicit_transaction_is_one_of_the_primary(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session, session.begin():
        assert await name(session) == "primary"


async def test_a_read_only_transaction_is_one_of_a_replica(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        async with session.begin(read_only=True):
            assert await name(session) == "replica 1"
            assert await session.scalar(text("SELECT name FROM author")) == "replica 1"
        async with session.begin():
            assert await name(session) == "primary"


async def test_everything_in_a_read_only_session_goes_to_a_replica(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine, read_only=True) as session:
        assert await name(session) == "replica 1"
        assert [each async for each in await session.stream_scalars(select(Author.name))] == ["replica 1"]
        connection = await session.connection()
        assert await connection.scalar(text("SELECT name FROM author")) == "replica 1"
        async with session.begin_nested():
            assert await name(session) == "replica 1"
        await session.commit()
        with pytest.raises(DatabaseError, match="readonly"):
            await session.execute(insert(Author).values(name="new"))


async def test_an_engine_whose_transactions_are_read_only_reads_from_a_replica(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine.execution_options(read_only=True)) as session, session.begin():
        assert await name(session) == "replica 1"


@pytest.mark.parametrize(
    "statement",
    [
        text("SELECT name FROM author"),
        select(Author.name).with_for_update(),
        select(func.max(Author.name, func.unknown_to_us(1))).limit(0),
    ],
)
async def test_what_may_do_more_than_read_goes_to_the_primary(engine: ReplicatedEngine, statement: Any) -> None:
    heard: list[str] = []
    engine.events.before.add(lambda event: heard.append(event.sql))

    async with AsyncSession(engine) as session:
        try:
            await session.execute(statement)
        except DatabaseError:
            await session.rollback()

    assert heard[0] == "BEGIN"


async def test_streams_connections_and_locks_are_the_primarys(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine) as session:
        assert [each async for each in await session.stream_scalars(select(Author.name))] == ["primary"]
    async with AsyncSession(engine) as session:
        assert await (await session.connection()).scalar(select(Author.__table__.c.name)) == "primary"
    async with AsyncSession(engine) as session:
        assert (await session.get_one(Author, 1, with_for_update=True)).name == "primary"


async def test_reads_that_share_a_snapshot_are_the_primarys(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine, isolation_level="SERIALIZABLE") as session:
        assert await name(session) == "primary"
    async with AsyncSession(engine, isolation_level="SERIALIZABLE", read_only=True) as session:
        assert await name(session) == "primary"  # which no standby can do


async def test_for_connections_it_is_an_engine_on_the_primary(engine: ReplicatedEngine) -> None:
    async with engine.connect() as connection:
        assert await connection.scalar(select(Author.__table__.c.name)) == "primary"
    async with engine.replicas[1].connect() as connection:
        assert await connection.scalar(select(Author.__table__.c.name)) == "replica 2"


# With other ways to route ----------------------------------------------------------------------------------------


async def test_it_can_be_a_value_of_binds(engine: ReplicatedEngine) -> None:
    async with AsyncSession(engine.replicas[1], binds={Author: engine}) as session:
        assert await name(session) == "replica 1"
        assert await session.scalar(select(Book.title)) == "replica 2"


async def test_get_bind_may_return_it(engine: ReplicatedEngine) -> None:
    asked: list[Operation | None] = []

    class Routed(AsyncSession):
        @override
        async def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            asked.append(self.operation)
            return engine

    async with Routed() as session:
        assert await name(session) == "replica 1"
        session.add(Author(id=2, name="new"))
        await session.commit()

    assert set(asked) == {Operation.READ, Operation.FLUSH}
    assert await names_in(engine) == ["new", "primary"]


async def test_bind_arguments_may_name_it(engine: ReplicatedEngine) -> None:
    async with AsyncSession() as session:
        assert await name(session, bind_arguments={"bind": engine}) == "replica 1"
        assert await name(session, bind_arguments={"bind": engine.replicas[1]}) == "replica 2"


async def test_makers_and_forks_read_from_replicas_too(engine: ReplicatedEngine) -> None:
    async with async_sessionmaker(engine)() as session:
        assert await name(session) == "replica 1"
        async with session.fork() as other:
            assert await name(other) == "replica 1"
        session.add(Author(id=2, name="new"))
        await session.commit()
        async with session.fork() as other:
            assert await other.scalar(select(Author.name).where(Author.id == 2)) == "new"


async def test_options_make_another_engine_on_the_same_databases(engine: ReplicatedEngine) -> None:
    other = engine.execution_options(isolation_level="READ UNCOMMITTED")

    assert other.replicas == engine.replicas
    assert other.isolation_level == "READ UNCOMMITTED"
    async with AsyncSession(other) as session:
        assert await name(session) == "replica 1"


async def test_a_session_of_a_tenant_reads_from_replicas_too(engine: ReplicatedEngine) -> None:
    log = StatementLog(engine.replicas[0])

    async with AsyncSession(engine, schema_translate_map={None: "main"}) as session:
        assert await name(session) == "replica 1"
        assert (await session.get_one(Author, 1)).name == "replica 1"
        session.add(Author(id=2, name="new"))
        await session.commit()
        assert await session.scalar(select(Author.name).where(Author.id == 2)) == "new"

    assert all("FROM main.author" in sql for sql in log.sql)


async def test_choose_picks_the_replica(engine: ReplicatedEngine) -> None:
    turns: list[AsyncEngine] = []

    def take_turns(engines: Any) -> AsyncEngine:
        turns.append(engines[len(turns) % len(engines)])
        return turns[-1]

    url, *replicas = [str(each.url) for each in (engine, *engine.replicas)]
    other = create_replicated_engine(url, replicas=replicas, choose=take_turns)
    async with AsyncSession(other) as session:
        assert [await name(session) for _ in range(3)] == ["replica 1", "replica 2", "replica 1"]
    await other.dispose()


async def test_without_replicas_everything_is_the_primarys(engine: ReplicatedEngine) -> None:
    alone = create_replicated_engine(engine.url, replicas=[])

    async with AsyncSession(alone) as session:
        assert await name(session) == "primary"
    assert alone.status().replicas == ()
    await alone.dispose()


# What is promised and refused ------------------------------------------------------------------------------------


async def test_nothing_can_be_written_to_a_replica(engine: ReplicatedEngine) -> None:
    replica = engine.replicas[0]

    with pytest.raises(OperationalError, match="readonly"):
        async with replica.connect() as connection:
            await connection.exec_driver_sql("INSERT INTO author (name) VALUES ('new')")
    with pytest.raises(OperationalError, match="readonly"):
        async with AsyncSession(replica.execution_options(isolation_level="AUTOCOMMIT")) as session:
            await session.execute(insert(Author).values(name="new"))

    assert await names_in(replica) == ["replica 1"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"replicas": "sqlite:///a.db"}, "replicas is a list of URLs, not str"),
        ({"replicas": None}, "replicas is a list of URLs, not NoneType"),
        ({"replicas": [7]}, "replicas are given by their URLs, not as int"),
        ({"replicas": ["postgresql://host/db"]}, "both have the same driver, not sqlite.aiosqlite and postgresql"),
        ({"replicas": ["sqlite://"]}, "in memory that is opened with read_only=True would stay empty"),
        ({"replicas": [], "choose": "random"}, "choose is a function"),
        ({"replicas": [], "max_wait": -1}, "max_wait is a number of seconds"),
        ({"replicas": [], "retry_after": "soon"}, "retry_after is a number of seconds"),
        ({"replicas": [], "max_wait": float("nan")}, "max_wait is a number of seconds"),
        ({"replicas": [], "name": ""}, "name is a word"),
        ({"replicas": [], "pool_sise": 3}, "pool_size"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint):
        create_replicated_engine("sqlite:///primary.db", **options)


async def test_choose_has_to_choose_one_of_them(engine: ReplicatedEngine) -> None:
    url, *replicas = [str(each.url) for each in (engine, *engine.replicas)]
    other = create_replicated_engine(url, replicas=replicas, choose=lambda _: engine)

    async with AsyncSession(other) as session:
        with pytest.raises(ArgumentError, match="choose has to return one of the replicas"):
            await name(session)
    await other.dispose()
