"""get_bind() is asked before everything that is sent, and told what that is."""

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table, delete, func, insert, literal, select, text, update
from sqlalchemy import create_engine as foreign_engine
from typing_extensions import override

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    Operation,
    async_sessionmaker,
    create_async_engine,
    mapped_column,
    relationship,
    selectinload,
)
from aiosession.errors import ArgumentError, UnboundExecutionError, UnmappedError


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
    books: Mapped[list["Book"]] = relationship()
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


class MyOtherClass(Base):
    __tablename__ = "other"
    id: Mapped[int] = mapped_column(primary_key=True)


class MyOtherSubject(Base):
    __tablename__ = "subject"
    id: Mapped[int] = mapped_column(primary_key=True)


Asked = list[tuple[str | None, Operation | None]]


async def make(url: str) -> AsyncEngine:
    made = create_async_engine(url)
    async with made.begin() as connection:
        await connection.create_all(Base.metadata)
    return made


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[dict[str, AsyncEngine]]:
    made = {name: await make(f"sqlite:///{tmp_path}/{name}.db") for name in ("master", "other", "slave1", "slave2")}
    yield made
    for each in made.values():
        await each.dispose()


async def ids(engine: AsyncEngine, entity: type[Any]) -> list[int]:
    async with engine.connect() as connection:
        return list(await connection.scalars(select(entity.__table__.c.id).order_by(entity.__table__.c.id)))


# The examples of the manual --------------------------------------------------------------------------------------


async def test_the_routing_session_of_the_manual_works_as_it_stands(engines: dict[str, AsyncEngine]) -> None:
    class RoutingSession(AsyncSession):
        def get_bind(self, mapper=None, clause=None):  # type: ignore[no-untyped-def, override, explicit-override]  # as it stands there
            if mapper and issubclass(mapper.class_, MyOtherClass):
                return engines["other"]
            elif self._flushing:  # noqa: RET505
                return engines["master"]
            else:
                return engines[random.choice(["slave1", "slave2"])]

    Session = async_sessionmaker(class_=RoutingSession)

    async with Session() as session:
        session.add_all([Author(id=1, name="Ann", tags=[Tag(id=1, name="new")]), MyOtherClass(id=7)])
        await session.commit()

        assert await session.get(Author, 2) is None
        assert (await session.scalars(select(MyOtherClass.id))).all() == [7]
        assert (await session.scalars(select(Tag))).all() == []
    assert await ids(engines["master"], Author) == [1]
    assert await ids(engines["master"], MyOtherClass) == []
    assert await ids(engines["other"], MyOtherClass) == [7]
    assert await ids(engines["slave1"], Author) == await ids(engines["slave2"], Author) == []
    async with engines["master"].connect() as connection:
        assert (await connection.execute(select(author_tag))).all() == [(1, 1)]


async def test_binds_are_configured_on_a_maker_as_in_the_manual(engines: dict[str, AsyncEngine]) -> None:
    Session = async_sessionmaker()
    Session.configure(binds={Author: engines["master"], MyOtherClass: engines["other"]})

    async with Session() as session:
        session.add_all([Author(id=1, name="Ann"), MyOtherClass(id=7)])
        await session.commit()

    assert await ids(engines["master"], Author) == [1]
    assert await ids(engines["other"], MyOtherClass) == [7]


async def test_classes_mappers_and_tables_are_keys_of_binds(engines: dict[str, AsyncEngine]) -> None:
    binds: dict[Any, AsyncEngine] = {
        Author: engines["master"],
        Book.__mapper__: engines["other"],
        Tag.__table__: engines["slave1"],
    }
    async with async_sessionmaker(binds=binds)() as session:
        assert session.get_bind(Author) is engines["master"]
        assert session.get_bind(Book) is engines["other"]
        assert session.get_bind(Tag) is engines["slave1"]
        assert session.get_bind(clause=insert(Tag.__table__)) is engines["slave1"]


