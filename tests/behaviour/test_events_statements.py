"""``do_orm_execute``: handlers see statements before they are executed; they may change or answer them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.sql.dml import UpdateBase

from aiosession import (
    AsyncEngine,
    AsyncSession,
    ORMExecuteState,
    Result,
    create_async_engine,
    events,
    selectinload,
)
from aiosession.errors import ArgumentError, ObjectNotFoundError, ReentrantUseError
from aiosession.testing.statements import StatementLog
from tests.session_model import Author, make_tables, put_author


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncSession:
    await make_tables(engine)
    for name in ("Ann", "Bea"):
        await put_author(engine, name)
    statements.clear()
    return AsyncSession(engine)


async def test_a_handler_adds_a_criterion(session: AsyncSession) -> None:
    @events.listens_for(session, "do_orm_execute")
    def only_ann(state: ORMExecuteState) -> None:
        assert state.is_select
        assert state.is_orm_statement
        state.statement = state.statement.where(Author.name == "Ann")

    async with session:
        assert [author.name for author in await session.scalars(select(Author))] == ["Ann"]


async def test_a_handler_sees_what_get_asks_for_and_adds_a_criterion(session: AsyncSession) -> None:
    seen: list[bool] = []

    @events.listens_for(session, "do_orm_execute")
    def only_ann(state: ORMExecuteState) -> None:
        seen.append(state.is_select and state.is_orm_statement)
        state.statement = state.statement.where(Author.name == "Ann")

    async with session:
        ann = await session.get(Author, 1, with_for_update=True, options=[selectinload(Author.books)])
        assert ann is not None
        assert (ann.name, ann.books) == ("Ann", [])
        assert await session.get(Author, 2) is None
        assert await session.get(Author, 1) is ann
        with pytest.raises(ObjectNotFoundError):
            await session.get_one(Author, 2, populate_existing=True)

    assert seen == [True, True, True]


async def test_get_goes_where_it_is_sent_also_when_handlers_listen(session: AsyncSession, tmp_path: Path) -> None:
    events.listen(session, "do_orm_execute", lambda state: None)
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    await make_tables(other)
    async with session:
        assert await session.get(Author, 1, bind_arguments={"bind": other}) is None
        assert await session.get(Author, 1) is not None
    await other.dispose()


async def test_a_handler_answers_from_memory(session: AsyncSession, statements: StatementLog) -> None:
    answers: dict[str, Callable[[], Result[*tuple[Any, ...]]]] = {}

    @events.listens_for(session, "do_orm_execute")
    async def cached(state: ORMExecuteState) -> object:
        key = str(state.statement)
        if key not in answers:
            answers[key] = (await state.invoke_statement()).freeze()
        return answers[key]()

    async with session:
        first = (await session.execute(select(Author.name).order_by(Author.name))).scalars().all()
        again = (await session.execute(select(Author.name).order_by(Author.name))).scalars().all()

    assert first == again == ["Ann", "Bea"]
    assert statements.kinds == ["SELECT"]


async def test_handlers_come_one_after_the_other_around_the_statement(session: AsyncSession) -> None:
    order: list[str] = []

    @events.listens_for(session, "do_orm_execute")
    async def outer(state: ORMExecuteState) -> object:
        order.append("before")
        result = await state.invoke_statement()
        order.append("after")
        return result

    events.listen(session, "do_orm_execute", lambda state: order.append("inner"))
    async with session:
        assert await session.scalar(select(Author.name).where(Author.name == "Ann")) == "Ann"

    assert order == ["before", "inner", "after"]


async def test_options_and_parameters_are_seen_and_changed(session: AsyncSession) -> None:
    @events.listens_for(session, "do_orm_execute")
    def change(state: ORMExecuteState) -> None:
        assert state.parameters == {"name": "Ann"}
        assert state.execution_options["populate_existing"] is True
        state.update_execution_options(autoflush=False)
        state.parameters = {"name": "Bea"}

    async with session:
        session.add(Author(name="Cid"))
        found = await session.scalar(
            text("SELECT name FROM author WHERE name = :name"),
            {"name": "Ann"},
            execution_options={"populate_existing": True},
        )
        assert found == "Bea"
        assert session.new


async def test_updates_and_streams_pass_too(session: AsyncSession) -> None:
    kinds: list[str] = []
    events.listen(session, "do_orm_execute", lambda state: kinds.append("update" if state.is_update else "select"))
    async with session:
        await session.execute(update(Author).values(note="x").execution_options(synchronize_session=False))
        async with await session.stream_scalars(select(Author.name).order_by(Author.name)) as names:
            assert [name async for name in names] == ["Ann", "Bea"]

    assert kinds == ["update", "select"]


async def test_a_session_method_in_a_handler_is_refused_with_what_to_do(session: AsyncSession) -> None:
    @events.listens_for(session, "do_orm_execute")
    async def again(state: ORMExecuteState) -> None:
        await session.execute(select(Author))

    async with session:
        with pytest.raises(ReentrantUseError, match=r"'do_orm_execute'.*await state.invoke_statement"):
            await session.execute(select(Author))


async def test_a_handler_returns_a_result_or_nothing(session: AsyncSession) -> None:
    events.listen(session, "do_orm_execute", lambda state: 5)
    async with session:
        with pytest.raises(ArgumentError, match="returns None, or the Result to use; this one returned 5"):
            await session.execute(select(Author))


@pytest.mark.parametrize(
    ("name", "statement"),
    [("after_bulk_update", update(Author).values(note="x")), ("after_bulk_delete", delete(Author))],
)
async def test_statements_that_write_many_rows_are_told_of(
    session: AsyncSession, name: str, statement: UpdateBase
) -> None:
    counts: list[int] = []
    events.listen(session, name, lambda context: counts.append(context.rowcount))
    async with session:
        await session.execute(statement)
        await session.execute(text("UPDATE author SET note = 'y'"))

    assert counts == [2]
