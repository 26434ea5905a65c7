"""Rows of tables that only connect follow the collections."""

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Club, Person, likes, make_tables, membership


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def _memberships(engine: AsyncEngine) -> set[tuple[object, ...]]:
    async with engine.connect() as connection:
        return {tuple(row) for row in await connection.execute(select(membership))}


async def test_adding_connects_in_one_statement_for_all(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        clubs = [Club(name="chess"), Club(name="golf")]
        people = [Person(name="Ann", clubs=clubs), Person(name="Bea", clubs=clubs[:1])]
        session.add_all(people)
        await session.commit()

    assert statements.tables("INSERT") == ["person", "club", "membership"]
    ann, bea = people
    chess, golf = clubs
    assert await _memberships(observer) == {
        (ann.id, chess.id, "flush"),
        (ann.id, golf.id, "flush"),
        (bea.id, chess.id, "flush"),
    }


async def test_a_pair_that_both_sides_know_is_written_once(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person, club = Person(name="Ann"), Club(name="chess")
        session.add_all([person, club])
        person.clubs.append(club)
        await session.commit()

    assert len(await _memberships(observer)) == 1


async def test_removing_disconnects(engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", clubs=[Club(name="chess"), Club(name="golf")])
        session.add(person)
        await session.commit()
        statements.clear()

        gone = person.clubs.pop(0)
        await session.commit()

        assert statements.tables("DELETE") == ["membership"]
        assert gone in session
    assert {row[1] for row in await _memberships(observer)} == {person.clubs[0].id}


async def test_deleting_either_side_disconnects(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        club = Club(name="chess")
        session.add_all([Person(name="Ann", clubs=[club]), Person(name="Bea", clubs=[club])])
        await session.commit()

    async with AsyncSession(engine) as session:
        await session.delete((await session.scalars(select(Club))).one())
        await session.commit()

    assert await _memberships(observer) == set()


async def test_deleting_both_sides_at_once_disconnects_once(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", clubs=[Club(name="chess")])
        session.add(person)
        await session.flush()

        await session.delete(person.clubs[0])
        await session.delete(person)
        await session.commit()

    assert await _memberships(observer) == set()


async def test_connecting_to_an_unloaded_collection_is_written(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Person(name="Ann"), Club(name="chess")])
        await session.commit()

    async with AsyncSession(engine) as session:
        person = (await session.scalars(select(Person))).one()
        club = (await session.scalars(select(Club))).one()
        await session.load(club, Club.members)
        club.members.append(person)
        await session.commit()

    assert {row[:2] for row in await _memberships(observer)} == {(person.id, club.id)}


async def test_a_table_that_connects_a_class_with_itself(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        ann = Person(name="Ann")
        ann.likes = [ann, Person(name="Bea", likes=[ann])]
        session.add(ann)
        await session.commit()
        bea = ann.likes[1]

    async with observer.connect() as connection:
        found = {tuple(row) for row in await connection.execute(select(likes))}
    assert found == {(ann.id, ann.id), (ann.id, bea.id), (bea.id, ann.id)}
