"""Any graph of rows is written and deleted in an order that foreign keys allow, and as the plan said."""

import itertools
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Table, select

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    create_async_engine,
    mapped_column,
    relationship,
)
from aiosession.events import StatementEvent
from aiosession.testing.statements import StatementLog

_TABLE = re.compile(r"(?:INTO|UPDATE|FROM) (\w+)")


class Base(DeclarativeBase):
    pass


class Node(Base):
    """Has a parent above it, any favourite, and a box that in turn belongs to some node."""

    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    favourite_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    box_id: Mapped[int | None] = mapped_column(ForeignKey("box.id", name="node_box", use_alter=True))
    parent: Mapped["Node | None"] = relationship(
        back_populates="children", remote_side="Node.id", foreign_keys="Node.parent_id"
    )
    children: Mapped[list["Node"]] = relationship(back_populates="parent", foreign_keys="Node.parent_id")
    favourite: Mapped["Node | None"] = relationship(
        back_populates="fans", remote_side="Node.id", foreign_keys="Node.favourite_id", post_update=True
    )
    fans: Mapped[list["Node"]] = relationship(
        back_populates="favourite", foreign_keys="Node.favourite_id", post_update=True
    )
    box: Mapped["Box | None"] = relationship(foreign_keys="Node.box_id", back_populates="users", post_update=True)
    boxes: Mapped[list["Box"]] = relationship(foreign_keys="Box.owner_id", back_populates="owner")


class Box(Base):
    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
    owner: Mapped[Node | None] = relationship(foreign_keys=owner_id, back_populates="boxes")
    users: Mapped[list[Node]] = relationship(foreign_keys="Node.box_id", back_populates="box", post_update=True)


@dataclass(frozen=True)
class Graph:
    """Who refers to whom, by number; -1 is nobody."""

    order: tuple[int, ...]
    """In which nodes are added; each one's parent is anywhere in it."""
    parents: tuple[int, ...]
    """Of a lower number, so that there is no cycle."""
    favourites: tuple[int, ...]
    boxes: tuple[int, ...]
    owners: tuple[int, ...]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    size = draw(st.integers(1, 7))
    count = draw(st.integers(0, 4))
    return Graph(
        order=tuple(draw(st.permutations(range(size)))),
        parents=tuple(draw(st.integers(-1, number - 1)) for number in range(size)),
        favourites=tuple(draw(st.integers(-1, size - 1)) for _ in range(size)),
        boxes=tuple(draw(st.integers(-1, count - 1)) for _ in range(size)),
        owners=tuple(draw(st.integers(-1, size - 1)) for _ in range(count)),
    )


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Open an engine whose database minds foreign keys."""
    arguments = {"pragmas": {"foreign_keys": "ON"}} if database_url.startswith("sqlite") else {}
    made = create_async_engine(database_url, connect_args=arguments)
    async with made.begin() as connection:
        await connection.create_all(Base.metadata)
    yield made
    await made.dispose()


def _make(graph: Graph) -> tuple[list[Node], list[Box]]:
    nodes = [Node(number=number) for number in range(len(graph.parents))]
    boxes = [Box(number=number) for number in range(len(graph.owners))]
    _connect(graph, nodes, boxes)
    return nodes, boxes


def _connect(graph: Graph, nodes: list[Node], boxes: list[Box]) -> None:
    for node, parent, favourite, box in zip(nodes, graph.parents, graph.favourites, graph.boxes, strict=True):
        node.parent = nodes[parent] if parent >= 0 else None
        node.favourite = nodes[favourite] if favourite >= 0 else None
        node.box = boxes[box] if box >= 0 else None
    for box_, owner in zip(boxes, graph.owners, strict=True):
        box_.owner = nodes[owner] if owner >= 0 else None


async def _flush_as_planned(session: AsyncSession, statements: StatementLog) -> None:
    """Flush, and see that exactly what the plan says is sent."""
    plan = await session.plan()
    planned = [(batch.kind.value, batch.table.name) for batch in plan]
    shown = str(plan).splitlines()
    statements.clear()

    await session.flush()

    assert [(event.kind, _TABLE.findall(event.sql)[0]) for event in statements.statements] == planned
    for event, batch in zip(statements.statements, plan, strict=True):
        assert _count(event) in {1, batch.count}
    assert len(shown) == len(planned) + 2 if planned else shown == ["nothing to write"]


def _count(event: StatementEvent) -> int:
    return len(list(cast("Iterable[object]", event.parameters))) if event.many else 1


async def _rows(session: AsyncSession) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return what the database has, by number."""
    nodes = (await session.execute(select(Node.id, Node.number, Node.parent_id, Node.favourite_id, Node.box_id))).all()
    boxes = (await session.execute(select(Box.id, Box.number, Box.owner_id))).all()
    numbers: dict[int | None, int] = {row[0]: row[1] for row in nodes}
    box_numbers: dict[int | None, int] = {row[0]: row[1] for row in boxes}
    return (
        sorted((n, numbers.get(p, -1), numbers.get(f, -1), box_numbers.get(b, -1)) for _, n, p, f, b in nodes),
        sorted((n, numbers.get(owner, -1)) for _, n, owner in boxes),
    )


