"""A small library and its service, to send requests to: what is written, how it fails, what comes after a response."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import ForeignKey, String, select, text
from starlette.requests import Request

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column, relationship
from aiosession.ext.fastapi import (
    AsyncSessionMiddleware,
    SessionDep,
    StreamSessionDep,
    add_problem_handlers,
    health,
    load_options,
    request_session,
)


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id", deferrable=True, initially="DEFERRED"))
    author: Mapped[Author] = relationship(back_populates="books")


class BookOut(BaseModel):
    title: str


class AuthorIn(BaseModel):
    name: str


class AuthorOut(BaseModel):
    id: int
    name: str


class AuthorWithBooks(AuthorOut):
    books: list[BookOut]


@dataclass
class Seen:
    """What handlers noted down."""

    sessions: list[AsyncSession] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)


async def create_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)


async def names(observer: AsyncEngine) -> list[str]:
    """Return the authors that another connection sees."""
    async with observer.connect() as connection:
        return list(await connection.scalars(select(Author.name).order_by(Author.name)))


async def same_session(session: SessionDep) -> AsyncSession:
    return session


def make_app(sessions: Any, engine: AsyncEngine, seen: Seen, *, problems: bool = True, **options: Any) -> FastAPI:
    """Make the service."""
    app = FastAPI()
    app.add_middleware(AsyncSessionMiddleware, sessions=sessions, **options)
    if problems:
        add_problem_handlers(app)
    app.add_route("/health", health(engine, timeout=1.0))
    for add in (add_writing, add_failing, add_background, add_streams):
        add(app, sessions, seen)
    return app


def add_writing(app: FastAPI, sessions: Any, seen: Seen) -> None:
    @app.get("/nothing")
    async def nothing() -> str:
        return "nothing"

    @app.post("/authors", status_code=201, response_model=AuthorOut)
    async def create(author: AuthorIn, session: SessionDep) -> Author:
        created = Author(name=author.name)
        session.add(created)
        await session.flush()
        return created

    @app.get("/authors", response_model=list[AuthorWithBooks])
    async def listed(session: SessionDep) -> Any:
        seen.sessions.append(session)
        options = load_options(list[AuthorWithBooks], Author)
        return (await session.scalars(select(Author).options(*options).order_by(Author.name))).all()

    @app.get("/authors/{author_id}", response_model=AuthorOut)
    async def show(author_id: int, session: SessionDep) -> Author:
        return await session.get_one(Author, author_id)

    @app.get("/same")
    async def same(session: SessionDep, sub: Annotated[AsyncSession, Depends(same_session)]) -> bool:
        return session is sub

    @app.post("/unflushed/{name}")
    async def unflushed(name: str, session: SessionDep, background: BackgroundTasks) -> str:
        session.add(Author(name=name))
        background.add_task(seen.ran.append, name)
        return "added"

    @app.post("/explicit/{name}")
    async def explicit(name: str, session: SessionDep) -> str:
        session.add(Author(name=name))
        await session.commit()
        session.add(Author(name=f"{name}, later"))
        raise HTTPException(418)


def add_failing(app: FastAPI, sessions: Any, seen: Seen) -> None:
    @app.post("/raise/{name}")
    async def raise_error(name: str, session: SessionDep) -> None:
        session.add(Author(name=name))
        await session.flush()
        raise ZeroDivisionError

    @app.post("/refuse/{name}")
    async def refuse(name: str, session: SessionDep) -> None:
        session.add(Author(name=name))
        await session.flush()
        raise HTTPException(418, "a teapot")

    @app.post("/books/{author_id}")
    async def add_book(author_id: int, session: SessionDep, background: BackgroundTasks) -> str:
        session.add(Book(title="Lost", author_id=author_id))
        await session.flush()
        background.add_task(seen.ran.append, "book")
        return "added"

    @app.post("/sql")
    async def run_sql(session: SessionDep, sql: str) -> str:
        await session.execute(text(sql))
        return "done"


def add_background(app: FastAPI, sessions: Any, seen: Seen) -> None:
    async def use(what: Callable[[], Any]) -> None:
        try:
            await what()
        except Exception as error:
            seen.errors.append(error)

    @app.post("/task-with-session")
    async def task_with_session(session: SessionDep, background: BackgroundTasks) -> str:
        background.add_task(use, lambda: session.scalars(select(Author)))
        return "started"

    @app.post("/task-asks-late")
    async def task_asks_late(background: BackgroundTasks, request: Request) -> str:
        background.add_task(use, lambda: request_session(request).commit())
        return "started"

    @app.post("/task-of-its-own/{name}")
    async def task_of_its_own(name: str, background: BackgroundTasks) -> str:
        async def work() -> None:
            async with sessions.begin() as own:
                own.add(Author(name=name))

        background.add_task(work)
        return "started"


def add_streams(app: FastAPI, sessions: Any, seen: Seen) -> None:
    @app.get("/stream")
    async def stream(session: StreamSessionDep, per: int = 1) -> StreamingResponse:
        seen.sessions.append(session)

        async def lines() -> AsyncIterator[str]:
            found = await session.stream_scalars(
                select(Author).order_by(Author.name), execution_options={"yield_per": per}
            )
            async for author in found:
                yield f"{author.name}\n"

        return StreamingResponse(lines(), media_type="text/plain")

    @app.get("/stream-of-the-request")
    async def stream_of_the_request(session: SessionDep) -> StreamingResponse:
        found = await session.stream_scalars(select(Author), execution_options={"yield_per": 1})

        async def lines() -> AsyncIterator[str]:
            try:
                async for author in found:
                    yield f"{author.name}\n"
            except Exception as error:
                seen.errors.append(error)

        return StreamingResponse(lines(), media_type="text/plain")
