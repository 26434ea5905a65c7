"""Rows that are sent each by itself: ``batch=False``."""

import pytest
from sqlalchemy import ForeignKey

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship
from aiosession.errors import MappingError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Entry(Base):
    __tablename__ = "entry"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("entry.id"))
    children: Mapped[list["Entry"]] = relationship(cascade="all, delete-orphan")
    __mapper_args__ = {"batch": False}


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    statements.clear()


async def test_each_row_is_a_statement_of_its_own(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        root = Entry(name="root", children=[Entry(name="a"), Entry(name="b")])
        session.add(root)
        await session.flush()
        assert [event.kind for event in statements.statements] == ["INSERT"] * 3
        assert {child.parent_id for child in root.children} == {root.id}

        statements.clear()
        for entry in (root, *root.children):
            entry.name += "!"
        plan = await session.plan()
        await session.flush()
        assert [(batch.count, [row.values["name"] for row in batch.rows]) for batch in plan] == [
            (1, ["root!"]),
            (1, ["a!"]),
            (1, ["b!"]),
        ]
        assert [event.kind for event in statements.statements] == ["UPDATE"] * 3

        statements.clear()
        await session.delete(root)
        await session.commit()
        assert [event.kind for event in statements.statements] == ["DELETE"] * 3


async def test_rows_that_only_a_collection_connects_are_deleted_from_the_leaves(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        root = leaf = Entry(name="root")
        for number in range(5):
            leaf.children = [Entry(name=str(number))]
            leaf = leaf.children[0]
        session.add(root)
        await session.commit()

        await session.delete(root)
        await session.commit()

        assert list(session) == []


def test_an_unknown_mapper_argument_names_near_ones() -> None:
    class Other(DeclarativeBase):
        pass

    with pytest.raises(MappingError, match="confirm_deleted_rows"):
        type(
            "Row",
            (Other,),
            {
                "__tablename__": "row",
                "__mapper_args__": {"confirm_deleted_row": False},
                "__annotations__": {"id": Mapped[int]},
                "id": mapped_column(primary_key=True),
            },
        )
