"""What does ``make demo-shop`` show? A service that is killed again and again in mid-commit and loses nothing.

Some kills come from outside at a random moment; for the others the process is told to die at a random step of one of
its commits. Ends with 0 if both databases fit together, and fit what the customers were told.
"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from time import perf_counter
from typing import Final

import httpx
from rich.console import Console

from aiosession.testing.postgres import postgres_cluster
from examples.shop.audit import look, problems
from examples.shop.customers import Told, shop
from examples.shop.databases import Databases, open_databases
from examples.shop.dying import Death, Step
from examples.shop.process import PATIENCE, Launcher, ServiceError, free_port
from examples.shop.serve import Life

BALANCES: Final = (10_000_000, 10_000_000, 10_000_000, 10_000_000, 50_000, 500)
"""Cents; two customers are going to run out of money."""
LONGEST_LIFE: Final = 1.0
"""Seconds after which a process is killed at the latest, unless it was told where to die."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much of it."""

    kills: int = 24
    customers: int = 8
    commits: int = 40
    """A process that was told where to die does it in one of its first commits, these at most."""
    seed: int = 0


@dataclass(slots=True)
class Report:
    """What happened."""

    told: Told = field(default_factory=Told)
    kills: Counter[str] = field(default_factory=Counter)
    """By where they hit."""
    settled: Counter[str] = field(default_factory=Counter)
    """Units of work that were found in doubt, by what became of them."""
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def torment(launcher: Launcher, databases: Databases, options: Options, report: Report, console: Console) -> None:
    """Let customers buy while the service is killed again and again; look at what is there in the end."""
    began = perf_counter()
    await databases.create_tables()
    await databases.open_accounts(BALANCES)
    before = (await look(databases)).balances
    random, is_enough = Random(options.seed), asyncio.Event()
    async with httpx.AsyncClient(base_url=launcher.address, timeout=PATIENCE) as client, asyncio.TaskGroup() as group:
        buying = group.create_task(buy(client, report.told, options, is_enough))
        for number, step in zip(range(1, options.kills + 1), targets(random), strict=False):
            death = None if step is None else Death(step, random.randint(1, options.commits))
            where = await live_and_die(launcher, client, death, random.uniform(0.1, LONGEST_LIFE))
            report.kills[where] += 1
            console.print(f"  {number:3}. killed {where:24} {len(report.told.placed):6,} orders so far")
        async with launcher.started() as service:
            await service.ready(client)
            is_enough.set()
            await buying
            await service.quiet(client)
    report.problems += problems(before, report.told, await look(databases))
    report.settled.update(launcher.settled().values())
    report.seconds = perf_counter() - began


async def buy(client: httpx.AsyncClient, told: Told, options: Options, is_enough: asyncio.Event) -> None:
    """Have all customers buy until it is enough and the last of them has got an answer."""
    async with asyncio.TaskGroup() as group:
        for number in range(options.customers):
            random = Random(f"customer {number} of {options.seed}")
            group.create_task(shop(client, told, random, len(BALANCES), is_enough))


def targets(random: Random) -> Iterator[Step | None]:
    """Yield where to kill, for ever: in each round every step of a commit once, and twice any moment at all."""
    while True:
        yield from random.sample([*Step, None, None], len(Step) + 2)


async def live_and_die(launcher: Launcher, client: httpx.AsyncClient, death: Death | None, longest: float) -> str:
    """Start the service, have it killed, and say where that hit."""
    async with launcher.started(death) as service:
        await service.ready(client)
        died = await service.killed(after=longest if death is None else PATIENCE)
    return f"when {death.step.value}" if death is not None and died else "at a random moment"


def tell(report: Report, console: Console) -> None:
    """Print what happened."""
    told = report.told
    refusals = ", ".join(f"{count:,} with {status}" for status, count in Counter(told.refused.values()).items())
    silences = ", ".join(f"{count:,} {what}" for what, count in told.unanswered.most_common())
    settled = ", ".join(f"{count:,} {action}" for action, count in report.settled.most_common())
    console.print(f"  {len(told.placed):,} orders placed, {len(told.refused):,} refused ({refusals or 'none'})")
    console.print(f"  {told.unanswered.total():,} requests repeated for want of an answer ({silences or 'none'})")
    console.print(
        f"  {report.kills.total()} kills, {report.settled.total()} units of work in doubt: {settled or 'none'}"
    )
    for problem in report.problems:
        console.print(f"  [red]wrong:[/red] {problem}", highlight=False)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    usual = Options()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=usual.kills)
    parser.add_argument("--customers", type=int, default=usual.customers)
    parser.add_argument("--commits", type=int, default=usual.commits, help="the most in a life that ends in one")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1000), help="for the same kills again")
    parser.add_argument("--orders", choices=["sqlite", "postgresql"], default="sqlite", help="where the orders are")
    return parser.parse_args()


async def main(launcher: Launcher, options: Options, console: Console) -> Report:
    """Run all of it over engines of our own, which look from outside."""
    databases, report = open_databases(launcher.life.accounts, launcher.life.orders), Report()
    try:
        await torment(launcher, databases, options, report, console)
    except* (ServiceError, httpx.HTTPError, TimeoutError) as failure:
        report.problems += [f"{error!r}; the log says:\n{launcher.log.read_text()}" for error in causes(failure)]
    finally:
        await databases.dispose()
    return report


def causes(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """Yield the errors in a group and in the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from causes(error)
        else:
            yield error


def run() -> int:
    """Run the demonstration and return the exit status."""
    given, console = arguments(), Console()
    options = Options(given.kills, given.customers, given.commits, given.seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-")))
        accounts = stack.enter_context(postgres_cluster()).url()
        orders = f"sqlite+aiosqlite:///{folder}/orders.db"
        if given.orders == "postgresql":
            orders = stack.enter_context(postgres_cluster()).url()
        launcher = Launcher(Life(accounts, orders, port=free_port(), log_level="warning"), folder / "log")
        console.rule(
            f"Accounts in PostgreSQL, orders in {given.orders}; {options.customers} customers, seed {options.seed}"
        )
        report = asyncio.run(main(launcher, options, console))
        tell(report, console)
        verdict = "Something is wrong" if report.problems else "Money and orders fit together, nothing is left prepared"
        console.rule(f"{verdict}; {report.seconds:.1f} s")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(run())
