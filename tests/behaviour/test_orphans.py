"""Objects that belong to one owner go when they are taken away from it."""

import pytest
from sqlalchemy import select

from aiosession import AsyncEngine, AsyncSession
from aiosession.testing.statements import StatementLog
from tests.behaviour.flush_model import Person, Pet, Toy, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    await make_tables(engine)
    statements.clear()


async def _names(engine: AsyncEngine, entity: type[Pet] | type[Toy]) -> list[str]:
    async with AsyncSession(engine) as session:
        return sorted((await session.scalars(select(entity.name))).all())


async def test_what_is_removed_from_its_owner_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex"), Pet(name="Tom")])
        session.add(person)
        await session.commit()

        del person.pets[0]
        await session.commit()

    assert await _names(observer, Pet) == ["Tom"]


async def test_what_it_owns_goes_with_it(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex", toys=[Toy(name="ball")])])
        session.add(person)
        await session.commit()

        person.pets.clear()
        await session.commit()

    assert await _names(observer, Toy) == []


async def test_an_orphan_without_a_back_reference_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        pet = Pet(name="Rex", owner=Person(name="Ann"), toys=[Toy(name="ball"), Toy(name="bone")])
        session.add(pet)
        await session.commit()

        pet.toys.remove(pet.toys[0])
        await session.commit()

    assert await _names(observer, Toy) == ["bone"]


async def test_what_moves_to_another_owner_stays(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        ann, bea = Person(name="Ann", pets=[Pet(name="Rex")]), Person(name="Bea")
        session.add_all([ann, bea])
        await session.commit()

        rex = ann.pets.pop()
        bea.pets.append(rex)
        await session.commit()

        assert rex.owner_id == bea.id
    assert await _names(observer, Pet) == ["Rex"]


async def test_a_pending_orphan_is_never_inserted(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        person = Person(name="Ann", pets=[Pet(name="Rex")])
        session.add(person)
        rex = person.pets.pop()

        await session.flush()

        assert rex not in session
        assert statements.tables("INSERT") == ["person"]
