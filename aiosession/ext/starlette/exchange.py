"""What happens to a request and its response on their way? Before the response starts, the work is settled."""

from collections.abc import Callable
from typing import Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from aiosession import AsyncSession, ConcurrentUseError
from aiosession.ext.starlette.incoming import Incoming
from aiosession.ext.starlette.requests import RequestSessions

_IN_THE_WAY: Final = (
    "the session of a request is committed before the response starts; a task that is still using it then is in the "
    "way. Wait for tasks in the handler; what is read while the response is sent needs a session of its own: "
    "stream_session(request), in FastAPI a StreamSessionDep"
)


class ReplacedError(Exception):
    """Stops a response that must not be sent; whatever becomes of it on its way, the middleware knows why."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__("this response is not sent: " + ("its client is gone" if error is None else str(error)))
        self.error: Final = error


class Exchange:
    """A request and its response on their way through the middleware."""

    __slots__ = ("_commit_on", "_incoming", "_is_settled", "_notices_leaving", "_send", "_unit", "_work", "replaced")

    def __init__(
        self,
        unit: RequestSessions,
        receive: Receive,
        send: Send,
        commit_on: Callable[[int], bool],
        *,
        notices_leaving: bool,
    ) -> None:
        self.replaced: ReplacedError | None = None
        """Why the application's response is not sent."""
        self._unit: Final = unit
        self._incoming: Final = Incoming(receive)
        self._send: Final = send
        self._commit_on: Final = commit_on
        self._notices_leaving: Final = notices_leaving
        self._is_settled = False
        self._work: anyio.CancelScope | None = None

    def cancel_for_nobody(self, work: anyio.CancelScope, scope: Scope) -> None:
        """Have *work* cancelled if the client leaves before it is settled; what comes later ends by itself."""
        self._work = work
        self._incoming.watch(self._leave, scope)

    def _leave(self) -> None:
        if self._work is not None and not self._is_settled:
            self._work.cancel()

    async def receive(self) -> Message:
        """Hand out what the client sends."""
        return await self._incoming.receive()

    async def send(self, message: Message) -> None:
        """Pass a message on to the client; before the first one the work is settled."""
        if not self._is_settled and message["type"] == "http.response.start":
            self._is_settled = True
            if self._was_left():
                self.replace()
            else:
                await self._settle(message["status"])
        if self.replaced is not None:
            raise self.replaced
        await self._send(message)

    def replace(self, error: Exception | None = None) -> None:
        """Have another response sent for *error*, or because the client is gone."""
        self.replaced = ReplacedError(error)

    async def _settle(self, status: int) -> None:
        session = self._unit.current
        try:
            if session is not None and self._commit_on(status):
                await self._commit(session)
        finally:
            await self._unit.end()

    async def _commit(self, session: AsyncSession) -> None:
        if self._notices_leaving and session.context.has_work and await self._is_client_gone():
            self.replace()
            return
        try:
            await session.commit()
        except ConcurrentUseError as error:
            error.add_note(_IN_THE_WAY)
            self.replace(error)
        except Exception as error:
            self.replace(error)

    async def _is_client_gone(self) -> bool:
        return await self._incoming.is_client_gone()

    def _was_left(self) -> bool:
        """Whether the work was cancelled for want of a client, which a handler in a thread, for one, does not heed."""
        return self._work is not None and self._work.cancel_called

    async def end(self) -> None:
        """Wait for nothing any more."""
        await self._incoming.end()
