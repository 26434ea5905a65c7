"""What do many clients at a time do to the service? ``python -m examples.atlas.crowd --clients 200``.

They browse, rename and transfer airports over real HTTP, and some hang up in the middle of a request. Afterwards every
answer must have been true, every connection back in the pool, and no transaction open. Ends with 0 if it is so.
"""

import argparse
import asyncio
import os
import random
import ssl
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import httpx
from rich.console import Console
from sqlalchemy import select, text

from aiosession import AsyncEngine, create_async_engine
from aiosession.testing.postgres import find_binaries, postgres_cluster
from examples.atlas.database import fill, open_engine, rebuild
from examples.atlas.demo import serving
from examples.atlas.models import Airport, Subdivision, Transfer
from examples.atlas.service import create_app

COUNTRY = "IS"
EXPECTED = {200, 201, 409, 422, 503}
"""503 says that others were in the way all the time, as on SQLite, where one writes at a time; nothing was changed."""
IMPATIENCE = 0.05
"""Seconds at most before a client that hangs up does so."""


@dataclass
class Report:
    """What the clients saw."""

    answers: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    promised: set[str] = field(default_factory=set)
    """Transfers that were answered with 201."""
    refused: set[str] = field(default_factory=set)
    """Transfers that were answered with an error."""

    @property
    def unexpected(self) -> list[str]:
        """Answers that no client should have got."""
        return [answer for answer in self.answers if answer.isdigit() and int(answer) not in EXPECTED]

    def share(self, part: float) -> float:
        """Return the milliseconds within which *part* of the requests were answered."""
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))] * 1000


class Crowd:
    """Clients that work at the same time, each on a line of its own."""

    def __init__(self, address: str, airports: list[str], subdivisions: list[str]) -> None:
        self.address = address
        self.airports = airports
        self.subdivisions = subdivisions
        self.report = Report()

    async def run(self, clients: int, requests: int) -> None:
        """Have each of the *clients* make its *requests*, one after the other."""
        trust = ssl.create_default_context()  # costly to make, and not used: once is enough
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(trust, random.Random(number), requests))

    async def _client(self, trust: ssl.SSLContext, chance: random.Random, requests: int) -> None:
        async with httpx.AsyncClient(base_url=self.address, timeout=60, verify=trust) as client:
            for _ in range(requests):
                work = chance.choices((self._browse, self._show, self._rename, self._transfer), (40, 25, 10, 25))[0]
                patience = chance.uniform(0, IMPATIENCE) if chance.random() < 0.1 else None
                began = perf_counter()
                try:
                    async with asyncio.timeout(patience):
                        answer = await work(client, chance)
                except TimeoutError:
                    self.report.answers["hung up"] += 1
                else:
                    self.report.answers[str(answer.status_code)] += 1
                    self.report.seconds.append(perf_counter() - began)

    async def _browse(self, client: httpx.AsyncClient, chance: random.Random) -> httpx.Response:
        return await client.get("/airports", params={"country": COUNTRY, "limit": 20, "offset": chance.randrange(20)})

    async def _show(self, client: httpx.AsyncClient, chance: random.Random) -> httpx.Response:
        return await client.get(f"/airports/{chance.choice(self.airports)}")

    async def _rename(self, client: httpx.AsyncClient, chance: random.Random) -> httpx.Response:
        return await client.patch(f"/airports/{chance.choice(self.airports)}", json={"city": f"City {uuid4()}"})

    async def _transfer(self, client: httpx.AsyncClient, chance: random.Random) -> httpx.Response:
        reason = str(uuid4())
        answer = await client.post(
            f"/airports/{chance.choice(self.airports)}/transfers",
            json={"to": chance.choice(self.subdivisions), "reason": reason},
        )
        (self.report.promised if answer.status_code == 201 else self.report.refused).add(reason)
        return answer


