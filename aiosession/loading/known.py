"""Find a statement again that was executed before, by identity or by structure, with what was worked out for it."""

import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.errors import AioSessionError, ArgumentError
from aiosession.loading.plan import QueryPlan, mapper_of_statement, plan_query
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import Extracted
from aiosession.sql.purity import is_pure

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


queries: Final = QueryCache()
"""What was executed lately, by all sessions."""


def _planned(engine: AsyncEngine, statement: core.AnySelect, key: core.CacheKey | None, *, pure: bool) -> QueryPlan:
    try:
        return plan_query(engine, statement, key, pure=pure)
    except AioSessionError:
        raise
    except SQLAlchemyError as error:
        raise ArgumentError(f"this statement cannot be compiled: {error}") from error
