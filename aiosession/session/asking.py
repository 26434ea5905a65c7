"""What can a session be asked? `AsyncSession` has these methods; their work is done by plain functions."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from sqlalchemy.sql.selectable import TypedReturnsRows
from typing_extensions import TypeVarTuple, Unpack

from aiosession.engine.execution import Parameters
from aiosession.engine.explaining import Explanation, Format, Request
from aiosession.engine.result import Result, ScalarResult
from aiosession.engine.streaming import AsyncResult, AsyncScalarResult
from aiosession.errors import ObjectNotFoundError
from aiosession.loading.get import get
from aiosession.loading.load import load
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import Mapper
from aiosession.session import explaining, lifecycle, querying, streaming
from aiosession.session.holding import Holding
from aiosession.session.lifecycle import Lock
from aiosession.session.query import Query
from aiosession.session.querying import How, HowToGet

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Asking(Holding):
    """The queries of a session."""

    __slots__ = ()

    async def get(self, entity: type[T] | Mapper[T], ident: object, **how: Unpack[HowToGet]) -> T | None:
        """Return the object with this primary key, from memory or with one statement; None if there is no such row.

        *ident* is a value, a tuple for a composite key, or a mapping from attribute names to values. Takes *options*
        for loading, *populate_existing*, *with_for_update*, *identity_token*, *execution_options*, *bind_arguments*.
        """
        ctx = self.context
        with ctx.guard.enter("get"):
            ctx.check_open()
            found: T | None
            if how or ctx.workspace.dispatch.hooks:
                found = await querying.get(ctx, mapper_of(entity), ident, how)
            else:
                found = await get(ctx, mapper_of(entity), ident)
            return found

    async def get_one(self, entity: type[T] | Mapper[T], ident: object, **how: Unpack[HowToGet]) -> T:
        """Return the object with this primary key; `ObjectNotFoundError` if there is no such row; else as `get`."""
        ctx = self.context
        with ctx.guard.enter("get_one"):
            ctx.check_open()
            found: T | None = await querying.get(ctx, mapper_of(entity), ident, how)
        if found is None:
            raise ObjectNotFoundError(mapper_of(entity).class_, ident)
        return found

    @overload
    def query(self, entity: type[T] | Mapper[T], /) -> Query[T]: ...
    @overload
    def query(self, *entities: Any) -> "Query[Any]": ...
    def query(self, *entities: Any) -> "Query[Any]":
        """Begin to build a query: ``await session.query(User).filter_by(name="ada").all()``.

        Of one class it gives objects, of columns and several classes rows.
        """
        self.context.check_open()
        return self.query_class(self, entities)

    @overload
    async def execute(
        self, statement: TypedReturnsRows[*Ts], params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*Ts]: ...
    @overload
    async def execute(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*tuple[Any, ...]]: ...
    async def execute(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> Result[*tuple[Any, ...]]:
        """Run a statement of Core over classes and tables; *params* may be a list for INSERT, UPDATE and DELETE."""
        with self.context.guard.enter("execute"):
            return await querying.execute(self.context, statement, params, how)

    @overload
    async def scalar(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> T | None: ...
    @overload
    async def scalar(self, statement: object, params: Parameters | None = None, **how: Unpack[How]) -> Any: ...
    async def scalar(self, statement: object, params: Parameters | None = None, **how: Unpack[How]) -> Any:
        """Run a statement and return the first value of its first row; None if there is no row."""
        with self.context.guard.enter("scalar"):
            result = await querying.execute(self.context, statement, params, how)
            return result.scalar()

    @overload
    async def scalars(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[T]: ...
    @overload
    async def scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[Any]: ...
    async def scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> ScalarResult[Any]:
        """Run a statement and return the first value of each row."""
        with self.context.guard.enter("scalars"):
            result = await querying.execute(self.context, statement, params, how)
            return result.scalars()

    @overload
    async def stream(
        self, statement: TypedReturnsRows[*Ts], params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*Ts]: ...
    @overload
    async def stream(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*tuple[Any, ...]]: ...
    async def stream(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncResult[*tuple[Any, ...]]:
        """Run a query and return its rows as they arrive, in chunks of ``execution_options={"yield_per": n}``.

        The stream is part of the transaction; close it, or use it with ``async with``, if it is not read to its end.
        """
        with self.context.guard.enter("stream"):
            return await streaming.stream(self.context, statement, params, how)

    @overload
    async def stream_scalars(
        self, statement: TypedReturnsRows[T, *tuple[Any, ...]], params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[T]: ...
    @overload
    async def stream_scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[Any]: ...
    async def stream_scalars(
        self, statement: object, params: Parameters | None = None, **how: Unpack[How]
    ) -> AsyncScalarResult[Any]:
        """Run a query and return the first value of each row as they arrive."""
        with self.context.guard.enter("stream_scalars"):
            result = await streaming.stream(self.context, statement, params, how)
            return result.scalars()

    async def explain(
        self,
        statement: object,
        params: Mapping[str, Any] | None = None,
        *,
        analyze: bool = False,
        format: Format = "text",  # noqa: A002 - the database's word
        options: Mapping[str, bool] | None = None,
        **how: Unpack[How],
    ) -> Explanation:
        """Return how the database would carry out a statement; ``print()`` shows it.

        What is asked about is what the session would send: the statement itself, not those that load collections
        after it. With *analyze* it is carried out and measured; a write in a savepoint that is rolled back, which
        triggers and sequences notice.

        Args:
            statement: A select, insert, update, delete or text, over classes or tables.
            params: Its parameters, one set.
            analyze: Carry it out; not on SQLite.
            format: ``"text"``, or ``"json"`` for ``explanation.data``; not on SQLite.
            options: Of PostgreSQL's EXPLAIN: ``{"buffers": True}``.
            **how: ``execution_options`` and ``bind_arguments``, as for ``execute()``.

        """
        with self.context.guard.enter("explain"):
            request = Request(analyze, format, options or {})
            return await explaining.explain(self.context, statement, params, request, how)

    async def refresh(
        self,
        instance: object,
        attribute_names: Iterable[str] | None = None,
        with_for_update: Lock = None,
    ) -> None:
        """Read an object, or some attributes of it, as they are in the database; unflushed changes of them are lost."""
        with self.context.guard.enter("refresh"):
            await lifecycle.refresh(self.context, instance, attribute_names, with_for_update)

    async def refresh_all(self) -> None:
        """Read all stale objects again, one statement per class."""
        with self.context.guard.enter("refresh_all"):
            await lifecycle.refresh_all(self.context)

    async def load(self, instances: object, *attributes: object) -> None:
        """Load attributes that objects lack: ``await session.load(users, User.books, Book.tags)``.

        One statement per attribute, whatever the number of objects; what is loaded and fresh is left alone. Relations
        of objects that have no row yet are found by their foreign key values; from then on the relation decides.
        """
        with self.context.guard.enter("load"):
            self.context.check_open()
            await load(self.context, instances, *attributes)
