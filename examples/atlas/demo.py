"""What does ``make demo`` show? Real data written by a session, then served and asked over real HTTP.

Ends with 0 if every answer was right.
"""

import asyncio
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

import httpx
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from sqlalchemy import select

from aiosession import AsyncEngine, async_sessionmaker, selectinload
from examples.atlas.database import fill, open_engine, rebuild
from examples.atlas.models import Airport, Country, Subdivision, TimeZone
from examples.atlas.service import create_app
from examples.atlas.walk import Walk, WrongAnswerError, walk_through


async def main(console: Console, folder: Path) -> None:
    """Build the database, show a flush plan, walk through the service."""
    began = perf_counter()
    engine = open_engine(folder / "atlas.db")
    console.rule(f"1 · Write real data through a session, to {engine.url.render_as_string()}")
    await rebuild(engine)
    statements = count_statements(engine)
    loaded = await fill(engine, console)
    for name, count in loaded.counts.items():
        console.print(f"  {count:7,} {name}")
    console.print(
        f"  [bold]{loaded.objects:,} objects[/bold] in {loaded.seconds:.1f} s with {describe(statements)}; "
        f"{loaded.without_subdivision:,} airports stay with their country alone"
    )

    console.rule("2 · Look at a flush before it happens")
    await show_plan(engine, console)

    console.rule("3 · Ask the service over HTTP")
    statements.clear()
    async with serving(create_app(engine)) as address, httpx.AsyncClient(base_url=address) as client:
        walk = Walk(client, console)
        await walk_through(walk)
    console.rule(f"Every answer was right; {perf_counter() - began:.1f} s in all")
    console.print(f"  {walk.requests} requests, {describe(statements)}")


async def show_plan(engine: AsyncEngine, console: Console) -> None:
    """Change some objects of a new session and print what its flush would do; nothing is written."""
    options = [selectinload(Country.subdivisions), selectinload(Country.time_zones)]
    async with async_sessionmaker(engine)() as session:
        iceland = await session.get_one(Country, "IS", options=options)
        found = await session.scalars(select(Airport).where(Airport.country == iceland))
        airports = {airport.icao: airport for airport in found}
        island = Subdivision(code="IS-9", name="Surtsey", kind="Island", parent=iceland.subdivisions[0])
        iceland.subdivisions.append(island)
        iceland.time_zones.append(TimeZone(name="Atlantic/Surtsey"))
        airports["BIRK"].name = "Reykjavik City"
        airports["BIVM"].subdivision = island
        await session.delete(airports["BIHN"])
        console.print(str(await session.plan()), highlight=False, markup=False, soft_wrap=True)
        await session.rollback()


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """Run *app* on a free port and hand out its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            if running.done():
                running.result()
                raise RuntimeError("the service did not start")
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


def count_statements(engine: AsyncEngine) -> Counter[str]:
    """Count the statements of *engine* by their first word, from now on."""
    counter: Counter[str] = Counter()
    engine.events.after.add(lambda event: counter.update([event.kind]))
    return counter


def describe(statements: Counter[str]) -> str:
    """Say how many statements of which kind."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in statements.most_common())
    return f"{statements.total():,} statements ({kinds})"


def run() -> int:
    """Run the demonstration and return the exit status."""
    console = Console()
    with tempfile.TemporaryDirectory(prefix="atlas-") as folder:
        try:
            asyncio.run(main(console, Path(folder)))
        except WrongAnswerError as error:
            console.print(f"[red]wrong answer:[/red] {error}", highlight=False)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(run())