async def test_a_bind_of_an_abstract_base_or_a_mixin_is_for_its_classes(engines: dict[str, AsyncEngine]) -> None:
    class Audited:
        pass

    class Abstract(DeclarativeBase):
        pass

    class Separate(Abstract):
        __abstract__ = True

    class Entry(Audited, Separate):
        __tablename__ = "entry"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Note(Audited, Abstract):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)

    async with AsyncSession(binds={Audited: engines["other"], Separate: engines["master"]}) as session:
        assert session.get_bind(Note) is engines["other"]
        assert session.get_bind(Entry) is engines["other"]  # the first in the order in which Python looks
    async with AsyncSession(engines["slave1"], binds={Separate: engines["master"]}) as session:
        assert session.get_bind(Entry) is engines["master"]
        assert session.get_bind(Note) is engines["slave1"]


async def test_text_goes_where_bind_arguments_say_as_in_the_manual(engines: dict[str, AsyncEngine]) -> None:
    async with AsyncSession(binds={Author: engines["master"], MyOtherClass: engines["other"]}) as session:
        session.add(MyOtherClass(id=7))
        await session.commit()

        found = await session.execute(
            text("select * from other where id=:id"), {"id": 7}, bind_arguments={"mapper": MyOtherClass}
        )
        assert found.all() == [(7,)]
        connection = await session.connection(bind_arguments={"mapper": MyOtherClass})
        assert (await connection.execute(text("select id from other"))).all() == [(7,)]


# What get_bind() is told -----------------------------------------------------------------------------------------


