"""A write that meets other rows than it should says so and changes nothing."""

import pytest
from sqlalchemy import delete, select, update

from aiosession import AsyncEngine, AsyncSession, FlushError, StaleDataError
from tests.behaviour.flush_model import Document, Person, Shelf, make_tables


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    await make_tables(engine)


@pytest.mark.parametrize("number", [1, 3])
async def test_updating_a_row_that_is_gone(engine: AsyncEngine, observer: AsyncEngine, number: int) -> None:
    async with AsyncSession(engine) as session:
        people = [Person(name=f"p{n}") for n in range(number)]
        session.add_all(people)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(delete(Person.__table__).where(Person.__table__.c.id == people[0].id))

        for person in people:
            person.name += "!"

        with pytest.raises(StaleDataError) as caught:
            await session.commit()

        assert (caught.value.table, caught.value.operation) == ("person", "UPDATE")
        assert (caught.value.expected, caught.value.matched) == (number, number - 1)
        await session.rollback()
    async with AsyncSession(observer) as other:
        assert not any(name.endswith("!") for name in await other.scalars(select(Person.name)))


@pytest.mark.parametrize("number", [1, 3])
async def test_deleting_a_row_that_is_gone(engine: AsyncEngine, observer: AsyncEngine, number: int) -> None:
    async with AsyncSession(engine) as session:
        shelves = [Shelf(room="A", number=n) for n in range(number)]
        session.add_all(shelves)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(delete(Shelf.__table__).where(Shelf.__table__.c.number == 0))

        for shelf in shelves:
            await session.delete(shelf)

        with pytest.raises(StaleDataError, match="roll back"):
            await session.commit()

        await session.rollback()
        assert shelves[0] in session


async def test_versions_are_counted_and_compared(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        document = Document(text="a")
        session.add(document)
        await session.commit()
        document.text = "b"
        await session.commit()
        assert document.version == 2

        async with observer.begin() as connection:
            await connection.execute(update(Document.__table__).values(version=3))
        document.text = "c"

        with pytest.raises(StaleDataError):
            await session.commit()


async def test_a_version_that_was_passed_by_cannot_be_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        document = Document(text="a")
        session.add(document)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(update(Document.__table__).values(version=3))

        await session.delete(document)

        with pytest.raises(StaleDataError):
            await session.commit()


async def test_a_new_object_with_the_key_of_one_in_the_session_is_refused(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        first = Shelf(room="A", number=1)
        session.add(first)
        await session.commit()

        session.add(Shelf(room="A", number=1))

        with pytest.raises(FlushError, match=r"change that object"):
            await session.flush()
