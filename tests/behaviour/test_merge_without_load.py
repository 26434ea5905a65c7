"""merge(load=False) takes objects for what they say, and asks the database nothing."""

import pickle

import pytest
from sqlalchemy import select, update

from aiosession import AsyncEngine, AsyncSession, inspect
from aiosession.errors import InvalidRequestError
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import (
    Person,
    Pet,
    make_tables,
    put,
)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_without_load_nothing_is_sent_and_nothing_is_changed(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    cached = Person(id=1, name="Ann", age=3, pets=[Pet(id=1, name="Rex")], passport=None)
    await put(engine, cached)
    statements.clear()
    async with AsyncSession(engine) as session:
        merged = await session.merge(cached, load=False)

        assert merged is not cached
        assert inspect(merged).persistent
        assert inspect(merged.pets[0]).persistent
        assert merged.pets[0].owner is merged
        assert (merged.name, merged.pets[0].name) == ("Ann", "Rex")
        assert not session.dirty
        assert await session.get(Person, 1) is merged
        await session.commit()
        assert statements.kinds == []


async def test_cached_results_are_merged_at_once_without_a_statement(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    await put(engine, *(Person(id=number, name=f"p{number}") for number in range(1, 6)))
    async with AsyncSession(engine) as session:
        cached = pickle.dumps((await session.scalars(select(Person).order_by(Person.id))).all())
    statements.clear()

    async with AsyncSession(engine) as session:
        people = await session.merge_all(pickle.loads(cached), load=False)

        assert [person.name for person in people] == ["p1", "p2", "p3", "p4", "p5"]
        assert all(inspect(person).persistent for person in people)
        assert not session.dirty
        assert statements.kinds == []


async def test_without_load_what_is_in_memory_is_overwritten(engine: AsyncEngine) -> None:
    cached = Person(id=1, name="Ann")
    await put(engine, cached)
    async with AsyncSession(engine) as session:
        known = await session.get_one(Person, 1)
        known.name = "Bea"

        assert await session.merge(cached, load=False) is known
        assert known.name == "Ann"
        assert not session.dirty


async def test_without_load_unloaded_attributes_stay_unloaded(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(name="Rex")]))
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        merged = await other.merge(await session.get_one(Person, 1), load=False)

        assert "pets" in inspect(merged).unloaded
        assert [pet.name for pet in await merged.awaitable_attrs.pets] == ["Rex"]


async def test_without_load_stale_values_stay_stale(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        person = await session.get_one(Person, 1)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(update(Person.__table__).values(name="Bea"))

        merged = await other.merge(person, load=False)

        assert merged.name == "Ann"
        assert (await other.get_one(Person, 1)).name == "Bea"


async def test_without_load_objects_have_to_have_rows_and_no_changes(engine: AsyncEngine) -> None:
    changed = Person(id=1, name="Ann")
    await put(engine, changed)
    changed.name = "Bea"
    async with AsyncSession(engine) as session:
        with pytest.raises(InvalidRequestError, match=r"objects that have rows; a transient Person has none"):
            await session.merge(Person(id=2, name="Kim"), load=False)
        with pytest.raises(InvalidRequestError, match=r"without changes; Person\(1\) has unflushed ones \(name\)"):
            await session.merge(changed, load=False)
        assert len(session.identity_map) == 0


async def test_without_load_a_deleted_object_is_refused(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        await session.delete(person)
        await session.commit()
        with pytest.raises(InvalidRequestError, match="its row was deleted"):
            await session.merge(person, load=False)
