"""A plan shows what a flush would do, and does none of it."""

from pathlib import Path
from typing import Any

import pytest

from aiosession import ArgumentError, AsyncEngine, AsyncSession, FlushPlan, Generated, Why, create_async_engine
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import (
    Base,
    Club,
    Department,
    Document,
    Letter,
    Node,
    Person,
    Pet,
    Thing,
    Worker,
    make_tables,
)


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


def _reasons(plan: FlushPlan) -> list[tuple[str, str, str]]:
    return [(row.kind.value, row.table.name, str(row.reason)) for row in plan.rows]


async def test_every_row_has_its_object_its_values_and_its_reason(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        writer = Person(name="Ann")
        letter = Letter(text="hi", writer=writer)
        session.add_all([writer, letter])

        first, second = (await session.plan()).rows

        assert (first.obj, second.obj) == (writer, letter)
        key = second.values["writer_id"]
        assert isinstance(key, Generated)
        assert (key.state(), key.attribute) == (writer, "id")
        assert (first.reason.why, second.match) == (Why.NEW, {})


async def test_rows_of_connecting_tables_and_late_foreign_keys_are_in_it(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", clubs=[Club(name="chess")])
        department = Department(name="x")
        department.head = Worker(name="w", department=department)
        session.add_all([person, department])
        assert {
            ("INSERT", "membership", "association: Person.clubs"),
            ("UPDATE", "department", "post update: head_id"),
        } <= set(_reasons(await session.plan()))
        await session.commit()

        person.clubs.clear()
        assert _reasons(await session.plan()) == [("DELETE", "membership", "association: Person.clubs")]


async def test_a_version_that_is_counted_up_is_in_it(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        document = Document(text="a")
        session.add(document)
        await session.commit()
        document.text = "b"

        (row,) = (await session.plan()).rows

        assert (row.values, row.match) == ({"text": "b", "version": 2}, {"id": 1, "version": 1})
        assert str(row.reason) == "changed: text, version"


async def test_a_row_that_gets_another_object_says_so(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        old = Person(id=7, name="old")
        session.add(old)
        await session.commit()
        await session.delete(old)
        new = Person(id=7, name="new")
        session.add(new)

        (row,) = [row for row in (await session.plan()).rows if row.table.name == "person"]

        assert row.obj is new
        assert (row.kind.value, row.match, row.reason.why) == ("UPDATE", {"id": 7}, Why.REPLACED)


async def test_foreign_keys_that_are_set_to_null_say_by_which_relation(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", letters=[Letter(text="hi")])
        session.add(person)
        await session.commit()
        await session.delete(person)

        reasons = _reasons(await session.plan())
        assert (reasons[0], reasons[-1]) == (
            ("UPDATE", "letter", "foreign key: writer_id"),
            ("DELETE", "person", "deleted"),
        )


async def test_a_plan_for_some_objects_shows_what_flushing_them_would_send(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        ann, bea = Person(name="Ann"), Person(name="Bea")
        session.add_all([ann, bea])

        plan = await session.plan([bea])
        await session.flush([bea])

        assert [row.obj for row in plan.rows] == [bea]
        assert statements.tables("INSERT") == ["person"]
        assert ann in session.new


async def test_each_batch_knows_its_database(engine: AsyncEngine, tmp_path: Path) -> None:
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/other.db")
    async with AsyncSession(binds={Base: engine, Club: other}) as session:
        session.add_all([Person(name="Ann"), Club(name="chess")])

        plan = await session.plan()

        assert {bind: [batch.table.name for batch in batches] for bind, batches in plan.by_bind.items()} == {
            engine.url.render_as_string(): ["person"],
            other.url.render_as_string(): ["club"],
        }
        assert str(plan).splitlines()[0].split()[-1] == "bind"
        assert "other.db" in str(plan)
    await other.dispose()


async def test_a_long_plan_leaves_out_its_middle(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        node = Node(name="0")
        session.add(node)
        for number in range(1, 100):
            node = Node(name=str(number), parent=node)
            session.add(node)

        lines = str(await session.plan()).splitlines()

        assert len(lines) == 2 + 20 + 1 + 5
        assert lines[22] == "…  75 more statements with 75 rows"
        assert [line.split()[0] for line in (lines[2], lines[21], lines[23], lines[-1])] == ["1", "20", "96", "100"]


@pytest.mark.parametrize("value", ["x" * 500, "two\nlines"])
async def test_values_are_shortened_to_a_line(engine: AsyncEngine, value: str) -> None:
    async with AsyncSession(engine) as session:
        session.add(Thing(code=value))

        lines = str(await session.plan()).splitlines()

        assert len(lines) == 3
        assert max(map(len, lines)) < 400


async def _changes(session: AsyncSession) -> list[Any]:
    return [sorted(map(id, held)) for held in (session.new, session.dirty, session.deleted)]


async def test_a_plan_leaves_the_work_to_be_done(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        ann = Person(name="Ann", pets=[Pet(name="Rex")])
        session.add_all([ann, Person(name="Bea", clubs=[Club(name="chess")])])
        await session.commit()
        ann.name = "Eve"
        ann.pets.clear()
        session.add(Letter(text="hi", writer=ann))
        before = await _changes(session)

        first, second = await session.plan(), await session.plan()

        assert await _changes(session) == before
        assert str(first) == str(second)
        statements.clear()
        await session.flush()
        sent = [event.kind for event in statements.statements if event.kind != "SELECT"]
        assert sent == [batch.kind.value for batch in first]


async def test_one_object_has_to_be_given_in_a_list(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        ann = Person(name="Ann")
        session.add(ann)

        with pytest.raises(ArgumentError, match="several objects"):
            await session.plan(ann)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="several objects"):
            await session.flush(ann)  # type: ignore[arg-type]
