"""A database can be asked how it would carry out what a session sends."""

from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from aiosession import AsyncEngine, AsyncSession, create_async_engine, joinedload
from aiosession.errors import ArgumentError, InvalidRequestError, PendingRollbackError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, Book, make_tables, names_seen_by

ANALYZES = pytest.mark.without("sqlite", "measures nothing")
WRITES: dict[str, Any] = {
    "insert": insert(Author).values(name="Eve"),
    "update": update(Author).where(Author.id == 1).values(name="Eve"),
    "delete": delete(Author).where(Author.id == 1),
    "table": delete(Author.__table__),
    "text": text("DELETE FROM author"),
}


@pytest.fixture(autouse=True)
async def _rows(engine: AsyncEngine) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add(Author(id=1, name="Ann"))
        await session.commit()


async def test_a_query_for_objects_is_explained(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.explain(select(Author).options(joinedload(Author.books)).where(Author.name == "Ann"))

    assert plan.sql.startswith("SELECT author.id")
    assert "LEFT OUTER JOIN book" in plan.sql
    assert "author" in plan.text
    assert plan.text == str(plan)
    assert plan.rows
    assert plan.data is None
    assert statements.kinds == ["EXPLAIN"]
    assert engine.status().pool.holders == ()


@pytest.mark.parametrize("write", WRITES)
async def test_writes_are_explained_and_not_carried_out(engine: AsyncEngine, observer: AsyncEngine, write: str) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.explain(WRITES[write])
        await session.commit()

    assert plan.rows
    assert await names_seen_by(observer) == ["Ann"]


@pytest.mark.parametrize("analyze", [False, pytest.param(True, marks=ANALYZES)])
async def test_several_statements_are_refused_and_not_carried_out(
    engine: AsyncEngine, observer: AsyncEngine, analyze: bool
) -> None:
    for second in ("DELETE FROM author", "/**/DELETE FROM author", "\n -- so\n DELETE FROM author"):
        several = text(f"SELECT 1 ;; {second}")
        async with AsyncSession(engine) as session:
            with pytest.raises(ArgumentError, match="one statement is explained"):
                await session.explain(several, analyze=analyze)
            await session.commit()
        async with engine.connect() as connection:
            with pytest.raises(ArgumentError, match="one statement is explained"):
                await connection.explain(several, analyze=analyze)
            await connection.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_semicolons_that_end_nothing_are_no_harm(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        assert (await session.explain(text("SELECT name FROM author WHERE name <> '; ' AND note = ';';\n"))).rows
        assert (await session.explain(select(Author).where(Author.name == "a; DELETE FROM author"))).rows


async def test_parameters_are_given_as_for_execute(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        assert (await session.explain(text("SELECT name FROM author WHERE id = :id"), {"id": 1})).rows
        assert (await session.explain(insert(Author), {"name": "Eve"})).rows


@ANALYZES
async def test_a_query_is_measured(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.explain(select(Author), analyze=True)

    assert "actual time" in plan.text or "r_rows" in plan.text
    assert len(statements.kinds) == 1


@ANALYZES
@pytest.mark.parametrize("write", ["update", "delete", "text"])
async def test_a_write_that_is_measured_is_undone(engine: AsyncEngine, observer: AsyncEngine, write: str) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=2, name="Bob"))
        plan = await session.explain(WRITES[write], analyze=True)
        assert plan.rows
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bob"]


@ANALYZES
async def test_a_write_that_fails_when_it_is_measured_leaves_the_transaction_usable(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Author(id=2, name="Bob"))
        with pytest.raises(Exception, match="nowhere"):
            await session.explain(text("DELETE FROM nowhere"), analyze=True)
        await session.commit()

    assert await names_seen_by(observer) == ["Ann", "Bob"]


@ANALYZES
async def test_a_plan_can_be_data(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.explain(select(Author), format="json")

    assert plan.text.splitlines()[0] in {"[", "{"}
    found = plan.data[0]["Plan"]["Relation Name"] if engine.name == "postgresql" else str(plan.data)
    assert "author" in found


@pytest.mark.without("sqlite", "has no options")
@pytest.mark.without("mariadb", "has no options")
async def test_options_of_postgresql_are_passed_on(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.explain(select(Author), options={"verbose": True, "costs": False})
        assert "Output: id, name, note" in plan.text
        assert "cost=" not in plan.text
        with pytest.raises(ArgumentError, match="no option 'verbos'; did you mean 'verbose'"):
            await session.explain(select(Author), options={"verbos": True})


async def test_connections_explain_too(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with engine.connect() as connection:
        assert (await connection.explain(select(Author.id).where(Author.id == 1))).rows
        assert not connection.in_transaction()
        if engine.name != "sqlite":
            assert (await connection.explain(delete(Author), analyze=True)).rows
        await connection.commit()

    assert await names_seen_by(observer) == ["Ann"]


async def test_queries_of_the_builder_explain_themselves(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.query(Author).filter_by(name="Ann").explain()

    assert plan.sql.startswith("SELECT author.id")


async def test_it_goes_where_the_statement_would(engine: AsyncEngine, observer: AsyncEngine) -> None:
    log = StatementLog(observer)
    async with AsyncSession(binds={Author: engine, Book: observer}) as session:
        await session.explain(select(Book))
        await session.explain(select(func.count()), bind_arguments={"bind": observer})

    assert log.kinds == ["EXPLAIN", "EXPLAIN"]


async def test_it_sees_the_tables_of_the_transaction(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(text("CREATE TEMPORARY TABLE fresh (id integer)"))

        assert (await session.explain(text("SELECT id FROM fresh"))).rows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"statement": "SELECT 1"}, "has to be marked as such: text"),
        ({"statement": text("EXPLAIN SELECT 1")}, "is an EXPLAIN already"),
        ({"statement": text("/* why */ ANALYZE\nDELETE FROM author")}, "is an EXPLAIN already"),
        ({"statement": text("(ANALYZE) DELETE FROM author")}, "is an EXPLAIN already"),
        ({"statement": insert(Author), "params": [{"name": "Eve"}]}, "one set of parameters"),
        ({"statement": select(Author), "format": "xml"}, "format is 'text' or 'json', not 'xml'"),
        ({"statement": select(Author), "analyze": "yes"}, "analyze is True or False"),
        ({"statement": select(Author), "execution_option": {}}, "did you mean 'execution_options'"),
    ],
)
async def test_wrong_calls_are_refused(engine: AsyncEngine, call: dict[str, Any], message: str) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match=message):
            await session.explain(**call)


async def test_what_sqlite_cannot_is_said() -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    async with AsyncSession(engine) as session:
        with pytest.raises(ArgumentError, match="SQLite explains a plan as text, and measures nothing"):
            await session.explain(text("SELECT 1"), analyze=True)
        with pytest.raises(ArgumentError, match="only EXPLAIN of PostgreSQL has options"):
            await session.explain(text("SELECT 1"), options={"verbose": True})
    await engine.dispose()


@ANALYZES
async def test_writes_are_not_measured_where_they_could_not_be_undone(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, isolation_level="AUTOCOMMIT") as session:
        with pytest.raises(InvalidRequestError, match="which cannot be done in AUTOCOMMIT"):
            await session.explain(delete(Author), analyze=True)


@pytest.mark.without("sqlite", "a failed statement is all that fails")
@pytest.mark.without("mariadb", "a failed statement is all that fails")
async def test_a_failed_transaction_explains_nothing(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(Exception, match="nowhere"):
            await session.execute(text("SELECT * FROM nowhere"))
        with pytest.raises(PendingRollbackError):
            await session.explain(select(Author))
