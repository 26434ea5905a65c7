"""The registry of sessions: one for each request, job or task."""

import asyncio
import gc
import tracemalloc
import warnings
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SAWarning

from aiosession import AsyncEngine, AsyncSession, Query, async_scoped_session, async_sessionmaker, create_async_engine
from aiosession.errors import ArgumentError, ConcurrentUseError, InvalidRequestError, ResourceClosedError
from tests.session_model import Author, Book, make_tables, names_seen_by

Registry = async_scoped_session[AsyncSession]


@pytest.fixture
async def Session(engine: AsyncEngine) -> Registry:
    await make_tables(engine)
    return async_scoped_session(async_sessionmaker(engine))


# One session for a context -------------------------------------------------------------------------------------------


async def test_every_call_gives_the_same_session_until_it_is_removed(Session: Registry) -> None:
    session = Session()
    assert Session() is session
    assert Session.has()

    await Session.remove()

    assert not Session.has()
    with pytest.raises(ResourceClosedError):
        await session.scalars(select(Author))
    assert Session() is not session
    await Session.remove()


async def test_removing_rolls_back(Session: Registry, observer: AsyncEngine) -> None:
    Session.add(Author(name="Ann"))
    await Session.flush()
    await Session.remove()
    await Session.remove()
    assert await names_seen_by(observer) == []


async def test_the_registry_acts_as_the_session(Session: Registry, observer: AsyncEngine) -> None:
    ann = Author(name="Ann")
    Session.add(ann)
    assert ann in Session
    assert list(Session) == [ann]
    assert list(Session.new) == [ann]
    await Session.commit()
    assert (await Session.scalars(select(Author.name))).all() == ["Ann"]
    assert await Session.get_one(Author, ann.id) is ann
    assert await names_seen_by(observer) == ["Ann"]
    with Session.no_autoflush:
        assert Session().autoflush is False
    Session.autoflush = False
    assert Session().autoflush is False
    await Session.rollback()
    async with Session.begin():
        Session.add(Author(name="Bob"))
    assert await names_seen_by(observer) == ["Ann", "Bob"]
    assert Session.object_session(ann) is Session()
    await Session.remove()


async def test_methods_of_a_subclass_are_there_too(engine: AsyncEngine) -> None:
    class Own(AsyncSession):
        def greet(self) -> str:
            return "hello"

    Session = async_scoped_session(async_sessionmaker(engine, class_=Own))
    assert Session.greet() == "hello"  # type: ignore[attr-defined]  # Session() is an Own, the registry acts as one
    with pytest.raises(AttributeError):
        Session.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018
    await Session.remove()


async def test_options_are_for_a_session_that_is_yet_to_be_made(Session: Registry) -> None:
    assert Session(autoflush=False).autoflush is False
    with pytest.raises(InvalidRequestError, match="a session in this scope already, to which autoflush"):
        Session(autoflush=True)
    await Session.remove()


async def test_configure_is_for_sessions_to_come(Session: Registry) -> None:
    Session.configure(autoflush=False)
    assert Session().autoflush is False
    with pytest.warns(SAWarning, match="which configure\\(\\) does not change"):
        Session.configure(autoflush=True)
    assert Session().autoflush is False
    await Session.remove()
    assert Session().autoflush is True
    await Session.remove()


