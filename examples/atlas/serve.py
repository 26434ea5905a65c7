"""Keep the atlas running: ``python -m examples.atlas.serve``, on ``DATABASE_URL`` or ``atlas.db``."""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

import uvicorn
from rich.console import Console

from examples.atlas.database import fill, is_filled, open_engine
from examples.atlas.service import create_app


async def serve(host: str, port: int) -> None:
    """Fill the database if it is empty, then answer requests until interrupted."""
    console = Console()
    engine = open_engine(Path("atlas.db"))
    if not await is_filled(engine):
        loaded = await fill(engine, console)
        console.print(f"wrote {loaded.objects:,} objects in {loaded.seconds:.1f} s")
    console.print(f"the atlas answers on http://{host}:{port}, its API is described on http://{host}:{port}/docs")
    config = uvicorn.Config(create_app(engine), host=host, port=port, log_level="info")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.host, arguments.port))
