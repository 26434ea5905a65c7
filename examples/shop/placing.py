"""How is an order placed? Money out of one database, an order into another, exactly once for each key."""

from typing import Final
from uuid import UUID

import anyio
from sqlalchemy import select

from aiosession import AsyncSession, async_sessionmaker, selectinload
from aiosession.errors import DatabaseError, InDoubtError, UniqueViolationError
from examples.shop.models import Account, Line, Order
from examples.shop.schemas import WantedOrder

ATTEMPTS: Final = 5
PAUSE: Final = 0.02
"""Seconds before the second attempt; longer before each that follows."""


class RefusedError(Exception):
    """An order that is not going to be placed."""


class UnknownAccountError(RefusedError):
    """Nobody has this account."""

    def __init__(self, account: int) -> None:
        super().__init__(f"no account {account}")


class InsufficientMoneyError(RefusedError):
    """The account does not have what the order costs."""

    def __init__(self, account: Account, amount: int) -> None:
        super().__init__(f"account {account.id} has {account.balance} cents, the order costs {amount}")


class KeyTakenError(RefusedError):
    """The key stands for another order."""

    def __init__(self, order: Order) -> None:
        super().__init__(f"the key {order.key} was used for order {order.id}, which is another one")


async def place(sessions: async_sessionmaker[AsyncSession], key: UUID, wanted: WantedOrder) -> Order:
    """Return the order of this *key*, placed now or before.

    What may go away when it is repeated is repeated here; the key makes that safe.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return await place_once(sessions, key, wanted)
        except InDoubtError as error:
            await error.resolve()  # afterwards the order is there, or can be placed
        except UniqueViolationError:
            pass  # the same key came for two accounts at once: the next attempt finds what was faster
        except DatabaseError as error:
            if not error.retryable:
                raise
        await anyio.sleep(PAUSE * attempt)
    return await place_once(sessions, key, wanted)


async def place_once(sessions: async_sessionmaker[AsyncSession], key: UUID, wanted: WantedOrder) -> Order:
    """Take the money and write the order, unless that was done before."""
    async with sessions() as session:
        account = await session.get(Account, wanted.account, with_for_update=True)
        if account is None:
            raise UnknownAccountError(wanted.account)
        # Looked for under the lock: whoever had it before us has its order written when it lets go.
        order = await find(session, key)
        if order is not None:
            return the_same(order, wanted)
        if account.balance < wanted.amount:
            raise InsufficientMoneyError(account, wanted.amount)
        account.balance -= wanted.amount
        order = Order(key=key, account_id=account.id, amount=wanted.amount, lines=lines_of(wanted))
        session.add(order)
        await session.commit()
        return order


async def find(session: AsyncSession, key: UUID) -> Order | None:
    """Return the order of a key, with its lines."""
    statement = select(Order).where(Order.key == key).options(selectinload(Order.lines))
    return (await session.scalars(statement)).one_or_none()


def the_same(order: Order, wanted: WantedOrder) -> Order:
    """Return *order* if it is what is wanted."""
    had = [(line.article, line.quantity, line.price) for line in order.lines]
    if (order.account_id, had) != (
        wanted.account,
        [(line.article, line.quantity, line.price) for line in wanted.lines],
    ):
        raise KeyTakenError(order)
    return order


def lines_of(wanted: WantedOrder) -> list[Line]:
    """Return the lines of an order, numbered from 1."""
    return [Line(number=number, **line.model_dump()) for number, line in enumerate(wanted.lines, start=1)]
