"""Rows are written in an order in which everything they refer to is there."""

import pytest
from sqlalchemy import Column, ForeignKey, Integer, Table, select

from aiosession import AsyncEngine, AsyncSession, CircularDependencyError, registry, relationship
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Department, Egg, Hen, Letter, Node, Passport, Person, Worker, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_a_child_is_inserted_after_its_parent(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann")
        letter = Letter(text="hi", writer=person)
        session.add(letter)

        await session.flush()

        assert statements.tables("INSERT") == ["person", "letter"]
        assert letter.writer_id == person.id


async def test_rows_of_a_table_share_one_statement(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        session.add_all(Person(name=f"p{n}", letters=[Letter(text="a"), Letter(text="b")]) for n in range(5))

        await session.flush()

        assert statements.tables("INSERT") == ["person", "letter"]


async def test_generated_keys_go_to_the_objects_in_the_order_in_which_they_were_added(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        people = [Person(name=f"p{n}") for n in range(50)]
        session.add_all(people)
        await session.commit()

    async with AsyncSession(observer) as other:
        names = {person.id: person.name for person in await other.scalars(select(Person))}
    assert names == {person.id: person.name for person in people}


async def test_a_tree_is_inserted_level_by_level(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        root = Node(name="root", children=[Node(name="a", children=[Node(name="leaf")]), Node(name="b")])
        session.add(root)

        await session.flush()

        assert statements.tables("INSERT") == ["node"] * 3
        assert [child.parent_id for child in root.children] == [root.id, root.id]
        assert root.children[0].children[0].parent_id == root.children[0].id


async def test_a_tree_is_deleted_from_its_leaves(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        root = Node(name="root", children=[Node(name="a", children=[Node(name="leaf")]), Node(name="b")])
        session.add(root)
        await session.commit()

        await session.delete(root)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(Node))).all() == []


async def test_a_cycle_is_cut_where_a_relation_says_post_update(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        department = Department(name="sales")
        department.head = Worker(name="Ann", department=department)
        session.add(department)
        await session.commit()

        assert statements.tables("INSERT") == ["department", "worker"]
        assert statements.tables("UPDATE") == ["department"]
        assert department.head_id == department.head.id

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Department.head_id)) == department.head_id


async def test_a_cycle_is_cut_before_it_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        department = Department(name="sales")
        worker = department.head = Worker(name="Ann", department=department)
        session.add(department)
        await session.commit()

        await session.delete(department)
        await session.delete(worker)
        await session.commit()

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Worker.id)) is None
        assert await other.scalar(select(Department.id)) is None


async def test_rows_that_need_each_other_are_refused_with_the_remedy(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        hen = Hen()
        hen.egg = Egg(hen=hen)
        session.add(hen)

        with pytest.raises(CircularDependencyError, match=r"post_update=True on one of the relations") as caught:
            await session.flush()

        assert {type(obj) for obj in caught.value.cycle} == {Hen, Egg}
        assert statements.count == 0


async def test_a_key_that_is_a_foreign_key_comes_from_the_parent(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", passport=Passport(number="P1"))
        session.add(person)

        await session.flush()

        assert person.passport is not None
        assert person.passport.person_id == person.id
        assert await session.get(Passport, person.id) is person.passport


async def test_an_existing_row_can_refer_to_a_new_one(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        letter = Letter(text="hi")
        session.add(letter)
        await session.commit()

        letter.writer = Person(name="Ann")
        await session.commit()

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Letter.writer_id)) == letter.writer_id is not None


async def test_one_statement_needs_no_transaction(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        session.add(Person(name="Ann"))
        await session.commit()

    assert statements.kinds == ["INSERT"]


async def test_a_flush_that_is_not_all_is_sent_in_a_transaction(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        session.add(Person(name="Ann"))
        await session.flush()
        await session.commit()

    assert statements.kinds == ["BEGIN", "INSERT", "COMMIT"]


async def test_a_new_row_that_refers_to_itself_is_refused_with_the_remedy(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        node = Node(name="Ouroboros")
        node.parent = node
        session.add(node)

        with pytest.raises(CircularDependencyError, match=r"post_update=True on one of the relations Node\.parent"):
            await session.flush()

        assert statements.count == 0


async def test_a_class_mapped_after_the_first_flush_is_respected(engine: AsyncEngine) -> None:
    mappers = registry()
    child = Table(
        "later_child",
        mappers.metadata,
        Column("id", Integer, primary_key=True),
        Column("parent_id", ForeignKey("later_parent.id")),
    )
    parent = Table("later_parent", mappers.metadata, Column("id", Integer, primary_key=True))

    class Child:
        pass

    class Parent:
        children: list[Child]

    mappers.map_imperatively(Child, child)
    async with engine.begin() as connection:
        await connection.create_all(mappers.metadata)
    async with AsyncSession(engine) as session:
        session.add(Child())
        await session.commit()

    mappers.map_imperatively(Parent, parent, properties={"children": relationship(Child)})
    async with AsyncSession(engine) as session:
        family = Parent()
        family.children = [Child(), Child()]
        session.add(family)
        await session.commit()

        await session.refresh(family, ["children"])
        assert len(family.children) == 2
    mappers.dispose()