async def test_a_session_can_be_set_and_forgotten(Session: Registry, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        Session.set(session)
        assert Session() is session
        Session.registry.clear()
        assert not Session.registry.has()
        assert Session.registry() is not session
    await Session.remove()


async def test_a_class_can_have_queries_of_the_current_session(
    Session: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loud(Query[Author]):
        pass

    monkeypatch.setattr(Author, "query", Session.query_property(), raising=False)
    monkeypatch.setattr(Author, "loud", Session.query_property(Loud), raising=False)
    Session.add(Author(name="Ann"))
    assert [author.name for author in await Author.query.all()] == ["Ann"]  # type: ignore[attr-defined]
    assert type(Author.loud) is Loud  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="query_cls"):
        Session.query_property(dict)  # type: ignore[arg-type]
    await Session.remove()


# Scopes --------------------------------------------------------------------------------------------------------------


async def test_a_scope_has_a_session_and_closes_it(Session: Registry, observer: AsyncEngine) -> None:
    async with Session.scope() as session:
        assert Session() is session
        Session.add(Author(name="Ann"))
        await Session.commit()
        Session.add(Author(name="lost"))
        await Session.flush()
    assert not Session.has()
    with pytest.raises(ResourceClosedError):
        await session.flush()
    assert await names_seen_by(observer) == ["Ann"]


async def test_scopes_nest(Session: Registry) -> None:
    outermost = Session()
    async with Session.scope() as outer:
        async with Session.scope(autoflush=False) as inner:
            assert Session() is inner
            assert not inner.autoflush
        assert Session() is outer
    assert Session() is outermost
    await Session.remove()


async def test_an_exception_ends_a_scope_too(Session: Registry) -> None:
    async def fail() -> None:
        async with Session.scope():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not Session.has()


async def test_removing_within_a_scope_makes_room_for_another_session(Session: Registry) -> None:
    async with Session.scope() as session:
        await Session.remove()
        other = Session()
        assert other is not session
    with pytest.raises(ResourceClosedError):
        await other.flush()


async def test_a_scope_is_opened_once(Session: Registry) -> None:
    scope = Session.scope()
    async with scope:
        with pytest.raises(InvalidRequestError, match="opened already"):
            await scope.__aenter__()


async def test_unknown_options_are_refused(Session: Registry, engine: AsyncEngine) -> None:
    with pytest.raises(ArgumentError, match="autoflsh"):
        async with Session.scope(autoflsh=False):
            pass
    assert not Session.has()
    with pytest.raises(ArgumentError, match="scope is one of context, task, not 'thread'"):
        async_scoped_session(async_sessionmaker(engine), scope="thread")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="cannot be called"):
        async_scoped_session(engine)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="cannot be called"):
        async_scoped_session(async_sessionmaker(engine), "request")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="give one of them"):
        async_scoped_session(async_sessionmaker(engine), lambda: 1, scope="task")
    with pytest.raises(InvalidRequestError, match="over an async_sessionmaker"):
        async_scoped_session(lambda: AsyncSession(engine)).configure(autoflush=False)


# Tasks ---------------------------------------------------------------------------------------------------------------


async def current(Session: Registry) -> AsyncSession:
    return Session()


async def test_tasks_of_a_scope_share_its_session(Session: Registry) -> None:
    async with Session.scope() as session:
        found = await asyncio.gather(current(Session), asyncio.create_task(current(Session)))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(current(Session))
        waited = await asyncio.wait_for(current(Session), 5)
        in_thread = await asyncio.to_thread(Session)
    assert [*found, task.result(), waited, in_thread] == [session] * 5


async def test_two_tasks_of_a_scope_cannot_use_it_at_once(Session: Registry) -> None:
    async def read() -> None:
        await Session.scalars(select(Author))

    async with Session.scope():
        answers = await asyncio.gather(read(), read(), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), ConcurrentUseError]


async def test_a_session_made_within_a_task_is_that_tasks(Session: Registry) -> None:
    async def own() -> AsyncSession:
        session = Session()
        await Session.remove()
        return session

    sessions = await asyncio.gather(own(), own())
    assert sessions[0] is not sessions[1]
    assert not Session.has()


async def test_a_scope_by_task_gives_each_task_its_own(engine: AsyncEngine) -> None:
    Session = async_scoped_session(async_sessionmaker(engine), scope="task")

    async def own() -> AsyncSession:
        async with Session.scope() as session:
            assert Session() is session
            return session

    async with Session.scope() as session:
        others = await asyncio.gather(own(), own())
        assert Session() is session
    assert len({session, *others}) == 3


