"""Do what ``python -m aiosession doctor URL…`` and ``python -m aiosession recover URL…`` ask for.

The doctor prints a line for each thing that it looked at; its exit status is 1 if something is wrong. Recovery settles
what commits in two phases have left in doubt and prints a line for each unit of work; its exit status is 1 if something
stays in doubt, or a database could not be asked. Wrong arguments are 2. From Python call `aiosession.doctor.diagnose`
and `aiosession.recover`, the functions.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from aiosession.doctor import Level, diagnose
from aiosession.doctor.report import as_json
from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import AioSessionError, ArgumentError
from aiosession.transaction.decisions import DECISION_TABLE, decisions_in
from aiosession.transaction.recovery import recoverer_of, summary


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first of *arguments* names, and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in _COMMANDS:
        return _COMMANDS[given[0]](given[1:])
    listed = "\n".join(f"  {name:8}  {(each.__doc__ or '').partition(',')[0]}" for name, each in _COMMANDS.items())
    asks = given in (["-h"], ["--help"])
    print(f"usage: python -m aiosession COMMAND URL...\n\n{listed}", file=sys.stdout if asks else sys.stderr)
    return 0 if asks else 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Finish what crashes have left prepared, as *arguments* say, and return the exit status."""
    given = _recover_parser().parse_args(arguments)
    return _ended("recover", lambda: _recover(given))


def doctor(arguments: Sequence[str] | None = None) -> int:
    """Examine databases and what leads to them, as *arguments* say, and return the exit status."""
    given = _doctor_parser().parse_args(arguments)
    return _ended("doctor", lambda: _doctor(given, [_careful(create_async_engine(url)) for url in given.url]))


_COMMANDS: Final[dict[str, Callable[[Sequence[str] | None], int]]] = {"doctor": doctor, "recover": main}


def _ended(name: str, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    try:
        return asyncio.run(work())
    except AioSessionError as error:
        print(f"aiosession.{name}: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 2 if isinstance(error, ArgumentError) else 1


def _doctor_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiosession doctor",
        description="Look at databases, and at what leads to them, for what is wrong or will be.",
    )
    parser.add_argument("url", nargs="+", help="a database, as create_async_engine() takes it")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many processes have a pool each")
    parser.add_argument(
        "--connections", type=int, default=15, metavar="N", help="pool_size + max_overflow of each (default: 15)"
    )
    parser.add_argument("--twophase", action="store_true", help="sessions commit in two phases, and have to be able to")
    parser.add_argument("--pooler", choices=["transaction"], help="what the application says to create_async_engine()")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1 too")
    return parser


async def _doctor(given: argparse.Namespace, engines: Sequence[AsyncEngine]) -> int:
    try:
        found = [
            await diagnose(
                engine,
                processes=given.processes,
                twophase=given.twophase,
                pooler=given.pooler or "none",
                connections=given.connections,
            )
            for engine in engines
        ]
    finally:
        for engine in engines:
            await engine.dispose()
    print(as_json(found) if given.json else "\n\n".join(map(str, found)))  # noqa: T201 - a command
    bad = {Level.FAIL, Level.WARN} if given.strict else {Level.FAIL}
    return 1 if any(each.level in bad for each in found) else 0


def _careful(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine with which to ask that changes nothing, and works whatever pooler may be in between."""
    if engine.name == "postgresql":
        return create_async_engine(engine.url, pooler="transaction")
    return create_async_engine(engine.url, read_only=True)


def _recover_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aiosession recover",
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
