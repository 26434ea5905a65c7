"""Do the two databases agree with each other, and with what the customers were told? Looked at from outside."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from aiosession import AsyncSession, selectinload
from examples.shop.customers import Told
from examples.shop.databases import Databases
from examples.shop.models import Account, Order


@dataclass(frozen=True, slots=True)
class State:
    """What is in the databases."""

    balances: Mapping[int, int]
    orders: Sequence[Order]
    prepared: Sequence[str]
    """The names of prepared transactions, whosever they are."""


async def look(databases: Databases) -> State:
    """Read both databases, each by itself."""
    async with AsyncSession(databases.accounts) as session:
        balances = {account.id: account.balance for account in await session.scalars(select(Account))}
    async with AsyncSession(databases.orders) as session:
        orders = (await session.scalars(select(Order).options(selectinload(Order.lines)))).all()
    return State(balances, orders, await prepared(databases))


async def prepared(databases: Databases) -> list[str]:
    """Return the names of what is prepared anywhere."""
    found: list[str] = []
    for engine in databases.both:
        if engine.capabilities.two_phase:
            async with engine.connect() as connection:
                found += await connection.recover_twophase()
    return found


def problems(before: Mapping[int, int], told: Told, state: State) -> list[str]:
    """Return everything that does not fit."""
    return [*_money(before, state), *_orders(told, state), *(f"{name} is left prepared" for name in state.prepared)]


def _money(before: Mapping[int, int], state: State) -> Iterator[str]:
    """Compare for each account what was taken with what its orders cost."""
    for account, balance in before.items():
        taken = balance - state.balances[account]
        spent = sum(order.amount for order in state.orders if order.account_id == account)
        if taken != spent:
            yield f"account {account} has lost {taken} cents and its orders cost {spent}"


def _orders(told: Told, state: State) -> Iterator[str]:
    """Compare the orders with what the customers were told of them."""
    found: dict[UUID, list[Order]] = {}
    for order in state.orders:
        found.setdefault(order.key, []).append(order)
        if order.amount != sum(line.quantity * line.price for line in order.lines):
            yield f"order {order.id} costs {order.amount} cents and its lines something else"
    for key, answer in told.placed.items():
        ids = [order.id for order in found.get(key, [])]
        if ids != [answer["id"]]:
            yield f"somebody was told of order {answer['id']} for the key {key}, which has the orders {ids}"
        elif found[key][0].amount != answer["amount"]:
            yield f"order {answer['id']} costs {found[key][0].amount} cents, and {answer['amount']} were told"
    for key in found.keys() - told.placed.keys():
        said = f"was refused with {told.refused[key]}" if key in told.refused else "nobody was told of"
        yield f"there is an order for the key {key}, which {said}"
