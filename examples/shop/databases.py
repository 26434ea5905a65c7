"""Where does the shop keep what it knows? In two databases that commit as one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aiosession import AsyncEngine, AsyncSession, TwoPhase, async_sessionmaker, create_async_engine, decision_table
from examples.shop.models import Account, Bank, Books

APP: Final = "shop"
"""Whose prepared transactions are whose: part of the names of all of them, and what recovery looks for."""

decision_table(Bank.metadata)
decision_table(Books.metadata)


@dataclass(frozen=True, slots=True)
class Databases:
    """The accounts, and the orders, whose database decides whether a unit of work is committed."""

    accounts: AsyncEngine
    orders: AsyncEngine

    @property
    def both(self) -> tuple[AsyncEngine, AsyncEngine]:
        """All that has to be looked at to find what is in doubt."""
        return self.accounts, self.orders

    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Return what makes the sessions of the shop."""
        return async_sessionmaker(
            binds={Bank: self.accounts, Books: self.orders}, twophase=TwoPhase(app=APP, decider=self.orders)
        )

    async def create_tables(self) -> None:
        """Make the tables that are missing."""
        for engine, base in ((self.accounts, Bank), (self.orders, Books)):
            async with engine.begin() as connection:
                await connection.create_all(base.metadata)

    async def open_accounts(self, balances: Iterable[int]) -> None:
        """Add accounts, numbered from 1."""
        async with self.sessions().begin() as session:
            session.add_all(
                Account(id=number, owner=f"customer {number}", balance=balance)
                for number, balance in enumerate(balances, start=1)
            )

    async def dispose(self) -> None:
        """Close all connections."""
        for engine in self.both:
            await engine.dispose()


def open_databases(accounts: str, orders: str) -> Databases:
    """Make the engines for two URLs."""
    return Databases(create_async_engine(accounts), create_async_engine(orders))
