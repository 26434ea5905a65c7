"""Open a connection of asyncmy without losing a cancellation.

asyncmy connects by `asyncio.wait_for`, which on Python 3.11 forgets a cancellation that comes as it has connected.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncmy


async def opened(arguments: Mapping[str, Any]) -> Any:
    """Return a new connection; close it and raise the cancellation, if one came meanwhile and was not delivered."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    connection = await asyncmy.connect(**arguments)
    if task is not None and task.cancelling() > before:
        connection.close()
        raise asyncio.CancelledError
    return connection
