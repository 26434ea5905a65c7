"""What does a client send? Looked at before the application asks for it, and nothing of it is lost."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from starlette.types import Message, Receive, Scope

_TURNS: Final = 8
"""Turns of the event loop after which a message that is there would have come through all middlewares."""


class Incoming:
    """The messages of a client, in their order; those that were looked at already are kept for the application."""

    __slots__ = ("_coming", "_left", "_receive", "_seen")

    def __init__(self, receive: Receive) -> None:
        self._receive: Final = receive
        self._seen: deque[asyncio.Future[Message]] = deque()
        self._coming: asyncio.Future[Message] | None = None
        """What was asked for and has not come yet. Not to be cancelled: middlewares would lose what they hold."""
        self._left: Callable[[], None] | None = None

    async def receive(self) -> Message:
        """Return the next message."""
        while not self._seen:
            if self._coming is None and self._left is None:
                return await self._receive()
            await asyncio.wait([self._ask()])
        return self._seen.popleft().result()

    def watch(self, left: Callable[[], None], scope: Scope) -> None:
        """Have *left* called when the client leaves; a body that nobody has read yet is not read for that."""
        self._left = left
        if not _has_body(scope):
            self._ask()

    async def is_client_gone(self) -> bool:
        """Whether a disconnect is the next thing to be received."""
        while True:
            if any(_is_disconnect(each) for each in self._seen):
                return True
            if len(self._seen) > 1 or not all(_is_last(each) for each in self._seen):
                return False
            if not await self._has_come():
                return False

    async def _has_come(self) -> bool:
        """Whether another message is there."""
        before = len(self._seen)
        self._ask()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
            if len(self._seen) > before:
                return True
        return False

    def _ask(self) -> asyncio.Future[Message]:
        if self._coming is None:
            self._coming = asyncio.ensure_future(self._receive())
            self._coming.add_done_callback(self._arrived)
        return self._coming

    def _arrived(self, message: asyncio.Future[Message]) -> None:
        self._coming = None
        if message.cancelled():
            return
        self._seen.append(message)
        if self._left is None:
            return
        if _is_disconnect(message):
            self._left()
        elif _is_last(message):
            self._ask()

    async def end(self) -> None:
        """Wait for nothing any more."""
        self._left = None
        coming = self._coming
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])
        for each in (coming, *self._seen):
            if each is not None and not each.cancelled():
                each.exception()  # nobody is interested any more


def _has_body(scope: Scope) -> bool:
    """Whether a request says that it has a body."""
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _message(come: asyncio.Future[Message]) -> Message:
    return {"type": "error"} if come.exception() is not None else come.result()


def _is_disconnect(come: asyncio.Future[Message]) -> bool:
    return bool(_message(come)["type"] == "http.disconnect")


def _is_last(come: asyncio.Future[Message]) -> bool:
    """Whether the body is complete with a message."""
    message = _message(come)
    return message["type"] == "http.request" and not message.get("more_body", False)
