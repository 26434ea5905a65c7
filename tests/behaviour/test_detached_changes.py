"""Changes made while an object is in no session: another session takes them in and writes them."""

import pytest
from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession, inspect, make_transient
from aiosession.errors import InvalidRequestError
from tests.behaviour.flush_model import Club, Letter, Passport, Person, Pet, Toy, make_tables, membership


@pytest.fixture
async def person(engine: AsyncEngine) -> Person:
    """Return a person who is in no session, with everything that has been loaded."""
    await make_tables(engine)
    async with AsyncSession(engine) as session:
        ann = Person(
            name="Ann",
            letters=[Letter(text="dear")],
            pets=[Pet(name="Rex", toys=[Toy(name="ball")])],
            clubs=[Club(name="chess")],
        )
        session.add_all([ann, Person(name="Bob")])
        await session.commit()
    return ann


async def test_what_was_removed_from_a_collection_loses_its_parent(
    engine: AsyncEngine, observer: AsyncEngine, person: Person
) -> None:
    letter = person.letters.pop()

    async with AsyncSession(engine) as session:
        session.add(person)
        assert letter in session
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Letter.writer_id))).all() == [None]


async def test_what_was_removed_from_an_owner_is_deleted(
    engine: AsyncEngine, observer: AsyncEngine, person: Person
) -> None:
    pet = person.pets.pop()

    async with AsyncSession(engine) as session:
        session.add(person)
        await session.commit()
        assert inspect(pet).was_deleted

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(func.count()).select_from(Pet)) == 0


async def test_what_was_taken_out_of_a_many_to_many_collection_is_not_linked_any_more(
    engine: AsyncEngine, observer: AsyncEngine, person: Person
) -> None:
    person.clubs.clear()

    async with AsyncSession(engine) as session:
        session.add(person)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(func.count()).select_from(membership)) == 0


async def test_a_child_moves_without_its_former_parent(
    engine: AsyncEngine, observer: AsyncEngine, person: Person
) -> None:
    letter = person.letters[0]
    async with AsyncSession(engine) as session:
        ann = await session.get_one(Person, person.id)
        bob = (await session.scalars(select(Person).where(Person.name == "Bob"))).one()
        letter.writer = bob
        session.add(letter)

        assert ann in session
        assert person not in session
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Letter.writer_id))).all() == [bob.id]


async def test_the_only_child_that_was_replaced_is_written_to(
    engine: AsyncEngine, observer: AsyncEngine, person: Person
) -> None:
    async with AsyncSession(engine) as session:
        session.add(person)
        await session.load(person, Person.passport)
        person.passport = Passport(number="1")
        await session.commit()
    first, person.passport = person.passport, None

    async with AsyncSession(engine) as session:
        session.add(person)
        assert first in session
        await session.delete(first)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Passport))).all() == []


async def test_what_never_had_a_row_stays_outside(engine: AsyncEngine, person: Person) -> None:
    letter = Letter(text="never sent")
    person.letters.append(letter)
    person.letters.remove(letter)

    async with AsyncSession(engine) as session:
        session.add(person)

        assert letter not in session


async def test_what_is_new_again_stays_outside(engine: AsyncEngine, person: Person) -> None:
    letter = person.letters.pop()
    make_transient(letter)

    async with AsyncSession(engine) as session:
        session.add(person)

        assert letter not in session


async def test_a_removed_object_of_another_session_is_refused_and_nothing_is_taken_in(
    engine: AsyncEngine, person: Person
) -> None:
    toy = person.pets[0].toys.pop()

    async with AsyncSession(engine) as one, AsyncSession(engine) as session:
        one.add(toy)
        with pytest.raises(InvalidRequestError, match=r"Toy\(1\) is already in the session"):
            session.add(person)

        assert person not in session
