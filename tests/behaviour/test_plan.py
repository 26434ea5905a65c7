"""A plan shows what a flush would do, and does none of it."""

import pytest

from aiosession import AsyncEngine, AsyncSession
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Letter, Person, Pet, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_nothing_is_sent_and_nothing_is_changed(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann")
        session.add(person)

        plan = await session.plan()

        assert len(plan) == 1
        assert statements.events == []
        assert person in session.new
        assert person.id is None


async def test_statements_come_in_order_with_rows_and_reasons(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Person(name="Ann", letters=[Letter(text="hi")]))

        first, second = (await session.plan()).batches

        assert (first.kind.value, first.table.name) == ("INSERT", "person")
        (row,) = second.rows
        assert row.values["text"] == "hi"
        assert repr(row.values["writer_id"]) == "<Person#1.id>"
        assert str(row.reason) == "new"


async def test_an_update_names_the_attributes_that_changed(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", age=3)
        session.add(person)
        await session.commit()
        person.name = "Bea"
        person.age = 3

        (batch,) = (await session.plan()).batches

        (row,) = batch.rows
        assert (row.values, row.match) == ({"name": "Bea"}, {"id": person.id})
        assert str(row.reason) == "changed: name"


async def test_deletes_say_whether_they_are_asked_for_orphaned_or_cascaded(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        ann = Person(name="Ann", pets=[Pet(name="Rex")])
        bea = Person(name="Bea", pets=[Pet(name="Tom")])
        session.add_all([ann, bea])
        await session.flush()
        bea.pets.clear()
        await session.delete(ann)

        plan = await session.plan()

        reasons = {str(row.reason) for batch in plan for row in batch.rows}
        assert reasons == {"deleted", "cascade: Person.pets", "orphan: Person.pets"}


async def test_it_prints_as_a_table(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Person(name="Ann"))

        lines = str(await session.plan()).splitlines()

        assert lines[0].split() == ["#", "statement", "rows", "columns", "because"]
        assert "INSERT person" in lines[2]
        assert "name='Ann'" in lines[2]


async def test_an_empty_plan_says_so(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        plan = await session.plan()

        assert plan.is_empty
        assert str(plan) == "nothing to write"


async def test_it_tells_whether_a_transaction_is_needed(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        people = [Person(name="Ann"), Person(name="Bea")]
        session.add_all(people)
        assert not (await session.plan()).needs_transaction
        await session.flush()

        for person in people:
            person.name += "!"

        assert (await session.plan()).needs_transaction
