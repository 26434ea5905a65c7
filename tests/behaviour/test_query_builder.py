"""`session.query()` builds a select step by step; nothing is sent before an end of it is awaited."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import bindparam, func, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    Query,
    aliased,
    async_sessionmaker,
    events,
    inspect,
    selectinload,
)
from aiosession.errors import (
    ArgumentError,
    ConcurrentUseError,
    InvalidRequestError,
    MultipleResultsFound,
    NoResultFound,
)
from aiosession.testing.statements import StatementLog
from tests.behaviour.writes_model import Letter, Seat, User, fill, seen


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    await fill(engine)
    async with AsyncSession(engine) as session:
        statements.clear()
        yield session


def names(found: list[User]) -> list[str]:
    return [user.name for user in found]


async def test_a_query_of_a_class_gives_objects_and_one_of_columns_gives_rows(session: AsyncSession) -> None:
    found = await session.query(User).order_by(User.name).all()
    rows = await session.query(User.name, User.age).filter(User.age < 30).order_by(User.name.desc()).all()

    assert names(found) == list("abcde")
    assert rows == [("b", 20), ("a", 10)]
    assert found[0] is await session.query(User).filter_by(name="a").one()


async def test_building_sends_nothing_and_leaves_the_query_it_began_with(
    session: AsyncSession, statements: StatementLog
) -> None:
    everybody = session.query(User).order_by(User.name)

    some = everybody.filter(User.age > 10).filter_by(kind="plain").where(User.age < 40)

    assert not statements.events
    assert names(await some.all()) == ["b", "c"]
    assert len(await everybody.all()) == 5


JOINED: list[Callable[[Query[Any]], Query[Any]]] = [
    lambda query: query.join(User.letters),
    lambda query: query.join("letters"),
    lambda query: query.join(Letter),
    lambda query: query.join(Letter, Letter.user_id == User.id),
]


@pytest.mark.parametrize("join", JOINED)
async def test_filter_by_is_about_what_was_joined_last(
    session: AsyncSession, join: Callable[[Query[Any]], Query[Any]]
) -> None:
    assert names(await join(session.query(User)).filter_by(text="x").all()) == ["a"]


async def test_filter_by_finds_what_is_selected_from(session: AsyncSession) -> None:
    assert await session.query(func.count()).select_from(User).filter_by(name="a").scalar() == 1


async def test_outer_joins_keep_rows_without_a_partner(session: AsyncSession) -> None:
    query = session.query(User.name, func.count(Letter.id)).outerjoin(User.letters).group_by(User.name)

    assert await query.order_by(User.name).all() == [("a", 2), ("b", 0), ("c", 0), ("d", 0), ("e", 0)]
    assert await query.having(func.count(Letter.id) > 0).all() == [("a", 2)]


async def test_first_reads_one_row(session: AsyncSession, statements: StatementLog) -> None:
    first = await session.query(User).order_by(User.name.desc()).first()

    assert first is not None
    assert first.name == "e"
    assert "LIMIT" in statements.sql[0]
    assert await session.query(User).filter_by(name="nobody").first() is None
    assert await session.query(User).limit(0).first() is None


async def test_first_of_a_query_with_an_offset_or_distinct_reads_one_row_too(
    session: AsyncSession, statements: StatementLog
) -> None:
    assert await session.query(User.kind).distinct().first() == ("plain",)
    assert await session.query(User.name).order_by(User.name).offset(1).first() == ("b",)

    assert all("LIMIT" in sql for sql in statements.sql)


async def test_one_and_scalar_want_one_row(session: AsyncSession) -> None:
    assert (await session.query(User).filter_by(name="a").one()).age == 10
    assert await session.query(User).filter_by(name="x").one_or_none() is None
    assert await session.query(User.age).filter_by(name="x").scalar() is None
    with pytest.raises(NoResultFound):
        await session.query(User).filter_by(name="x").one()
    for end in ("one", "one_or_none", "scalar"):
        with pytest.raises(MultipleResultsFound):
            await getattr(session.query(User), end)()


async def test_count_counts_the_rows_that_the_query_gives(session: AsyncSession) -> None:
    query = session.query(User)

    assert await query.count() == 5
    assert await query.order_by(User.name).limit(2).count() == 2
    assert await query.join(User.letters).count() == 2
    assert await query.distinct().join(User.letters).count() == 1
    assert await session.query(User, Letter).join(User.letters).count() == 2
    assert await query.filter_by(name="a").union_all(query).count() == 6


async def test_get_looks_in_memory_first_and_follows_options(session: AsyncSession, statements: StatementLog) -> None:
    user = await session.query(User).filter_by(name="a").one()
    statements.clear()

    assert await session.query(User).get(user.id) is user
    assert not statements.events
    session.expunge_all()
    again = await session.query(User).options(selectinload(User.letters)).get(user.id)
    assert again is not None
    assert sorted(letter.text for letter in again.letters) == ["x", "y"]
    assert await session.query(Seat).get(("A", 3)) is None
    seat = await session.query(Seat).get({"row": "A", "number": 1})
    assert seat is not None


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0, 2, "ab"), (1, 3, "bc"), (3, None, "de"), (None, 1, "a"), (5, 2, ""), (2, 2, ""), (4, 9, "e")],
)
async def test_a_slice_gives_the_rows_that_a_slice_of_the_list_would(
    session: AsyncSession, start: int | None, stop: int | None, expected: str
) -> None:
    assert names(await session.query(User).order_by(User.name)[start:stop].all()) == list(expected)


async def test_other_things_can_be_selected_with_the_same_criteria(session: AsyncSession) -> None:
    query = session.query(User).join(User.letters).filter(Letter.text == "x")

    assert await query.with_entities(User.name, Letter.text).all() == [("a", "x")]
    (row,) = await query.add_columns(Letter.text).add_entity(Letter).all()
    assert (row[0].name, row[1], row[2].text) == ("a", "x", "x")


async def test_queries_are_parts_of_others(session: AsyncSession) -> None:
    rich = session.query(User).filter(User.age > 20)
    alias = aliased(User, rich.subquery())
    common = rich.cte("common")

    assert names(await session.query(alias).order_by(alias.name).all()) == ["c", "d"]
    assert await session.query(common.c.years).order_by(common.c.years).all() == [(30,), (40,)]
    assert await session.query(session.query(User).filter_by(name="a").exists()).scalar() is True
    assert names(await session.query(User).filter(User.id.in_(session.query(Letter.user_id))).all()) == ["a"]
    count = session.query(func.count(Letter.id)).filter(Letter.user_id == User.id).correlate(User)
    assert await session.query(User.name, count.label("n")).order_by(User.name).limit(1).all() == [("a", 2)]


async def test_unions_and_their_like_give_objects_with_their_options(session: AsyncSession) -> None:
    query = session.query(User)
    low, high = query.filter(User.age < 30), query.filter(User.age > 10)

    union = await low.options(selectinload(User.letters)).union(high).all()
    assert sorted(names(union)) == list("abcd")
    assert sorted(len(user.letters) for user in union) == [0, 0, 0, 2]
    assert names(await low.intersect(high).all()) == ["b"]
    assert names(await low.except_(high).all()) == ["a"]
    rows = session.query(User.name).filter_by(name="a").union_all(session.query(User.name).filter_by(name="a"))
    assert await rows.all() == [("a",), ("a",)]
    assert await rows.first() == ("a",)


async def test_objects_come_from_statements_in_text(session: AsyncSession) -> None:
    statement = text("SELECT user_id, full_name FROM users WHERE years < :years ORDER BY full_name")

    assert names(await session.query(User).from_statement(statement.bindparams(years=30)).all()) == ["a", "b"]


async def test_parameters_get_values_later(session: AsyncSession) -> None:
    query = session.query(User).filter(User.name == bindparam("wanted"))

    assert names(await query.params(wanted="b").all()) == ["b"]
    assert names(await query.params({"wanted": "c"}).all()) == ["c"]


async def test_execution_options_are_those_of_the_session(session: AsyncSession) -> None:
    user = await session.query(User).filter_by(name="a").one()
    user.age = 77

    assert await session.query(User).autoflush(setting=False).filter_by(age=77).count() == 0
    await session.query(User).autoflush(setting=False).populate_existing().filter_by(name="a").one()
    assert user.age == 10


async def test_async_for_streams(session: AsyncSession) -> None:
    found = [user.name async for user in session.query(User).order_by(User.name).yield_per(2)]
    rows = [tuple(row) async for row in session.query(User.name, User.age).filter_by(name="a")]

    assert found == list("abcde")
    assert rows == [("a", 10)]


async def test_update_and_delete_write_what_meets_the_criteria(session: AsyncSession, observer: AsyncEngine) -> None:
    people = await session.query(User).order_by(User.name).all()

    assert await session.query(User).filter(User.age > 20).update({User.age: User.age + 1, "kind": "old"}) == 2
    assert await session.query(User).filter_by(name="e").delete() == 1
    assert await session.query(User).filter_by(name="e").delete(synchronize_session="fetch") == 0

    assert [(user.age, user.kind) for user in people[:4]] == [(10, "plain"), (20, "plain"), (31, "old"), (41, "old")]
    assert inspect(people[4]).deleted
    await session.commit()
    assert await seen(observer, User.name, User.age) == [("a", 10), ("b", 20), ("c", 31), ("d", 41)]


async def test_handlers_of_the_session_hear_of_every_end(session: AsyncSession) -> None:
    heard: list[Any] = []
    events.listen(session, "do_orm_execute", lambda state: heard.append(type(state.statement).__name__))
    events.listen(session, "after_bulk_update", lambda context: heard.append(context.rowcount))
    events.listen(session, "after_bulk_delete", lambda context: heard.append(context.rowcount))

    await session.query(User).all()
    await session.query(User).count()
    await session.query(User).filter(User.age > 20).update({"age": 1})
    await session.query(User).filter_by(age=1).delete(synchronize_session=False)

    assert heard == ["Select", "Select", "Update", 2, "Delete", 2]


class Named(Query[Any]):
    """A query with a method of its own."""

    __slots__ = ()

    def named(self, name: str) -> "Named":
        return self.filter_by(name=name)


async def test_query_cls_is_what_query_makes_and_what_its_methods_return(engine: AsyncEngine) -> None:
    await fill(engine)
    async with async_sessionmaker(engine, query_cls=Named)() as session:
        query = session.query(User)

        assert type(query) is type(query.order_by(User.name).limit(1)) is Named
        assert isinstance(query, Named)
        assert (await query.named("b").one()).age == 20


async def test_query_cls_has_to_be_a_query(engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match=r"query_cls is a subclass of aiosession.Query, not <class 'int'>"):
        AsyncSession(engine, query_cls=int)  # type: ignore[arg-type]  # the point of the test


async def test_a_query_says_what_it_is(session: AsyncSession) -> None:
    query = session.query(User, Letter.text.label("words"))

    assert [each["name"] for each in query.column_descriptions] == ["User", "words"]
    assert query.column_descriptions[0]["entity"] is User
    assert "SELECT" in str(query)
    assert repr(query).startswith("<Query SELECT")
    assert query.whereclause is None
    assert (await session.execute(session.query(User.name).filter_by(name="a").statement)).all() == [("a",)]


async def test_two_ends_at_a_time_are_refused(session: AsyncSession) -> None:
    query = session.query(User)

    found, refused = await asyncio.gather(query.all(), query.count(), return_exceptions=True)

    assert isinstance(found, list)
    assert isinstance(refused, ConcurrentUseError)


BAD: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda session: session.query(), ArgumentError, "at least one class"),
    (lambda session: session.query(User).filter_by(nam="x"), ArgumentError, "did you mean 'name'"),
    (lambda session: session.query(User).join("leters"), ArgumentError, "did you mean 'letters'"),
    (lambda session: list(session.query(User)), InvalidRequestError, "await query.all"),
    (lambda session: len(session.query(User)), InvalidRequestError, "await query.count"),
    (lambda session: bool(session.query(User)), InvalidRequestError, "neither true nor false"),
    (lambda session: session.query(User)[0], InvalidRequestError, r"offset\(0\).first"),
    (lambda session: session.query(User)[::2], InvalidRequestError, "awaiting one of its ends"),
    (lambda session: session.query(User)[-2:], ArgumentError, "no rows before its first"),
    (lambda session: session.query(User).limit(1).filter(User.age == 1), InvalidRequestError, "filter.* comes before"),
    (lambda session: session.query(User).offset(1).filter_by(age=1), InvalidRequestError, "filter_by.* comes before"),
    (lambda session: session.query(User)[:2].join(Letter), InvalidRequestError, "join.* comes before"),
    (lambda session: session.query(User).limit(1).having(User.age == 1), InvalidRequestError, "having.* comes before"),
    (lambda session: session.query(User).union(session.query(User)).filter_by(age=1), InvalidRequestError, "aliased"),
]


@pytest.mark.parametrize(("use", "error", "says"), BAD)
async def test_what_a_query_cannot_do_is_refused_with_what_can_be_done(
    session: AsyncSession, use: Callable[[AsyncSession], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        use(session)


BAD_ENDS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda query: query.filter_by(age=1).get(1), InvalidRequestError, "one_or_none"),
    (lambda query: query.with_entities(User.id, User.name).get(1), InvalidRequestError, "one mapped class"),
    (lambda query: query.limit(1).delete(), InvalidRequestError, "cannot be limited"),
    (lambda query: query.order_by(User.id).update({"age": 1}), InvalidRequestError, "cannot be limited, ordered"),
    (lambda query: query.join(User.letters).delete(), InvalidRequestError, "cannot follow join"),
    (lambda query: query.update({}), ArgumentError, "mapping of attributes"),
    (lambda query: query.update([("age", 1)]), ArgumentError, "mapping of attributes"),
    (lambda query: query.update({"agee": 1}), ArgumentError, "did you mean 'age'"),
    (lambda query: query.delete(synchronize_session="evalute"), ArgumentError, "did you mean 'evaluate'"),
    (lambda query: query.from_statement(select(User)).count(), InvalidRequestError, "count"),
]


@pytest.mark.parametrize(("end", "error", "says"), BAD_ENDS)
async def test_an_end_that_does_not_fit_is_refused_before_anything_is_sent(
    session: AsyncSession,
    statements: StatementLog,
    end: Callable[[Query[Any]], Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        await end(session.query(User))

    assert not statements.events
