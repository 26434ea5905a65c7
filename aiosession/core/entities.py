"""Statements that mention entities: how Core hands them over to be compiled."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.sql.base import CompileState, ExecutableOption, Generative
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.selectable import ExecutableReturnsRows, SelectState
from typing_extensions import override

from aiosession.core.annotations import ENTITY_PLUGIN, facts_key

AnySelect = Select[*tuple[Any, ...]]
_expansions: Final[list[Callable[[AnySelect], AnySelect]]] = []


def expand_selects_with(expansion: Callable[[AnySelect], AnySelect]) -> None:
    """Pass every SELECT that mentions an entity through *expansion* when it is compiled, wherever it is nested."""
    _expansions.append(expansion)


def mentions_entity(statement: object) -> bool:
    """Tell whether something annotated as an entity was given to *statement*."""
    return bool(getattr(statement, "_propagate_attrs", None))


@CompileState.plugin_for(ENTITY_PLUGIN, "select")
class EntitySelectState(SelectState):
    """What Core compiles in place of a SELECT that mentions entities."""

    def __init__(self, statement: AnySelect, compiler: SQLCompiler, **options: Any) -> None:
        for expansion in _expansions:
            statement = expansion(statement)
        super().__init__(statement, compiler, **options)

    @classmethod
    @override
    def from_statement(cls, statement: AnySelect, from_statement: Any) -> "EntitiesFrom":
        return EntitiesFrom(statement, from_statement)


class EntitiesFrom(ExecutableReturnsRows, Generative, ClauseElement):
    """``select(User).from_statement(text(...))``: the entities of one statement from the rows of another."""

    __visit_name__ = "aiosession_entities_from"

    def __init__(self, entities: AnySelect, rows: ClauseElement) -> None:
        self.entities: Final = entities
        self.rows: Final = rows


def returning_columns(statement: object) -> list[ClauseElement]:
    """Return what was given to ``returning()``: columns, tables, entities."""
    return list(getattr(statement, "_returning", ()))


class StatementOption(ExecutableOption):
    """Something for ``statement.options()`` that is part of the statement's cache key."""

    _is_has_cache_key = True

    def cache_facts(self) -> tuple[object, ...]:
        """Return what distinguishes this option from others: hashable values, clauses, CacheKeyed."""
        raise NotImplementedError

    def _gen_cache_key(self, anon_map: Any, bindparams: list[BindParameter[Any]]) -> tuple[object, ...]:
        return type(self), *facts_key(self.cache_facts(), anon_map, bindparams)
