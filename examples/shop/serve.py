"""Keep the shop running: ``python -m examples.shop.serve --accounts URL --orders URL``."""

import argparse
import asyncio
from contextlib import suppress
from dataclasses import dataclass

import uvicorn

from examples.shop.databases import open_databases
from examples.shop.dying import Death, die_by
from examples.shop.service import create_app


@dataclass(frozen=True, slots=True)
class Life:
    """What a process of the service does."""

    accounts: str
    orders: str
    host: str = "127.0.0.1"
    port: int = 8000
    log_level: str = "info"
    death: Death | None = None


async def serve(life: Life) -> None:
    """Answer requests until interrupted."""
    databases = open_databases(life.accounts, life.orders)
    if life.death is not None:
        die_by(life.death, databases)
    config = uvicorn.Config(create_app(databases), host=life.host, port=life.port, log_level=life.log_level)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", required=True, help="URL of a PostgreSQL with max_prepared_transactions")
    parser.add_argument("--orders", default="sqlite+aiosqlite:///orders.db", help="URL of any database")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Life(arguments.accounts, arguments.orders, arguments.host, arguments.port)))
