"""How does the shop answer HTTP? And who finishes what its predecessor left prepared when it died?"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final, Never
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, status
from fastapi.responses import JSONResponse

from aiosession import AsyncSession, async_sessionmaker, recover, recovery, selectinload
from aiosession.errors import OperationalError, PoolTimeoutError
from examples.shop import schemas
from examples.shop.databases import APP, Databases
from examples.shop.models import Account, Order
from examples.shop.placing import InsufficientMoneyError, KeyTakenError, RefusedError, UnknownAccountError, place

_log: Final = logging.getLogger("shop")
RECOVERS_EVERY: Final = 1.0
OLDER_THAN: Final = 2.0
"""Seconds that a commit may take: what is prepared for longer is in doubt."""

ANSWERS: Final[dict[type[RefusedError], int]] = {
    UnknownAccountError: status.HTTP_404_NOT_FOUND,
    InsufficientMoneyError: status.HTTP_409_CONFLICT,
    KeyTakenError: status.HTTP_422_UNPROCESSABLE_CONTENT,
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": schemas.Problem}}
REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": schemas.Problem} for code in (404, 409, 422, 503)}


def get_sessions(request: Request) -> async_sessionmaker[AsyncSession]:
    """Return what makes sessions."""
    sessions: async_sessionmaker[AsyncSession] = request.app.state.sessions
    return sessions


async def get_session(request: Request) -> AsyncIterator[AsyncSession]:
    """Open a session for one request."""
    async with get_sessions(request)() as session:
        yield session


Sessions = Annotated[async_sessionmaker[AsyncSession], Depends(get_sessions)]
Session = Annotated[AsyncSession, Depends(get_session)]

router = APIRouter()


def create_app(databases: Databases) -> FastAPI:
    """Make the service over two databases; it closes them when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await databases.create_tables()
        app.state.databases = databases
        app.state.sessions = databases.sessions()
        # Before the first request: what a dead process has left prepared keeps the locks on its accounts.
        for found in await recover(databases.both, app=APP):
            _log.warning("recovery: %s %s: %s", found.app, found.global_id, found.action.value)
        async with asyncio.TaskGroup() as group:
            # And from then on: a PREPARE that was under way when the process died may arrive after that.
            recovering = group.create_task(
                recovery(databases.both, app=APP, every=RECOVERS_EVERY, older_than=OLDER_THAN)
            )
            yield
            recovering.cancel()
        await databases.dispose()

    app = FastAPI(title="Shop", summary="Accounts in one database, orders in another", lifespan=lifespan)
    app.add_exception_handler(RefusedError, refuse)
    app.add_exception_handler(OperationalError, be_unavailable)
    app.add_exception_handler(PoolTimeoutError, be_unavailable)
    app.include_router(router)
    return app


@router.post("/orders", response_model=schemas.OrderOut, status_code=201, responses=REFUSALS)
async def place_order(
    body: schemas.WantedOrder, sessions: Sessions, idempotency_key: Annotated[UUID, Header()]
) -> Order:
    """Take money from an account and write an order: both or neither, and once only for each Idempotency-Key."""
    return await place(sessions, idempotency_key, body)


@router.get("/accounts/{account_id}", response_model=schemas.AccountOut, responses=NOT_FOUND)
async def show_account(account_id: int, session: Session) -> Account:
    """Show an account."""
    return await session.get(Account, account_id) or not_found(f"no account {account_id}")


@router.get("/orders/{order_id}", response_model=schemas.OrderOut, responses=NOT_FOUND)
async def show_order(order_id: int, session: Session) -> Order:
    """Show an order with its lines."""
    found = await session.get(Order, order_id, options=[selectinload(Order.lines)])
    return found or not_found(f"no order {order_id}")


@router.get("/health", responses={503: {"model": schemas.Problem}})
async def health(request: Request) -> schemas.Health:
    """Tell how many units of work are in doubt."""
    databases: Databases = request.app.state.databases
    found = await recover(databases.both, app=APP, dry_run=True)
    old = [each for each in found if each.age is None or each.age >= timedelta(seconds=OLDER_THAN)]
    return schemas.Health(prepared=len(found), in_doubt=len(old))


def not_found(reason: str) -> Never:
    """Answer 404."""
    raise HTTPException(status.HTTP_404_NOT_FOUND, reason)


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Say why an order is not going to be placed."""
    code = next((code for kind, code in ANSWERS.items() if isinstance(error, kind)), status.HTTP_400_BAD_REQUEST)
    return JSONResponse({"detail": str(error)}, code)


async def be_unavailable(request: Request, error: Exception) -> JSONResponse:
    """Answer 503 while a database cannot be reached or others are in the way; the key makes a repetition safe."""
    return JSONResponse(
        {"detail": "not now; repeat the request with the same Idempotency-Key"},
        status.HTTP_503_SERVICE_UNAVAILABLE,
        {"retry-after": "1"},
    )
