"""Execute a statement for a session.

Found again by identity or structure, sent where it belongs, its rows turned into objects, and what is left to other
statements loaded by them.
"""

import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from sqlalchemy import ClauseElement, Delete, Insert, Select, Update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.execution import AnyResult, Parameters, prepare, send
from aiosession.engine.result import Result
from aiosession.errors import AioSessionError, ArgumentError
from aiosession.loading.criteria import propagated
from aiosession.loading.dml import execute_write, is_entity_write, named_write
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.plan import QueryPlan, mapper_of_statement, plan_query
from aiosession.loading.relations import follow
from aiosession.loading.returning import execute_from, execute_returning, note_write, returns_entities, written_mapper
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import Extracted
from aiosession.sql.purity import is_pure
from aiosession.transaction.context import SessionContext

Options: TypeAlias = Mapping[str, Any]

_MOST_SHAPES: Final = 1000


@dataclass(slots=True)
class QueryShape:
    """What statements of the same structure have in common."""

    mapper: AnyMapper | None
    pure: bool
    key: core.CacheKey | None
    plans: "weakref.WeakKeyDictionary[StatementCache, QueryPlan]" = field(default_factory=weakref.WeakKeyDictionary)

    def plan(self, engine: AsyncEngine, statement: core.AnySelect) -> QueryPlan:
        """Return the plan for an engine."""
        plan = self.plans.get(engine.statements)
        if plan is None:
            # The key has to be this statement's own: the values are found by the parameters that it lists.
            key = None if self.key is None else core.cache_key(statement)
            plan = _planned(engine, statement, key, pure=self.pure)
            if plan.is_reusable and self.key is not None:
                self.plans[engine.statements] = plan
        return plan


@dataclass(frozen=True, slots=True)
class KnownQuery:
    """A statement that was executed before: its shape, and its own values."""

    statement: "weakref.ref[object]"
    shape: QueryShape
    extracted: Extracted | None


class QueryCache:
    """Shapes of statements; bounded, the least recently used goes first."""

    def __init__(self) -> None:
        self._known: Final[dict[int, KnownQuery]] = {}
        self._shapes: Final[OrderedDict[tuple[object, ...], QueryShape]] = OrderedDict()

    def find(self, statement: core.AnySelect) -> KnownQuery:
        """Return what is known of *statement*: by identity, else by its structure."""
        identity = id(statement)
        known = self._known.get(identity)
        if known is not None and known.statement() is statement:
            return known
        shape, extracted = self._find_shape(statement)
        known = self._known[identity] = KnownQuery(
            weakref.ref(statement, lambda gone: self._forget(identity, gone)), shape, extracted
        )
        return known

    def _forget(self, identity: int, gone: "weakref.ref[object]") -> None:
        known = self._known.get(identity)
        if known is not None and known.statement is gone:
            del self._known[identity]

    def _find_shape(self, statement: core.AnySelect) -> tuple[QueryShape, Extracted | None]:
        key = core.cache_key(statement)
        if key is None:
            return QueryShape(mapper_of_statement(statement), is_pure(statement), None), None
        shape = self._shapes.get(key.key)
        if shape is None:
            shape = self._shapes[key.key] = QueryShape(mapper_of_statement(statement), is_pure(statement), key)
            if len(self._shapes) > _MOST_SHAPES:
                self._shapes.popitem(last=False)
        else:
            self._shapes.move_to_end(key.key)
        return shape, key.parameters


_cache: Final = QueryCache()


async def execute(
    context: SessionContext,
    statement: ClauseElement,
    parameters: Parameters | None = None,
    options: Options | None = None,
) -> AnyResult:
    """Execute a statement: entities come as objects of the session, everything else as values."""
    settings = {**core.statement_options(statement), **(options or {})}
    if settings.get("autoflush", True):
        await context.autoflush()
    if not isinstance(statement, Select) or not core.mentions_entity(statement):
        return await _execute_other(context, statement, parameters, settings)
    if "schema_translate_map" in settings:
        raise ArgumentError(
            "objects belong to the schemas of their engine: bind the session to "
            "engine.execution_options(schema_translate_map=...) instead of giving the map to one statement"
        )
    known = _cache.find(statement)
    engine, wire = await context.wire(mapper=known.shape.mapper, clause=statement, pure=known.shape.pure)
    plan = known.shape.plan(engine, statement)
    if not plan.compiled.columns:
        return await _execute_other(context, statement, parameters, settings)
    sql, values = plan.compiled.bind(_single(parameters), known.extracted)
    rows = await wire.fetch(sql, values)
    run = _run(context, settings)
    run.reread = plan.locks_rows
    run.criteria = propagated(statement)
    found = plan.rows(rows, run)
    if run.unfinished:
        await follow(context, run)
    return Result(plan.shape, found)


async def _execute_other(
    context: SessionContext, statement: ClauseElement, parameters: Parameters | None, settings: Options
) -> AnyResult:
    """Execute what is not a query over entities: statements about tables, text, RETURNING."""
    if isinstance(statement, core.EntitiesFrom):
        return await execute_from(context, statement, _single(parameters), _run(context, settings))
    if isinstance(statement, Update | Delete) and is_entity_write(statement) and not _is_list(parameters):
        return await execute_write(context, statement, _single(parameters), settings, _run(context, settings))
    if isinstance(statement, Insert | Update):
        statement, parameters = named_write(statement, parameters)
    if isinstance(statement, UpdateBase) and returns_entities(statement):
        return await execute_returning(context, statement, parameters, _run(context, settings))
    engine, wire = await context.wire(mapper=mapper_in(statement), clause=statement, pure=is_pure(statement))
    schema_map = settings.get("schema_translate_map")
    result = await send(wire, prepare(engine.statements, statement, parameters, schema_translate_map=schema_map))
    if isinstance(statement, UpdateBase):
        note_write(context.workspace, statement)
    return result


def mapper_in(statement: object) -> AnyMapper | None:
    """Return the mapper of the class that a statement is about, None if it is about none."""
    if isinstance(statement, UpdateBase):
        return written_mapper(statement)
    return mapper_of_statement(statement) if isinstance(statement, Select) else None


def _run(context: SessionContext, settings: Options) -> LoadRun:
    return LoadRun(
        context.workspace,
        overwrite=bool(settings.get("populate_existing", False)),
        token=settings.get("identity_token"),
    )


def _is_list(parameters: Parameters | None) -> bool:
    return isinstance(parameters, list | tuple) and len(parameters) > 1


def _single(parameters: Parameters | None) -> Mapping[str, Any] | None:
    given = parameters
    if isinstance(given, list | tuple) and len(given) <= 1:
        given = given[0] if given else None
    if given is None or isinstance(given, Mapping):
        return given
    raise ArgumentError(f"a SELECT is executed with one set of parameters, a mapping, not with {_shortened(given)}")


def _shortened(given: object) -> str:
    return f"a list of {len(given)}" if isinstance(given, list | tuple) else repr(given)


def _planned(engine: AsyncEngine, statement: core.AnySelect, key: core.CacheKey | None, *, pure: bool) -> QueryPlan:
    try:
        return plan_query(engine, statement, key, pure=pure)
    except AioSessionError:
        raise
    except SQLAlchemyError as error:
        raise ArgumentError(f"this statement cannot be compiled: {error}") from error
