"""Which database a class or statement goes to."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, literal, select, text
from typing_extensions import override

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, create_async_engine, mapped_column
from aiosession.errors import (
    ArgumentError,
    IntegrityError,
    PartialCommitError,
    PendingRollbackError,
    UnboundExecutionError,
)
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Base, Book, make_tables


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    await make_tables(other)
    yield other
    await other.dispose()


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    await make_tables(engine)


async def count(engine: AsyncEngine, table: str) -> int:
    async with AsyncSession(engine) as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM {table}")))


async def test_each_class_goes_to_its_bind(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(binds={Author: engine, Book: other}) as session:
        session.add_all([Author(name="Ann"), Book(title="One")])
        await session.commit()

        assert (await session.scalars(select(Book.title))).all() == ["One"]
    assert (await count(engine, "author"), await count(engine, "book")) == (1, 0)
    assert (await count(other, "author"), await count(other, "book")) == (0, 1)


async def test_a_bind_may_be_given_for_a_base_class_or_a_table(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(binds={Base: engine, Book.__table__: other}) as session:
        assert session.get_bind(Author) is engine
        assert session.get_bind(clause=select(Book.__table__)) is other


async def test_a_bind_can_be_given_for_a_table_later(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.bind_table(Book.__table__, other)
        session.add_all([Author(name="Ann"), Book(title="One")])
        await session.commit()

        assert session.get_bind(clause=select(Book.__table__)) is other
    assert (await count(engine, "author"), await count(other, "book")) == (1, 1)


async def test_a_bind_is_given_for_a_table_and_to_an_engine(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="mapped classes, mappers and tables, not 'book'"):
            session.bind_table("book", engine)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="create_async_engine"):
            session.bind_table(Book.__table__, "sqlite://")  # type: ignore[arg-type]


async def test_bind_is_for_everything_else(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(engine, binds={Book: other}) as session:
        assert session.get_bind(Author) is engine
        assert session.get_bind(Book) is other
        assert session.bind is engine


async def test_without_a_bind_the_error_says_what_was_looked_for(other: AsyncEngine) -> None:
    async with AsyncSession(binds={Book: other}) as session:
        with pytest.raises(UnboundExecutionError, match=r"class Author.*classes and tables in binds: class Book"):
            await session.get(Author, 1)
        with pytest.raises(UnboundExecutionError, match="neither a class nor a table"):
            await session.execute(select(literal(1)))


async def test_a_call_may_name_its_bind(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(Book.__table__.insert().values(title="One"), bind_arguments={"bind": other})
        await session.commit()

    assert await count(other, "book") == 1


async def test_get_bind_may_be_overridden(engine: AsyncEngine, other: AsyncEngine) -> None:
    class Routed(AsyncSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            return other if hints.get("elsewhere") or (mapper is not None and mapper.class_ is Book) else engine

    async with Routed() as session:
        session.add_all([Author(name="Ann"), Book(title="One")])
        await session.commit()
        assert await session.scalar(text("SELECT count(*) FROM book"), bind_arguments={"elsewhere": True}) == 1


async def test_get_bind_may_be_async(engine: AsyncEngine, other: AsyncEngine) -> None:
    class Routed(AsyncSession):
        @override
        async def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> AsyncEngine:
            return other

    async with Routed(engine) as session:
        session.add(Book(title="One"))
        await session.commit()

    assert await count(other, "book") == 1


async def test_unknown_bind_arguments_are_refused(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="shard"):
            await session.execute(select(Author), bind_arguments={"shard": 1})


async def test_all_binds_are_committed_or_rolled_back_together(engine: AsyncEngine, other: AsyncEngine) -> None:
    async with AsyncSession(binds={Author: engine, Book: other}) as session:
        session.add_all([Author(name="Ann"), Book(title="One")])
        await session.flush()
        await session.rollback()

    assert (await count(engine, "author"), await count(other, "book")) == (0, 0)


async def test_get_bind_has_to_return_a_bind(engine: AsyncEngine) -> None:
    class Lost(AsyncSession):
        @override
        def get_bind(self, mapper: Any = None, clause: Any = None, **hints: Any) -> Any:
            return None

    async with Lost(engine) as session:
        with pytest.raises(ArgumentError, match="it returned None"):
            await session.get(Author, 1)


async def test_an_engine_in_autocommit_gets_no_transactions(engine: AsyncEngine, observer: AsyncEngine) -> None:
    log = StatementLog(engine)
    async with AsyncSession(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        session.add_all([Author(name="Ann"), Book(title="One")])
        await session.flush()
        assert await count(observer, "author") == 1
        connection = await session.connection()
        await connection.execute(text("DELETE FROM author"))
        await session.commit()

    assert log.kinds == ["INSERT", "INSERT", "DELETE"]
    assert await count(observer, "author") == 0


async def test_a_connections_own_schemas_hold_for_a_session_on_it(engine: AsyncEngine) -> None:
    class Elsewhere(DeclarativeBase):
        metadata = MetaData(schema="elsewhere")

    class Note(Elsewhere):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    async with engine.connect() as connection:
        await connection.execution_options(schema_translate_map={"elsewhere": None})
        await connection.create_all(Elsewhere.metadata)
        async with AsyncSession(connection) as session:
            note = Note(text="hello")
            session.add(note)
            await session.flush()

            assert [each.text for each in await session.scalars(select(Note))] == ["hello"]
            await session.refresh(note)
            assert (await session.scalars(select(Note.text))).all() == ["hello"]


async def test_a_refusal_after_the_first_commit_names_who_has_committed_and_who_has_not(
    engine: AsyncEngine, other: AsyncEngine
) -> None:
    async with other.begin() as connection:
        await connection.execute(
            text("CREATE TABLE late (author_id integer REFERENCES author (id) DEFERRABLE INITIALLY DEFERRED)")
        )
    async with AsyncSession(binds={Author: engine, Book: other}) as session:
        session.add(Author(name="Ann"))
        await session.flush()
        await session.execute(text("INSERT INTO late VALUES (99)"), bind_arguments={"mapper": Book})

        with pytest.raises(PartialCommitError, match=r"committed on .* but not on sqlite.*other\.db") as caught:
            await session.commit()

        assert caught.value.committed == (engine.url.render_as_string(),)
        assert caught.value.refused == (other.url.render_as_string(),)
        assert isinstance(caught.value.__cause__, IntegrityError)
        with pytest.raises(PendingRollbackError):
            await session.execute(select(Author))
        await session.rollback()
        assert [author.name for author in await session.query(Author).all()] == ["Ann"]
    assert (await count(engine, "author"), await count(other, "late")) == (1, 0)