async def crowd(engine: AsyncEngine, observer: AsyncEngine, *, clients: int, requests: int) -> tuple[Report, list[str]]:
    """Let the crowd at a service over *engine*; return what it saw, and what *observer* finds wrong afterwards."""
    async with observer.connect() as connection:
        airports = list(await connection.scalars(select(Airport.icao).where(Airport.country_code == COUNTRY)))
        places = list(await connection.scalars(select(Subdivision.code).where(Subdivision.country_code == COUNTRY)))
    async with serving(create_app(engine)) as address:
        found = Crowd(address, airports, places)
        await found.run(clients, requests)
        problems = [*await left_behind(engine, observer), *await untruths(found.report, observer)]
    return found.report, problems


async def left_behind(engine: AsyncEngine, observer: AsyncEngine) -> list[str]:
    """Say what is not as it was: connections that are lent, tasks that wait, transactions that are open."""
    with suppress(TimeoutError):  # the service may still be undoing the work of those that hung up
        async with asyncio.timeout(5):
            while engine.pool.status().holders:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
    status = engine.pool.status()
    problems = [f"a connection is still lent: {holder}" for holder in status.holders]
    if status.waiting:
        problems.append(f"{status.waiting} tasks wait for a connection")
    if observer.name == "postgresql":
        async with observer.connect() as connection:
            idle = await connection.scalars(
                text(
                    "SELECT query FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                )
            )
            problems += [f"a transaction is open after: {query}" for query in idle]
    return problems


async def untruths(report: Report, observer: AsyncEngine) -> list[str]:
    """Compare what the clients were told with the ledger."""
    async with observer.connect() as connection:
        written = set(await connection.scalars(select(Transfer.reason)))
    problems = [f"answered {answer}, {report.answers[answer]} times" for answer in report.unexpected]
    if lost := report.promised - written:
        problems.append(f"{len(lost)} transfers were promised and are not in the ledger")
    if ghosts := report.refused & written:
        problems.append(f"{len(ghosts)} transfers were refused and are in the ledger")
    return problems


async def main(console: Console, url: str, *, clients: int, requests: int) -> int:
    """Fill the database, let the crowd in, print what came of it."""
    os.environ["DATABASE_URL"] = url
    engine, observer = open_engine(Path("unused")), create_async_engine(url)
    try:
        await rebuild(engine)
        await fill(engine, console)
        began = perf_counter()
        report, problems = await crowd(engine, observer, clients=clients, requests=requests)
        seconds = perf_counter() - began
    finally:
        await observer.dispose()
    console.print(f"{clients} clients at a time, {clients * requests:,} requests in {seconds:.1f} s on {engine.name}")
    console.print(f"  {len(report.seconds) / seconds:,.0f} answers a second, clients and service in one process")
    console.print(f"  half of them within {report.share(0.5):.0f} ms, 99 of 100 within {report.share(0.99):.0f} ms")
    console.print(f"  {', '.join(f'{count:,} times {answer}' for answer, count in report.answers.most_common())}")
    console.print(f"  {len(report.promised):,} transfers promised, all of them in the ledger" if not problems else "")
    for problem in problems:
        console.print(f"[red]{problem}[/red]")
    return 1 if problems else 0


def run() -> int:
    """Run with a private PostgreSQL where there is one, with SQLite elsewhere, or on ``DATABASE_URL``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--requests", type=int, default=20, help="for each client")
    numbers = vars(parser.parse_args())
    console = Console()
    if url := os.environ.get("DATABASE_URL"):
        return asyncio.run(main(console, url, **numbers))
    if find_binaries() is not None:
        with postgres_cluster() as cluster:
            return asyncio.run(main(console, cluster.url(), **numbers))
    with tempfile.TemporaryDirectory(prefix="atlas-") as folder:
        return asyncio.run(main(console, f"sqlite+aiosqlite:///{folder}/atlas.db", **numbers))


if __name__ == "__main__":
    sys.exit(run())
