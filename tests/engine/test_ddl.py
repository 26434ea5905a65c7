"""Creating and dropping what metadata describes."""

import enum
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    UniqueConstraint,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.schema import DDL, CreateTable

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import ArgumentError, CircularDependencyError, ProgrammingError
from aiosession.testing.statements import StatementLog


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


def _shop() -> MetaData:
    metadata = MetaData()
    Table(
        "line",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("product_id", ForeignKey("product.id")),
    )
    Table(
        "product",
        metadata,
        Column("id", Integer, Sequence("product_numbers", start=100), primary_key=True),
        Column("name", String(20), index=True, comment="what it says on the box"),
        Column("size", Enum(Size, name="size")),
        Column("other_size", Enum(Size, name="size")),
        UniqueConstraint("name", "size"),
        comment="things to sell",
    )
    Index("by_product", metadata.tables["line"].c.product_id)
    return metadata


def _circle(*, named: bool) -> MetaData:
    metadata = MetaData()
    for one, two in (("hen", "egg"), ("egg", "hen")):
        name = f"{one}_{two}" if named else None
        Table(
            one,
            metadata,
            Column("id", Integer, primary_key=True),
            Column("other_id", ForeignKey(f"{two}.id", name=name)),
        )
    return metadata


TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    "mariadb": (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    ),
}


async def _tables(connection: AsyncConnection) -> set[str]:
    return set((await connection.scalars(text(TABLES[connection.engine.name]))).all())


async def test_everything_is_created_and_dropped(engine: AsyncEngine) -> None:
    metadata = _shop()
    product = metadata.tables["product"]

    async with engine.begin() as connection:
        await connection.create_all(metadata)
        assert await _tables(connection) == {"line", "product"}
        await connection.execute(insert(product).values(name="a", size=Size.LARGE))
        assert await connection.scalar(select(product.c.size)) is Size.LARGE
        await connection.drop_all(metadata)
        assert await _tables(connection) == set()
        await connection.create_all(metadata)


async def test_existing_tables_are_left_alone(engine: AsyncEngine, statements: StatementLog) -> None:
    metadata = _shop()
    async with engine.begin() as connection:
        await connection.create_all(metadata)
        statements.clear()

        await connection.create_all(metadata)

    assert "CREATE" not in statements.kinds


async def test_missing_tables_are_added(engine: AsyncEngine) -> None:
    metadata = _shop()
    async with engine.begin() as connection:
        await connection.create_all(metadata, [metadata.tables["product"]])
        assert await _tables(connection) == {"product"}

        await connection.create_all(metadata)

        assert await _tables(connection) == {"line", "product"}


async def test_missing_tables_are_not_dropped(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.drop_all(_shop())


async def test_without_check_existing_tables_are_an_error(engine: AsyncEngine) -> None:
    metadata = _shop()
    async with engine.begin() as connection:
        await connection.create_all(metadata)

    async with engine.connect() as connection:
        with pytest.raises(ProgrammingError):
            await connection.create_all(metadata, checkfirst=False)


async def test_some_tables_are_dropped(engine: AsyncEngine) -> None:
    metadata = _shop()
    async with engine.begin() as connection:
        await connection.create_all(metadata)

        await connection.drop_all(metadata, [metadata.tables["line"]])

        assert await _tables(connection) == {"product"}


async def test_tables_that_refer_to_each_other(engine: AsyncEngine) -> None:
    metadata = _circle(named=True)

    async with engine.begin() as connection:
        await connection.create_all(metadata)
        hen, egg = metadata.tables["hen"], metadata.tables["egg"]
        await connection.execute(insert(hen).values(id=1))
        await connection.execute(insert(egg).values(id=1, other_id=1))
    async with engine.begin() as connection:
        await connection.drop_all(metadata)
        assert await _tables(connection) == set()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
async def test_circle_of_unnamed_foreign_keys_cannot_be_dropped(engine: AsyncEngine) -> None:
    metadata = _circle(named=False)
    async with engine.begin() as connection:
        await connection.create_all(metadata)

        with pytest.raises(CircularDependencyError, match="names"):
            await connection.drop_all(metadata)


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
async def test_comments_types_and_sequences_are_made(engine: AsyncEngine) -> None:
    metadata = _shop()
    async with engine.begin() as connection:
        await connection.create_all(metadata)
        facts = {
            "table comment": "SELECT obj_description('product'::regclass)",
            "column comment": "SELECT col_description('product'::regclass, 2)",
            "labels": "SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum",
            "sequence": "SELECT nextval('product_numbers')",
            "indexes": "SELECT count(*) FROM pg_indexes WHERE indexname IN ('by_product', 'ix_product_name')",
        }

        found: dict[str, Any] = {name: await connection.scalar(text(sql)) for name, sql in facts.items()}
        await connection.drop_all(metadata)
        left = await connection.scalar(text("SELECT count(*) FROM pg_type WHERE typname = 'size'"))

    assert found == {
        "table comment": "things to sell",
        "column comment": "what it says on the box",
        "labels": "SMALL,LARGE",
        "sequence": 100,
        "indexes": 2,
    }
    assert left == 0


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgresql", "psycopg"], indirect=True)
async def test_schemas_are_told_apart(engine: AsyncEngine) -> None:
    metadata = MetaData()
    table = Table("place", metadata, Column("id", Integer, primary_key=True), Column("s", Enum("a", name="sort")))
    elsewhere = engine.execution_options(schema_translate_map={None: "other"})
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA other"))
        await connection.create_all(metadata)

    async with elsewhere.begin() as connection:
        await connection.create_all(metadata)
        await connection.execute(insert(table).values(id=5))
        assert await connection.scalar(text("SELECT id FROM other.place")) == 5
        assert (await connection.scalars(select(table.c.id))).all() == [5]
        await connection.drop_all(metadata)
    async with engine.connect() as connection:
        assert (await connection.scalars(select(table.c.id))).all() == []


async def test_single_ddl_is_executable(engine: AsyncEngine) -> None:
    table = Table("alone", MetaData(), Column("id", Integer, primary_key=True))

    async with engine.begin() as connection:
        result = await connection.execute(CreateTable(table))
        assert await _tables(connection) == {"alone"}

    assert not result.returns_rows


async def test_ddl_events_are_run(engine: AsyncEngine) -> None:
    metadata = MetaData()
    table = Table("counted", metadata, Column("id", Integer, primary_key=True))
    insertion = DDL("INSERT INTO counted (id) VALUES (42)")  # type: ignore[no-untyped-call]  # Core's DDL is untyped
    event.listen(table, "after_create", insertion)

    async with engine.begin() as connection:
        await connection.create_all(metadata)

        assert await connection.scalar(select(table.c.id)) == 42


async def test_rolled_back_tables_are_gone_where_ddl_can_be_rolled_back(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.create_all(_shop())
        await connection.rollback()

        left = set() if engine.capabilities.transactional_ddl else {"line", "product"}
        assert await _tables(connection) == left


async def test_tables_of_other_metadata_are_refused(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        with pytest.raises(ArgumentError, match="other metadata"):
            await connection.create_all(MetaData(), [_shop().tables["line"]])
        with pytest.raises(ArgumentError, match="Table objects"):
            await connection.create_all(MetaData(), ["line"])  # type: ignore[list-item]  # that is the point
