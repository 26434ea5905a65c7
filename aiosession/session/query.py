"""How is a query built step by step? `Query` collects clauses into a ``select()``; its awaited ends run it.

A `Query` is immutable: every method but the ends returns a new one. Nothing is sent before an end is awaited.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, Literal, NoReturn, Protocol, Self, TypeAlias, TypeVar, cast

from sqlalchemy import (
    CompoundSelect,
    Select,
    delete,
    func,
    select,
    update,
)

from aiosession import core
from aiosession.engine.execution import AnyResult
from aiosession.engine.explaining import Explanation, Format, Request
from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import querying, streaming
from aiosession.session.clauses import Clauses, mapper_or_none, rows_of, selectable, selected
from aiosession.session.explaining import explain
from aiosession.transaction.context import SessionContext

T = TypeVar("T")
Synchronize: TypeAlias = Literal["auto", "evaluate", "fetch", False]
AnySelect: TypeAlias = core.AnySelect
AnyStatement: TypeAlias = AnySelect | CompoundSelect[*tuple[Any, ...]] | core.EntitiesFrom


class Owner(Protocol):
    """What a query needs of its session."""

    @property
    def context(self) -> SessionContext:
        """What the layers below see of the session."""
        ...


class Query(Clauses, Generic[T]):
    """A SELECT in the making: ``await session.query(User).filter_by(name="ada").order_by(User.id).all()``.

    A query of one class gives objects, anything else rows. The builder methods are those of Core's ``select()`` with
    the names that `sqlalchemy.orm.Query` has for them; ``statement`` is the ``select()`` so far. The ends are awaited:
    `all`, `first`, `one`, `one_or_none`, `scalar`, `count`, `get`, `update`, `delete`; ``async for`` streams.
    """

    __slots__ = ()

    # Other items

    def with_entities(self, *entities: Any) -> "Query[Any]":
        """Select something else, with the same joins and criteria."""
        chosen = tuple(map(selectable, entities))
        return self._with(
            lambda statement: statement.with_only_columns(*chosen, maintain_column_froms=True), "with_entities", chosen
        )

    def add_columns(self, *columns: Any) -> "Query[Any]":
        """Select more columns."""
        more = tuple(map(selectable, columns))
        return self._with(lambda statement: statement.add_columns(*more), "add_columns", (*self._entities, *more))

    def add_entity(self, entity: Any) -> "Query[Any]":
        """Select one more class."""
        return self.add_columns(entity)

    # The ends

    async def all(self) -> list[T]:
        """Return all objects or rows."""
        result = await self._run(self._statement, "all")
        return list(self._items(result).all())

    async def first(self) -> T | None:
        """Return the first object or row, None if there is none; reads one, unless the query has a limit of its own."""
        statement = self._statement
        if not isinstance(statement, core.EntitiesFrom) and not core.has_limit(statement):
            statement = statement.limit(1)
        result = await self._run(statement, "first")
        found: T | None = self._items(result).first()
        return found

    async def one(self) -> T:
        """Return the only object or row; NoResultFound or MultipleResultsFound if it is not the only one."""
        result = await self._run(self._statement, "one")
        found: T = self._items(result).one()
        return found

    async def one_or_none(self) -> T | None:
        """Return the only object or row, None if there is none; MultipleResultsFound if there are more."""
        result = await self._run(self._statement, "one_or_none")
        found: T | None = self._items(result).one_or_none()
        return found

    async def scalar(self) -> Any:
        """Return the first value of the only row, None if there is none; MultipleResultsFound if there are more."""
        result = await self._run(self._statement, "scalar")
        return result.scalar_one_or_none()

    async def count(self) -> int:
        """Return how many rows the query gives."""
        rows = rows_of(self._statement, "count")
        ordered = rows.order_by(None) if not (isinstance(rows, Select) and core.is_limited(rows)) else rows
        result = await self._run(select(func.count()).select_from(ordered.subquery()), "count")
        return int(result.scalar_one())

    async def explain(self, *, analyze: bool = False, format: Format = "text") -> Explanation:  # noqa: A002 - the database's word
        """Return how the database would carry out the query; see ``session.explain()``."""
        how: querying.How = {"execution_options": self._options} if self._options else {}
        with self._context.guard.enter("query.explain"):
            return await explain(self._context, self._statement, None, Request(analyze, format), how)

    async def get(self, ident: object) -> T | None:
        """Return the object with this primary key, from memory or by one statement; the query must have no criteria."""
        statement = selected(self._statement, "get")
        if statement.whereclause is not None or core.is_limited(statement) or core.setup_joins(statement):
            raise InvalidRequestError(
                "get() looks for one primary key; this query has criteria, joins or a limit. Use filter() and "
                "one_or_none(), or `await session.get(...)`"
            )
        how: querying.HowToGet = {"options": cast("Any", core.with_options(statement))}
        if self._options:
            how["execution_options"] = self._options
        ctx = self._context
        with ctx.guard.enter("query.get"):
            ctx.check_open()
            found: T | None = await querying.get(ctx, self._mapper("get"), ident, how)
        return found

    async def update(
        self, values: Mapping[Any, Any], synchronize_session: Synchronize = "auto", **execution_options: Any
    ) -> int:
        """Update the rows that meet the criteria and return their number; objects in memory are kept in step.

        *synchronize_session* is "auto", "evaluate", "fetch" or False, as for ``session.execute(update(...))``.
        """
        statement = self._written("update", update(self._target("update")).values(_by_column(values)))
        options = {"synchronize_session": synchronize_session, **execution_options}
        return await self._write(statement, options, "update")

    async def delete(self, synchronize_session: Synchronize = "auto", **execution_options: Any) -> int:
        """Delete the rows that meet the criteria and return their number; objects in memory are kept in step.

        No cascade of the mapping takes place; those of the database do.
        """
        statement = self._written("delete", delete(self._target("delete")))
        return await self._write(statement, {"synchronize_session": synchronize_session, **execution_options}, "delete")

    async def __aiter__(self) -> AsyncIterator[T]:
        ctx = self._context
        how: querying.How = {"execution_options": self._options} if self._options else {}
        with ctx.guard.enter("query"):
            rows = await streaming.stream(ctx, self._statement, None, how)
        async with rows:
            async for item in rows.scalars() if self._is_of_objects else rows:
                yield cast("T", item)

    # What does not work here, and what does

    def __iter__(self) -> NoReturn:
        raise InvalidRequestError(
            "a query is run by awaiting one of its ends: `await query.all()`, or `async for item in query`"
        )

    def __len__(self) -> NoReturn:
        raise InvalidRequestError("a query has no length before it is run: `await query.count()`")

    def __bool__(self) -> NoReturn:
        raise InvalidRequestError("a query is neither true nor false: `await query.first()`, or compare with None")

    def __getitem__(self, place: Any) -> Self:
        """Return a query of some rows, not yet run: ``await query[2:5].all()``."""
        if isinstance(place, slice) and place.step is None:
            return self.slice(place.start, place.stop)
        raise InvalidRequestError(
            f"a query is run by awaiting one of its ends: `await query.offset({place!r}).first()` for one row, "
            f"`await query[2:5].all()` for some"
        )

    # Inside

    @property
    def _context(self) -> SessionContext:
        return cast("Owner", self.session).context

    def _items(self, result: AnyResult) -> Any:
        return result.scalars() if self._is_of_objects else result

    async def _run(self, statement: Any, end: str) -> AnyResult:
        ctx = self._context
        with ctx.guard.enter(f"query.{end}"):
            return await querying.execute(
                ctx, statement, None, {"execution_options": self._options} if self._options else {}
            )

    async def _write(self, statement: Any, options: dict[str, Any], end: str) -> int:
        ctx = self._context
        with ctx.guard.enter(f"query.{end}"):
            result = await querying.execute(ctx, statement, None, {"execution_options": {**self._options, **options}})
        return result.rowcount

    def _mapper(self, method: str) -> AnyMapper:
        mapper = mapper_or_none(self._entities[0]) if len(self._entities) == 1 else None
        if mapper is None:
            raise InvalidRequestError(f"{method}() needs a query of one mapped class, not of {self._entities!r}")
        return mapper

    def _target(self, method: str) -> Any:
        self._mapper(method)
        return self._entities[0]

    def _written(self, method: str, statement: Any) -> Any:
        """Return *statement* with the criteria of the query, which may have nothing else."""
        own = selected(self._statement, method)
        if core.is_limited(own) or core.is_grouped(own) or core.order_by_clauses(own):
            raise InvalidRequestError(f"{method}() cannot be limited, ordered, grouped or distinct: use filter()")
        if core.setup_joins(own):
            raise InvalidRequestError(
                f"{method}() cannot follow join(): name the rows by a criterion, such as User.id.in_(query)"
            )
        criteria = own.whereclause
        return statement if criteria is None else statement.where(criteria)


def query_class(chosen: object) -> type[Query[Any]]:
    """Return *chosen* if ``session.query()`` can make such queries."""
    if isinstance(chosen, type) and issubclass(chosen, Query):
        return chosen
    raise ArgumentError(f"query_cls is a subclass of aiosession.Query, not {chosen!r}")


def _by_column(values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    if not values or not isinstance(values, Mapping):
        raise ArgumentError(f"update() takes a mapping of attributes or their names to values, not {values!r}")
    return values
