"""Cascades reach what a plain walk over the same graph reaches, whatever its shape."""

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, ForeignKey, Table

from aiosession import AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


def edges_table(name: str) -> Table:
    return Table(
        name,
        Base.metadata,
        Column("source", ForeignKey("place.id"), primary_key=True),
        Column("target", ForeignKey("place.id"), primary_key=True),
    )


saved_edge, expunged_edge, plain_edge = edges_table("saved"), edges_table("expunged"), edges_table("plain")


class Place(Base):
    """Leads to others by relations with one cascade each."""

    __tablename__ = "place"
    id: Mapped[int] = mapped_column(primary_key=True)
    saved: Mapped[list["Place"]] = relationship(
        secondary=saved_edge,
        primaryjoin=lambda: Place.id == saved_edge.c.source,
        secondaryjoin=lambda: Place.id == saved_edge.c.target,
        cascade="save-update",
    )
    expunged: Mapped[list["Place"]] = relationship(
        secondary=expunged_edge,
        primaryjoin=lambda: Place.id == expunged_edge.c.source,
        secondaryjoin=lambda: Place.id == expunged_edge.c.target,
        cascade="expunge",
    )
    plain: Mapped[list["Place"]] = relationship(
        secondary=plain_edge,
        primaryjoin=lambda: Place.id == plain_edge.c.source,
        secondaryjoin=lambda: Place.id == plain_edge.c.target,
        cascade="none",
    )


COUNT = 7
numbers = st.integers(0, COUNT - 1)
graphs = st.sets(st.tuples(numbers, numbers), max_size=15)
Graph = set[tuple[int, int]]


def reached(start: int, graph: Graph) -> set[int]:
    """Walk the graph the simplest way there is."""
    found = {start}
    while more := {target for source, target in graph if source in found} - found:
        found |= more
    return found


def places(saved: Graph, expunged: Graph, plain: Graph) -> list[Place]:
    made = [Place(id=number) for number in range(COUNT)]
    for graph, name in ((saved, "saved"), (expunged, "expunged"), (plain, "plain")):
        for source, target in sorted(graph):
            getattr(made[source], name).append(made[target])
    return made


def inside(session: AsyncSession, made: list[Place]) -> set[int]:
    return {number for number, place in enumerate(made) if place in session}


@given(saved=graphs, plain=graphs, start=numbers)
def test_add_takes_in_what_save_update_reaches(saved: Graph, plain: Graph, start: int) -> None:
    made = places(saved, set(), plain)
    session = AsyncSession()

    session.add(made[start])

    assert inside(session, made) == reached(start, saved)


@given(saved=graphs, edge=st.tuples(numbers, numbers), start=numbers)
def test_what_is_appended_later_comes_with_all_it_reaches(saved: Graph, edge: tuple[int, int], start: int) -> None:
    made = places(saved - {edge}, set(), set())
    session = AsyncSession()
    session.add(made[start])

    made[edge[0]].saved.append(made[edge[1]])

    assert inside(session, made) == reached(start, saved | {edge})


@given(expunged=graphs, plain=graphs, start=numbers)
def test_expunge_lets_go_what_expunge_reaches(expunged: Graph, plain: Graph, start: int) -> None:
    made = places(set(), expunged, plain)
    session = AsyncSession()
    session.add_all(made)

    session.expunge(made[start])

    assert inside(session, made) == set(range(COUNT)) - reached(start, expunged)
