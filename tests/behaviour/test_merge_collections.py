"""merge() fills collections of every kind, and any graph of objects comes out the same as it went in."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    attribute_keyed_dict,
    mapped_column,
    relationship,
    selectinload,
)


class Base(DeclarativeBase):
    pass


class Owner(Base):
    __tablename__ = "owner"
    id: Mapped[int] = mapped_column(primary_key=True)
    tags: Mapped[set["Tag"]] = relationship(cascade="all, delete-orphan")
    notes: Mapped[dict[str, "Note"]] = relationship(
        collection_class=attribute_keyed_dict("name"), cascade="all, delete-orphan"
    )


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    text: Mapped[str | None]
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id"))


class Node(Base):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    children: Mapped[list["Node"]] = relationship(order_by="Node.id")


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


def owner(tags: Sequence[int], notes: dict[str, str]) -> Owner:
    made = Owner(id=1, tags={Tag(id=key) for key in tags})
    for key, (name, text) in enumerate(notes.items(), start=1):
        made.notes[name] = Note(id=key, name=name, text=text)
    return made


@pytest.mark.parametrize("load", [True, False])
async def test_sets_and_dictionaries_are_merged(engine: AsyncEngine, *, load: bool) -> None:
    given_owner = owner([1, 2], {"a": "x", "b": "y"})
    async with AsyncSession(engine, expire_on_commit=False) as session:
        session.add(given_owner)
        await session.commit()

    async with AsyncSession(engine) as session:
        merged = await session.merge(given_owner, load=load)

        assert {tag.id for tag in merged.tags} == {1, 2}
        assert {key: note.text for key, note in merged.notes.items()} == {"a": "x", "b": "y"}
        assert not merged.tags & given_owner.tags
        assert not session.dirty


async def test_what_sets_and_dictionaries_lack_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(owner([1, 2], {"a": "x", "b": "y"}))
        await session.commit()

    async with AsyncSession(engine) as session:
        await session.merge(owner([2, 3], {"a": "z"}))
        await session.commit()

    async with AsyncSession(observer) as session:
        assert set(await session.scalars(select(Tag.id))) == {2, 3}
        assert [tuple(row) for row in await session.execute(select(Note.name, Note.text))] == [("a", "z")]


Tree = dict[int, int | None]
"""The parent of each node; parents have smaller numbers."""


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    keys = draw(st.lists(st.integers(1, 8), unique=True, min_size=1, max_size=8).map(sorted))
    return {key: draw(st.sampled_from([None, *keys[:place]])) if place else None for place, key in enumerate(keys)}


def nodes(tree: Tree) -> list[Node]:
    """Make the nodes of a tree, with all their children, and return those that have no parent."""
    made = {key: Node(id=key, children=[]) for key in tree}
    for key, parent in tree.items():
        if parent is not None:
            made[parent].children.append(made[key])
    return [made[key] for key, parent in tree.items() if parent is None]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=trees(), after=trees())
async def test_after_a_merge_the_database_has_what_was_given(engine: AsyncEngine, before: Tree, after: Tree) -> None:
    async with AsyncSession(engine) as session:
        await session.execute(Node.__table__.update().values(parent_id=None))
        await session.execute(Node.__table__.delete())
        session.add_all(nodes(before))
        await session.commit()

    async with AsyncSession(engine) as session:
        merged = await session.merge_all(nodes(after))
        await session.commit()
        assert [node.id for node in merged] == [key for key, parent in after.items() if parent is None]

    async with AsyncSession(engine) as session:
        found = (await session.scalars(select(Node).options(selectinload(Node.children)))).all()
    # Children that were given are what a node has now; a node whose parent was not given stays where it was.
    kept = {key: None if parent in after else parent for key, parent in before.items()}
    placed = {key: parent for key, parent in after.items() if parent is not None}
    assert {node.id: node.parent_id for node in found} == {**dict.fromkeys(after), **kept, **placed}
