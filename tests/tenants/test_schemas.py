"""A session works on the schemas of one tenant, whatever it does."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, delete, func, insert, select, text, update
from sqlalchemy.schema import CreateSchema

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    async_sessionmaker,
    create_async_engine,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.testing.statements import StatementLog

pytestmark = pytest.mark.postgres

TENANTS = ("one", "Two", 'th"ree')


class Base(DeclarativeBase):
    pass


author_tag = Table(
    "author_tag",
    Base.metadata,
    Column("author_id", ForeignKey("author.id"), primary_key=True),
    Column("tag_id", ForeignKey("tag.id"), primary_key=True),
)


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(cascade="all, delete-orphan")
    tags: Mapped[list["Tag"]] = relationship(secondary=author_tag)


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@pytest.fixture
async def engine(postgresql_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgresql_url)
    for tenant in TENANTS:
        async with engine.begin() as connection:
            await connection.execute(CreateSchema(tenant))
        async with engine.execution_options(schema_translate_map={None: tenant}).begin() as connection:
            await connection.create_all(Base.metadata)
    yield engine
    assert not engine.pool.status().holders
    await engine.dispose()


def of(tenant: str, engine: AsyncEngine, **options: Any) -> AsyncSession:
    return AsyncSession(engine, schema_translate_map={None: tenant}, **options)


async def rows(engine: AsyncEngine, tenant: str, table: str) -> list[Any]:
    quoted = tenant.replace('"', '""')
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(f'SELECT * FROM "{quoted}".{table} ORDER BY 1'))]


@pytest.mark.parametrize("tenant", TENANTS)
async def test_a_flush_writes_all_tables_of_the_tenant(engine: AsyncEngine, tenant: str) -> None:
    async with of(tenant, engine) as session:
        session.add(Author(name="Ann", books=[Book(title="One"), Book(title="Two")], tags=[Tag(name="new")]))
        await session.commit()

    assert await rows(engine, tenant, "author") == [(1, "Ann")]
    assert await rows(engine, tenant, "book") == [(1, "One", 1), (2, "Two", 1)]
    assert await rows(engine, tenant, "author_tag") == [(1, 1)]
    assert [await rows(engine, other, "author") for other in TENANTS if other != tenant] == [[], []]


async def test_each_kind_of_read_is_of_the_tenant(engine: AsyncEngine) -> None:
    for tenant in TENANTS:
        async with of(tenant, engine) as session:
            session.add(Author(name=tenant, books=[Book(title=tenant)], tags=[Tag(name=tenant)]))
            await session.commit()

    for tenant in (*TENANTS, *TENANTS):
        async with of(tenant, engine) as session:
            author = await session.get_one(Author, 1)
            await session.refresh(author)
            await session.load(author, Author.books)
            found = [author.name, author.books[0].title, (await author.awaitable_attrs.tags)[0].name]
            session.expunge_all()
            for option in (selectinload(Author.books), joinedload(Author.books)):
                loaded = (await session.scalars(select(Author).options(option))).unique().one()
                found.append(loaded.books[0].title)
                session.expunge_all()
            found += await session.scalars(select(Author.name).where(Author.name.in_([tenant, "other"])))
            found += await session.scalars(select(Author.__table__.c.name))
            found += [each.name async for each in await session.stream_scalars(select(Author))]
            found += [each async for each in await session.stream_scalars(select(Author.__table__.c.name))]
            found.append((await session.query(Author).one()).name)
            found.append((await session.merge(Author(id=1, name=tenant))).name)
            found.append(await (await session.connection()).scalar(select(Author.__table__.c.name)))

        assert set(found) == {tenant}


async def test_each_kind_of_write_is_of_the_tenant(engine: AsyncEngine) -> None:
    for tenant in TENANTS:
        async with of(tenant, engine) as session:
            author = Author(name="Ann", books=[Book(title="One")])
            session.add(author)
            await session.flush()
            author.name = func.upper("Bea")
            await session.flush()
            await session.bulk_insert_mappings(Author, [{"name": "Cy"}, {"name": "Di"}], return_defaults=True)
            await session.bulk_update_mappings(Author, [{"id": 2, "name": "Zoe"}])
            await session.bulk_copy(Author, [{"name": "Ed"}])
            await session.execute(insert(Author), [{"name": "Flo"}, {"name": "Gus"}])
            returned = await session.scalars(insert(Author).values(name="Hal").returning(Author))
            assert [each.name for each in returned] == ["Hal"]
            await session.execute(update(Author).where(Author.name == "Di").values(name="Dee"))
            await session.execute(
                update(Author).where(Author.name == "Ed").values(name="Eve"),
                execution_options={"synchronize_session": "fetch"},
            )
            await session.execute(delete(Author).where(Author.name == "Flo"))
            await session.execute(insert(Author.__table__).values(name="Ida"))
            await session.delete(author)
            await session.commit()

    for tenant in TENANTS:
        names = [name for _, name in await rows(engine, tenant, "author")]
        assert names == ["Zoe", "Dee", "Eve", "Gus", "Hal", "Ida"]
        assert await rows(engine, tenant, "book") == []


async def test_a_commit_in_one_statement_is_of_the_tenant(engine: AsyncEngine) -> None:
    log = StatementLog(engine)
    for tenant in TENANTS:
        async with of(tenant, engine) as session:
            session.add_all([Author(name=tenant), Tag(name=tenant)])
            await session.commit()

    assert log.count == 3
    assert [await rows(engine, tenant, "tag") for tenant in TENANTS] == [[(1, tenant)] for tenant in TENANTS]


async def test_handlers_and_errors_show_the_names(engine: AsyncEngine) -> None:
    log = StatementLog(engine)
    async with of("Two", engine) as session:
        await session.get(Author, 1)
        with pytest.raises(Exception, match=r'INSERT INTO "Two".author'):
            await session.execute(insert(Author).values(id=1, name=None))

    assert 'FROM "Two".author' in log.sql[0]
    assert not any("SCHEMA" in sql for sql in log.sql)


async def test_tenants_share_what_was_compiled(engine: AsyncEngine) -> None:
    async def work(tenant: str) -> None:
        async with of(tenant, engine) as session:
            session.add(Author(name="Ann", books=[Book(title="One")]))
            await session.commit()
            await session.execute(select(Author).options(selectinload(Author.books)))
            await session.execute(update(Author).values(name="Bea"))
            await session.rollback()

    await work("one")
    cache = engine.statements.for_schemas({None: "one"})
    compiled = len(cache)
    for tenant in TENANTS:
        await work(tenant)

    assert engine.statements.for_schemas({None: "Two"}) is cache
    assert len(cache) == compiled


async def test_thousands_of_tenants_take_no_memory_to_speak_of(engine: AsyncEngine) -> None:
    names = [f"tenant_{number}" for number in range(2_100)]

    async def work(tenant: str) -> None:
        async with of(tenant, engine) as session:
            session.add(Author(name="Ann"))
            await session.plan()
            session.expunge_all()
            # nothing is found for tenants that do not exist, but all is compiled and sent
            with pytest.raises(Exception, match=f"{tenant}.author"):
                await session.execute(select(Author).where(Author.id == 1))
            await session.rollback()

    for tenant in names[:100]:
        await work(tenant)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for tenant in names[100:]:
        await work(tenant)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (after - before) / 2_000 < 256


async def test_makers_make_sessions_of_tenants_and_forks_are_of_the_same(engine: AsyncEngine) -> None:
    maker = async_sessionmaker(engine)

    async with maker(schema_translate_map={None: "one"}) as session, session.fork() as other:
        other.add(Author(name="Ann"))
        await other.commit()
        assert await session.scalar(select(Author.name)) == "Ann"
    async with maker(schema_translate_map={None: "Two"}) as session:
        assert await session.scalar(select(Author.name)) is None


async def test_binds_that_a_call_names_are_the_tenants_too(engine: AsyncEngine) -> None:
    async with AsyncSession(schema_translate_map={None: "one"}) as session:
        await session.execute(insert(Author).values(name="Ann"), bind_arguments={"bind": engine})
        await session.commit()

    assert await rows(engine, "one", "author") == [(1, "Ann")]


async def test_one_transaction_is_used_by_all_that_a_session_does(engine: AsyncEngine) -> None:
    async with of("one", engine) as session, session.begin():
        session.add(Author(name="Ann"))
        await session.flush()
        await session.execute(insert(Author).values(name="Bea"), bind_arguments={"mapper": Author})
        await session.execute(insert(Author).values(name="Cy"), bind_arguments={"bind": engine})
        connection = await session.connection()

        assert await connection.scalar(select(func.count()).select_from(Author.__table__)) == 3
        assert engine.pool.status().open == 1


async def test_a_table_with_a_schema_of_its_own_stays_where_it_is(engine: AsyncEngine) -> None:
    shared = Table("book", MetaData(), Column("title"), schema="Two")
    async with of("Two", engine) as session:
        session.add(Book(title="shared"))
        await session.commit()

    async with of("one", engine) as session:
        assert (await session.scalars(select(shared.c.title))).all() == ["shared"]


async def test_a_connection_has_its_own_schemas(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        async with AsyncSession(connection, schema_translate_map={None: "one"}) as session:
            with pytest.raises(InvalidRequestError, match="schemas are yours to say"):
                await session.get(Author, 1)
        await connection.execution_options(schema_translate_map={None: "one"})
        async with AsyncSession(connection, schema_translate_map={None: "one"}) as session:
            session.add(Author(name="Ann"))
            await session.commit()

    assert await rows(engine, "one", "author") == [(1, "Ann")]


@pytest.mark.parametrize("schemas", ["one", {None: 7}, {None: "o'hara"}])
async def test_what_is_no_map_of_schemas_is_refused(engine: AsyncEngine, schemas: Any) -> None:
    with pytest.raises(ArgumentError, match="schema"):
        AsyncSession(engine, schema_translate_map=schemas)
    with pytest.raises(ArgumentError, match="schema"):
        engine.execution_options(schema_translate_map=schemas)
