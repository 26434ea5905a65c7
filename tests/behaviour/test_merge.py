"""merge() copies the state of objects from elsewhere onto the session's own objects of the same identity."""

import asyncio
import pickle

import pytest
from sqlalchemy import update

from aiosession import AsyncEngine, AsyncSession, inspect, selectinload
from aiosession.errors import ArgumentError, InvalidRequestError, ObjectNotFoundError, StaleDataError, UnmappedError
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import (
    Document,
    Letter,
    Person,
    Pet,
    ages,
    make_tables,
    put,
)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


# The five steps


async def test_a_changed_copy_is_written_over_the_row(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", age=3))

    async with AsyncSession(engine) as session:
        merged = await session.merge(Person(id=1, name="Ann", age=4))
        await session.commit()

    assert inspect(merged).detached
    assert await ages(observer) == {"Ann": 4}


async def test_the_object_in_the_session_is_returned_without_a_statement(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as session:
        known = await session.get_one(Person, 1)
        statements.clear()

        merged = await session.merge(Person(id=1, name="Bea"))

        assert merged is known
        assert known.name == "Bea"
        assert statements.kinds == []


async def test_without_a_row_a_new_object_is_made(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        given = Person(id=7, name="Ann")
        merged = await session.merge(given)

        assert merged is not given
        assert inspect(merged).pending
        assert inspect(given).transient
        await session.commit()
    assert await ages(observer) == {"Ann": None}


async def test_without_a_primary_key_nothing_is_looked_up(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        merged = await session.merge(Person(name="Ann"))

        assert inspect(merged).pending
        assert statements.kinds == []


async def test_the_given_object_can_be_merged_into_many_sessions(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex")]))
    given = Person(id=1, name="Bea", pets=[Pet(id=1, name="Tom")])

    for _ in range(2):
        async with AsyncSession(engine) as session:
            merged = await session.merge(given)
            assert (merged.name, merged.pets[0].name) == ("Bea", "Tom")
            assert merged.pets[0] is not given.pets[0]

    assert inspect(given).transient
    assert inspect(given.pets[0]).transient


async def test_a_detached_object_comes_back_with_its_changes(engine: AsyncEngine, observer: AsyncEngine) -> None:
    person = Person(id=1, name="Ann", age=3)
    await put(engine, person)
    person.age = 5

    async with AsyncSession(engine) as session:
        merged = await session.merge(pickle.loads(pickle.dumps(person)))
        await session.commit()
        assert merged is not person

    assert await ages(observer) == {"Ann": 5}


async def test_what_the_given_object_lacks_stays_as_it_is(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", age=3, pets=[Pet(name="Rex")]))

    async with AsyncSession(engine) as session:
        merged = await session.merge(Person(id=1, name="Bea"))

        assert merged.age == 3
        assert "pets" in inspect(merged).unloaded
        await session.commit()
    assert await ages(observer) == {"Bea": 3}


async def test_reading_an_unset_relation_does_not_make_it_part_of_what_is_merged(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await put(engine, Letter(id=1, text="Hi", writer=Person(id=1, name="Ann")))
    given = Letter(id=1, text="Hello", writer_id=1)
    assert given.writer is None

    async with AsyncSession(engine) as session:
        await session.merge(given)
        await session.commit()

    async with AsyncSession(observer) as session:
        letter = await session.get_one(Letter, 1)
        assert (letter.text, letter.writer_id) == ("Hello", 1)


async def test_what_is_taken_off_an_object_is_not_merged(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Letter(id=1, text="Hi", writer=Person(id=1, name="Ann", age=3)))
    given = Letter(id=1, text="Hello", writer=None)
    vars(given).pop("writer")

    async with AsyncSession(engine) as session:
        await session.merge(given)
        await session.commit()

    async with AsyncSession(observer) as session:
        letter = await session.get_one(Letter, 1)
        assert (letter.text, letter.writer_id) == ("Hello", 1)


async def test_merging_what_is_the_same_leaves_the_session_clean(engine: AsyncEngine, statements: StatementLog) -> None:
    await put(engine, Person(id=1, name="Ann", age=3, pets=[Pet(id=1, name="Rex")]))
    async with AsyncSession(engine) as session:
        await session.merge(Person(id=1, name="Ann", age=3, pets=[Pet(id=1, name="Rex")]))

        assert not session.dirty
        statements.clear()
        await session.commit()
    assert statements.tables("UPDATE") == []


async def test_stale_values_are_read_again_before_they_are_compared(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", age=3))
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(update(Person.__table__).values(age=9))

        merged = await session.merge(Person(id=1, name="Ann", age=3))
        await session.commit()

        assert merged is person
    assert await ages(observer) == {"Ann": 3}


async def test_a_stale_object_whose_row_is_gone_is_an_error(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(Person.__table__.delete())

        with pytest.raises(ObjectNotFoundError, match="Person"):
            await session.merge(Person(id=1, name="Bea"))
        assert person.name == "Ann"


async def test_loader_options_hold_for_what_is_looked_up(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(name="Rex")]))
    async with AsyncSession(engine) as session:
        merged = await session.merge(Person(id=1, name="Bea"), options=[selectinload(Person.pets)])

        assert [pet.name for pet in merged.pets] == ["Rex"]


# Objects in every state


async def test_an_object_of_the_session_is_merged_into_itself(engine: AsyncEngine, statements: StatementLog) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine, autoflush=False) as session:
        persistent = await session.get_one(Person, 1)
        pending = Person(name="Bea")
        session.add(pending)
        statements.clear()

        assert await session.merge_all([persistent, pending]) == [persistent, pending]
        assert statements.kinds == []


async def test_a_copy_is_merged_into_the_pending_object_of_the_same_key(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine, autoflush=False) as session:
        pending = Person(id=1, name="Ann")
        session.add(pending)

        assert await session.merge(Person(id=1, name="Bea")) is pending
        await session.commit()
    assert await ages(observer) == {"Bea": None}


async def test_an_object_of_another_session_stays_there(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as other, AsyncSession(engine) as session:
        theirs = await other.get_one(Person, 1)
        theirs.name = "Bea"

        ours = await session.merge(theirs)

        assert ours is not theirs
        assert ours.name == "Bea"
        assert theirs in other
        assert theirs not in session


async def test_a_copy_of_a_deleted_object_is_inserted_anew(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann"))
    async with AsyncSession(engine) as session:
        person = await session.get_one(Person, 1)
        await session.delete(person)
        await session.flush()

        merged = await session.merge(person)

        assert merged is not person
        await session.commit()
    assert await ages(observer) == {"Ann": None}


async def test_two_objects_of_the_same_identity_become_one(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        first, second = await session.merge_all([Person(id=1, name="Ann"), Person(id=1, name="Ann", age=3)])

        assert first is second
        await session.commit()
    assert await ages(observer) == {"Ann": 3}


async def test_what_is_not_mapped_is_refused_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        with pytest.raises(UnmappedError):
            await session.merge(object())
        with pytest.raises(UnmappedError):
            await session.merge_all([Person(id=1, name="Ann"), "Bea"])
        with pytest.raises(ArgumentError, match="several objects"):
            await session.merge_all(Person(id=1, name="Ann"))  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="takes values of type int"):
            await session.merge(Person(id="1", name="Ann"))
        assert statements.kinds == []
        assert not session.new


# While it waits


async def test_what_is_merged_is_the_object_as_it_was_when_the_merge_began(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex")]))
    async with AsyncSession(engine) as session:
        given = Person(id=1, name="Bea", pets=[Pet(id=1, name="Tom")])
        merge = asyncio.create_task(session.merge(given))
        await asyncio.sleep(0)
        given.name, given.pets = "Kim", []

        merged = await merge

        assert (merged.name, [pet.name for pet in merged.pets]) == ("Bea", ["Tom"])


async def test_a_target_that_leaves_meanwhile_is_an_error_and_nothing_is_merged(engine: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex")]))
    async with AsyncSession(engine) as session:
        known = await session.get_one(Person, 1)
        merge = asyncio.create_task(session.merge(Person(id=1, name="Bea", pets=[Pet(name="Tom")])))
        await asyncio.sleep(0)
        session.expunge(known)

        with pytest.raises(InvalidRequestError, match=r"Person\(1\) left the session while merge\(\) was waiting"):
            await merge
        assert known.name == "Ann"
        assert not session.new


# Versions


async def test_a_version_that_was_passed_by_cannot_be_merged(engine: AsyncEngine) -> None:
    document = Document(id=1, text="a")
    await put(engine, document)
    async with AsyncSession(engine) as session:
        (await session.get_one(Document, 1)).text = "b"
        await session.commit()
        document.text = "c"

        with pytest.raises(StaleDataError, match="version 1, the row has 2"):
            await session.merge(document)
        assert not session.dirty


async def test_without_a_version_the_latest_row_is_overwritten(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Document(id=1, text="a"))

    async with AsyncSession(engine) as session:
        await session.merge(Document(id=1, text="c"))
        await session.commit()

    async with AsyncSession(observer) as session:
        document = await session.get_one(Document, 1)
        assert (document.text, document.version) == ("c", 2)
