"""Where is the atlas kept? ``DATABASE_URL``, or an SQLite file; filled once from the real data."""

import os
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import func, select

from aiosession import AsyncEngine, async_scoped_session, async_sessionmaker, create_async_engine
from examples.atlas.loader import Loaded, load, read_source
from examples.atlas.models import Airport, Base

Session = async_scoped_session(async_sessionmaker())
"""The session of the request that is being answered."""


def open_engine(default_file: Path) -> AsyncEngine:
    """Make the engine that ``DATABASE_URL`` names, or one on *default_file*."""
    return create_async_engine(os.environ.get("DATABASE_URL") or f"sqlite+aiosqlite:///{default_file}")


async def is_filled(engine: AsyncEngine) -> bool:
    """Make the tables that are missing and say whether there are airports in them."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
        return bool(await connection.scalar(select(func.count()).select_from(Airport)))


async def rebuild(engine: AsyncEngine) -> None:
    """Make all tables anew and empty."""
    async with engine.begin() as connection:
        await connection.drop_all(Base.metadata)
        await connection.create_all(Base.metadata)


async def fill(engine: AsyncEngine, console: Console) -> Loaded:
    """Load all the data through one session, with a progress bar."""
    source = read_source()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("loading records", total=len(source))
        async with async_sessionmaker(engine)() as session:
            return await load(session, source, lambda count: progress.advance(bar, count))
