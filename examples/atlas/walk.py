"""Does the service answer rightly? A walk through it with real requests, each answer shown and checked."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

import httpx
from rich.console import Console


class WrongAnswerError(Exception):
    """The service answered something else than it should."""


class Walk:
    """Sends requests, prints them with their answers, and counts what was wrong."""

    def __init__(self, client: httpx.AsyncClient, console: Console) -> None:
        self._client = client
        self._console = console
        self.requests = 0

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, expect: int = 200) -> Any:
        """Send one request and return the JSON of its answer, whose status must be *expect*."""
        began = perf_counter()
        answer = await self._client.request(method, path, json=body)
        took = (perf_counter() - began) * 1000
        self.requests += 1
        sent = f" [dim]{body}[/dim]" if body else ""
        colour = "green" if answer.status_code == expect else "red"
        self._console.print(
            f"  [bold]{method:6}[/bold] {path}{sent}\n         [{colour}]{answer.status_code}[/{colour}] "
            f"[dim]{took:5.1f} ms[/dim]  {shorten(answer.text)}",
            soft_wrap=True,
            highlight=False,
        )
        if answer.status_code != expect:
            raise WrongAnswerError(f"{method} {path} answered {answer.status_code} instead of {expect}: {answer.text}")
        return answer.json() if answer.content else None

    def check(self, claim: str, *, holds: bool) -> None:
        """Say what an answer shows; it has to be true."""
        self._console.print(f"         [{'green' if holds else 'red'}]{'✓' if holds else '✗'}[/] {claim}")
        if not holds:
            raise WrongAnswerError(claim)


def shorten(text: str, width: int = 150) -> str:
    """Cut a long answer and keep rich from reading markup into it."""
    return (text if len(text) <= width else f"{text[:width]} … ({len(text):,} characters)").replace("[", "\\[")


async def walk_through(walk: Walk) -> None:
    """Go through all that the service can do."""
    await read(walk)
    await change(walk)
    await refuse(walk)
    await transfer(walk)
    await remove(walk)


async def read(walk: Walk) -> None:
    """List, search and look at details."""
    health = await walk.ask("GET", "/health")
    walk.check("the database answers", holds=health["status"] == "up")
    countries = await walk.ask("GET", "/countries?limit=2&offset=100")
    walk.check("250 countries, 2 on this page", holds=(countries["total"], len(countries["items"])) == (250, 2))
    iceland = await walk.ask("GET", "/countries/IS")
    walk.check("Iceland has its time zone", holds=iceland["time_zones"] == [{"name": "Atlantic/Reykjavik"}])
    region = await walk.ask("GET", "/subdivisions/FR-ARA")
    walk.check(f"{len(region['children'])} subdivisions lie in {region['name']}", holds=len(region["children"]) > 10)
    found = await walk.ask("GET", "/airports?q=heathrow")
    walk.check("the search finds London Heathrow", holds="EGLL" in [item["icao"] for item in found["items"]])
    texas = await walk.ask("GET", "/airports?subdivision=US-TX&limit=3&offset=1000")
    walk.check("Texas has its airports, page by page", holds=texas["total"] > 1000 and len(texas["items"]) == 3)


NEW = {
    "icao": "ZZ99",
    "iata": None,
    "name": "Surtsey",
    "city": "Vestmannaeyjar",
    "elevation_ft": 509,
    "latitude": 63.303,
    "longitude": -20.605,
    "country": "IS",
    "subdivision": "IS-8",
    "time_zone": "Atlantic/Reykjavik",
}


async def change(walk: Walk) -> None:
    """Create an airport and change it."""
    created = await walk.ask("POST", "/airports", NEW, expect=201)
    walk.check("the new airport is shown with its relations", holds=created["subdivision"]["code"] == "IS-8")
    await walk.ask("PATCH", "/airports/ZZ99", {"name": "Surtsey International"})
    stored = await walk.ask("GET", "/airports/ZZ99")
    walk.check("the change is stored, the rest is as it was", holds=stored == {**created, "name": stored["name"]})


async def refuse(walk: Walk) -> None:
    """Ask for what cannot be."""
    await walk.ask("GET", "/airports/QQQQ", expect=404)
    taken = await walk.ask("POST", "/airports", NEW, expect=409)
    walk.check("the failed commit is the answer, as a problem document", holds=taken["code"] == "exists")
    wrong = await walk.ask("POST", "/airports", {**NEW, "icao": "ZZ98", "latitude": 91}, expect=422)
    walk.check("so is the answer to a body that makes no sense", holds=wrong["errors"][0].startswith("body.latitude"))
    await walk.ask("POST", "/airports", {**NEW, "icao": "ZZ98", "subdivision": "FR-ARA"}, expect=422)
    await walk.ask("PATCH", "/airports/ZZ99", {"name": None}, expect=422)
    await walk.ask("PATCH", "/airports/ZZ99", {"iata": "LHR"}, expect=409)
    missing = await walk.ask("GET", "/airports/ZZ98", expect=404)
    walk.check("nothing of a refused request is left", holds=missing["detail"] == "no airport ZZ98")


async def transfer(walk: Walk) -> None:
    """Move an airport: its row and the ledger change together or not at all."""
    moved = await walk.ask("POST", "/airports/ZZ99/transfers", {"to": "IS-7", "reason": "redistricting"}, expect=201)
    entry = moved["transfers"][-1]
    walk.check(
        "moved, and written into the ledger",
        holds=(moved["subdivision"]["code"], entry["from_code"], entry["to_code"]) == ("IS-7", "IS-8", "IS-7"),
    )
    await walk.ask("POST", "/airports/ZZ99/transfers", {"to": "IS-7", "reason": "again"}, expect=409)
    after = await walk.ask("GET", "/airports/ZZ99")
    walk.check("the refused transfer changed neither", holds=after == moved)


async def remove(walk: Walk) -> None:
    """Delete the airport, with its part of the ledger."""
    await walk.ask("DELETE", "/airports/ZZ99", expect=204)
    await walk.ask("GET", "/airports/ZZ99", expect=404)
