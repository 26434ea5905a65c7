"""Sequences, identity columns and triggers of PostgreSQL make keys, and other values."""

import pytest
from sqlalchemy import (
    FetchedValue,
    Identity,
    Sequence,
)

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column
from aiosession.testing.statements import StatementLog


class OnlyPostgres(DeclarativeBase):
    """Sequences and identity columns."""


class Numbered(OnlyPostgres):
    __tablename__ = "numbered"
    id: Mapped[int] = mapped_column(Sequence("numbered_ids", start=100), primary_key=True)
    ticket: Mapped[int] = mapped_column(Sequence("tickets", start=5))


class MuteNumbered(OnlyPostgres):
    __tablename__ = "mute_numbered"
    __table_args__ = {"implicit_returning": False}
    id: Mapped[int] = mapped_column(Sequence("mute_ids", start=100), primary_key=True)
    ticket: Mapped[int] = mapped_column(Sequence("mute_tickets", start=5))


class Identified(OnlyPostgres):
    __tablename__ = "identified"
    id: Mapped[int] = mapped_column(Identity(always=True, start=10), primary_key=True)
    other: Mapped[int] = mapped_column(Identity(start=20))
    name: Mapped[str | None]


class MuteIdentified(OnlyPostgres):
    __tablename__ = "Mute Identified"
    __table_args__ = {"implicit_returning": False, "schema": "Quoted Schema"}
    id: Mapped[int] = mapped_column("The Id", Identity(start=10), primary_key=True)
    name: Mapped[str | None]


class Line(OnlyPostgres):
    """One column of its key is counted."""

    __tablename__ = "line"
    page: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)


class Stamped(OnlyPostgres):
    """A trigger makes its key."""

    __tablename__ = "stamped"
    code: Mapped[str] = mapped_column(server_default=FetchedValue(), primary_key=True)
    name: Mapped[str]


@pytest.fixture
async def postgres_engine(engine: AsyncEngine) -> AsyncEngine:
    async with engine.begin() as connection:
        await connection.exec_driver_sql('CREATE SCHEMA "Quoted Schema"')
        await connection.create_all(OnlyPostgres.metadata)
    return engine


on_postgres = pytest.mark.parametrize(
    "database_url",
    [pytest.param(name, marks=pytest.mark.postgres) for name in ("postgresql", "psycopg")],
    indirect=True,
)


@on_postgres
async def test_sequences_fill_keys_and_other_columns(postgres_engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(postgres_engine) as session:
        made = [Numbered() for _ in range(3)]
        session.add_all(made)
        statements.clear()
        await session.flush()

        assert [(each.id, each.ticket) for each in made] == [(100, 5), (101, 6), (102, 7)]
        assert [event.kind for event in statements.statements] == ["INSERT"]


@on_postgres
async def test_a_sequence_is_asked_beforehand_if_the_key_cannot_be_returned(
    postgres_engine: AsyncEngine, statements: StatementLog
) -> None:
    async with AsyncSession(postgres_engine) as session:
        made = [MuteNumbered() for _ in range(3)]
        session.add_all(made)
        statements.clear()
        await session.flush()

        assert [event.kind for event in statements.statements] == ["SELECT", "INSERT"]

        assert [each.id for each in made] == [100, 101, 102]
        assert await made[2].awaitable_attrs.ticket == 7
        assert made[0].ticket == 5


@on_postgres
async def test_identity_columns_are_filled(postgres_engine: AsyncEngine) -> None:
    async with AsyncSession(postgres_engine) as session:
        made = [Identified(), Identified()]
        mute = [MuteIdentified(), MuteIdentified()]
        session.add_all([*made, *mute])
        await session.flush()

        assert [(each.id, each.other) for each in made] == [(10, 20), (11, 21)]
        assert [each.id for each in mute] == [10, 11]


@on_postgres
async def test_one_column_of_a_composite_key_may_be_counted(postgres_engine: AsyncEngine) -> None:
    async with AsyncSession(postgres_engine) as session:
        lines = [Line(page=n) for n in (7, 7, 8)]
        session.add_all(lines)
        await session.flush()

        assert [(each.page, each.number) for each in lines] == [(7, 1), (7, 2), (8, 3)]


@on_postgres
async def test_a_trigger_may_make_the_key(postgres_engine: AsyncEngine, statements: StatementLog) -> None:
    async with postgres_engine.begin() as connection:
        await connection.exec_driver_sql(
            "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NEW.code := 'code of ' || NEW.name; RETURN NEW; END $$"
        )
        await connection.exec_driver_sql(
            "CREATE TRIGGER stamped BEFORE INSERT ON stamped FOR EACH ROW EXECUTE FUNCTION stamp()"
        )
    async with AsyncSession(postgres_engine) as session:
        made = [Stamped(name=name) for name in "abc"]
        session.add_all(made)
        await session.commit()

        assert [each.code for each in made] == ["code of a", "code of b", "code of c"]
        assert await session.get(Stamped, "code of b") is made[1]
