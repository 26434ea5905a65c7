"""What goes with a deleted object, and what stays behind without its reference."""

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession, FlushError, load_only
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Box, Letter, Node, Note, Passport, Person, Pet, Shelf, Toy, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def _count(engine: AsyncEngine, entity: type) -> int:
    async with AsyncSession(engine) as session:
        return len((await session.scalars(select(entity))).all())


async def test_children_go_before_their_parents(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex", toys=[Toy(name="ball")]), Pet(name="Tom")])
        session.add(person)
        await session.commit()
        statements.clear()

        await session.delete(person)
        await session.commit()

        assert statements.tables("DELETE")[-3:] == ["toy", "pet", "person"]
    assert [await _count(observer, entity) for entity in (Person, Pet, Toy)] == [0, 0, 0]


async def test_unloaded_children_of_many_parents_are_found_by_one_select_per_relation(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        session.add_all(Person(name=f"p{n}", pets=[Pet(name="Rex")]) for n in range(10))
        await session.commit()

    async with AsyncSession(engine) as session:
        people = (await session.scalars(select(Person))).all()
        statements.clear()
        for person in people:
            await session.delete(person)
        await session.commit()

    assert sorted(statements.tables("SELECT")) == ["letter", "note", "passport", "pet", "toy"]
    assert await _count(observer, Pet) == 0


async def test_without_the_cascade_children_lose_their_reference(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", letters=[Letter(text="a"), Letter(text="b")], notes=[Note(text="n")])
        session.add(person)
        await session.commit()
        letter = person.letters[0]
        statements.clear()

        await session.delete(person)
        await session.commit()

        assert letter.writer_id is None
        assert sorted(statements.tables("UPDATE")) == ["letter", "note"]
    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Letter.writer_id))).all() == [None, None]
        assert (await other.scalars(select(Note.person_id))).all() == [None]


async def test_a_child_that_found_another_parent_stays(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        ann, bea = Person(name="Ann", pets=[Pet(name="Rex")]), Person(name="Bea")
        session.add_all([ann, bea])
        await session.commit()
        await session.load([ann, bea], Person.pets)

        bea.pets.append(ann.pets[0])
        await session.delete(ann)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Pet.owner_id))).all() == [bea.id]


async def test_passive_deletes_all_leaves_children_to_the_database(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        shelf = Shelf(room="A", number=1)
        session.add(shelf)
        await session.commit()
        statements.clear()

        await session.delete(shelf)
        await session.flush()

        assert [event.kind for event in statements] == ["DELETE"]


async def test_a_deleted_object_is_out_of_the_session(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", passport=Passport(number="1"))
        session.add(person)
        await session.flush()
        key, passport = person.id, person.passport

        await session.delete(person)
        await session.flush()

        assert person not in session
        assert passport not in session
        assert await session.get(Person, key) is None


async def test_rollback_brings_what_the_cascade_deleted_back(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex")])
        session.add(person)
        await session.commit()
        pet = person.pets[0]

        await session.delete(person)
        await session.flush()
        await session.rollback()

        assert person in session
        assert pet in session
        person.name = "Bea"
        await session.commit()
    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Person.name)) == "Bea"


async def test_an_object_replaces_a_deleted_one_with_its_key(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        old = Shelf(room="A", number=1, label="old")
        session.add(old)
        await session.commit()
        statements.clear()

        await session.delete(old)
        new = Shelf(room="A", number=1, label="new")
        session.add(new)
        await session.commit()

        assert [event.kind for event in statements] == ["UPDATE"]
        assert old not in session
        assert await session.get(Shelf, ("A", 1)) is new
    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Shelf.label)) == "new"


async def test_a_foreign_key_in_the_primary_key_cannot_be_nulled(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", passport=Passport(number="1"))
        session.add(person)
        await session.commit()

        person.passport = None

        with pytest.raises(FlushError, match="part of its primary key"):
            await session.flush()


async def test_composite_keys_carry_over_to_children(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Shelf(room="A", number=number, boxes=[Box(), Box()]) for number in range(3)])
        await session.commit()

    async with AsyncSession(observer) as other:
        found = (await other.execute(select(Box.shelf_room, Box.shelf_number).order_by(Box.id))).all()
    assert [tuple(row) for row in found] == [("A", n) for n in range(3) for _ in range(2)]


async def test_rows_of_a_tree_whose_foreign_keys_are_not_loaded_can_be_deleted(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Node(name="root", children=[Node(name="a", children=[Node(name="b")])]))
        await session.commit()

    async with AsyncSession(engine) as session:
        for node in await session.scalars(select(Node).options(load_only(Node.name)).order_by(Node.id)):
            await session.delete(node)
        await session.commit()

    assert await _count(observer, Node) == 0


@pytest.mark.parametrize("way", ["rollback", "rollback after flush", "savepoint", "expire", "refresh"])
async def test_a_member_whose_removal_is_undone_is_no_orphan(
    engine: AsyncEngine, observer: AsyncEngine, way: str
) -> None:
    async with AsyncSession(engine) as session:
        pet = Pet(name="Rex", toys=[Toy(name="ball")])
        session.add(Person(name="Ann", pets=[pet]))
        await session.commit()
        toy = pet.toys[0]

        nested = await session.begin_nested() if way == "savepoint" else None
        pet.toys.remove(toy)
        if nested is not None:
            await session.flush()
            await nested.rollback()
        elif way == "expire":
            session.expire(pet)
        elif way == "refresh":
            with session.no_autoflush:
                await session.refresh(pet, ["toys"])
        else:
            if way == "rollback after flush":
                await session.flush()
            await session.rollback()
        toy.name = "bone"
        await session.commit()

        assert pet.toys == [toy]
    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Toy.name)) == "bone"
