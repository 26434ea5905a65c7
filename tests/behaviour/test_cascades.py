"""What happens to an object happens to what its relations reach, as their cascades say."""

from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Table

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    attributes,
    configure_mappers,
    inspect,
    mapped_column,
    relationship,
)
from aiosession.errors import ArgumentError, InvalidRequestError, MappingError, NotLoadedError


class Base(DeclarativeBase):
    pass


shelf_label = Table(
    "shelf_label",
    Base.metadata,
    Column("shelf_id", ForeignKey("shelf.id"), primary_key=True),
    Column("label_id", ForeignKey("label.id"), primary_key=True),
)


class Shelf(Base):
    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(active_history=True, deferred=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    lamp_id: Mapped[int | None] = mapped_column(ForeignKey("lamp.id"))
    spare_id: Mapped[int | None] = mapped_column(ForeignKey("lamp.id"))
    parent: Mapped["Shelf | None"] = relationship(back_populates="inner", remote_side="Shelf.id")
    inner: Mapped[list["Shelf"]] = relationship(back_populates="parent", cascade="all")
    labels: Mapped[list["Label"]] = relationship(
        secondary=shelf_label, cascade="all, delete-orphan", single_parent=True
    )
    lamp: Mapped["Lamp | None"] = relationship(foreign_keys=lamp_id, cascade="all, delete-orphan", single_parent=True)
    spare: Mapped["Lamp | None"] = relationship(
        foreign_keys=spare_id, cascade="none", single_parent=True, active_history=True
    )


class Label(Base):
    __tablename__ = "label"
    id: Mapped[int] = mapped_column(primary_key=True)


class Lamp(Base):
    __tablename__ = "lamp"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


# Into the session


async def test_a_back_reference_brings_nobody_into_a_session(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        parent = Shelf()
        session.add(parent)

        child = Shelf(parent=parent)

        assert child in parent.inner
        assert child not in session


async def test_a_forward_reference_brings_its_object_along(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        parent, child, other = Shelf(), Shelf(), Shelf()
        session.add(parent)

        parent.inner.append(child)
        child.parent = other

        assert child in session
        assert other in session


async def test_without_a_cascade_nobody_comes_along(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        lamp = Lamp()
        session.add(Shelf(spare=lamp))
        assert lamp not in session


async def test_a_chain_of_thousands_comes_and_goes(engine: AsyncEngine) -> None:
    shelves = [Shelf() for _ in range(3000)]
    for outer, inner in pairwise(shelves):
        outer.inner.append(inner)
    async with AsyncSession(engine) as session:
        session.add(shelves[0])
        assert len(session.new) == len(shelves)
        session.expunge(shelves[0])
        assert not session.new


async def test_a_cycle_comes_and_goes(engine: AsyncEngine) -> None:
    first, second = Shelf(), Shelf()
    first.inner.append(second)
    second.inner.append(first)
    async with AsyncSession(engine) as session:
        session.add(second)
        assert len(session.new) == 2
        session.expunge(first)
        assert not session.new


async def test_a_chain_of_thousands_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    shelves = [Shelf() for _ in range(1500)]
    for outer, inner in pairwise(shelves):
        outer.inner.append(inner)
    async with AsyncSession(engine) as session:
        session.add(shelves[0])
        await session.commit()
        await session.refresh_all()

        await session.delete(shelves[0])
        await session.commit()
    async with observer.connect() as connection:
        assert (await connection.execute(Shelf.__table__.select())).all() == []


# One parent only


async def test_a_second_parent_is_refused_where_one_is_allowed(engine: AsyncEngine) -> None:
    lamp, label = Lamp(), Label()
    first, second = Shelf(lamp=lamp, labels=[label]), Shelf()

    with pytest.raises(InvalidRequestError, match=r"is in Shelf\.lamp of a transient Shelf already, and single_parent"):
        second.lamp = lamp
    with pytest.raises(InvalidRequestError, match=r"is in Shelf\.labels of .* take it out there first"):
        second.labels.append(label)
    assert second.lamp is None
    assert second.labels == []
    first.lamp = None
    first.labels.clear()
    second.lamp = lamp
    second.labels.append(label)


async def test_single_parent_without_orphans_deletes_nothing(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        lamp = Lamp(id=1)
        shelf = Shelf(spare=lamp)
        session.add_all([shelf, lamp])
        with pytest.raises(InvalidRequestError, match="single_parent"):
            Shelf(spare=lamp)
        await session.commit()

        await session.refresh(shelf)
        shelf.spare = None
        await session.commit()
    async with AsyncSession(observer) as session:
        assert await session.get(Lamp, 1) is not None


async def test_an_orphan_of_the_many_side_is_deleted(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        shelf = Shelf(lamp=Lamp(id=1), labels=[Label(id=1), Label(id=2)])
        session.add(shelf)
        await session.commit()

        shelf.lamp = None
        shelf.labels.pop()
        await session.commit()
    async with AsyncSession(observer) as session:
        assert await session.get(Lamp, 1) is None
        assert await session.get(Label, 1) is not None
        assert await session.get(Label, 2) is None


async def test_what_became_an_orphan_of_the_many_side_while_detached_is_deleted(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        shelf = Shelf(lamp=Lamp(id=1), labels=[Label(id=1)])
        session.add(shelf)
        await session.commit()
    shelf.lamp = None
    shelf.labels.clear()

    async with AsyncSession(engine) as session:
        session.add(shelf)
        await session.commit()

    async with AsyncSession(observer) as session:
        assert await session.get(Lamp, 1) is None
        assert await session.get(Label, 1) is None


# Merging into relations with orphans


async def test_a_merge_replaces_the_only_child_and_what_it_owns_alone(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        session.add(Shelf(id=1, lamp=Lamp(id=1), labels=[Label(id=1), Label(id=2)]))
        await session.commit()

    async with AsyncSession(engine) as session:
        await session.merge(Shelf(id=1, lamp=Lamp(id=2), labels=[Label(id=2)]))
        await session.commit()

    async with AsyncSession(observer) as session:
        assert [await session.get(Lamp, key) is None for key in (1, 2)] == [True, False]
        assert [await session.get(Label, key) is None for key in (1, 2)] == [True, False]


async def test_a_merge_loads_what_has_to_be_known_before_it_is_replaced(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Shelf(id=1, name="old"), Shelf(id=2, name="old")])
        await session.commit()

    async with AsyncSession(engine) as session:
        merged = await session.merge_all([Shelf(id=1, name="new"), Shelf(id=2, name="old")])

        assert [attributes.get_history(each, "name") for each in merged] == [
            (("new",), (), ("old",)),
            ((), ("old",), ()),
        ]


async def test_a_merge_follows_no_relation_without_the_cascade(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        merged = await session.merge(Shelf(id=1, spare=Lamp(id=1), lamp=Lamp(id=2)))

        assert merged.lamp is not None
        assert merged.spare is None
        assert [type(each) for each in session.new].count(Lamp) == 1


# Values that have to be known


async def test_what_has_active_history_can_be_replaced_only_when_it_is_known(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Shelf(id=1, name="old", spare=(lamp := Lamp(id=1))), lamp])
        await session.commit()

    async with AsyncSession(engine) as session:
        shelf = await session.get_one(Shelf, 1)
        with pytest.raises(NotLoadedError, match=r"deferred, and it has active_history=True.*session.load\(shelf"):
            shelf.name = "new"
        with pytest.raises(NotLoadedError, match="active_history"):
            shelf.spare = None
        assert not session.dirty

        await session.load(shelf, Shelf.name, Shelf.spare)
        shelf.name, shelf.spare = "new", None

        assert attributes.get_history(shelf, "name").deleted == ("old",)
        assert [each.id for each in attributes.get_history(shelf, "spare").deleted] == [1]


async def test_active_history_finds_the_old_object_in_memory(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add_all([Shelf(id=1, spare=(lamp := Lamp(id=1))), lamp, Shelf(id=2)])
        await session.commit()

    async with AsyncSession(engine) as session:
        shelf, empty = await session.get_one(Shelf, 1), await session.get_one(Shelf, 2)
        lamp = await session.get_one(Lamp, 1)

        shelf.spare = None
        empty.spare = lamp

        assert list(attributes.get_history(shelf, "spare").deleted) == [lamp]
        assert list(attributes.get_history(empty, "spare").deleted) == []


# What is said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", set()),
        ("none", set()),
        ("all, none", set()),
        ((), set()),
        (None, {"SAVE_UPDATE", "MERGE"}),
        (False, {"SAVE_UPDATE", "MERGE"}),
        (["merge", "expunge"], {"MERGE", "EXPUNGE"}),
        ("all", {"SAVE_UPDATE", "MERGE", "REFRESH_EXPIRE", "EXPUNGE", "DELETE"}),
    ],
)
def test_cascades_can_be_said_in_many_ways(said: Any, words: set[str]) -> None:
    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list["Child"]] = relationship(cascade=said)

    class Child(Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))

    assert {each.name for each in inspect(Parent).relationships["children"].cascade} == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cascade": "delete-orphan"}, "delete-orphan needs delete as well"),
        ({"cascade": "all, delete-orphan"}, "delete-orphan on the many-to-one side needs single_parent=True"),
        ({"cascade": "all", "viewonly": True}, "is viewonly, so it cannot cascade writes"),
        ({"cascade": "save-update, delete", "passive_deletes": "all"}, "leave delete out of cascade="),
    ],
)
def test_cascades_that_contradict_the_relation_are_refused(options: dict[str, Any], message: str) -> None:
    class Base(DeclarativeBase):
        pass

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Child(Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
        parent: Mapped[Parent] = relationship(**options)

    with pytest.raises(MappingError, match=message):
        inspect(Child)
    Base.registry.dispose()
    configure_mappers()


def test_an_unknown_cascade_is_refused_where_it_is_said() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'save-update'"):
        relationship("Other", cascade="save-updates")
