"""Values that the database makes: which of them come back with a flush, and how to get at the others."""

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import (
    Computed,
    FetchedValue,
    ForeignKey,
    String,
    func,
    select,
)

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, inspect, mapped_column, relationship
from aiosession.errors import FlushError, NotLoadedError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class Served:
    """What every class here gets from the database: a default, and what triggers fill in."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))
    made: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())
    size: Mapped[int] = mapped_column(server_default="7")
    slug: Mapped[str | None] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())


class Auto(Served, Base):
    __tablename__ = "auto"


class Eager(Served, Base):
    __tablename__ = "eager"
    __mapper_args__ = {"eager_defaults": True}


class Late(Served, Base):
    __tablename__ = "late"
    __mapper_args__ = {"eager_defaults": False}


class Mute(Served, Base):
    """Its table returns nothing."""

    __tablename__ = "mute"
    __table_args__ = {"implicit_returning": False}
    parts: Mapped[list["Part"]] = relationship(back_populates="whole")


class MuteEager(Served, Base):
    __tablename__ = "mute_eager"
    __table_args__ = {"implicit_returning": False}
    __mapper_args__ = {"eager_defaults": True}


class Part(Base):
    __tablename__ = "part"
    __table_args__ = {"implicit_returning": False}
    whole_id: Mapped[int] = mapped_column(ForeignKey("mute.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    whole: Mapped[Mute] = relationship(back_populates="parts")


class Hashed(Base):
    """Has a key that is a SQL expression."""

    __tablename__ = "hashed"
    code: Mapped[str] = mapped_column(String(40), primary_key=True, default=func.lower("KEY-7"))
    name: Mapped[str | None]


class MuteHashed(Base):
    __tablename__ = "mute_hashed"
    __table_args__ = {"implicit_returning": False}
    code: Mapped[str] = mapped_column(String(40), primary_key=True, default=func.lower("KEY-7"))
    name: Mapped[str | None]


class Nameless(Base):
    """Only a trigger could give it its key."""

    __tablename__ = "nameless"
    __table_args__ = {"implicit_returning": False}
    code: Mapped[str] = mapped_column(String(40), primary_key=True, server_default=FetchedValue())


class Area(Base):
    """Always has what the database works out."""

    __tablename__ = "area"
    id: Mapped[int] = mapped_column(primary_key=True)
    width: Mapped[int]
    height: Mapped[int]
    content: Mapped[int] = mapped_column(Computed("width * height", persisted=True))


SERVED: list[Any] = [Auto, Eager, Late, Mute, MuteEager]
_TRIGGERS = {
    "mariadb": (
        "CREATE TRIGGER {0}_insert BEFORE INSERT ON {0} FOR EACH ROW SET NEW.slug = CONCAT('new ', NEW.name)",
        "CREATE TRIGGER {0}_update BEFORE UPDATE ON {0} FOR EACH ROW SET NEW.slug = CONCAT('changed ', NEW.name)",
    ),
    "sqlite": (
        (
            "CREATE TRIGGER {0}_insert AFTER INSERT ON {0} BEGIN "
            "UPDATE {0} SET slug = 'new ' || new.name WHERE id = new.id; END"
        ),
        (
            "CREATE TRIGGER {0}_update AFTER UPDATE OF name ON {0} BEGIN "
            "UPDATE {0} SET slug = 'changed ' || new.name WHERE id = new.id; END"
        ),
    ),
    "postgresql": (
        (
            "CREATE FUNCTION fill_{0}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.slug := "
            "CASE TG_OP WHEN 'INSERT' THEN 'new ' ELSE 'changed ' END || NEW.name; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER fill BEFORE INSERT OR UPDATE ON {0} FOR EACH ROW EXECUTE FUNCTION fill_{0}()",
    ),
}


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
        for class_ in SERVED:
            for ddl in _TRIGGERS[engine.dialect.name]:
                await connection.exec_driver_sql(ddl.format(class_.__tablename__))
    statements.clear()


def _unknown(obj: Any) -> set[str]:
    return set(inspect(obj).unloaded) & {"made", "size", "slug"}


async def test_with_auto_an_insert_returns_what_the_database_made(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        made = Auto(name="a")
        session.add(made)

        await session.commit()

        assert statements.kinds == ["INSERT"]
        assert (made.size, isinstance(made.made, datetime)) == (7, True)
        assert await made.awaitable_attrs.slug == "new a"


async def test_what_a_trigger_fills_in_is_known_as_soon_as_the_database_can_tell(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = Auto(name="a")
        session.add(made)
        await session.flush()

        # SQLite's RETURNING shows rows as they were before their triggers
        assert _unknown(made) == ({"slug"} if engine.dialect.name == "sqlite" else set())
        assert await made.awaitable_attrs.slug == "new a"


@pytest.mark.parametrize("class_", [Eager, MuteEager])
@pytest.mark.parametrize("count", [1, 3])
async def test_eager_defaults_know_everything_after_insert_and_update(
    engine: AsyncEngine, class_: Any, count: int
) -> None:
    async with AsyncSession(engine) as session:
        made = [class_(name=f"n{n}") for n in range(count)]
        session.add_all(made)
        await session.flush()
        assert [each.slug for each in made] == [f"new n{n}" for n in range(count)]
        assert all(each.size == 7 for each in made)

        for each in made:
            each.name = f"{each.name}!"
        await session.flush()
        assert [each.slug for each in made] == [f"changed n{n}!" for n in range(count)]
        await session.commit()


async def test_eager_defaults_cost_no_statement_where_returning_tells_everything(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        made = [Eager(name=f"n{n}") for n in range(3)]
        session.add_all(made)
        await session.flush()
        for each in made:
            each.name = f"{each.name}!"
        statements.clear()

        await session.flush()

        tells_all = engine.dialect.name == "postgresql"
        assert len(statements.of_kind("UPDATE")) == 1
        assert len(statements.of_kind("SELECT")) == (0 if tells_all else 1)


@pytest.mark.parametrize("class_", [Late, Mute])
async def test_what_did_not_come_back_is_loaded_for_all_with_one_statement(
    engine: AsyncEngine, statements: StatementLog, class_: Any
) -> None:
    async with AsyncSession(engine) as session:
        made = [class_(name=f"n{n}") for n in range(4)]
        session.add_all(made)
        await session.flush()
        assert _unknown(made[0]) == {"made", "size", "slug"}
        assert inspect(made[0]).expired_attributes >= {"made", "size", "slug"}
        with pytest.raises(
            NotLoadedError, match=rf"{class_.__name__}\.size .* the database made its value and it was not fetched"
        ):
            _ = made[0].size
        statements.clear()

        assert await made[0].awaitable_attrs.size == 7

        assert [each.slug for each in made] == [f"new n{n}" for n in range(4)]
        assert len({each.made for each in made}) >= 1
        assert statements.count == 1


@pytest.mark.parametrize("class_", [Late, Mute, Auto])
async def test_the_next_query_fills_in_what_is_unknown(engine: AsyncEngine, class_: Any) -> None:
    async with AsyncSession(engine) as session:
        made: Any = class_(name="a")
        session.add(made)
        await session.flush()

        (found,) = await session.scalars(select(class_))

        assert found is made
        assert (made.slug, made.size) == ("new a", 7)


@pytest.mark.parametrize("class_", [Late, Mute])
async def test_get_fills_in_what_is_unknown(engine: AsyncEngine, class_: Any) -> None:
    async with AsyncSession(engine) as session:
        made: Any = class_(name="a")
        session.add(made)
        await session.flush()

        found: Any = await session.get(class_, made.id)

        assert found is made
        assert (found.slug, found.size) == ("new a", 7)


async def test_an_update_makes_unknown_what_the_database_changes_then(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = Auto(name="a")
        session.add(made)
        await session.commit()
        await session.refresh(made)

        made.name = "b"
        await session.flush()

        assert _unknown(made) == {"slug"}
        assert await made.awaitable_attrs.slug == "changed b"


async def test_a_value_given_for_a_column_that_the_database_fills_in_is_kept(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        given, other = Auto(name="a", size=1), Auto(name="b")
        session.add_all([given, other])

        await session.flush()

        assert (given.size, other.size) == (1, 7)


@pytest.mark.parametrize("class_", [Mute, MuteEager])
@pytest.mark.parametrize("count", [1, 3])
async def test_keys_of_a_table_that_returns_nothing_are_still_known(
    engine: AsyncEngine, observer: AsyncEngine, statements: StatementLog, class_: Any, count: int
) -> None:
    async with AsyncSession(engine) as session:
        made = [class_(name=f"n{n}") for n in range(count)]
        session.add_all(made)

        await session.commit()

        assert not any("RETURNING" in event.sql for event in statements.events)
        ids = [each.id for each in made]
        assert await session.get(class_, ids[-1]) is made[-1]
    async with AsyncSession(observer) as other:
        stored = (await other.execute(select(class_.id, class_.name).order_by(class_.name))).all()
    assert [tuple(row) for row in stored] == [(id_, f"n{n}") for n, id_ in enumerate(ids)]


async def test_children_get_the_key_of_a_parent_that_returns_nothing(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    async with AsyncSession(engine) as session:
        wholes = [Mute(name=f"n{n}", parts=[Part(number=1), Part(number=2)]) for n in range(2)]
        session.add_all(wholes)
        await session.commit()
        keys = {(whole.id, number) for whole in wholes for number in (1, 2)}
    async with AsyncSession(observer) as other:
        assert {(part.whole_id, part.number) for part in await other.scalars(select(Part))} == keys


@pytest.mark.parametrize(("class_", "kinds"), [(Hashed, ["INSERT"]), (MuteHashed, ["SELECT", "INSERT"])])
async def test_a_key_that_is_a_sql_expression_is_asked_for_beforehand_if_it_cannot_be_returned(
    engine: AsyncEngine, statements: StatementLog, class_: Any, kinds: list[str]
) -> None:
    async with AsyncSession(engine) as session:
        made = class_(name="a")
        session.add(made)

        await session.flush()

        assert made.code == "key-7"
        assert [event.kind for event in statements.statements] == kinds


async def test_an_expression_given_for_a_key_is_asked_for_beforehand_too(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = MuteHashed(code=func.upper("x"), name=func.upper("y"))
        session.add(made)

        await session.flush()

        assert made.code == "X"
        assert await made.awaitable_attrs.name == "Y"


async def test_a_key_that_nobody_can_know_is_refused_with_the_remedy(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Nameless())

        with pytest.raises(
            FlushError, match=r"nameless\.code is made by the database.*cannot return it; give it a default"
        ):
            await session.flush()


async def test_a_key_cannot_be_set_to_an_expression_that_cannot_be_returned(
    engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(engine) as session:
        made = MuteHashed(name="a")
        session.add(made)
        await session.commit()
        statements.clear()
        made.code = MuteHashed.code + "!"

        with pytest.raises(
            FlushError, match=r"MuteHashed\('key-7'\) gets a SQL expression as code, .*implicit_returning=False"
        ):
            await session.flush()

        assert statements.count == 0


async def test_computed_columns_come_with_the_insert(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        area = Area(width=3, height=4)
        session.add(area)
        await session.flush()
        assert area.content == 12

        area.width = 5
        await session.flush()

        with pytest.raises(NotLoadedError, match=r"Area\.content"):
            _ = area.content
        assert await area.awaitable_attrs.content == 20


async def test_what_an_update_made_unknown_is_explained(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Area(width=3, height=4))
        await session.commit()
    async with AsyncSession(engine) as session:
        area = (await session.scalars(select(Area))).one()
        area.width = 5
        await session.flush()

        with pytest.raises(
            NotLoadedError,
            match=r"the database made its value and it was not fetched\. Call `await session\.load\(area, Area\.",
        ):
            _ = area.content


async def test_rollback_brings_back_what_an_update_made_unknown(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        area = Area(width=3, height=4)
        session.add(area)
        await session.commit()
        area.width = 5
        await session.flush()

        await session.rollback()

        assert (area.width, area.content) == (3, 12)


async def test_what_the_database_made_of_a_rolled_back_insert_is_gone(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made: Any = Late(name="a")
        session.add(made)
        await session.flush()
        await made.awaitable_attrs.size

        await session.rollback()

        assert inspect(made).transient
        assert (made.id, made.size, made.slug, made.name) == (None, None, None, "a")
