"""Abstract bases with a MetaData or a registry of their own, and mappers in the place of their classes."""

from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, delete, select, update

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    Mapper,
    aliased,
    configure_mappers,
    events,
    inspect,
    mapped_column,
    registry,
    relationship,
    validates,
)
from aiosession.errors import MappingError
from tests.session_model import Author, Book, make_tables, put_author


class Base(DeclarativeBase):
    pass


class Here(Base):
    __abstract__ = True
    metadata = MetaData()


class There(Base):
    __abstract__ = True
    metadata = MetaData()


links = Table(
    "links",
    Here.metadata,
    Column("one", Integer, ForeignKey("node.id"), primary_key=True),
    Column("other", Integer, ForeignKey("node.id"), primary_key=True),
)


class Node(Here):
    __tablename__ = "node"
    id: Mapped[int] = mapped_column(primary_key=True)
    linked: Mapped[list["Node"]] = relationship(
        secondary="links", primaryjoin="Node.id == links.c.one", secondaryjoin="Node.id == links.c.other"
    )


other_links = Table(
    "links",
    There.metadata,
    Column("one", Integer, ForeignKey("elsewhere.id"), primary_key=True),
    Column("other", Integer, ForeignKey("elsewhere.id"), primary_key=True),
)


class Elsewhere(There):
    __tablename__ = "elsewhere"
    id: Mapped[int] = mapped_column(primary_key=True)
    linked: Mapped[list["Elsewhere"]] = relationship(
        secondary="links", primaryjoin="Elsewhere.id == links.c.one", secondaryjoin="Elsewhere.id == links.c.other"
    )


async def test_an_abstract_base_can_have_tables_of_its_own(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Here.metadata)
    async with AsyncSession(engine) as session:
        session.add(Node(linked=[Node()]))
        await session.commit()

        assert len((await session.scalars(select(Node))).all()) == 2
    assert sorted(Here.metadata.tables) == ["links", "node"]
    assert sorted(There.metadata.tables) == ["elsewhere", "links"]
    assert not Base.metadata.tables


def test_a_table_is_found_by_its_name_among_those_of_the_same_base_first() -> None:
    assert inspect(Node).relationships["linked"].secondary is links
    assert inspect(Elsewhere).relationships["linked"].secondary is other_links


def test_an_abstract_base_can_have_a_registry_of_its_own() -> None:
    mine = registry()

    class Own(Base):
        __abstract__ = True
        registry = mine
        metadata = mine.metadata

    class Thing(Own):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert inspect(Thing) in mine.mappers
    assert Thing.__table__.metadata is mine.metadata


def test_a_class_that_cannot_be_mapped_leaves_no_table_behind() -> None:
    with pytest.raises(MappingError, match="colour"):

        class Broken(Here):
            __tablename__ = "broken"
            id: Mapped[int] = mapped_column(primary_key=True)
            __mapper_args__ = {"version_id_col": "colour"}

    assert "broken" not in Here.metadata.tables


async def test_a_mapper_stands_for_its_class_in_statements(engine: AsyncEngine) -> None:
    await make_tables(engine)
    key = await put_author(engine, books=[Book(title="One")])
    authors, books = inspect(Author), inspect(Book)

    async with AsyncSession(engine) as session:
        author = await session.get_one(authors, key)

        assert (await session.scalars(select(authors).where(Author.name == "Ann"))).all() == [author]
        assert await session.scalar(select(authors).filter_by(name="Ann")) is author
        assert (await session.execute(select(authors, Book).join(books))).one()[1].title == "One"
        assert await session.query(authors).all() == [author]
        assert await session.scalar(select(aliased(authors))) is author
        await session.execute(update(authors).values(name="Bea"))
        assert author.name == "Bea"
        await session.execute(delete(books))
        assert (await session.scalars(select(books))).all() == []


def test_a_mapper_is_its_own_mapper() -> None:
    mapper = inspect(Author)

    assert inspect(mapper) is mapper


# Configuring mappers


def test_a_validator_of_nothing_is_refused_when_mappers_are_configured() -> None:
    class Other(DeclarativeBase):
        pass

    class Person(Other):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

        @validates("id", "nmae")
        def check(self, key: str, value: Any) -> Any:
            return value

    with pytest.raises(MappingError, match=r"Person.*check\(\).*'nmae'.*did you mean 'name'"):
        configure_mappers()
    with pytest.raises(MappingError, match="nmae"):
        inspect(Person)
    Other.registry.dispose()


def test_a_validator_may_name_what_a_backref_makes() -> None:
    class Other(DeclarativeBase):
        pass

    class Child(Other):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))

        @validates("parent")
        def check(self, key: str, value: Any) -> Any:
            raise ValueError("no parents")

    class Parent(Other):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        children: Mapped[list[Child]] = relationship(backref="parent")

    with pytest.raises(ValueError, match="no parents"):
        Child(parent=Parent())
    assert inspect(Child).relationships["parent"].target is inspect(Parent)


def test_handlers_are_told_that_mappers_are_configured() -> None:
    told: list[Any] = []

    def note(mapper: Any, class_: type[Any]) -> None:
        assert inspect(class_) is mapper
        told.append(class_)

    def before() -> None:
        told.append("before")

    def after() -> None:
        told.append("after")

    class Other(DeclarativeBase):
        pass

    configure_mappers()
    events.listen(Other, "mapper_configured", note, propagate=True)
    events.listen(Mapper, "before_configured", before)
    events.listen(Mapper, "after_configured", after)
    try:

        class Thing(Other):
            __tablename__ = "thing"
            id: Mapped[int] = mapped_column(primary_key=True)

        configure_mappers()
        configure_mappers()
    finally:
        events.remove(Mapper, "before_configured", before)
        events.remove(Mapper, "after_configured", after)

    assert told == ["before", Thing, "after"]