async def test_a_task_that_outlives_its_scope_is_told(Session: Registry) -> None:
    gate = asyncio.Event()

    async def late() -> None:
        await gate.wait()
        await Session.scalars(select(Author))

    async with Session.scope():
        task = asyncio.create_task(late())
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(ResourceClosedError, match=r"test_scoped_session\.py:.* has ended"):
        await task


async def test_an_async_generator_sees_the_scope_of_whoever_reads_it(Session: Registry) -> None:
    async def names() -> AsyncIterator[str]:
        async for author in await Session.stream_scalars(select(Author).order_by(Author.name)):
            yield author.name

    async with Session.scope():
        Session.add_all([Author(name="Ann"), Author(name="Bob")])
        assert [name async for name in names()] == ["Ann", "Bob"]
        await Session.rollback()


async def test_a_scope_may_be_opened_and_closed_by_a_dependency(Session: Registry) -> None:
    @asynccontextmanager
    async def dependency() -> AsyncIterator[AsyncSession]:
        async with Session.scope() as session:
            yield session

    async with dependency() as session:
        assert Session() is session
    assert not Session.has()


async def test_a_session_of_its_own_is_a_fork(Session: Registry, observer: AsyncEngine) -> None:
    async def write(session: AsyncSession, name: str) -> None:
        async with session.fork() as own:
            own.add(Author(name=name))
            await own.commit()

    async with Session.scope() as session:
        for name in ("Ann", "Bob"):
            await asyncio.gather(write(session, name))
    assert await names_seen_by(observer) == ["Ann", "Bob"]


# Keys of one's own ---------------------------------------------------------------------------------------------------


class Request:
    pass


async def test_a_scopefunc_says_what_a_scope_is(engine: AsyncEngine) -> None:
    requests = [Request(), Request()]
    now = requests[0]
    Session = async_scoped_session(async_sessionmaker(engine), lambda: now)
    first = Session()
    now = requests[1]
    second = Session()
    assert second is not first
    await Session.remove()
    now = requests[0]
    assert Session() is first
    await Session.remove()


async def test_keys_are_held_weakly(engine: AsyncEngine) -> None:
    keys = [Request()]
    Session = async_scoped_session(async_sessionmaker(engine), lambda: keys[0])
    session = weakref.ref(Session())

    def forget() -> None:
        keys[0] = Request()
        gc.collect()

    with pytest.warns(ResourceWarning, match="left open"):
        forget()
    assert session() is None


async def test_keys_may_be_plain_values(engine: AsyncEngine) -> None:
    now = 1
    Session = async_scoped_session(async_sessionmaker(engine), lambda: now)
    first = Session()
    now = 2
    assert Session() is not first
    await Session.remove()
    now = 1
    assert Session() is first
    await Session.remove()


# What is forgotten ---------------------------------------------------------------------------------------------------


async def test_a_forgotten_session_is_told_of(engine: AsyncEngine) -> None:
    await make_tables(engine)
    Session = async_scoped_session(async_sessionmaker(engine))

    async def forget() -> None:
        await Session.scalars(select(Book.title))

    async def start() -> None:
        await asyncio.create_task(forget(), name="forgetful")
        await asyncio.sleep(0)  # until then the event loop remembers the task
        gc.collect()

    with pytest.warns(ResourceWarning) as caught:
        await start()
    text = str(caught[0].message)
    assert "test_scoped_session.py:" in text
    assert "task 'forgetful'" in text
    assert "SELECT book.title" in text
    assert "await Session.remove()" in text


async def test_forgotten_sessions_leave_nothing_behind(sqlite_url: str) -> None:
    engine = create_async_engine(sqlite_url)
    await make_tables(engine)
    Session = async_scoped_session(async_sessionmaker(engine))

    async def forget() -> None:
        await Session.scalars(select(Author))

    async def held_after(tasks: int) -> int:
        for _ in range(tasks):
            await asyncio.create_task(forget())
        await asyncio.sleep(0)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        tracemalloc.start()
        try:
            before = await held_after(500)
            after = await held_after(2000)
        finally:
            tracemalloc.stop()
    assert (after - before) / 2000 < 8  # the caches of the interpreter settle late
    await engine.dispose()
