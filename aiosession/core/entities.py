"""Statements that mention entities: how Core hands them over to be compiled."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from sqlalchemy import ColumnElement, FromClause, Join, Select, and_
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import CompileState, ExecutableOption, Generative
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from sqlalchemy.sql.selectable import ExecutableReturnsRows, SelectState
from typing_extensions import override

from aiosession.core.annotations import ENTITY_PLUGIN, deannotate, entity_of, facts_key
from aiosession.core.statements import from_objects, with_options

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
        # Core passes None for the compiler if it only looks at the FROM clause.
        criteria = criteria_options(getattr(compiler, "statement", None))
        if criteria:
            self._restrict(criteria, compiler)

    def _restrict(self, options: Sequence["CriteriaOption"], compiler: SQLCompiler) -> None:
        """Add what *options* demand of the entities in the FROM clause: to ON where they are joined, else to WHERE."""
        restriction = _Restriction(options, self.statement)
        # Nothing is taken as correlated by itself: a criterion too many is harmless, a missing one is not.
        outer = list(compiler.stack[-1]["correlate_froms"]) if compiler.stack else []
        displayed = set(self._get_display_froms(explicit_correlate_froms=outer, implicit_correlate_froms=()))
        where: list[ColumnElement[bool]] = []
        froms: list[FromClause] = []
        for each in self.froms:
            restricted, left = restriction.of(each) if each in displayed else (each, [])
            froms.append(restricted)
            where.extend(left)
        self.froms = froms
        self.statement = self.statement.where(*where) if where else self.statement

    @classmethod
    @override
    def from_statement(cls, statement: AnySelect, from_statement: Any) -> "EntitiesFrom":
        return EntitiesFrom(statement, from_statement)


class _Restriction:
    """The criteria that options add to one SELECT, by what is selected from."""

    def __init__(self, options: Sequence["CriteriaOption"], statement: AnySelect) -> None:
        self._options = options
        self._entities: dict[FromClause, object] = {}
        # Core does not visit what was given to select_from().
        for part in (statement, *from_objects(statement)):
            for element in visitors.iterate(cast("ClauseElement", part)):
                entity = entity_of(element)
                if entity is not None:
                    selectable = cast("FromClause", getattr(entity, "selectable", element))
                    self._entities.setdefault(deannotate(selectable), entity)

    def of(self, source: FromClause) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """Return *source* with criteria in the ON clauses of its joins, and the criteria that are left for WHERE."""
        if not isinstance(source, Join):
            entity = self._entities.get(deannotate(source))
            return source, [] if entity is None else list(criteria_of(self._options, entity))
        left, of_left = self.of(source.left)
        right, of_right = self.of(source.right)
        if source.full and (of_left or of_right):
            raise CompileError(
                "criteria for every SELECT cannot be added to a FULL JOIN: neither ON nor WHERE would mean the same; "
                "join a subquery that has them"
            )
        if not of_right and left is source.left and right is source.right:
            return source, of_left
        return Join(
            left, right, and_(cast("ColumnElement[bool]", source.onclause), *of_right), isouter=source.isouter
        ), of_left


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


class CriteriaOption(StatementOption):
    """An option that adds a criterion to every SELECT from some entities, wherever in the statement it is."""

    def criterion(self, entity: object) -> ColumnElement[bool] | None:
        """Return what the rows of *entity* have to meet, None if nothing is said about it."""
        raise NotImplementedError


def criteria_options(statement: object) -> tuple[CriteriaOption, ...]:
    """Return the options of *statement* that add criteria."""
    return tuple([option for option in with_options(statement) if isinstance(option, CriteriaOption)])


def criteria_of(options: Sequence[CriteriaOption], entity: object) -> Iterator[ColumnElement[bool]]:
    """Yield what *options* say about *entity*."""
    for option in options:
        criterion = option.criterion(entity)
        if criterion is not None:
            yield criterion
