"""Objects are moved between their five states, asked where they stand, and let go."""

import pytest
from sqlalchemy import select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    close_all_sessions,
    identity_key,
    inspect,
    make_transient,
    make_transient_to_detached,
    object_session,
    was_deleted,
)
from aiosession.errors import ArgumentError, ConcurrentUseError, InvalidRequestError, ResourceClosedError, UnmappedError
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Person, Pet, Shelf, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        session.add(Person(id=1, name="Ann", age=3, pets=[Pet(id=1, name="Rex")]))
        session.add(Shelf(room="a", number=1))
        await session.commit()
    statements.clear()


async def people(engine: AsyncEngine) -> list[tuple[int, str]]:
    async with engine.connect() as connection:
        table = Person.__table__
        return [tuple(row) for row in await connection.execute(select(table.c.id, table.c.name).order_by(table.c.id))]


# make_transient


async def test_an_object_that_was_made_transient_is_inserted_anew(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)

        make_transient(person)

        assert inspect(person).transient
        assert person not in session
        assert object_session(person) is None
        person.id, person.name = 2, "Bea"
        session.add(person)
        await session.commit()
    assert await people(observer) == [(1, "Ann"), (2, "Bea")]


async def test_a_deleted_object_can_be_made_transient_and_inserted_again(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        shelf = await session.get_one(Shelf, ("a", 1))
        await session.delete(shelf)
        await session.flush()
        make_transient(shelf)
        session.add(shelf)
        await session.commit()

        assert inspect(shelf).persistent
    async with AsyncSession(observer) as session:
        assert await session.get(Shelf, ("a", 1)) is not None


async def test_an_orphan_that_was_deleted_can_be_made_transient_and_inserted_again(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        pet = (await person.awaitable_attrs.pets).pop()
        await session.flush()

        make_transient(pet)
        pet.owner_id = 1
        session.add(pet)
        await session.commit()
    async with AsyncSession(observer) as session:
        assert await session.get(Pet, 1) is not None


async def test_what_was_made_transient_is_not_touched_by_a_rollback(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        person.name = "Bea"
        await session.flush()

        make_transient(person)
        await session.rollback()

        assert (person.name, inspect(person).transient) == ("Bea", True)
        assert (await session.get_one(Person, 1)).name == "Ann"


async def test_making_a_pending_or_transient_object_transient_takes_it_out(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        pending, transient = Person(name="Bea"), Person(name="Kim")
        session.add(pending)

        make_transient(pending)
        make_transient(transient)

        assert not session.new
        assert inspect(pending).transient
        assert inspect(transient).transient


async def test_parked_values_come_back_when_an_object_is_made_transient(engine: AsyncEngine) -> None:
    async with AsyncSession(engine, stale_reads="raise") as session:
        person = await session.get_one(Person, 1)
        await session.commit()

        make_transient(person)

        assert person.name == "Ann"


# make_transient_to_detached


async def test_an_object_made_detached_is_added_without_a_statement_and_read_when_needed(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    person = Person(id=1)
    make_transient_to_detached(person)
    assert inspect(person).detached
    assert not inspect(person).modified

    async with AsyncSession(engine) as session:
        session.add(person)
        assert statements.kinds == []

        assert await session.get(Person, 1) is person
        assert (person.name, person.age) == ("Ann", 3)
        assert [pet.name for pet in await person.awaitable_attrs.pets] == ["Rex"]


async def test_changes_of_an_object_made_detached_are_written(engine: AsyncEngine, observer: AsyncEngine) -> None:
    person = Person(id=1)
    make_transient_to_detached(person)
    person.name = "Bea"

    async with AsyncSession(engine) as session:
        session.add(person)
        await session.commit()
    assert await people(observer) == [(1, "Bea")]


async def test_only_a_transient_object_with_its_primary_key_can_be_made_detached(engine: AsyncEngine) -> None:
    with pytest.raises(InvalidRequestError, match="a transient Shelf has no value for number"):
        make_transient_to_detached(Shelf(room="a"))
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        with pytest.raises(InvalidRequestError, match=r"Person\(1\) is persistent; only a transient object"):
            make_transient_to_detached(person)
        pending = Person(id=2, name="Bea")
        session.add(pending)
        with pytest.raises(InvalidRequestError, match="a pending Person is pending"):
            make_transient_to_detached(pending)


# Asking


async def test_was_deleted_tells_from_the_flush_on(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        shelf = await session.get_one(Shelf, ("a", 1))
        await session.delete(shelf)
        assert not was_deleted(shelf)
        await session.flush()
        assert was_deleted(shelf)
        await session.commit()
        assert was_deleted(shelf)
        assert inspect(shelf).detached


async def test_a_delete_that_was_rolled_back_was_none(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        shelf = await session.get_one(Shelf, ("a", 1))
        await session.delete(shelf)
        await session.flush()
        await session.rollback()
        assert not was_deleted(shelf)


async def test_identity_keys_are_made_of_keys_objects_and_rows(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        shelf = await session.get_one(Shelf, ("a", 1))
        row = (await session.execute(select(Shelf.room, Shelf.number))).one()

        expected = (Shelf, ("a", 1), None)
        assert identity_key(Shelf, ("a", 1)) == expected
        assert identity_key(Shelf, {"number": 1, "room": "a"}) == expected
        assert identity_key(instance=shelf) == expected == inspect(shelf).key
        assert AsyncSession.identity_key(Shelf, row=row) == expected
        assert session.identity_map[identity_key(Shelf, ("a", 1))] is shelf
        assert identity_key(Shelf, ("a", 1), identity_token="eu") == (Shelf, ("a", 1), "eu")
        assert identity_key(instance=Person(name="x")) == (Person, (None,), None)


def test_an_identity_key_needs_something_to_be_made_of() -> None:
    with pytest.raises(ArgumentError, match="a class and a primary key"):
        identity_key()
    with pytest.raises(ArgumentError, match=r"identity_key\(Person\) needs a primary key"):
        identity_key(Person)
    with pytest.raises(ArgumentError, match="takes values of type int"):
        identity_key(Person, "1")


async def test_the_session_of_an_object_is_known(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person, other = await session.get_one(Person, 1), Person(name="x")

        assert object_session(person) is session
        assert AsyncSession.object_session(person) is session
        assert AsyncSession.object_session(other) is None
        with pytest.raises(UnmappedError):
            AsyncSession.object_session("x")


async def test_the_state_of_an_object_can_be_looked_at(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        state = inspect(person)
        person.age = 4

        assert state.is_instance
        assert state.unmodified == set(state.attrs) - {"age"}
        assert "pets" in state.unloaded
        assert not state.expired
        assert await state.attrs.age.load_history() == ((4,), (), (3,))
        assert [pet.name for pet in (await state.attrs.pets.load_history()).unchanged] == ["Rex"]
        session.expire(person)
        assert state.expired


# Relations of objects without a row


async def test_relations_of_new_objects_are_loaded_by_their_foreign_keys(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        transient, pending, blank = Pet(name="Tom", owner_id=1), Pet(id=9, name="Kim", owner_id=1), Pet(name="x")
        session.add(pending)

        await session.load([transient, pending, blank], Pet.owner, Person.pets)

        assert transient.owner is pending.owner is await session.get(Person, 1)
        assert blank.owner is None
        assert [pet.name for pet in transient.owner.pets] == ["Rex"]
        assert statements.kinds == ["SELECT", "SELECT"]
        assert transient not in session
        await session.commit()
    async with observer.connect() as connection:
        assert set(await connection.scalars(select(Pet.__table__.c.name))) == {"Rex", "Kim"}


async def test_a_relation_that_was_set_on_a_new_object_stays(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        bea = Person(name="Bea")
        pet = Pet(name="Tom", owner_id=1, owner=bea)

        await session.load(pet, Pet.owner)

        assert pet.owner is bea
        assert statements.kinds == []


async def test_columns_of_new_objects_and_relations_of_foreign_ones_are_not_loaded(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session, AsyncSession(engine) as other:
        pet = Pet(name="Tom", owner_id=1)
        with pytest.raises(InvalidRequestError, match="a transient Pet has no row from which 'name' could be loaded"):
            await session.load(pet, Pet.name)
        other.add(pet)
        with pytest.raises(InvalidRequestError, match="of another session"):
            await session.load(pet, Pet.owner)


# Leaving


async def test_expunge_follows_its_cascade_and_clear_takes_everything(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        pet = (await person.awaitable_attrs.pets)[0]
        stranger = Person(name="Bea")
        session.add(stranger)

        session.expunge(person)

        assert inspect(person).detached
        assert inspect(pet).detached
        assert list(session) == [stranger]
        with pytest.raises(InvalidRequestError, match="is not in this session"):
            session.expunge(person)
        session.expunge_all()
        assert inspect(stranger).transient
        assert list(session) == []


async def test_flush_of_some_objects_leaves_the_others_pending(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        first, second = Person(id=2, name="Bea"), Person(id=3, name="Kim")
        session.add_all([first, second])

        await session.flush([first])

        assert inspect(first).persistent
        assert inspect(second).pending


async def test_collections_can_be_left_out_of_the_question_whether_something_is_modified(
    engine: AsyncEngine,
) -> None:
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        (await person.awaitable_attrs.pets).append(Pet(name="Tom"))

        assert session.is_modified(person)
        assert not session.is_modified(person, include_collections=False)


async def test_invalidate_drops_the_connection_and_rolls_back(engine: AsyncEngine, observer: AsyncEngine) -> None:
    session = AsyncSession(engine)
    person = await session.get_one(Person, 1)
    person.name = "Bea"
    await session.flush()
    assert len(engine.pool.status().holders) == 1

    await session.invalidate()

    assert engine.pool.status().open == 0
    assert inspect(person).detached
    with pytest.raises(ResourceClosedError):
        await session.get(Person, 1)
    assert await people(observer) == [(1, "Ann")]


async def test_all_sessions_are_closed_at_once_and_a_busy_one_keeps_none_open(engine: AsyncEngine) -> None:
    first, busy, last = AsyncSession(engine), AsyncSession(engine), AsyncSession(engine)
    for session in (first, busy, last):
        await session.connection()

    with busy.context.guard.enter("something"), pytest.raises(ConcurrentUseError, match="something"):
        await close_all_sessions()

    assert [session.context.closed for session in (first, busy, last)] == [True, False, True]
    await close_all_sessions()
    assert engine.pool.status().holders == ()


async def test_members_follow_an_object_that_was_made_transient_to_its_new_row(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        person = Person(id=20, name="Ann", pets=[Pet(id=21, name="Rex"), Pet(id=22, name="Tom")])
        session.add(person)
        await session.commit()
        await session.load(person, Person.pets)
        make_transient(person)
        person.id = 30
        session.add(person)
        await session.commit()

        assert [pet.owner_id for pet in person.pets] == [30, 30]
    async with AsyncSession(observer) as other:
        assert await other.query(Pet.owner_id).where(Pet.id.in_([21, 22])).all() == [(30,), (30,)]
