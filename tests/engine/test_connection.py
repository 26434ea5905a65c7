"""Statements and transactions on one connection."""

import asyncio
import contextlib
from typing import Any

import pytest
from sqlalchemy import (
    Integer,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import (
    ArgumentError,
    ConcurrentUseError,
    DataError,
    ForeignKeyViolationError,
    InvalidRequestError,
    NotNullViolationError,
    PendingRollbackError,
    ProgrammingError,
    ResourceClosedError,
    UniqueViolationError,
)
from aiosession.testing.conformance.kit import ENDLESS
from aiosession.testing.statements import StatementLog
from tests.engine.engine_tables import author, book

PLACES = {"sqlite": ("?", "?"), "postgresql": ("$1", "$2"), "mariadb": ("%s", "%s")}
RAW = {
    "sqlite+aiosqlite": "aiosession",
    "postgresql+asyncpg": "asyncpg",
    "postgresql+psycopg": "psycopg",
    "mariadb+asyncmy": "asyncmy",
}
NAMES = select(author.c.name).order_by(author.c.id)


async def _names(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return (await connection.scalars(NAMES)).all()


class TestStatements:
    async def test_rows_have_names_and_objects(self, connection: AsyncConnection) -> None:
        row = (await connection.execute(select(author).where(author.c.name == "ann"))).one()

        assert (row.name, row._mapping[author.c.kind]) == ("ann", "person")

    async def test_scalar_and_scalars(self, connection: AsyncConnection) -> None:
        assert await connection.scalar(select(func.count()).select_from(author)) == 3
        assert (await connection.scalars(NAMES)).all() == ["ann", "bob", "cid"]

    async def test_statement_is_run_with_parameters(self, connection: AsyncConnection) -> None:
        statement = select(author.c.id).where(author.c.name == bindparam("wanted"))

        assert await connection.scalar(statement, {"wanted": "bob"}) == 2

    async def test_insert_tells_the_generated_key(self, connection: AsyncConnection) -> None:
        result = await connection.execute(insert(author).values(name="dan"))

        assert result.inserted_primary_key._asdict() == {"id": 4}
        assert (result.rowcount, result.returns_rows) == (1, False)

    async def test_insert_tells_a_given_key(self, connection: AsyncConnection) -> None:
        result = await connection.execute(insert(author), {"id": 77, "name": "dan"})

        assert result.inserted_primary_key == (77,)

    async def test_key_of_other_statements_is_not_known(self, connection: AsyncConnection) -> None:
        result = await connection.execute(update(author).values(kind="x"))

        with pytest.raises(InvalidRequestError, match="primary key"):
            _ = result.inserted_primary_key

    async def test_many_rows_are_inserted_with_defaults(self, connection: AsyncConnection) -> None:
        await connection.execute(insert(author), [{"name": f"n{number}"} for number in range(100)])

        assert await connection.scalar(select(func.count()).where(author.c.kind == "person")) == 103

    async def test_many_rows_return_theirs_in_order(self, connection: AsyncConnection) -> None:
        names = [f"n{number}" for number in range(20)]

        result = await connection.execute(insert(author).returning(author.c.name), [{"name": name} for name in names])

        assert result.scalars().all() == names

    async def test_many_rows_are_updated(self, connection: AsyncConnection) -> None:
        statement = update(author).where(author.c.id == bindparam("of")).values(name=bindparam("to"))

        await connection.execute(statement, [{"of": 1, "to": "x"}, {"of": 2, "to": "y"}])

        assert (await connection.scalars(NAMES)).all() == ["x", "y", "cid"]

    async def test_list_of_one_is_one_execution(self, connection: AsyncConnection) -> None:
        result = await connection.execute(insert(author), [{"name": "dan"}])

        assert result.inserted_primary_key == (4,)

    async def test_affected_rows_are_counted(self, connection: AsyncConnection) -> None:
        assert (await connection.execute(update(author).values(kind="x"))).rowcount == 3
        assert (await connection.execute(delete(author).where(author.c.id > 1))).rowcount == 2

    async def test_returning_gives_rows(self, connection: AsyncConnection) -> None:
        result = await connection.execute(delete(author).where(author.c.id == 2).returning(author.c.name))

        assert result.scalar_one() == "bob"

    async def test_text_has_named_columns_even_without_rows(self, connection: AsyncConnection) -> None:
        full = await connection.execute(text("SELECT id, name FROM author WHERE name = :name"), {"name": "ann"})
        empty = await connection.execute(text("SELECT id, name FROM author WHERE name = 'nobody'"))

        assert full.one()._asdict() == {"id": 1, "name": "ann"}
        assert (empty.keys(), empty.all()) == (("id", "name"), [])

    async def test_text_that_writes_counts_rows(self, connection: AsyncConnection) -> None:
        result = await connection.execute(text("UPDATE author SET kind = 'x'"))

        assert (result.rowcount, result.returns_rows) == (3, False)

    async def test_text_is_run_for_many_rows(self, connection: AsyncConnection) -> None:
        statement = text("UPDATE author SET name = :to WHERE name = :of")

        await connection.execute(statement, [{"of": "ann", "to": "x"}, {"of": "bob", "to": "y"}])

        assert (await connection.scalars(NAMES)).all() == ["x", "y", "cid"]

    async def test_typed_text_converts(self, connection: AsyncConnection) -> None:
        statement = text("SELECT id AS number FROM author").columns(column("number", Integer))

        assert sorted((await connection.scalars(statement)).all()) == [1, 2, 3]

    async def test_driver_sql_takes_positions(self, connection: AsyncConnection) -> None:
        placeholder = PLACES[connection.engine.name][0]

        result = await connection.exec_driver_sql(f"SELECT id FROM author WHERE name = {placeholder}", ("bob",))

        assert result.scalar_one() == 2

    async def test_driver_sql_is_run_for_many_rows(self, connection: AsyncConnection) -> None:
        places = PLACES[connection.engine.name]

        await connection.exec_driver_sql(
            f"UPDATE author SET kind = {places[0]} WHERE name = {places[1]}", [("x", "ann"), ("y", "bob")]
        )

        kinds = await connection.scalars(select(author.c.kind).order_by(author.c.id))
        assert kinds.all() == ["x", "y", "person"]

    async def test_function_is_executable(self, connection: AsyncConnection) -> None:
        assert await connection.scalar(func.lower("ABC")) == "abc"


class TestWrongStatements:
    async def test_string_is_refused(self, connection: AsyncConnection) -> None:
        with pytest.raises(ArgumentError, match="text"):
            await connection.execute("SELECT 1")  # type: ignore[call-overload]  # that is the point

    @pytest.mark.parametrize("parameters", [5, "abc", [5], [{"name": "a"}, 5]])
    async def test_parameters_that_are_none_are_refused(self, connection: AsyncConnection, parameters: Any) -> None:
        with pytest.raises(ArgumentError, match="mapping"):
            await connection.execute(insert(author), parameters)

    async def test_rows_of_different_names_are_refused(self, connection: AsyncConnection) -> None:
        with pytest.raises(ArgumentError, match="row 1 differs from row 0 in: kind"):
            await connection.execute(insert(author), [{"name": "a"}, {"name": "b", "kind": "x"}])

    async def test_query_for_many_rows_is_refused(self, connection: AsyncConnection) -> None:
        statement = select(author).where(author.c.id == bindparam("n"))

        with pytest.raises(InvalidRequestError, match="SELECT"):
            await connection.execute(statement, [{"n": 1}, {"n": 2}])

    async def test_refused_statement_begins_nothing(
        self, connection: AsyncConnection, statements: StatementLog
    ) -> None:
        with pytest.raises(ArgumentError):
            await connection.execute(insert(author), {"nothing": 1})

        assert statements.kinds == []
        assert not connection.in_transaction()


class TestErrors:
    async def test_error_has_statement_parameters_and_cause(self, connection: AsyncConnection) -> None:
        with pytest.raises(UniqueViolationError) as caught:
            await connection.execute(insert(author).values(name="ann"))

        error = caught.value
        assert error.sql is not None
        assert error.sql.startswith("INSERT INTO author")
        assert error.params is not None
        assert "ann" in list(error.params)
        assert error.__cause__ is error.orig

    @pytest.mark.parametrize(
        ("statement", "kind"),
        [
            (insert(book).values(title="t", author_id=99), ForeignKeyViolationError),
            (insert(author).values(name=None), NotNullViolationError),
            (text("SELECT * FROM nowhere"), ProgrammingError),
            (text("SELEKT 1"), ProgrammingError),
            (select(literal_column("nothing_of_this")), ProgrammingError),
        ],
    )
    async def test_fault_has_the_same_class_everywhere(
        self, connection: AsyncConnection, statement: Any, kind: type[Exception]
    ) -> None:
        with pytest.raises(kind):
            await connection.execute(statement)

    async def test_error_is_told_to_handlers(self, connection: AsyncConnection, statements: StatementLog) -> None:
        with pytest.raises(UniqueViolationError):
            await connection.execute(insert(author).values(name="ann"))

        assert isinstance(statements.events[-1].error, UniqueViolationError)

    async def test_connection_works_on_after_rollback(self, connection: AsyncConnection) -> None:
        with pytest.raises(UniqueViolationError):
            await connection.execute(insert(author).values(name="ann"))
        await connection.rollback()

        assert await connection.scalar(select(func.count()).select_from(author)) == 3

    @pytest.mark.postgres
    @pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
    async def test_commit_after_a_failed_statement_raises(self, connection: AsyncConnection) -> None:
        await connection.execute(insert(author).values(name="dan"))
        with pytest.raises(UniqueViolationError):
            await connection.execute(insert(author).values(name="ann"))

        with pytest.raises(PendingRollbackError, match="UniqueViolationError"):
            await connection.commit()
        await connection.rollback()

        assert await _names(connection.engine) == ["ann", "bob", "cid"]

    async def test_value_of_the_wrong_type_is_refused(self, connection: AsyncConnection) -> None:
        with pytest.raises(DataError):
            await connection.execute(select(author).where(author.c.id == 2**70))


class TestTransactions:
    async def test_plain_read_needs_no_transaction(self, connection: AsyncConnection, statements: StatementLog) -> None:
        await connection.execute(NAMES)

        assert statements.kinds == ["SELECT"]
        assert not connection.in_transaction()

    @pytest.mark.parametrize("statement", [text("SELECT 1"), select(func.coalesce(func.random_name(), 1))])
    async def test_what_may_write_begins_one(
        self, connection: AsyncConnection, statements: StatementLog, statement: Any
    ) -> None:
        with contextlib.suppress(ProgrammingError):
            await connection.execute(statement)

        assert statements.kinds[0] == "BEGIN"
        assert connection.in_transaction()

    async def test_commit_keeps(self, library: AsyncEngine, observer: AsyncEngine) -> None:
        async with library.connect() as connection:
            await connection.execute(insert(author).values(name="dan"))
            assert await _names(observer) == ["ann", "bob", "cid"]
            await connection.commit()

        assert await _names(observer) == ["ann", "bob", "cid", "dan"]

    async def test_close_rolls_back(self, library: AsyncEngine, observer: AsyncEngine) -> None:
        async with library.connect() as connection:
            await connection.execute(insert(author).values(name="dan"))

        assert await _names(observer) == ["ann", "bob", "cid"]

    async def test_begin_block_commits(self, library: AsyncEngine, observer: AsyncEngine) -> None:
        async with library.begin() as connection:
            await connection.execute(insert(author).values(name="dan"))

        assert await _names(observer) == ["ann", "bob", "cid", "dan"]

    async def test_begin_block_rolls_back_on_error(self, library: AsyncEngine, observer: AsyncEngine) -> None:
        with contextlib.suppress(RuntimeError):
            async with library.begin() as connection:
                await connection.execute(insert(author).values(name="dan"))
                raise RuntimeError

        assert await _names(observer) == ["ann", "bob", "cid"]

    @pytest.mark.postgres
    @pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
    async def test_block_with_a_swallowed_error_raises_and_leaves_the_connection_usable(
        self, connection: AsyncConnection
    ) -> None:
        async def swallow() -> None:
            async with connection.begin():
                with contextlib.suppress(UniqueViolationError):
                    await connection.execute(insert(author).values(name="ann"))

        with pytest.raises(PendingRollbackError):
            await swallow()

        assert not connection.in_transaction()
        assert await connection.scalar(select(func.count()).select_from(author)) == 3

    async def test_awaited_begin_is_ended_by_hand(self, connection: AsyncConnection) -> None:
        transaction = await connection.begin()
        await connection.execute(insert(author).values(name="dan"))
        await transaction.rollback()

        assert not transaction.is_active
        assert await _names(connection.engine) == ["ann", "bob", "cid"]

    async def test_explicit_transaction_holds_reads_too(
        self, connection: AsyncConnection, statements: StatementLog
    ) -> None:
        async with connection.begin():
            await connection.execute(NAMES)

        assert statements.kinds == ["BEGIN", "SELECT", "COMMIT"]

    async def test_transaction_without_statements_sends_nothing(
        self, connection: AsyncConnection, statements: StatementLog
    ) -> None:
        async with connection.begin():
            pass

        assert statements.kinds == []

    async def test_second_begin_is_refused(self, connection: AsyncConnection) -> None:
        await connection.begin()

        with pytest.raises(InvalidRequestError, match="begin_nested"):
            await connection.begin()

    async def test_ended_transaction_cannot_commit(self, connection: AsyncConnection) -> None:
        transaction = await connection.begin()
        await transaction.commit()

        with pytest.raises(InvalidRequestError, match="committed"):
            await transaction.commit()
        await transaction.rollback()

    async def test_savepoint_undoes_its_part(self, connection: AsyncConnection, observer: AsyncEngine) -> None:
        async with connection.begin():
            await connection.execute(insert(author).values(name="dan"))
            with contextlib.suppress(UniqueViolationError):
                async with connection.begin_nested():
                    await connection.execute(insert(author).values(name="eve"))
                    await connection.execute(insert(author).values(name="ann"))
            await connection.execute(insert(author).values(name="fay"))

        assert await _names(observer) == ["ann", "bob", "cid", "dan", "fay"]

    async def test_savepoints_nest(self, connection: AsyncConnection) -> None:
        outer = await connection.begin_nested()
        inner = await connection.begin_nested()
        await connection.execute(insert(author).values(name="dan"))
        assert connection.get_nested_transaction() is inner
        await inner.commit()
        await outer.rollback()
        await connection.commit()

        assert not connection.in_nested_transaction()
        assert await _names(connection.engine) == ["ann", "bob", "cid"]

    async def test_end_of_transaction_ends_its_savepoints(self, connection: AsyncConnection) -> None:
        savepoint = await connection.begin_nested()
        await connection.commit()

        assert not savepoint.is_active
        with pytest.raises(InvalidRequestError):
            await savepoint.commit()

    async def test_commit_without_transaction_does_nothing(
        self, connection: AsyncConnection, statements: StatementLog
    ) -> None:
        await connection.commit()
        await connection.rollback()

        assert statements.kinds == []


class TestIsolation:
    async def test_autocommit_sends_no_begin(
        self, connection: AsyncConnection, statements: StatementLog, observer: AsyncEngine
    ) -> None:
        await connection.execution_options(isolation_level="AUTOCOMMIT")

        await connection.execute(insert(author).values(name="dan"))

        assert statements.kinds == ["INSERT"]
        assert await _names(observer) == ["ann", "bob", "cid", "dan"]

    async def test_reads_above_read_committed_share_a_transaction(
        self, library: AsyncEngine, statements: StatementLog
    ) -> None:
        async with library.execution_options(isolation_level="SERIALIZABLE").connect() as connection:
            await connection.execute(NAMES)

            assert statements.kinds == ["BEGIN", "SELECT"]
            if library.name == "postgresql":
                assert await connection.scalar(text("SHOW transaction_isolation")) == "serializable"

    async def test_level_cannot_change_inside_a_transaction(self, connection: AsyncConnection) -> None:
        await connection.begin()

        with pytest.raises(InvalidRequestError, match="in progress"):
            await connection.execution_options(isolation_level="SERIALIZABLE")

    @pytest.mark.parametrize(
        ("options", "hint"),
        [
            ({"isolation_level": "SERIALISABLE"}, "did you mean 'SERIALIZABLE'"),
            ({"isolation_levl": "SERIALIZABLE"}, "did you mean 'isolation_level'"),
        ],
    )
    async def test_unknown_option_is_refused(
        self, connection: AsyncConnection, options: dict[str, Any], hint: str
    ) -> None:
        with pytest.raises(ArgumentError, match=hint):
            await connection.execution_options(**options)


class TestLife:
    async def test_connection_can_be_awaited(self, library: AsyncEngine) -> None:
        connection = await library.connect()
        try:
            assert await connection.scalar(select(func.count()).select_from(author)) == 3
        finally:
            await connection.close()
            await connection.close()

        assert connection.closed

    async def test_closed_connection_refuses(self, library: AsyncEngine) -> None:
        async with library.connect() as connection:
            pass

        for call in (connection.execute(NAMES), connection.commit(), connection.start()):
            with pytest.raises(ResourceClosedError, match="closed"):
                await call

    async def test_connection_that_was_not_opened_refuses(self, library: AsyncEngine) -> None:
        with pytest.raises(ResourceClosedError, match="not open yet"):
            await library.connect().execute(NAMES)

    async def test_borrowed_connection_refuses_after_release(self, library: AsyncEngine) -> None:
        borrowed = await library.acquire()
        await library.release(borrowed)

        with pytest.raises(ResourceClosedError, match="given back"):
            await borrowed.fetch("SELECT 1")

    async def test_second_task_is_refused_and_named(self, connection: AsyncConnection) -> None:
        async def one() -> None:
            await connection.execute(NAMES)

        tasks = [asyncio.create_task(one(), name=name) for name in ("first", "second")]
        results = await asyncio.gather(*tasks, return_exceptions=True)

        refused = [result for result in results if result is not None]
        assert len(refused) == 1
        assert isinstance(refused[0], ConcurrentUseError)
        assert "'first'" in str(refused[0])
        assert "'second'" in str(refused[0])

    async def test_reading_text_leaves_others_to_write(self, library: AsyncEngine) -> None:
        async with library.connect() as reader, library.connect() as writer:
            await reader.execute(text("SELECT 1"))
            await writer.execute(insert(author).values(name="dan", kind="person"))
            await writer.commit()

        assert "dan" in await _names(library)

    async def test_driver_connection_is_within_reach(self, connection: AsyncConnection) -> None:
        raw = connection.get_raw_connection()

        assert RAW[connection.engine.driver.name] in {each.__module__.split(".")[0] for each in type(raw).__mro__}

    async def test_cancelled_statement_leaves_the_connection_usable(self, library: AsyncEngine) -> None:
        async with library.connect() as connection:
            task = asyncio.create_task(_slowly(connection))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert await _names(library) == ["ann", "bob", "cid"]


async def _slowly(connection: AsyncConnection) -> None:
    await connection.execute(text(ENDLESS))
