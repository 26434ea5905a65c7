"""Who buys? Customers who repeat a request, with its key, until they are told what became of it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from uuid import UUID

import httpx

PAUSE: Final = 0.1
"""Seconds between two tries to reach a service that is down."""
ARTICLES: Final = ("apple", "bread", "cheese", "dill", "eggs")
SETTLED: Final = frozenset({404, 409, 422})
"""Answers that say that there is no order and will not be one."""


@dataclass(slots=True)
class Told:
    """What all customers together have been told."""

    placed: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    """The orders by their keys, as the service told of them."""
    refused: dict[UUID, int] = field(default_factory=dict)
    """Keys of which the service said that there is no order, with the status of its answer."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """How often there was no answer, or none that says anything, by what came instead."""


async def shop(client: httpx.AsyncClient, told: Told, random: Random, accounts: int, is_enough: asyncio.Event) -> None:
    """Place one order after the other until it is enough; the last one too is repeated until it is answered."""
    while not is_enough.is_set():
        key = UUID(int=random.getrandbits(128), version=4)
        wanted = {
            "account": random.randint(1, accounts),
            "lines": [
                {"article": article, "quantity": random.randint(1, 3), "price": random.randint(1, 99)}
                for article in random.sample(ARTICLES, random.randint(1, len(ARTICLES)))
            ],
        }
        answer = await answered(client, told, key, wanted)
        if answer.status_code in SETTLED:
            told.refused[key] = answer.status_code
        else:
            told.placed[key] = answer.raise_for_status().json()


async def answered(client: httpx.AsyncClient, told: Told, key: UUID, wanted: dict[str, Any]) -> httpx.Response:
    """Ask for an order until there is an answer that settles it."""
    while True:
        try:
            answer = await client.post("/orders", json=wanted, headers={"idempotency-key": str(key)})
        except httpx.TransportError as error:
            told.unanswered[type(error).__name__] += 1
        else:
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            told.unanswered[answer.reason_phrase] += 1
        await asyncio.sleep(PAUSE)