def _expected(
    graph: Graph, gone: frozenset[int] = frozenset()
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    def kept(number: int) -> int:
        return -1 if number in gone else number

    nodes = zip(graph.parents, graph.favourites, graph.boxes, strict=True)
    return (
        [(n, kept(p), kept(f), b) for n, (p, f, b) in enumerate(nodes) if n not in gone],
        [(n, kept(owner)) for n, owner in enumerate(graph.owners)],
    )


_SLOW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@_SLOW
@given(graph=graphs())
async def test_a_graph_is_inserted_as_planned_and_deleted_again(
    engine: AsyncEngine, statements: StatementLog, graph: Graph
) -> None:
    async with AsyncSession(engine) as session:
        nodes, boxes = _make(graph)
        session.add_all([*(nodes[number] for number in graph.order), *boxes])

        await _flush_as_planned(session, statements)
        assert await _rows(session) == _expected(graph)

        for obj in [*nodes, *boxes]:
            await session.delete(obj)
        await _flush_as_planned(session, statements)
        assert await _rows(session) == ([], [])


@_SLOW
@given(graph=graphs(), data=st.data())
async def test_a_graph_becomes_another_as_planned(
    engine: AsyncEngine, statements: StatementLog, graph: Graph, data: st.DataObject
) -> None:
    async with AsyncSession(engine) as session:
        nodes, boxes = _make(graph)
        session.add_all([*nodes, *boxes])
        await session.flush()
        size, count = len(nodes), len(boxes)
        other = Graph(
            order=graph.order,
            parents=tuple(data.draw(st.integers(-1, number - 1)) for number in range(size)),
            favourites=tuple(data.draw(st.integers(-1, size - 1)) for _ in range(size)),
            boxes=tuple(data.draw(st.integers(-1, count - 1)) for _ in range(size)),
            owners=tuple(data.draw(st.integers(-1, size - 1)) for _ in range(count)),
        )

        _connect(other, nodes, boxes)
        await _flush_as_planned(session, statements)

        assert await _rows(session) == _expected(other)


@_SLOW
@given(graph=graphs(), data=st.data())
async def test_what_refers_to_deleted_rows_refers_to_nothing(
    engine: AsyncEngine, statements: StatementLog, graph: Graph, data: st.DataObject
) -> None:
    gone = data.draw(st.frozensets(st.integers(0, len(graph.parents) - 1), min_size=1))
    async with AsyncSession(engine) as session:
        nodes, boxes = _make(graph)
        session.add_all([*nodes, *boxes])
        await session.flush()

        for number in gone:
            await session.delete(nodes[number])
        await _flush_as_planned(session, statements)

        assert await _rows(session) == _expected(graph, gone)


friends = Table(
    "friends",
    Base.metadata,
    Column("item_id", ForeignKey("item.id"), primary_key=True),
    Column("friend_id", ForeignKey("item.id"), primary_key=True),
)


class Item(Base):
    """Its relations are mapped on one side only."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    before_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    parts: Mapped[list["Item"]] = relationship(foreign_keys="Item.owner_id")
    before: Mapped["Item | None"] = relationship(remote_side="Item.id", foreign_keys="Item.before_id")
    friends: Mapped[list["Item"]] = relationship(
        secondary=friends,
        primaryjoin=lambda: Item.id == friends.c.item_id,
        secondaryjoin=lambda: Item.id == friends.c.friend_id,
    )


@dataclass(frozen=True)
class OneSided:
    """Who refers to whom, by number; -1 is nobody."""

    owners: tuple[int, ...]
    before: tuple[int, ...]
    friends: frozenset[tuple[int, int]]


@st.composite
def one_sided(draw: st.DrawFn, size: int) -> OneSided:
    # Numbers stand for places in an order of its own for each graph, so that there is no cycle in any.
    order = draw(st.permutations(range(size)))
    owners, before = [-1] * size, [-1] * size
    for place, number in enumerate(order):
        earlier = st.sampled_from([-1, *order[:place]])
        owners[number], before[number] = draw(earlier), draw(earlier)
    numbers = st.integers(0, size - 1)
    return OneSided(tuple(owners), tuple(before), draw(st.frozensets(st.tuples(numbers, numbers), max_size=6)))


def _arrange(graph: OneSided, items: list[Item]) -> None:
    for number, item in enumerate(items):
        item.parts = [part for part, owner in zip(items, graph.owners, strict=True) if owner == number]
        before = graph.before[number]
        item.before = items[before] if before >= 0 else None
        item.friends = [items[friend] for one, friend in sorted(graph.friends) if one == number]


async def _items(session: AsyncSession) -> OneSided:
    rows = (await session.execute(select(Item.id, Item.number, Item.owner_id, Item.before_id))).all()
    numbers: dict[int | None, int] = {row[0]: row[1] for row in rows}
    pairs = (await session.execute(select(friends.c.item_id, friends.c.friend_id))).all()
    ordered = sorted(rows, key=lambda row: row[1])
    return OneSided(
        tuple(numbers.get(owner, -1) for _, _, owner, _ in ordered),
        tuple(numbers.get(before, -1) for _, _, _, before in ordered),
        frozenset((numbers[one], numbers[friend]) for one, friend in pairs),
    )


@_SLOW
@given(data=st.data(), size=st.integers(1, 6))
async def test_relations_that_are_mapped_on_one_side_are_written_as_planned(
    engine: AsyncEngine, statements: StatementLog, data: st.DataObject, size: int
) -> None:
    first, second = data.draw(one_sided(size)), data.draw(one_sided(size))
    async with AsyncSession(engine) as session:
        items = [Item(number=number) for number in range(size)]
        _arrange(first, items)
        session.add_all(data.draw(st.permutations(items)))
        await _flush_as_planned(session, statements)
        assert await _items(session) == first

        _arrange(second, items)
        await _flush_as_planned(session, statements)
        assert await _items(session) == second

        for item in data.draw(st.permutations(items)):
            await session.delete(item)
        await _flush_as_planned(session, statements)
        assert await _items(session) == OneSided((), (), frozenset())


DEPTH = 2000


async def test_a_tree_of_thousands_of_levels_is_inserted_and_deleted(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        nodes = [Node(number=number) for number in range(DEPTH)]
        for parent, child in itertools.pairwise(nodes):
            child.parent = parent
        session.add(nodes[-1])
        assert len(str(await session.plan()).splitlines()) < 40

        await session.flush()
        assert statements.count == DEPTH
        for node in nodes:
            await session.delete(node)
        statements.clear()
        await session.flush()

        assert len(statements.of_kind("DELETE")) == DEPTH
        assert (await session.scalars(select(Node.id))).all() == []


async def test_a_wide_tree_takes_one_statement_per_level(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        root = Node(number=0)
        level = [root]
        for _ in range(3):
            level = [Node(number=n, parent=parent) for parent in level for n in range(12)]
        session.add(root)

        await session.flush()

        assert [event.kind for event in statements.statements] == ["INSERT"] * 4
