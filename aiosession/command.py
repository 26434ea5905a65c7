"""What ``python -m aiosession.recover URL…`` does: settle what commits in two phases have left in doubt.

Prints a line for each unit of work; the exit status is 0 if nothing is left in doubt, 1 if something is or a database
could not be asked, 2 for wrong arguments. From Python call `aiosession.recover`, the function.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import AioSessionError, ArgumentError
from aiosession.transaction.decisions import DECISION_TABLE, decisions_in
from aiosession.transaction.recovery import recoverer_of, summary


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with *arguments* and return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        return asyncio.run(_recover(given))
    except AioSessionError as error:
        print(f"aiosession.recover: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 2 if isinstance(error, ArgumentError) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiosession.recover",
        description="Finish prepared transactions that a crash has left: commit what was decided, roll back the rest.",
    )
    parser.add_argument("url", nargs="+", help="a database that takes part; give all of them")
    parser.add_argument("--app", default="app", help="as in TwoPhase(app=...) of the sessions (default: %(default)s)")
    parser.add_argument("--table", default=DECISION_TABLE, help="the table of decisions (default: %(default)s)")
    parser.add_argument("--schema", default=None, help="the schema of that table")
    parser.add_argument(
        "--older-than", type=float, default=0.0, metavar="SECONDS", help="leave alone what was prepared since then"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    return parser


async def _recover(given: argparse.Namespace) -> int:
    engines: list[AsyncEngine] = []
    try:
        engines += [create_async_engine(url) for url in given.url]
        recoverer = recoverer_of(engines, given.app, decisions_in(given.table, given.schema), given.older_than)
        recoverer.is_dry = given.dry_run
        found = await recoverer.run()
    finally:
        for engine in engines:
            await engine.dispose()
    print(summary(found))  # noqa: T201 - a command
    return 0 if all(each.is_settled for each in found) and not recoverer.unreached else 1
