"""Version columns: who counts them, what is compared, and what the error says."""

import uuid
from typing import Any

import pytest
from sqlalchemy import FetchedValue, Integer, String, text, update

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column
from aiosession.errors import StaleDataError


class Base(DeclarativeBase):
    pass


class Counted(Base):
    __tablename__ = "counted"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(Integer)
    __mapper_args__ = {"version_id_col": version}


class Tagged(Base):
    """Its versions are texts of its own making."""

    __tablename__ = "tagged"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    tag: Mapped[str] = mapped_column(String(40))
    __mapper_args__ = {"version_id_col": tag, "version_id_generator": lambda tag: f"{tag or 'start'}+"}


class Triggered(Base):
    """The database counts."""

    __tablename__ = "triggered"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    version: Mapped[int] = mapped_column(Integer, server_default=FetchedValue(), server_onupdate=FetchedValue())
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}


class Manual(Base):
    """The application says when there is a new version."""

    __tablename__ = "manual"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    note: Mapped[str | None]
    version: Mapped[uuid.UUID]
    __mapper_args__ = {"version_id_col": "version", "version_id_generator": False}


class Unconfirmed(Base):
    __tablename__ = "unconfirmed"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    __mapper_args__ = {"confirm_deleted_rows": False}


_TRIGGERS = {
    "mariadb": (
        "CREATE TRIGGER count_insert BEFORE INSERT ON triggered FOR EACH ROW SET NEW.version = 100",
        "CREATE TRIGGER count_update BEFORE UPDATE ON triggered FOR EACH ROW SET NEW.version = OLD.version + 1",
    ),
    "sqlite": (
        (
            "CREATE TRIGGER count_insert AFTER INSERT ON triggered BEGIN "
            "UPDATE triggered SET version = 100 WHERE id = new.id; END"
        ),
        (
            "CREATE TRIGGER count_update AFTER UPDATE OF text ON triggered BEGIN "
            "UPDATE triggered SET version = version + 1 WHERE id = new.id; END"
        ),
    ),
    "postgresql": (
        (
            "CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "NEW.version := CASE TG_OP WHEN 'INSERT' THEN 100 ELSE OLD.version + 1 END; RETURN NEW; END $$"
        ),
        "CREATE TRIGGER count_up BEFORE INSERT OR UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION count_up()",
    ),
}


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
        await connection.exec_driver_sql("ALTER TABLE triggered RENAME COLUMN version TO old_version")
        await connection.exec_driver_sql("ALTER TABLE triggered DROP COLUMN old_version")
        await connection.exec_driver_sql("ALTER TABLE triggered ADD COLUMN version INTEGER")
        for ddl in _TRIGGERS[engine.dialect.name]:
            await connection.exec_driver_sql(ddl)


async def _pass_by(observer: AsyncEngine, class_: Any, values: dict[str, Any]) -> None:
    """Have somebody else write a new version."""
    async with observer.begin() as connection:
        await connection.execute(update(class_.__table__).values(values))


async def test_a_generator_of_ones_own_makes_versions(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        tagged = Tagged(text="a")
        session.add(tagged)
        await session.commit()
        assert tagged.tag == "start+"

        tagged.text = "b"
        await session.commit()
        assert tagged.tag == "start++"


@pytest.mark.parametrize(
    ("class_", "passed", "said"),
    [
        (Counted, {"version": 9}, r"Counted\(1\) with version=1 was changed or deleted elsewhere"),
        (Tagged, {"tag": "x"}, r"Tagged\(1\) with tag='start\+' was changed"),
        (Triggered, {"text": "passed"}, r"Triggered\(1\) with version=100 was changed"),
    ],
)
@pytest.mark.parametrize("is_deleting", [False, True], ids=["update", "delete"])
async def test_what_was_changed_elsewhere_is_named_with_the_version_that_was_expected(
    engine: AsyncEngine, observer: AsyncEngine, class_: Any, passed: dict[str, Any], said: str, is_deleting: bool
) -> None:
    async with AsyncSession(engine) as session:
        made = class_(text="a")
        session.add(made)
        await session.commit()
        await _pass_by(observer, class_, passed)

        if is_deleting:
            await session.delete(made)
        else:
            made.text = "b"

        with pytest.raises(StaleDataError, match=said) as raised:
            await session.commit()
        assert len(raised.value.objects) == 1


async def test_many_rows_are_not_all_named(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = [Counted(text="a") for _ in range(9)]
        session.add_all(made)
        await session.commit()
        await _pass_by(observer, Counted, {"version": 9})
        for each in made:
            each.text = "b"

        with pytest.raises(StaleDataError, match=r"some of Counted\(1\) with version=1, .* and 4 more were changed"):
            await session.commit()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_version_that_the_database_counts_is_known_after_every_write(engine: AsyncEngine, count: int) -> None:
    async with AsyncSession(engine) as session:
        made = [Triggered(text="a") for _ in range(count)]
        session.add_all(made)
        await session.flush()
        assert {each.version for each in made} == {100}

        for number in (101, 102):
            for each in made:
                each.text += "!"
            await session.flush()
            assert {each.version for each in made} == {number}

        await session.delete(made[0])
        await session.commit()


async def test_a_version_that_the_application_makes_changes_when_it_says_so(
    engine: AsyncEngine, observer: AsyncEngine
) -> None:
    first, second = uuid.uuid4(), uuid.uuid4()
    async with AsyncSession(engine) as session:
        manual = Manual(text="a", version=first)
        session.add(manual)
        await session.commit()

        manual.note = "no new version"
        await session.commit()
        assert manual.version == first
        manual.text, manual.version = "b", second
        await session.commit()
        assert manual.version == second

        await _pass_by(observer, Manual, {"version": first})
        manual.text = "c"
        with pytest.raises(StaleDataError, match="was changed or deleted elsewhere"):
            await session.commit()


async def test_a_version_stays_where_nothing_changed(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        counted = Counted(text="a")
        session.add(counted)
        await session.commit()

        counted.text = "a"
        await session.commit()

        assert counted.version == 1


async def test_deletes_need_not_be_confirmed(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = [Unconfirmed(text="a"), Unconfirmed(text="b")]
        session.add_all(made)
        await session.commit()
        async with observer.begin() as connection:
            await connection.execute(text("DELETE FROM unconfirmed WHERE text = 'a'"))

        for each in made:
            await session.delete(each)
        await session.commit()

        assert list(session) == []
