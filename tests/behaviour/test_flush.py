"""What a flush writes, and what becomes of the objects."""

import asyncio

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SAWarning

from aiosession import AsyncEngine, AsyncSession, DataError, FlushError, NotLoadedError, UniqueViolationError
from aiosession.state.attributes import flag_modified
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import City, Club, Country, Letter, Note, Person, Pet, Shelf, Thing, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def test_setting_an_equal_value_writes_nothing(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann")
        session.add(person)
        await session.commit()
        statements.clear()

        person.name = "An" + "n"
        await session.commit()

        assert statements.count == 0
        assert person not in session.dirty


async def test_only_changed_columns_are_written(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", age=3)
        session.add(person)
        await session.commit()
        statements.clear()

        person.age = None
        await session.flush()

        (update,) = statements.of_kind("UPDATE")
        assert "age" in update.sql
        assert "name" not in update.sql


async def test_a_deleted_value_is_none_after_the_flush(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", age=3)
        session.add(person)
        await session.commit()

        del person.age
        await session.flush()

        assert person.age is None
        await session.rollback()
        assert person.age == 3


async def test_rows_with_the_same_changed_columns_share_a_statement(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        people = [Person(name=f"p{n}") for n in range(9)]
        session.add_all(people)
        await session.commit()
        statements.clear()

        for number, person in enumerate(people):
            if number % 3 == 0:
                person.name += "!"
            else:
                person.age = number
        await session.commit()

        assert len(statements.of_kind("UPDATE")) == 2
    async with AsyncSession(observer) as other:
        found = (await other.execute(select(Person.name, Person.age).order_by(Person.id))).all()
    assert [tuple(row) for row in found] == [(f"p{n}!", None) if n % 3 == 0 else (f"p{n}", n) for n in range(9)]


async def test_defaults_of_every_kind_reach_the_object(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        thing = Thing()
        session.add(thing)

        await session.flush()

        assert (thing.status, thing.size, thing.twice, thing.shout) == ("fresh", 7, 14, "ABC")
        assert len(thing.code) == 32
        assert thing.made is not None
        assert thing.touched is None
        assert thing.content is None
        assert await session.get(Thing, thing.id) is thing


async def test_rows_that_give_different_values_for_server_defaults(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        things = [Thing(size=n if n % 2 else None) for n in range(6)]
        session.add_all(things)
        await session.commit()

        assert [thing.size for thing in things] == [7, 1, 7, 3, 7, 5]
    async with AsyncSession(observer) as other:
        found = {thing.id: thing.twice for thing in await other.scalars(select(Thing))}
    assert found == {thing.id: thing.size * 2 for thing in things}


async def test_an_update_computes_its_defaults_and_forgets_what_the_database_computes(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        thing = Thing()
        session.add(thing)
        await session.commit()

        thing.size = 50
        await session.flush()

        assert thing.touched == 1
        with pytest.raises(NotLoadedError):
            _ = thing.twice
        await session.refresh(thing)
        assert thing.twice == 100


async def test_json_knows_null_from_null(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        unset, none, given = Thing(), Thing(content=None), Thing(content={"a": [1, None]})
        session.add_all([unset, none, given])
        await session.commit()

    async with AsyncSession(observer) as other:
        nulls = (await other.scalars(select(Thing.id).where(Thing.__table__.c.content.is_(None)))).all()
        assert nulls == [unset.id]
        assert (await other.get_one(Thing, given.id)).content == {"a": [1, None]}


async def test_a_value_changed_inside_is_written_when_flagged(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        thing = Thing(content=[1])
        session.add(thing)
        await session.commit()

        thing.content.append(2)
        flag_modified(thing, "content")
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.get_one(Thing, thing.id)).content == [1, 2]


@pytest.mark.parametrize(("attribute", "value"), [("name", 5), ("age", "old"), ("age", 1.5)])
async def test_a_value_of_the_wrong_type_is_named_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog, attribute: str, value: object
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Person(**{"name": "Ann", attribute: value}))

        with pytest.raises(DataError, match=rf"Person\.{attribute} .* cannot hold {value!r}"):
            await session.commit()

        assert statements.events == []
        await session.rollback()
        session.add(Person(name="Bea"))
        await session.commit()


async def test_a_text_that_a_column_cannot_read_is_named_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Thing(id="no-uuid"))

        with pytest.raises(DataError, match=r"Thing\.id .* cannot hold 'no-uuid'"):
            await session.commit()

        assert statements.events == []


async def test_a_missing_primary_key_is_named_before_anything_is_sent(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Shelf(room="A"))

        with pytest.raises(FlushError, match="Shelf has no value for 'number'"):
            await session.flush()

        assert statements.events == []


async def test_a_failed_flush_leaves_the_objects_as_they_were(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Shelf(room="A", number=1))
        await session.commit()

    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex")])
        double = Shelf(room="A", number=1)
        session.add_all([person, double])

        with pytest.raises(UniqueViolationError):
            await session.flush()

        assert person.id is None
        assert person.pets[0].owner_id is None
        await session.rollback()
        session.add(person)
        await session.commit()
        assert person.pets[0].owner_id == person.id


async def test_what_changes_while_a_flush_waits_stays_a_change(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        old, new = Person(name="old"), Person(name="new")
        session.add(old)
        await session.commit()
        old.name = "old 1"
        session.add(new)

        task = asyncio.create_task(session.flush())
        await asyncio.sleep(0)
        old.name, new.name = "old 2", "new 2"
        new.letters.append(Letter(text="late"))
        await task

        assert {old, new} <= set(session.dirty)
        await session.commit()
    async with AsyncSession(observer) as other:
        assert sorted((await other.scalars(select(Person.name))).all()) == ["new 2", "old 2"]
        assert await other.scalar(select(Letter.writer_id)) == new.id


async def test_an_object_that_leaves_while_a_flush_waits_is_left_alone(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        gone, stays = Person(name="gone"), Person(name="stays")
        session.add_all([gone, stays])

        task = asyncio.create_task(session.flush())
        await asyncio.sleep(0)
        session.expunge(gone)
        await task

        assert gone not in session
        assert gone.id is None
        assert stays in session
        await session.commit()


async def test_relations_can_be_changed_again_after_a_flush(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann")
        session.add(person)
        await session.flush()

        person.letters.append(Letter(text="hi"))
        person.notes.append(Note(text="n"))
        person.clubs.append(Club(name="chess"))
        await session.flush()
        person.notes.clear()
        await session.commit()

    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Letter.writer_id)) == person.id
        assert await other.scalar(select(Note.person_id)) is None


async def test_an_object_outside_the_session_is_skipped_with_a_warning(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person, letter = Person(name="Ann"), Letter(text="hi")
        session.add(letter)
        letter.writer = person
        session.expunge(person)

        with pytest.warns(SAWarning, match="not in the session"):
            await session.flush()

        assert letter.writer_id is None


async def test_some_objects_can_be_flushed_alone(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        letter, other = Letter(text="hi", writer=Person(name="Ann")), Person(name="Bea")
        session.add_all([letter, other])

        await session.flush([letter])

        assert statements.tables("INSERT") == ["person", "letter"]
        assert other in session.new


async def test_a_primary_key_can_change(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        shelf = Shelf(room="A", number=1, label="x")
        session.add(shelf)
        await session.commit()

        shelf.number = 2
        await session.commit()

        assert await session.get(Shelf, ("A", 2)) is shelf
    async with AsyncSession(observer) as other:
        assert await other.scalar(select(Shelf.number)) == 2


@pytest.mark.without("mariadb", reason="foreign keys cannot wait for the end of the transaction there")
async def test_children_follow_a_changed_key_where_the_database_does_not_see_to_it(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Country(code="YU", cities=[City(), City()]))
        await session.commit()

    async with AsyncSession(engine) as session:
        country = await session.get_one(Country, "YU")
        country.code = "RS"
        await session.commit()

    async with AsyncSession(observer) as other:
        assert (await other.scalars(select(City.country_code))).all() == ["RS", "RS"]


async def test_nothing_to_do_sends_nothing(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        await session.flush()
        await session.commit()

    assert statements.events == []