def watched(engine: AsyncEngine, asked: Asked) -> AsyncSession:
    class Watched(AsyncSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            name = mapper.class_.__name__ if mapper else getattr(clause, "name", None)
            asked.append((name, self.operation))
            return engine

    return Watched()


async def test_a_flush_asks_for_every_class_and_for_secondary_tables(engine: AsyncEngine) -> None:
    asked: Asked = []
    async with watched(engine, asked) as session:
        session.add(Author(name="Ann", books=[Book(title="One")], tags=[Tag(name="new")]))
        await session.commit()

    assert {name for name, _ in asked} == {"Author", "Book", "Tag", "author_tag"}
    assert {operation for _, operation in asked} == {Operation.FLUSH}


async def test_what_a_flush_has_to_read_is_part_of_the_flush(engine: AsyncEngine) -> None:
    asked: Asked = []
    async with watched(engine, asked) as session:
        session.add(Author(id=1, name="Ann", books=[Book(title="One")]))
        await session.commit()
    async with watched(engine, asked) as session:
        author = await session.get_one(Author, 1)
        await session.delete(author)
        asked.clear()
        await session.commit()

    assert ("Book", Operation.FLUSH) in asked
    assert {operation for _, operation in asked} == {Operation.FLUSH}


async def test_a_plan_asks_where_the_flush_would_write(engine: AsyncEngine) -> None:
    asked: Asked = []
    async with watched(engine, asked) as session:
        session.add(Author(name="Ann"))
        await session.plan()

    assert asked == [("Author", Operation.FLUSH)]


async def get(session: AsyncSession) -> None:
    await session.get(Author, 1, populate_existing=True)


async def refresh(session: AsyncSession) -> None:
    await session.refresh(await session.get_one(Author, 1))


async def refresh_all(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    session.expire_all()
    await session.refresh_all()
    assert author.name == "Ann"


async def load(session: AsyncSession) -> None:
    await session.load(await session.get_one(Author, 1), Author.books)


async def awaitable(session: AsyncSession) -> None:
    author = await session.get_one(Author, 1)
    await author.awaitable_attrs.books


async def many_to_many(session: AsyncSession) -> None:
    await session.load(await session.get_one(Author, 1), Author.tags)


async def query(session: AsyncSession) -> None:
    (await session.scalars(select(Author).options(selectinload(Author.books)))).all()


async def columns(session: AsyncSession) -> None:
    (await session.execute(select(Author.name, func.count(Author.id)).group_by(Author.name))).all()


async def table(session: AsyncSession) -> None:
    (await session.execute(select(Author.__table__))).all()


async def merge(session: AsyncSession) -> None:
    await session.merge(Author(id=1, name="Bea"))


async def stream(session: AsyncSession) -> None:
    async for _ in await session.stream_scalars(select(Author)):
        pass


async def build(session: AsyncSession) -> None:
    await session.query(Author).all()


@pytest.mark.parametrize(
    "read",
    [get, refresh, refresh_all, load, awaitable, many_to_many, query, columns, table, merge, stream, build],
    ids=lambda read: str(read.__name__),
)
async def test_reading_asks_for_a_place_to_read(engine: AsyncEngine, read: Callable[[AsyncSession], Any]) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann", books=[Book(title="One")], tags=[Tag(name="new")]))
        await session.commit()
    asked: Asked = []

    async with watched(engine, asked) as session:
        await read(session)

    assert asked
    assert {operation for _, operation in asked} == {Operation.READ}


@pytest.mark.parametrize(
    "statement",
    [
        insert(Author).values(name="Ann"),
        insert(Author).values(name="Ann").returning(Author),
        update(Author).values(name="Bea"),
        update(Author).values(name="Bea").execution_options(synchronize_session="fetch"),
        delete(Author),
        delete(Author).returning(Author.id),
        insert(Author.__table__).values(name="Ann"),
        update(Author.__table__).values(name="Ann"),
        delete(author_tag),
    ],
)
async def test_a_statement_that_writes_asks_for_a_place_to_write(engine: AsyncEngine, statement: Any) -> None:
    asked: Asked = []

    async with watched(engine, asked) as session:
        await session.execute(statement)

    assert {operation for _, operation in asked} == {Operation.WRITE}


@pytest.mark.parametrize(
    "statement",
    [
        text("SELECT 1"),
        select(Author).with_for_update(),
        select(func.my_own(Author.id)).limit(0),
    ],
)
async def test_what_is_not_known_to_read_only_is_a_statement(engine: AsyncEngine, statement: Any) -> None:
    asked: Asked = []

    async with watched(engine, asked) as session:
        try:
            await session.execute(statement)
        except Exception:
            await session.rollback()

    assert {operation for _, operation in asked} == {Operation.STATEMENT}


async def test_a_get_that_locks_is_a_statement(engine: AsyncEngine) -> None:
    asked: Asked = []

    async with watched(engine, asked) as session:
        await session.get(Author, 1, with_for_update=True)

    assert asked == [("Author", Operation.STATEMENT)]


async def test_connection_says_so(engine: AsyncEngine) -> None:
    asked: Asked = []

    async with watched(engine, asked) as session:
        await session.connection()
        await session.connection(bind_arguments={"mapper": Author})

    assert asked == [(None, Operation.CONNECTION), ("Author", Operation.CONNECTION)]


async def test_bulk_methods_ask_as_a_flush_does(engine: AsyncEngine) -> None:
    asked: Asked = []

    async with watched(engine, asked) as session:
        await session.bulk_insert_mappings(Author, [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bea"}])
        await session.bulk_update_mappings(Author, [{"id": 1, "name": "Zoe"}])
        await session.bulk_save_objects([Book(title="One")])
        await session.bulk_copy(Tag, [{"name": "new"}])
        await session.execute(insert(Author), [{"id": 3, "name": "Cy"}, {"id": 4, "name": "Di"}])
        await session.commit()

    assert {name for name, _ in asked} == {"Author", "Book", "Tag"}
    assert {operation for _, operation in asked} == {Operation.FLUSH}


async def test_there_is_no_operation_when_nothing_is_looked_for(engine: AsyncEngine) -> None:
    asked: Asked = []
    async with watched(engine, asked) as session:
        await session.get(Author, 1)
        assert session.operation is None
        session.get_bind(Author.__mapper__)

    assert asked == [("Author", Operation.READ), ("Author", None)]


async def test_an_async_get_bind_knows_the_operation_while_it_waits(
    engine: AsyncEngine, engines: dict[str, AsyncEngine]
) -> None:
    class Routed(AsyncSession):
        @override
        async def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            async with AsyncSession(engines["other"]) as directory:
                await directory.get(MyOtherClass, 1)
            return engine if self.operation is Operation.FLUSH else engines["slave1"]

    async with Routed() as session:
        session.add(Author(id=1, name="Ann"))
        await session.commit()
        assert (await session.scalars(select(Author))).all() == []

    assert await ids(engine, Author) == [1]


async def test_an_override_can_fall_back_on_binds(engines: dict[str, AsyncEngine]) -> None:
    class Routed(AsyncSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, *, fast: bool = False, **hints: Any) -> Any:
            return engines["slave2"] if fast else super().get_bind(mapper, clause, **hints)

    async with Routed(engines["master"], binds={MyOtherClass: engines["other"]}) as session:
        session.add_all([Author(id=1, name="Ann"), MyOtherClass(id=7)])
        await session.commit()

        assert (await session.scalars(select(Author.id))).all() == [1]
        assert (await session.scalars(select(Author.id), bind_arguments={"fast": True})).all() == []
    assert await ids(engines["other"], MyOtherClass) == [7]


# What is refused -------------------------------------------------------------------------------------------------


async def test_a_secondary_table_without_a_bind_is_named(engines: dict[str, AsyncEngine]) -> None:
    async with AsyncSession(binds={Author: engines["master"], Tag: engines["master"]}) as session:
        session.add(Author(name="Ann", tags=[Tag(name="new")]))

        with pytest.raises(UnboundExecutionError, match=r"looked for table author_tag; .* class Author, class Tag"):
            await session.flush()


@pytest.mark.parametrize("statement", [text("SELECT 1"), select(literal(1)), select(func.now())])
async def test_statements_without_class_and_table_need_to_be_told(engine: AsyncEngine, statement: Any) -> None:
    async with AsyncSession(binds={Author: engine}) as session:
        with pytest.raises(UnboundExecutionError, match=r"neither a class nor a table.*bind_arguments="):
            await session.execute(statement)
        await session.rollback()

        assert (await session.execute(statement, bind_arguments={"mapper": Author})).all()


async def test_a_url_is_no_bind_and_is_not_shown() -> None:
    with pytest.raises(
        ArgumentError, match=r"bind takes an engine.*got builtins\.str; pass create_async_engine"
    ) as one:
        AsyncSession("postgresql://me:secret@host/db")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="binds take an engine") as other:
        AsyncSession(binds={Author: "postgresql://me:secret@host/db"})  # type: ignore[dict-item]

    assert "secret" not in str(one.value) + str(other.value)


async def test_an_engine_of_sqlalchemy_is_no_bind() -> None:
    with pytest.raises(ArgumentError, match=r"got sqlalchemy\.engine\..*made by aiosession\.create_async_engine"):
        AsyncSession(foreign_engine("sqlite://"))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["author", 7, None, Author(name="Ann"), Author.id, select(Author)])
async def test_keys_of_binds_are_classes_mappers_and_tables(engine: AsyncEngine, key: Any) -> None:
    with pytest.raises(ArgumentError, match="keys of binds are mapped classes, mappers and tables"):
        AsyncSession(binds={key: engine})


@pytest.mark.parametrize("found", [None, "sqlite://", 7, AsyncSession])
async def test_get_bind_returns_a_bind(found: Any) -> None:
    class Lost(AsyncSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> Any:
            return found

    async with Lost() as session:
        session.add(Author(name="Ann"))
        with pytest.raises(ArgumentError, match=r"get_bind\(\) has to return an engine"):
            await session.flush()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"bind": "sqlite://"}, "bind_arguments take as bind an engine"),
        ([("bind", 1)], "bind_arguments is a mapping"),
        ({"mapper": "Author"}, "is not mapped"),
        ({"clause": "SELECT 1"}, "the clause in bind_arguments"),
    ],
)
async def test_bind_arguments_are_checked(engine: AsyncEngine, given: Any, complaint: str) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises((ArgumentError, UnmappedError), match=complaint):
            await session.execute(select(Author), bind_arguments=given)
        with pytest.raises((ArgumentError, UnmappedError), match=complaint):
            await session.connection(bind_arguments=given)
        with pytest.raises(ArgumentError, match="the clause that a bind is looked for"):
            AsyncSession(binds={Author: engine}).get_bind(clause="SELECT 1")  # type: ignore[arg-type]
