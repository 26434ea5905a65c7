"""merge() goes along relations: whole graphs are copied onto what the session has."""

from itertools import pairwise

import pytest
from sqlalchemy import func, select

from aiosession import AsyncEngine, AsyncSession, selectinload
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import (
    Box,
    Club,
    Department,
    Letter,
    Node,
    Passport,
    Person,
    Pet,
    Shelf,
    Worker,
    make_tables,
    put,
)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_a_list_takes_one_statement_per_class_and_one_per_collection(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    count = 20
    await put(engine, *(Person(id=n, name=f"p{n}", pets=[Pet(id=n, name="Rex")]) for n in range(1, count)))
    statements.clear()
    async with AsyncSession(engine) as session:
        await session.merge_all(
            [Person(id=n, name=f"p{n}", pets=[Pet(id=n, name="Tom"), Pet(name="new")]) for n in range(1, count)]
        )

        assert statements.kinds == ["SELECT", "SELECT"]
        assert len(session.dirty) == 2 * (count - 1)  # each pet has a new name, each person a new pet
        assert len(session.new) == count - 1


async def test_a_tree_takes_one_statement_for_its_rows_and_one_for_their_children(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    def tree(name: str) -> Node:
        inner = Node(id=2, name=name, children=[Node(id=3, name=name), Node(id=4, name=name)])
        return Node(id=1, name=name, children=[inner])

    await put(engine, tree("old"))
    statements.clear()
    async with AsyncSession(engine) as session:
        merged = await session.merge(tree("new"))

        assert statements.kinds == ["SELECT", "SELECT"]
        assert merged.children[0].children[0].parent is merged.children[0]
        await session.commit()
    async with observer.connect() as connection:
        assert set(await connection.scalars(select(Node.__table__.c.name))) == {"new"}


async def test_what_is_missing_in_a_collection_is_an_orphan(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex"), Pet(id=2, name="Tom")]))

    async with AsyncSession(engine) as session:
        merged = await session.merge(Person(id=1, name="Ann", pets=[Pet(id=2, name="Tom"), Pet(id=3, name="Kim")]))
        assert [pet.id for pet in merged.pets] == [2, 3]
        await session.commit()

    async with observer.connect() as connection:
        assert set(await connection.scalars(select(Pet.__table__.c.id))) == {2, 3}


async def test_what_is_missing_in_a_collection_without_orphans_loses_its_owner(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await put(engine, Person(id=1, name="Ann", letters=[Letter(id=1, text="a"), Letter(id=2, text="b")]))

    async with AsyncSession(engine) as session:
        await session.merge(Person(id=1, name="Ann", letters=[Letter(id=2, text="b")]))
        await session.commit()

    async with AsyncSession(observer) as session:
        letters = (await session.scalars(select(Letter).order_by(Letter.id))).all()
        assert [letter.writer_id for letter in letters] == [None, 1]


async def test_the_owner_is_not_given_only_what_a_back_reference_put_there(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex"), Pet(id=2, name="Tom")]))

    async with AsyncSession(engine) as session:
        given = Pet(id=3, name="Kim", owner=Person(id=1, name="Ann"))
        merged = await session.merge(given)
        assert merged.owner is await session.get(Person, 1)
        await session.commit()

    async with observer.connect() as connection:
        assert set(await connection.scalars(select(Pet.__table__.c.id))) == {1, 2, 3}


async def test_a_changed_foreign_key_wins_over_a_relation_that_was_only_loaded(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    ann, bea = Person(id=1, name="Ann"), Person(id=2, name="Bea")
    await put(engine, ann, bea, Letter(id=1, text="a", writer_id=1), Letter(id=2, text="b"))
    async with AsyncSession(engine) as session:
        letters = (await session.scalars(select(Letter).options(selectinload(Letter.writer)))).all()
    for letter in letters:
        letter.writer_id = 2

    async with AsyncSession(engine) as session:
        await session.merge_all(letters)
        await session.commit()

    async with observer.connect() as connection:
        assert (await connection.scalars(select(Letter.__table__.c.writer_id))).all() == [2, 2]


async def test_a_relation_that_was_set_to_none_is_emptied(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Letter(id=1, text="a", writer=Person(id=1, name="Ann")))

    async with AsyncSession(engine) as session:
        await session.merge(Letter(id=1, text="a", writer=None))
        await session.commit()

    async with observer.connect() as connection:
        assert (await connection.scalars(select(Letter.__table__.c.writer_id))).all() == [None]


async def test_many_to_many_is_reconciled(engine: AsyncEngine, observer: AsyncEngine) -> None:
    chess, golf = Club(id=1, name="chess"), Club(id=2, name="golf")
    await put(engine, Person(id=1, name="Ann", clubs=[chess, golf]))

    async with AsyncSession(engine) as session:
        await session.merge(Person(id=1, name="Ann", clubs=[Club(id=2, name="golf"), Club(id=3, name="judo")]))
        await session.commit()

    async with AsyncSession(observer) as session:
        person = await session.get_one(Person, 1, options=[selectinload(Person.clubs)])
        assert sorted(club.name for club in person.clubs) == ["golf", "judo"]
        assert await session.scalar(select(func.count()).select_from(Club)) == 3


async def test_composite_keys_and_one_to_one(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Shelf(room="a", number=1, label="x"), Person(id=1, name="Ann", passport=Passport(number="1")))

    async with AsyncSession(engine) as session:
        await session.merge_all(
            [
                Box(id=1, shelf=Shelf(room="a", number=1, label="y")),
                Box(id=2, shelf=Shelf(room="a", number=2)),
                Box(id=3),
            ]
        )
        person = await session.merge(Person(id=1, name="Ann", passport=Passport(person_id=1, number="2")))
        assert person.passport is not None
        await session.commit()

    async with AsyncSession(observer) as session:
        shelves = (await session.execute(select(Shelf.number, Shelf.label).order_by(Shelf.number))).all()
        assert [tuple(row) for row in shelves] == [(1, "y"), (2, None)]
        assert await session.scalar(select(Passport.number)) == "2"


async def test_a_cycle_of_objects_is_merged_once_each(engine: AsyncEngine, observer: AsyncEngine) -> None:
    department = Department(id=1, name="lab")
    worker = Worker(id=1, name="Ann", department=department)
    department.head = worker

    async with AsyncSession(engine) as session:
        merged = await session.merge(department)

        assert merged.head is not None
        assert merged.head is not worker
        assert merged.head.department is merged
        await session.commit()
    async with observer.connect() as connection:
        assert await connection.scalar(select(Department.__table__.c.head_id)) == 1


async def test_a_chain_of_thousands_is_merged(engine: AsyncEngine, observer: AsyncEngine) -> None:
    length = 3000
    nodes = [Node(id=n, name="x") for n in range(length)]
    for parent, child in pairwise(nodes):
        parent.children.append(child)

    async with AsyncSession(engine) as session:
        await session.merge(nodes[0])
        await session.commit()

    async with observer.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(Node.__table__)) == length


async def test_a_relation_to_an_object_that_is_in_the_session(engine: AsyncEngine, observer: AsyncEngine) -> None:
    await put(engine, Person(id=1, name="Ann", pets=[Pet(id=1, name="Rex")]))
    async with AsyncSession(engine) as session:
        ann = await session.get_one(Person, 1)
        given = Pet(id=1, name="Tom")
        given.owner = ann
        assert given not in session

        merged = await session.merge(given)

        assert merged is not given
        assert merged.owner is ann
        await session.commit()
        assert given not in session
    async with observer.connect() as connection:
        assert set(await connection.scalars(select(Pet.__table__.c.name))) == {"Tom"}
