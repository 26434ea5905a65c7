"""The shop over two databases: what it answers, what it refuses, and that no kill tears money and orders apart."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from rich.console import Console
from sqlalchemy import delete, update

from aiosession.errors import SerializationError
from aiosession.testing.postgres import PostgresCluster
from examples.shop.audit import look, problems
from examples.shop.customers import Told
from examples.shop.databases import Databases, open_databases
from examples.shop.demo import Options, Report, tell, torment
from examples.shop.models import Account, Line, Order
from examples.shop.placing import place_once
from examples.shop.process import Launcher, free_port
from examples.shop.schemas import WantedLine, WantedOrder
from examples.shop.serve import Life
from examples.shop.service import create_app
from tests.two_phase.conftest import emptied

pytestmark = pytest.mark.postgres

BALANCE = 1_000


@pytest.fixture
async def accounts_url(postgres: PostgresCluster) -> str:
    """Name an empty database for the accounts."""
    return await emptied(postgres, "postgres")


@pytest.fixture(params=["sqlite", "postgresql"])
async def orders_url(request: pytest.FixtureRequest, postgres: PostgresCluster, sqlite_url: str) -> str:
    """Name an empty database for the orders."""
    return sqlite_url if request.param == "sqlite" else await emptied(postgres, "shop_orders")


@pytest.fixture
async def databases(accounts_url: str, orders_url: str) -> AsyncIterator[Databases]:
    """Open both databases, with two accounts in them."""
    databases = open_databases(accounts_url, orders_url)
    await databases.create_tables()
    await databases.open_accounts([BALANCE, BALANCE])
    yield databases
    await databases.dispose()


@asynccontextmanager
async def serving(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """Start the service in this process, and a client that asks it."""
    app = create_app(databases)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client,
    ):
        yield client


@pytest.fixture
async def client(databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(databases) as client:
        yield client


def wanted(account: int = 1, price: int = 100) -> dict[str, Any]:
    lines = [
        {"article": "apple", "quantity": 2, "price": price},
        {"article": "bread", "quantity": 1, "price": 50},
    ]
    return {"account": account, "lines": lines}


async def ordered(client: httpx.AsyncClient, body: dict[str, Any], key: UUID | None = None) -> httpx.Response:
    return await client.post("/orders", json=body, headers={"idempotency-key": str(key or uuid4())})


async def balance(client: httpx.AsyncClient, account: int = 1) -> int:
    found: int = (await client.get(f"/accounts/{account}")).json()["balance"]
    return found


async def test_an_order_takes_the_money_and_is_there(client: httpx.AsyncClient) -> None:
    key = uuid4()

    placed = await ordered(client, wanted(), key)
    shown = await client.get(f"/orders/{placed.json()['id']}")

    assert placed.status_code == 201
    assert (placed.json()["amount"], placed.json()["key"]) == (250, str(key))
    assert placed.json()["lines"] == wanted()["lines"]
    assert shown.json() == placed.json()
    assert await balance(client) == BALANCE - 250


async def test_a_repeated_request_finds_the_order_that_it_made(client: httpx.AsyncClient) -> None:
    key = uuid4()

    first = await ordered(client, wanted(price=400), key)
    again = await ordered(client, wanted(price=400), key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert await balance(client) == BALANCE - 850


async def test_a_request_that_comes_many_times_at_once_makes_one_order(client: httpx.AsyncClient) -> None:
    key = uuid4()

    answers = await asyncio.gather(*(ordered(client, wanted(), key) for _ in range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await balance(client) == BALANCE - 250


async def test_a_key_stands_for_one_order_only(client: httpx.AsyncClient) -> None:
    key = uuid4()

    answers = await asyncio.gather(*(ordered(client, wanted(account=number), key) for number in (1, 2)))
    other = await ordered(client, wanted(price=1), key)

    assert sorted(answer.status_code for answer in answers) == [201, 422]
    assert other.status_code == 422
    assert await balance(client, 1) + await balance(client, 2) == 2 * BALANCE - 250


async def test_an_order_that_nobody_can_pay_changes_nothing(databases: Databases, client: httpx.AsyncClient) -> None:
    unknown = await ordered(client, wanted(account=77))
    too_dear = await ordered(client, wanted(price=1_000))

    assert (unknown.status_code, unknown.json()) == (404, {"detail": "no account 77"})
    assert (too_dear.status_code, too_dear.json()) == (
        409,
        {"detail": "account 1 has 1000 cents, the order costs 2050"},
    )
    assert (await look(databases)).orders == []
    assert await balance(client) == BALANCE


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/accounts/77")).status_code == 404
    assert (await client.get("/orders/77")).status_code == 404


@pytest.mark.parametrize("body", [{"account": 1, "lines": []}, {"account": 1}, wanted(price=0)])
async def test_a_body_that_makes_no_sense_is_unprocessable(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await ordered(client, body)).status_code == 422
    assert (await client.post("/orders", json=wanted())).status_code == 422


@pytest.mark.parametrize("orders_url", ["postgresql"], indirect=True)  # a live writer of SQLite keeps all others out
async def test_what_was_left_prepared_is_settled_before_the_first_request(databases: Databases) -> None:
    async with databases.sessions()() as left:
        (await left.get_one(Account, 1)).balance -= 100
        left.add(Order(key=uuid4(), account_id=1, amount=100))
        await left.prepare()

        async with serving(databases) as client:
            health = (await client.get("/health")).json()
            placed = await ordered(client, wanted())
            with pytest.raises(SerializationError):
                await left.commit()

    assert health == {"prepared": 0, "in_doubt": 0}
    assert placed.status_code == 201


async def test_health_tells_what_is_prepared(databases: Databases, client: httpx.AsyncClient) -> None:
    async with databases.sessions()() as session:
        (await session.get_one(Account, 1)).balance -= 100
        session.add(Order(key=uuid4(), account_id=1, amount=100))
        await session.prepare()
        during = (await client.get("/health")).json()
        await session.commit()

    assert during == {"prepared": 1, "in_doubt": 0}
    assert (await client.get("/health")).json() == {"prepared": 0, "in_doubt": 0}


async def test_the_audit_names_what_does_not_fit(databases: Databases) -> None:
    lines = [WantedLine(article="apple", quantity=1, price=100)]
    sold = [await place_once(databases.sessions(), uuid4(), WantedOrder(account=1, lines=lines)) for _ in range(3)]
    told = Told()
    told.placed = {order.key: {"id": order.id, "amount": order.amount} for order in sold}
    before = {1: BALANCE, 2: BALANCE}
    assert problems(before, told, await look(databases)) == []

    del told.placed[sold[1].key]
    told.refused[sold[1].key] = 409
    async with databases.accounts.begin() as connection:
        await connection.execute(update(Account).where(Account.id == 2).values(balance=BALANCE - 7))
    async with databases.orders.begin() as connection:
        await connection.execute(delete(Order).where(Order.id == sold[0].id))
        await connection.execute(update(Line).where(Line.order_id == sold[2].id).values(price=99))

    assert problems(before, told, await look(databases)) == [
        "account 1 has lost 300 cents and its orders cost 200",
        "account 2 has lost 7 cents and its orders cost 0",
        f"order {sold[2].id} costs 100 cents and its lines something else",
        f"somebody was told of order {sold[0].id} for the key {sold[0].key}, which has the orders []",
        f"there is an order for the key {sold[1].key}, which was refused with 409",
    ]


@pytest.mark.slow
async def test_money_and_orders_fit_together_after_kills(accounts_url: str, sqlite_url: str, tmp_path: Path) -> None:
    """A short `make demo-shop`: real processes that die by SIGKILL while customers buy."""
    life = Life(accounts_url, sqlite_url, port=free_port(), log_level="warning")
    launcher, report, output = Launcher(life, tmp_path / "log"), Report(), io.StringIO()
    databases = open_databases(accounts_url, sqlite_url)
    try:
        await torment(
            launcher, databases, Options(kills=4, customers=4, commits=8, seed=4), report, Console(file=output)
        )
    finally:
        await databases.dispose()
    tell(report, Console(file=output))

    assert report.problems == []
    assert report.kills.total() == 4
    assert report.kills["when decided"] > 0
    assert report.settled["committed"] > 0
    assert report.told.placed
    assert f"{len(report.told.placed):,} orders placed" in output.getvalue()
