"""Run the comparison: ``python -m benchmarks --help``."""

import argparse
import asyncio
import platform
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from rich.console import Console
from rich.progress import Progress

from aiosession.testing.postgres import postgres_cluster
from benchmarks.contender import Contender
from benchmarks.contenders.aiosession_session import AiosessionSession
from benchmarks.contenders.on_psycopg import AiosessionOnPsycopg, SqlalchemyOnPsycopg
from benchmarks.contenders.piccolo_orm import PiccoloOrm
from benchmarks.contenders.raw_asyncpg import RawAsyncpg
from benchmarks.contenders.raw_sqlite import RawSqlite
from benchmarks.contenders.sqlalchemy_session import SqlalchemySession
from benchmarks.contenders.tortoise_orm import TortoiseOrm
from benchmarks.operations import Operation, operations
from benchmarks.proxy import counting_proxy
from benchmarks.report import markdown, show
from benchmarks.runner import Measured, count_round_trips, measure, opened
from benchmarks.tables import PostgresTables, SqliteTables, Tables

ALL: tuple[type[Contender], ...] = (
    RawAsyncpg,
    RawSqlite,
    AiosessionSession,
    SqlalchemySession,
    TortoiseOrm,
    PiccoloOrm,
    AiosessionOnPsycopg,
    SqlalchemyOnPsycopg,
)


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Compare libraries in one run.")
    parser.add_argument("--database", choices=["postgresql", "psycopg", "sqlite"], default="postgresql")
    parser.add_argument("--rounds", type=int, default=15, help="samples of each operation (15)")
    parser.add_argument("--rows", type=int, default=1000, help="objects in the big operations (1000)")
    parser.add_argument("--only", nargs="+", metavar="OPERATION", help="some operations, by key")
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="some contenders, by a part of the name")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table to a file as well")
    return parser.parse_args()


def chosen_operations(arguments: argparse.Namespace) -> list[Operation]:
    """Return the operations that were asked for."""
    known = operations(arguments.rows)
    unknown = set(arguments.only or ()) - {item.key for item in known}
    if unknown:
        sys.exit(f"unknown operation: {', '.join(sorted(unknown))} (there are {', '.join(item.key for item in known)})")
    return [item for item in known if arguments.only is None or item.key in arguments.only]


def chosen_contenders(arguments: argparse.Namespace) -> list[type[Contender]]:
    """Return the contenders that were asked for and know the database."""
    wanted = [part.lower() for part in arguments.contenders or [""]]
    return [
        kind
        for kind in ALL
        if arguments.database in kind.databases and any(part in kind.name.lower() for part in wanted)
    ]


async def run(arguments: argparse.Namespace, url: str, console: Console) -> None:
    """Measure times directly, then count round trips through the proxy, then report."""
    todo = chosen_operations(arguments)
    kinds = chosen_contenders(arguments)
    make = PostgresTables if arguments.database != "sqlite" else SqliteTables
    tables: Tables = make(url, arguments.rows)
    await tables.create()
    measured = Measured()
    contenders = [kind(url) for kind in kinds]
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("measuring", total=arguments.rounds * len(todo) * len(kinds))
        async with opened(contenders):
            await measure(
                contenders,
                todo,
                tables,
                rounds=arguments.rounds,
                measured=measured,
                tick=lambda: progress.advance(bar),
            )
    if arguments.database != "sqlite":
        await count(kinds, todo, tables, url, measured)
    await tables.close()
    names = [kind.name for kind in kinds]
    title = f"{arguments.database}, {arguments.rounds} rounds, Python {platform.python_version()}, uvloop"
    show(console, measured, todo, names, title)
    if arguments.markdown:
        arguments.markdown.write_text(markdown(measured, todo, names) + "\n")


async def count(
    kinds: Sequence[type[Contender]], todo: Sequence[Operation], tables: Tables, url: str, measured: Measured
) -> None:
    """Count round trips, one contender after the other."""
    parts = urlsplit(url)
    for kind in kinds:
        async with counting_proxy(parts.hostname or "", parts.port or 0) as (totals, port):
            contender = kind(url.replace(f":{parts.port}/", f":{port}/"))
            async with opened([contender]):
                await count_round_trips(contender, todo, tables, totals, measured)


def main() -> None:
    """Start a private server where one is needed, and run."""
    arguments = read_arguments()
    console = Console()
    with ExitStack() as stack:
        if arguments.database != "sqlite":
            url = stack.enter_context(postgres_cluster()).url(driver="postgresql")
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))
            url = f"sqlite:///{folder}/benchmark.db"
        start(run(arguments, url, console))


def start(work: Coroutine[object, object, None]) -> None:
    """Run *work* on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
