"""merge() copies the state of objects from elsewhere onto the session's own objects of the same identity."""

import asyncio
import pickle
from itertools import pairwise

import pytest
from sqlalchemy import func, select, update

from aiosession import AsyncEngine, AsyncSession, inspect, selectinload
from aiosession.errors import ArgumentError, InvalidRequestError, ObjectNotFoundError, StaleDataError, UnmappedError
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import (
    Box,
    Club,
    Department,
    Document,
    Letter,
    Node,
    Passport,
    Person,
    Pet,
    Shelf,
    Worker,
    make_tables,
)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def put(engine: AsyncEngine, *objects: object) -> None:
    """Write objects with a session of its own; they come back detached."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add_all(objects)
        await session.commit()


async def ages(engine: AsyncEngine) -> dict[str, int | None]:
    async with engine.connect() as connection:
        rows = await connection.execute(select(Person.__table__.c.name, Person.__table__.c.age))
        return dict(rows.all())


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


# Relations


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


# Without load


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
