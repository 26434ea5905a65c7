"""What the database fills in by itself."""

from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from aiosession.engine.engine import AsyncEngine


async def test_an_insert_without_values_leaves_all_to_the_database(engine: AsyncEngine) -> None:
    ticket = Table("ticket", MetaData(), Column("id", Integer, primary_key=True), Column("note", Integer))

    async with engine.begin() as connection:
        await connection.create_all(ticket.metadata)
        await connection.execute(insert(ticket))

        assert (await connection.execute(select(ticket))).all() == [(1, None)]
